//! `config`: what each value is and where it comes from, and where roots lie.

use serde_json::Value;

use crate::project::{Project, rows};

fn project() -> Project {
    let project = Project::new(
        "name: origins
params: {seed: 1, sizes: {val: 6}}
run: {cpus: 2}
stages:
  rows:  {use: examples, in: {files: ./data.jsonl}}
  parts: {use: split, in: rows, with: {val: \"${params.sizes.val}\", seed: \"${params.seed}\"}, run: {retries: 1}}
sweeps: {sizes: {grid: {parts.val: [4, 8]}}}
",
    );
    project.write("data.jsonl", &rows(40));
    project
}

/// Returns value and origin of a path.
fn origin(project: &Project, path: &str, arguments: &[&str]) -> (Value, String) {
    let mut all = vec!["config", "--origins", "--format", "json"];
    all.extend(arguments);
    let document: Value = serde_json::from_str(&project.says(&all)).unwrap();
    let stages = document["stages"].as_array().unwrap().iter().flat_map(|s| s["values"].as_array().unwrap());
    let row = document["values"].as_array().unwrap().iter().chain(stages).find(|v| v["path"] == path);
    let row = row.unwrap_or_else(|| panic!("{path} is not in {document}"));
    (row["value"].clone(), row["origin"]["text"].as_str().unwrap().to_string())
}

#[test]
fn every_value_says_where_it_comes_from() {
    let project = project();
    let of = |path, arguments: &[&str]| origin(&project, path, arguments);
    assert_eq!(of("parts.test", &[]), (0.into(), "default".into()));
    assert_eq!(of("parts.val", &[]), (6.into(), "watershed.yaml:2:32 (params.sizes.val)".into()));
    assert_eq!(of("params.seed", &[]), (1.into(), "watershed.yaml:2:16".into()));
    assert_eq!(of("parts.in.examples", &[]), ("rows.examples".into(), "watershed.yaml:6:27".into()));
    assert_eq!(of("parts.run.retries", &[]), (1.into(), "watershed.yaml:6:108".into()));
    assert_eq!(of("parts.run.cpus", &[]), (2.into(), "watershed.yaml:3:13".into()));
    assert_eq!(of("parts.test", &["--set", "parts.test=3"]), (3.into(), "--set parts.test=3".into()));
    assert_eq!(of("parts.seed", &["--set", "params.seed=9"]), (9.into(), "--set params.seed=9".into()));
    assert_eq!(of("parts.val", &["parts@val=8", "--sweep", "sizes"]), (8.into(), "watershed.yaml:7:40".into()));
}

#[test]
fn a_preset_is_an_origin_and_what_is_said_beats_it() {
    let project = Project::new(
        "stages:
  goods: {use: synthetic}
  read: {use: ingest, in: goods}
  cleaned: {use: clean, in: {interactions: read.interactions, items: read.items}, with: {preset: paper, title_max_chars: 7}}
",
    );
    let document: Value =
        serde_json::from_str(&project.says(&["config", "cleaned", "--origins", "--format", "json"])).unwrap();
    let values = document["stages"][0]["values"].as_array().unwrap();
    let from = |sort: &str| values.iter().filter(|v| v["origin"]["from"] == sort).count();
    assert!(from("preset") > 0 && from("default") > 0, "{document}");
    assert_eq!(origin(&project, "cleaned.title_max_chars", &[]), (7.into(), "watershed.yaml:4:122".into()));
}

#[test]
fn a_root_is_found_by_its_variable_else_by_its_default() {
    let project = Project::new(
        "roots: {shared: {env: SHARED_ROWS, default: ./near}}
stages:
  rows:  {use: examples, in: {files: shared:data.jsonl}}
",
    );
    project.write("mine/watershed.root", "");
    let text = std::fs::read_to_string(project.path("watershed.yaml")).unwrap();
    project.write("mine/watershed.yaml", &text);
    project.write("mine/near/data.jsonl", &rows(4));
    project.write("far/data.jsonl", &rows(8));
    let says = |value: &str| {
        let mut command = project.command(&["config", "--origins"]);
        let output = command.current_dir(project.path("mine")).env("SHARED_ROWS", value).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find(|line| line.contains("roots.shared")).unwrap_or_else(|| panic!("{output:?}"));
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    let folder = project.path("").canonicalize().unwrap().display().to_string();
    let folder = folder.trim_end_matches('/');
    // A relative one begins in the current folder, an empty one is none.
    assert_eq!(says("../far"), format!("{folder}/far environment SHARED_ROWS"));
    assert_eq!(says(""), format!("{folder}/mine/near watershed.yaml:1:45"));
}

#[test]
fn a_word_that_names_no_stage_is_told_as_every_fault_is() {
    let project = project();
    for command in ["plan", "run", "why", "config", "get"] {
        let target = project.path("out").display().to_string();
        let mut arguments = vec![command, "part", "--format", "json"];
        arguments.extend(["-o", &target].iter().filter(|_| command == "get"));
        let output = project.watershed(&arguments);
        assert_eq!(output.status.code(), Some(3), "{command}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let fault = &document["errors"][0];
        assert_eq!((fault["code"].as_str(), fault["file"].is_null()), (Some("E035"), true), "{document}");
        assert_eq!(fault["help"], "did you mean `parts`?");
    }
    let output = project.watershed(&["plan", "parts@val=5", "--sweep", "sizes", "--format", "json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["errors"][0]["help"], "did you mean `parts@val=4`?");
}
