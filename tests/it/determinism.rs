//! `run --check-determinism`: what it executes, what it says, and what it leaves alone.

use serde_json::Value;

use crate::project::{Project, Ran, files, of_four_stages, rows};
use crate::server::Server;

fn checks(ran: &Ran) -> Vec<(String, String, Option<bool>)> {
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let checked = ran.events.iter().filter(|e| e["event"] == "determinism_checked");
    checked.map(|e| (text(&e["stage"]), text(&e["outcome"]), e["as_stored"].as_bool())).collect()
}

fn stored(project: &Project) -> Vec<std::path::PathBuf> {
    ["v1/cas", "v1/ac", "v1/tree", "partial", "tmp"]
        .iter()
        .flat_map(|room| files(&project.store().join(room)))
        .collect()
}

#[test]
fn a_check_publishes_what_its_stages_read_and_nothing_of_its_own() {
    let project = of_four_stages();
    let ran = project.run(&["--check-determinism", "large"]);
    assert_eq!((ran.code, checks(&ran)), (0, vec![("large".into(), "equal".into(), None)]));
    assert_eq!(ran.outcome("ran"), ["parts", "rows"]);
    let states = project.plan(&[]);
    let states: Vec<&str> = states["stages"].as_array().unwrap().iter().map(|s| s["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["hit", "hit", "run", "run"]);
    project.run(&[]);
    let before = stored(&project);
    let ran = project.run(&["--check-determinism"]);
    assert!(
        ran.code == 0 && checks(&ran).iter().all(|c| (c.1.as_str(), c.2) == ("equal", Some(true))),
        "{ran:?}",
        ran = ran.events
    );
    assert_eq!((checks(&ran).len(), stored(&project)), (4, before));
    let told = project.says(&["run", "--check-determinism", "parts"]);
    assert!(told.contains("  equal   parts: twice the same bytes, as in the store (reproducible: yes, "), "{told}");
    assert!(project.says(&["log", "parts"]).contains("executed twice, equal after "));
}

#[test]
fn a_difference_is_told_by_output_file_and_byte() {
    let project = Project::new("");
    let seen = project.path("seen").display().to_string();
    let shell = format!(
        "mkdir -p $OUT_out/a; echo same > $OUT_out/0; echo \"run $(wc -c < {seen})\" > $OUT_out/a/b; printf x >> {seen}"
    );
    project.write("watershed.yaml", &format!("stages:\n  drifts: {{use: command, with: {{shell: '{shell}'}}}}\n"));
    project.write("seen", "");
    let output = project.watershed(&["run", "--check-determinism"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let expected = "differs drifts: output `out`, file `a/b`, byte 4: first \"run 0\\n\" and the end, then \"run 1\\n\" and the end";
    assert!(output.status.code() == Some(1) && told.contains(expected), "{told}");
    project.run(&[]);
    project.write("seen", "");
    let ran = project.run(&["--check-determinism", "drifts"]);
    assert_eq!(checks(&ran), [("drifts".into(), "differs".into(), Some(false))]);
    assert_eq!(project.run(&[]).outcome("hit"), ["drifts"]);
}

#[test]
fn checks_go_on_after_one_that_fails_and_skip_what_cannot_be_fed() {
    let project = Project::new(
        "stages:
  bad:   {use: command, with: {shell: 'exit 3'}}
  below: {use: command, in: {x: bad}, with: {shell: 'cat $IN_x > $OUT_out'}}
  good:  {use: command, with: {shell: 'echo > $OUT_out'}}
  slow:  {use: command, with: {shell: 'sleep 60'}, run: {timeout: 0.1s}}
",
    );
    let ran = project.run(&["--check-determinism"]);
    let found: Vec<(String, String)> = checks(&ran).into_iter().map(|(stage, outcome, _)| (stage, outcome)).collect();
    let expected = [("bad", "failed"), ("below", "skipped"), ("good", "equal"), ("slow", "failed")];
    assert_eq!((ran.code, found), (1, expected.map(|(a, b)| (a.to_string(), b.to_string())).to_vec()));
    let slow = ran.events.iter().find(|e| e["event"] == "determinism_checked" && e["stage"] == "slow").unwrap();
    assert!(slow["error"].as_str().unwrap().starts_with("timed out"), "{slow}");
    assert_eq!(project.watershed(&["run", "--check-determinism", "--frozen"]).status.code(), Some(2));
    assert_eq!(project.watershed(&["run", "--check-determinism", "goood"]).status.code(), Some(3));
}

#[test]
fn a_paid_stage_is_checked_only_by_name_and_then_asks_anew() {
    let server = Server::answers(
        200,
        r#"{"model": "m", "choices": [{"message": {"content": "A book about rivers, and why."}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 3}}"#,
    );
    let project = Project::new(&format!(
        "stages:
  rows:   {{use: examples, in: {{files: ./data.jsonl}}}}
  labels: {{use: teacher-label, in: {{prompts: rows}}, with: {{backend: openai, endpoint: \"{}\", model: m}}}}
",
        server.endpoint()
    ));
    project.write("data.jsonl", &rows(2));
    assert_eq!(project.run(&[]).code, 0);
    assert_eq!(server.times_asked(), 2);
    let ran = project.run(&["--check-determinism"]);
    assert_eq!((ran.code, server.times_asked()), (0, 2));
    assert!(checks(&ran).contains(&("labels".into(), "skipped".into(), None)), "{:?}", checks(&ran));
    let ran = project.run(&["--check-determinism", "labels"]);
    assert_eq!((checks(&ran), server.times_asked()), (vec![("labels".into(), "equal".into(), Some(true))], 6));
}
