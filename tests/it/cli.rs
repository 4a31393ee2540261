//! The command line's promises to scripts: exit codes, JSON, closed pipes.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::project::{Project, files, of_four_stages};

/// Returns the exit code and what went to stderr.
fn ended(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).trim_end().to_string())
}

/// Returns all that a command printed.
fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The project of four stages with a sweep of two cases.
fn swept() -> Project {
    let project = of_four_stages();
    project.edit("name: four", "name: four\nsweeps: {sizes: {grid: {parts.val: [4, 8]}}}");
    project
}

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

#[test]
fn a_threshold_that_is_missed_is_told_where_nothing_is_left_to_run() {
    let shell = "echo {\\\"a.rate\\\": 0.5} > $OUT_m";
    let project = Project::new(&format!(
        "stages:\n  m: {{use: command, with: {{shell: '{shell}', out: {{m: metrics}}}}}}\nexpect: {{m.a.rate: \"<= 0.1\"}}\n"
    ));
    assert_eq!(project.watershed(&["run", "--frozen"]).status.code(), Some(10));
    assert_eq!(project.run(&[]).code, 1);
    let frozen = project.watershed(&["run", "--frozen"]);
    assert_eq!(ended(&frozen), (Some(1), "  expect m.a.rate <= 0.1: MISSED, found 0.5".into()));
    assert_eq!(String::from_utf8_lossy(&frozen.stdout), "1 in the store, nothing to run\n");
    let frozen = project.watershed(&["run", "--frozen", "--format", "json"]);
    let document: Value = serde_json::from_slice(&frozen.stdout).unwrap();
    assert_eq!((frozen.status.code(), &document["expectations"][0]["held"]), (Some(1), &false.into()));
    project.edit("<= 0.1", "<= 0.9");
    let told = project.says(&["run", "--frozen"]);
    assert_eq!(told, "  expect m.a.rate <= 0.9: held, found 0.5\n1 in the store, nothing to run\n");
}

#[test]
fn output_that_a_full_disk_lost_is_exit_6() {
    let project = of_four_stages();
    let lost = |arguments: &[&str]| {
        let full = File::options().write(true).open("/dev/full").unwrap();
        ended(&project.command(arguments).stdout(full).output().unwrap())
    };
    let told = (Some(6), "error: cannot write to stdout: No space left on device (os error 28)".to_string());
    for arguments in [
        &["plan"][..],
        &["plan", "--format", "json"],
        &["plan", "--exit-code"],
        &["run", "--format", "json"],
        &["run"],
        &["show"],
        &["kinds"],
        &["--help"],
    ] {
        assert_eq!(lost(arguments), told, "{arguments:?}");
    }
    assert_eq!(project.watershed(&["plan", "--exit-code"]).status.code(), Some(0), "the results are kept");
    assert_eq!(lost(&["plan", "nope"]).0, Some(3));
    assert_eq!(lost(&["run", "-q"]), (Some(0), String::new()), "nothing was to be told");
}

#[test]
fn check_and_graph_take_stages_like_plan() {
    let project = swept();
    for command in ["check", "graph"] {
        let (code, told) = ended(&project.watershed(&[command, "watershed.yaml", "partz"]));
        assert_eq!(code, Some(3), "{command}");
        assert!(
            told.contains("there is no stage `partz` in `four`") && told.contains("did you mean `parts`?"),
            "{told}"
        );
    }
    project.says(&["check", "parts"]);
    project.says(&["check", "parts@sizes/val=8"]);
    assert_eq!(project.watershed(&["check", "parts@sizes/val=9"]).status.code(), Some(3));
    let drawn =
        |stage: &str| -> Value { serde_json::from_str(&project.says(&["graph", stage, "--format", "json"])).unwrap() };
    for stage in ["small", "large"] {
        let graph = drawn(stage);
        let names: Vec<&str> =
            graph["nodes"].as_array().unwrap().iter().map(|n| n["stage"].as_str().unwrap()).collect();
        assert_eq!(names, ["rows", "parts", stage]);
        assert_eq!(graph["edges"], serde_json::json!([[0, 1], [1, 2]]));
    }
    assert_eq!(drawn("parts")["nodes"].as_array().unwrap().len(), 2);
}

#[test]
fn config_and_force_take_a_case_of_a_named_sweep() {
    let project = swept();
    let config = project.says(&["config", "parts@sizes/val=8", "--format", "json"]);
    let config: Value = serde_json::from_str(&config).unwrap();
    let stages = config["stages"].as_array().unwrap();
    assert_eq!((stages.len(), &stages[0]["stage"], &stages[0]["case"]), (1, &"parts".into(), &"val=8".into()));
    assert_eq!(project.run(&["--sweep", "sizes"]).code, 0);
    assert_eq!(project.run(&["--force", "parts@sizes/val=8"]).outcome("ran"), ["parts@val=8"]);
    project.says(&["run", "--force", "parts@sizes/val=8"]);
    let told = project.says(&["run"]);
    assert!(told.contains("3 ran, 1 in the store"), "the plain pipeline is another question: {told}");
}

#[test]
fn nothing_that_a_terminal_would_obey_is_passed_on() {
    let project = Project::new(
        "name: \"evil\\e[2J\"
stages:
  said: {use: command, with: {shell: 'printf \"\\033[2Jgone\" >&2; exit 3', env: {A: \"x\\e]0;title\\a\"}}}
",
    );
    let ran = printed(&project.watershed(&["run"]));
    assert!(ran.contains("\u{fffd}[2Jgone"), "{ran:?}");
    project.edit("exit 3", "echo > $OUT_out");
    project.says(&["run"]);
    project.edit("e]0;title", "e]0;other");
    for arguments in
        [&["plan"][..], &["why"], &["config"], &["run"], &["runs"], &["log", "said"], &["show"], &["graph"]]
    {
        let told = printed(&project.watershed(arguments));
        assert!(!told.is_empty() && !told.contains(['\u{1b}', '\u{7}']), "{arguments:?}: {told:?}");
    }
    let plan = project.watershed(&["plan", "--set", "said.env.A=y", "--format", "json"]);
    let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
    assert!(plan.to_string().contains("\\u001b]0;other"), "programs get what there is: {plan}");
}

#[test]
fn a_node_read_in_two_ports_is_named_once() {
    let project = Project::new(
        "stages:
  one: {use: command, with: {shell: 'echo $N > $OUT_out', env: {N: 0}}}
  all: {use: command, in: {x: one@*, y: one@*}, with: {shell: 'ls $IN_x > $OUT_out'}}
sweeps: {s: {cases: {a: {one.env.N: 1}, b: {one.env.N: 2}}}}
",
    );
    let plan = project.plan(&["--sweep", "s"]);
    assert_eq!(plan["stages"][2]["depends_on"], serde_json::json!(["one@a", "one@b"]));
    let told = project.says(&["plan", "--sweep", "s"]);
    assert!(told.contains("depends  on one@a, one@b\n"), "{told}");
    let why = project.says(&["why", "all", "--sweep", "s"]);
    assert_eq!(why, "all <- one@a <- first run\nall <- one@b <- first run\n");
}

#[test]
fn a_folder_that_is_no_store_is_told() {
    let project = of_four_stages();
    project.run(&[]);
    for verb in ["stats", "verify"] {
        let (code, told) = ended(&project.watershed(&["cache", verb, "--cache", "typo"]));
        assert_eq!(code, Some(3), "{verb}");
        assert!(told.starts_with("error: there is no store at `typo`"), "{told}");
        project.says(&["cache", verb]);
    }
}

#[test]
fn last_is_the_newest_run_whose_log_can_be_read() {
    let project = of_four_stages();
    project.run(&[]);
    let run = project.says(&["show"]);
    project.write(".watershed/v1/run/99991231-235959-999-99999/events.jsonl", "{\"event\":\"run_sta");
    assert_eq!(project.says(&["show"]), run);
    project.says(&["diff", "last", "last"]);
    assert!(project.says(&["log", "parts", "--run", "last"]).contains("ran after"));
    let (code, told) = ended(&project.watershed(&["show", "last~1"]));
    assert_eq!((code, told.as_str()), (Some(1), "error: there are only 1 runs, and 1 with a damaged log"));
    assert_eq!(
        project.watershed(&["show", "99991231"]).status.code(),
        Some(1),
        "named by its id it is not passed over"
    );
}

#[test]
fn a_report_can_be_printed() {
    let project = of_four_stages();
    project.run(&[]);
    assert!(project.says(&["report", "-o", "-"]).starts_with("<!doctype html>"));
    assert!(!project.path("-").exists());
}

#[test]
fn waiting_for_another_process_is_told() {
    let project = Project::new("");
    let go = project.path("go");
    let shell = format!("while [ ! -e {} ]; do sleep 0.02; done; echo > $OUT_out", go.display());
    project.write("watershed.yaml", &format!("stages:\n  slow: {{use: command, with: {{shell: '{shell}'}}}}\n"));
    let mut owner = project.command(&["run", "-q"]).spawn().unwrap();
    let begun = Instant::now();
    while files(&project.store().join("tmp")).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the owner did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    let arguments = ["run", "--lock-timeout", "10"];
    let mut waiter = project.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(waiter.stdout.take().unwrap()).lines();
    let expected = "slow: waits for another process that executes the same action";
    let told = lines.map_while(Result::ok).any(|line| line.trim() == expected);
    std::fs::write(&go, "").unwrap();
    assert!(told, "the waiter ended without a word");
    assert_eq!((owner.wait().unwrap().code(), waiter.wait().unwrap().code()), (Some(0), Some(0)));
}
