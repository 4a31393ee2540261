//! Single bits flipped in blobs, listings and records: found before use, made again by the next run.

use std::path::PathBuf;
use std::time::Instant;

use super::{Numbers, is_full, results};
use crate::cache::data_blobs;
use crate::project::{Project, flip, of_four_stages};

/// Outputs that a user takes out: together all that have bytes.
const OUTPUTS: [&str; 8] =
    ["rows", "parts.train", "parts.val", "parts.test", "small.train", "small.val", "large.train", "large.val"];

fn taken_out(project: &Project) -> Vec<Option<Vec<u8>>> {
    let get = |output: &&str| {
        let out = project.watershed(&["get", output, "-o", "-"]);
        out.status.success().then_some(out.stdout)
    };
    OUTPUTS.iter().map(get).collect()
}

#[test]
fn every_flipped_bit_is_found_before_use_and_repaired() {
    let (begun, project) = (Instant::now(), of_four_stages());
    project.run(&[]);
    let (quiet, right) = (results(&project), taken_out(&project));
    assert!(right.iter().all(Option::is_some));
    let objects: Vec<PathBuf> = data_blobs(&project).into_iter().chain(project.records()).collect();
    let mut numbers = Numbers(9);
    let count = if is_full() { 1000 } else { 50 };
    for round in 0..count {
        let object = &objects[numbers.below(objects.len())];
        let size = std::fs::metadata(object).unwrap().len() as usize;
        let bit = numbers.below(8 * size);
        flip(object, bit);
        let what = format!("flip {round}: bit {bit} of {}", object.display());
        // Half of them are met by a reader, half by a scrub.
        if round % 2 == 0 {
            let used = taken_out(&project).into_iter().zip(&right).all(|(got, right)| got.is_none() || got == *right);
            assert!(used, "{what}: wrong bytes were handed out");
        } else {
            project.watershed(&["cache", "verify", "--read-data"]);
        }
        assert_eq!(project.run(&[]).code, 0, "{what}");
        assert_eq!(results(&project), quiet, "{what}");
        assert!(project.watershed(&["cache", "verify", "--read-data"]).status.success(), "{what}");
        assert!(round % 20 != 0 || taken_out(&project) == right, "{what}");
    }
    eprintln!("campaign: {count} flipped bits, {:.1} s", begun.elapsed().as_secs_f64());
}
