//! `cache`: what the store holds, and scrubbing it.

use std::path::PathBuf;

use serde_json::Value;

use crate::project::{Project, flip, of_four_stages};

pub fn document(project: &Project, arguments: &[&str], code: i32) -> Value {
    let output = project.watershed(&[&["cache"], arguments, &["--format", "json"]].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn ls_and_stats_tell_what_the_store_holds() {
    let project = of_four_stages();
    assert_eq!(project.says(&["cache", "ls"]), "the store holds no results yet\n");
    project.run(&[]);
    let results = document(&project, &["ls"], 0);
    let kinds: Vec<&str> = results["results"].as_array().unwrap().iter().map(|r| r["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.iter().filter(|k| k.contains("split@")).count(), 3, "{kinds:?}");
    let stats = document(&project, &["stats"], 0);
    assert_eq!(stats["rooms"]["blobs"]["files"], project.blobs().len());
    assert_eq!(stats["rooms"]["records"]["files"], 4);
    assert!(project.says(&["cache", "ls"]).starts_with("key"));
    assert!(project.says(&["cache", "stats"]).contains("records"));
}

#[test]
fn a_whole_store_verifies() {
    let project = of_four_stages();
    project.run(&[]);
    let found = document(&project, &["verify", "--read-data"], 0);
    assert_eq!((found["records"].as_u64(), &found["blobs_read"]), (Some(4), &found["blobs"]));
    assert!(found["damage"].as_array().unwrap().is_empty());
    let half = document(&project, &["verify", "--read-data", "--subset", "50%"], 0);
    assert!(half["blobs_read"].as_u64() < half["blobs"].as_u64());
    assert_eq!(project.watershed(&["cache", "verify", "--subset", "5%"]).status.code(), Some(2));
}

#[test]
fn a_flipped_bit_is_found_by_verify_and_repaired_by_running_again() {
    let project = of_four_stages();
    project.run(&[]);
    let quiet = data_blobs(&project);
    for (number, blob) in quiet.iter().enumerate() {
        flip(blob, 12_345 + 7 * number);
        assert!(
            document(&project, &["verify"], 0)["damage"].as_array().unwrap().is_empty(),
            "bytes were not to be read"
        );
        let found = document(&project, &["verify", "--read-data"], 1);
        assert_eq!((found["damage"].as_array().unwrap().len(), &found["damage"][0]["room"]), (1, &Value::from("cas")));
        assert_eq!(project.run(&[]).code, 0);
        assert_eq!(data_blobs(&project), quiet);
        document(&project, &["verify", "--read-data"], 0);
    }
}

/// Returns the blobs of the store that are data outputs with bytes; a report that is lost is not made again.
pub fn data_blobs(project: &Project) -> Vec<PathBuf> {
    let results = document(project, &["ls"], 0);
    let outputs = results["results"].as_array().unwrap().iter().flat_map(|r| r["outputs"].as_array().unwrap());
    let data = outputs.filter(|output| output["report"] == false && output["bytes"] != 0);
    let place = |hex: &str| project.store().join("v1/cas").join(&hex[..2]).join(&hex[2..]);
    let mut blobs: Vec<PathBuf> = data.map(|output| place(output["digest"].as_str().unwrap())).collect();
    blobs.sort();
    blobs.dedup();
    blobs
}

#[test]
fn a_flipped_bit_in_a_record_is_a_miss_that_verify_names() {
    let project = of_four_stages();
    project.run(&[]);
    for record in project.records() {
        flip(&record, 999);
        assert_eq!(project.plan(&[])["stages"].as_array().unwrap().iter().filter(|s| s["state"] == "run").count(), 1);
        let found = document(&project, &["verify"], 1);
        assert_eq!(
            (&found["damage"][0]["room"], &found["damage"][0]["what"]),
            (&"ac".into(), &"torn or altered".into())
        );
        assert_eq!(project.run(&[]).outcome("ran").len(), 1);
        document(&project, &["verify", "--read-data"], 0);
    }
}

#[test]
fn a_record_of_a_newer_version_is_refused_in_words_and_kept() {
    let project = of_four_stages();
    project.run(&[]);
    let record = project.records().remove(0);
    let line = std::fs::read_to_string(&record).unwrap().lines().next().unwrap().to_string();
    let newer = line.replacen("\"record_version\":1", "\"record_version\":2", 1);
    assert_ne!(newer, line);
    let digest = blake3::hash(newer.as_bytes()).to_hex();
    let bytes = format!("{newer}\n{digest}\n");
    crate::project::replace(&record, bytes.as_bytes());
    let output = project.watershed(&["run"]);
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("has layout 2, this program reads layout 1; use a newer watershed"), "{told}");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&record).unwrap(), bytes);
    assert_eq!(project.watershed(&["cache", "verify"]).status.code(), Some(4));
}
