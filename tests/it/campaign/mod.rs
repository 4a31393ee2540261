//! The crash campaign: kills at random moments, alone and beside other processes, faults at every system call that writes, single flipped bits.
//!
//! `make test` draws a seeded twentieth of it; `WATERSHED_CAMPAIGN=full` (`make test-full`) runs it whole. After each fault the
//! same must hold: no record refers to bytes that are not there or not right, the next run needs no manual step and redoes
//! only unfinished actions, and the store holds the same results as after a quiet run.

pub mod faults;
mod flips;
mod kills;
mod several;

use std::collections::BTreeSet;

use crate::cache::document;
use crate::project::{Project, files};

/// Whether the whole campaign was asked for.
pub fn is_full() -> bool {
    std::env::var("WATERSHED_CAMPAIGN").is_ok_and(|value| value == "full")
}

/// Seeded numbers (SplitMix64, Steele et al. 2014), so that a sample fails again.
pub struct Numbers(pub u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Key, port and digest of every data output in the store.
pub fn results(project: &Project) -> BTreeSet<(String, String, String)> {
    let listed = document(project, &["ls"], 0);
    let mut found = BTreeSet::new();
    for result in listed["results"].as_array().unwrap() {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_string();
        let data = result["outputs"].as_array().unwrap().iter().filter(|output| output["report"] == false);
        found.extend(data.map(|output| (text(&result["key"]), text(&output["port"]), text(&output["digest"]))));
    }
    found
}

/// Checks the promise after a fault: `quiet` is what an undisturbed run leaves.
pub fn assert_recovers(project: &Project, quiet: &BTreeSet<(String, String, String)>, what: &str) {
    let verified = project.watershed(&["cache", "verify", "--read-data"]);
    assert!(verified.status.success(), "{what}: {}", String::from_utf8_lossy(&verified.stdout));
    let finished = project.records().len();
    let ran = project.run(&[]);
    let stages = ran.outcome("hit").len() + ran.outcome("ran").len();
    assert_eq!((ran.code, ran.outcome("hit").len()), (0, finished), "{what}: of {stages} stages");
    assert_eq!(&results(project), quiet, "{what}");
    assert_eq!(files(&project.store().join("tmp")).len(), 0, "{what}: sandboxes are left");
}
