//! The command line's promises to scripts: exit codes, JSON, closed pipes.

use std::process::Stdio;

use serde_json::Value;

use crate::project::{Project, of_four_stages};

#[test]
fn an_invalid_pipeline_is_exit_3_with_its_faults_as_json() {
    let project = Project::new("stages:\n  a: {use: splitt}\n  b: {use: split, in: c}\n");
    for command in ["check", "plan", "run", "why", "graph"] {
        let output = project.watershed(&[command, "--format", "json"]);
        assert_eq!(output.status.code(), Some(3), "{command}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let errors = document["errors"].as_array().unwrap();
        assert_eq!(errors.len(), 2, "{command}");
        assert_eq!((&errors[0]["line"], &errors[0]["column"]), (&2.into(), &12.into()));
        assert!(errors[0]["help"].as_str().unwrap().contains("split"));
    }
}

#[test]
fn a_wrong_command_line_is_exit_2() {
    let project = of_four_stages();
    for arguments in
        [&["run", "--set", "parts.val"][..], &["runn"], &["plan", "--format", "yaml"], &["kinds", "splitt"]]
    {
        assert_eq!(project.watershed(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn an_unknown_stage_is_exit_3_with_the_nearest_name() {
    let output = of_four_stages().watershed(&["run", "part"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean `parts`?"));
}

#[test]
fn plan_with_exit_code_tells_pending_work() {
    let project = of_four_stages();
    assert_eq!(project.watershed(&["plan", "--exit-code"]).status.code(), Some(10));
    project.run(&[]);
    assert_eq!(project.watershed(&["plan", "--exit-code"]).status.code(), Some(0));
}

#[test]
fn every_command_prints_one_json_document() {
    let project = of_four_stages();
    project.run(&[]);
    for command in [
        &["check"][..],
        &["plan"],
        &["why", "small"],
        &["show"],
        &["runs"],
        &["diff", "last", "last"],
        &["kinds"],
        &["kinds", "split"],
        &["graph"],
    ] {
        let mut arguments = command.to_vec();
        arguments.extend(["--format", "json"]);
        let text = project.says(&arguments);
        assert_eq!(text.lines().count(), 1, "{command:?}");
        serde_json::from_str::<Value>(&text).unwrap();
    }
}

#[test]
fn a_run_ends_with_its_counters() {
    let ran = of_four_stages().run(&[]);
    let last = ran.events.last().unwrap();
    assert_eq!(last["event"], "run_finished");
    assert_eq!((&last["outcome"], &last["ran"], &last["hit"]), (&"ok".into(), &4.into(), &0.into()));
    for event in ran.events.iter().filter(|e| e["event"] == "stage_finished") {
        assert_eq!(event["key"].as_str().unwrap().len(), 64);
        assert!(event["cases"].as_array().unwrap().is_empty() && event["case"].is_null());
    }
}

#[test]
fn a_reader_that_closes_the_pipe_ends_the_output_only() {
    let project = of_four_stages();
    let mut child = project.command(&["kinds"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
}

#[test]
fn log_tells_what_a_stage_said_also_after_a_failure() {
    let project =
        Project::new("stages:\n  a: {use: command, with: {shell: 'echo before; echo the end >&2; exit 3'}}\n");
    let ran = project.run(&[]);
    assert_eq!(ran.code, 1);
    assert!(ran.error("a").contains("the end"), "{}", ran.error("a"));
    let text = project.says(&["log", "a"]);
    assert!(text.contains("failed after"), "{text}");
}

#[test]
fn the_report_opens_offline_and_holds_the_stages() {
    let project = of_four_stages();
    project.run(&[]);
    project.says(&["report", "-o", "page.html"]);
    let page = std::fs::read_to_string(project.path("page.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("default-src 'none'"));
    for reach in ["<script", " src=", " href=", "url(", "@import"] {
        assert!(!page.contains(reach), "the page holds `{reach}`");
    }
    for stage in ["rows", "parts", "small", "large"] {
        assert!(page.contains(&format!("<td>{stage}</td>")));
    }
}

#[test]
fn an_expectation_that_is_missed_ends_the_run_with_exit_1_and_keeps_its_results() {
    let shell = "echo {\\\"a.rate\\\": 0.5} > $OUT_m";
    let project = Project::new(&format!(
        "stages:\n  m: {{use: command, with: {{shell: '{shell}', out: {{m: metrics}}}}}}\nexpect: {{m.a.rate: \"<= 0.1\"}}\n"
    ));
    let ran = project.run(&[]);
    assert_eq!(ran.code, 1);
    assert_eq!(ran.events.last().unwrap()["outcome"], "expectation_failed");
    project.edit("<= 0.1", "<= 0.9");
    let again = project.run(&[]);
    assert_eq!((again.code, again.outcome("hit").len()), (0, 1));
}
