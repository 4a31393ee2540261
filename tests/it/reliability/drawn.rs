//! Stages that draw something else each time: row 47.

use serde_json::Value;

use crate::project::Project;

const DRAWN: &str = "stages:
  drawn: {use: command, with: {shell: 'echo drawn $(date +%s%N) > $OUT_out'}}
  read:  {use: command, in: {drawn: drawn}, with: {shell: 'cat $IN_drawn > $OUT_out'}}
";

#[test]
fn row_47_a_stage_that_is_not_deterministic_is_found_out() {
    let project = Project::new(DRAWN);
    let ran = project.run(&["--check-determinism", "drawn"]);
    let found = ran.events.iter().find(|e| e["event"] == "determinism_checked").unwrap();
    assert_eq!((ran.code, found["outcome"].as_str(), found["as_stored"].as_bool()), (1, Some("differs"), None));
    let difference = &found["difference"];
    assert_eq!((difference["output"].as_str(), difference["file"].is_null()), (Some("out"), true));
    assert!((6..=24).contains(&difference["byte"].as_u64().unwrap()), "{found}");
    assert_ne!(difference["first"], difference["second"]);
    assert_eq!((project.records().len(), project.blobs().len()), (0, 0));
    let output = project.watershed(&["run", "--check-determinism", "drawn"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("differs drawn: output `out`, byte ") && told.contains("reproducible: yes"), "{told}");
}

#[test]
fn row_47_a_lost_output_is_made_anew_with_other_bytes_and_its_readers_are_told() {
    let project = Project::new(DRAWN);
    project.run(&[]);
    let get = |stage: &str| project.says(&["get", stage, "-o", "-"]);
    let (old, old_digest) = (get("drawn"), stored_digest(&project, "drawn"));
    let lose = || {
        let hex = stored_digest(&project, "drawn");
        std::fs::remove_file(project.store().join("v1/cas").join(&hex[..2]).join(&hex[2..])).unwrap();
    };
    lose();
    // In one run the writer and its reader both run again, each with its own reason.
    let ran = project.run(&[]);
    assert_eq!(ran.outcome("ran"), ["drawn", "read"]);
    assert_eq!(ran.reasons("drawn"), ["an output is missing from the store or damaged"]);
    assert_eq!(ran.reasons("read"), ["input drawn: rebuilt with other bytes"]);
    assert_ne!(get("drawn"), old);
    assert_eq!(get("read"), get("drawn"));
    let evidence = record_of(&project, "drawn")["detail"]["replaced"].clone();
    assert_eq!(evidence, serde_json::json!([{"out": old_digest}]));
    // In two runs `why` tells between them.
    lose();
    project.run(&["drawn"]);
    assert_eq!(project.says(&["why", "read"]), "read <- input drawn: rebuilt with other bytes\n");
    assert_eq!(project.run(&[]).outcome("ran"), ["read"]);
}

fn record_of(project: &Project, stage: &str) -> Value {
    let plan = project.plan(&[]);
    let line = plan["stages"].as_array().unwrap().iter().find(|s| s["stage"] == stage).unwrap().clone();
    let hex = line["key"].as_str().unwrap().to_string();
    let text = std::fs::read_to_string(project.store().join("v1/ac").join(&hex[..2]).join(&hex[2..])).unwrap();
    serde_json::from_str(text.lines().next().unwrap()).unwrap()
}

fn stored_digest(project: &Project, stage: &str) -> String {
    record_of(project, stage)["outputs"]["out"]["artifact"]["digest"].as_str().unwrap().to_string()
}
