//! Sweeps: shared stages run once, each case is a node, a failed case stops only itself.

use crate::project::{Project, of_four_stages, rows};

fn swept() -> Project {
    let project = of_four_stages();
    let text = std::fs::read_to_string(project.path("watershed.yaml")).unwrap();
    project.write(
        "watershed.yaml",
        &format!("{text}sweeps:\n  sizes: {{grid: {{parts.val: [4, 6, 8], large.val: [1, 2]}}}}\n"),
    );
    project
}

#[test]
fn shared_stages_run_once_and_equal_nodes_are_merged() {
    let project = swept();
    let ran = project.run(&["--sweep", "sizes"]);
    assert_eq!(ran.code, 0);
    let count = |stage: &str| ran.outcome("ran").iter().filter(|t| t.split('@').next() == Some(stage)).count();
    assert_eq!(["rows", "parts", "small", "large"].map(count), [1, 3, 3, 6]);
    let parts = ran.events.iter().find(|e| e["event"] == "stage_finished" && e["stage"] == "parts").unwrap();
    assert_eq!((parts["case"].is_null(), parts["cases"].as_array().unwrap().len()), (true, 2));
}

#[test]
fn a_sweep_reuses_what_a_plain_run_left_and_resumes_by_running_again() {
    let project = swept();
    project.run(&[]);
    let first = project.run(&["--sweep", "sizes", "--cases", "parts.val=6*"]);
    assert_eq!(first.outcome("hit").len() + first.outcome("ran").len(), 5, "{:?}", first.outcome("ran"));
    let all = project.run(&["--sweep", "sizes"]);
    assert_eq!(all.outcome("failed").len(), 0);
    assert_eq!(project.run(&["--sweep", "sizes"]).outcome("ran").len(), 0);
}

#[test]
fn a_failed_case_stops_only_itself() {
    let project = Project::new(
        "stages:
  rows:  {use: examples, in: {files: ./data.jsonl}}
  parts: {use: split, in: rows, with: {val: 2}}
  below: {use: split, in: parts.train, with: {val: 1}}
sweeps: {sizes: {cases: {good: {parts.val: 3}, bad: {parts.val: 4000}, fine: {parts.val: 5}}}}
",
    );
    project.write("data.jsonl", &rows(20));
    let ran = project.run(&["--sweep", "sizes"]);
    assert_eq!(ran.code, 1);
    assert_eq!(ran.outcome("failed"), ["parts@bad"]);
    assert_eq!(ran.outcome("skipped"), ["below@bad"]);
    assert_eq!(ran.outcome("ran").len(), 5);
}

#[test]
fn a_stage_may_read_one_case_of_a_sweep_that_is_not_run() {
    let project = Project::new(
        "stages:
  rows:  {use: examples, in: {files: ./data.jsonl}}
  parts: {use: split, in: rows, with: {val: 2}}
  pick:  {use: mix, in: {base: parts.val, extra: {other: parts@sizes/large.val}}, with: {extra_rows: {other: 100%}}}
sweeps: {sizes: {cases: {small: {parts.val: 3}, large: {parts.val: 5}}}}
",
    );
    project.write("data.jsonl", &rows(20));
    let ran = project.run(&[]);
    assert_eq!(ran.outcome("ran"), ["parts", "parts@sizes/large", "pick", "rows"], "{:?}", ran.events);
    assert_eq!(project.says(&["get", "pick", "-o", "-"]).lines().count(), 7);
}

#[test]
fn random_cases_are_the_same_each_time_and_more_draws_run_only_the_new_ones() {
    let project = of_four_stages();
    let text = std::fs::read_to_string(project.path("watershed.yaml")).unwrap();
    let sweep = "sweeps: {search: {random: {n: 3, seed: 4, small.val: {int: [0, 3]}, small.seed: {int: [0, 100000]}}}}";
    project.write("watershed.yaml", &format!("{text}{sweep}\n"));
    let first = project.run(&["--sweep", "search"]);
    let cases: Vec<String> = (1..=3).map(|i| format!("small@random-{i}")).collect();
    assert_eq!((first.code, first.outcome("ran").len()), (0, 6), "{:?}", first.outcome("ran"));
    assert!(cases.iter().all(|case| first.outcome("ran").contains(case)));
    assert_eq!(project.run(&["--sweep", "search"]).outcome("ran"), Vec::<String>::new());
    project.edit("n: 3", "n: 5");
    assert_eq!(project.run(&["--sweep", "search"]).outcome("ran"), ["small@random-4", "small@random-5"]);
    project.edit("seed: 4, small", "seed: 5, small");
    let reasons = project.run(&["--sweep", "search", "--cases", "random-1"]).reasons("small");
    assert!(reasons.iter().any(|r| r.starts_with("small.seed ") && r.contains(" -> ")), "{reasons:?}");
}

#[test]
fn a_case_is_named_with_its_own_sweep_or_alone() {
    let project = of_four_stages();
    let text = std::fs::read_to_string(project.path("watershed.yaml")).unwrap();
    project.write("watershed.yaml", &format!("{text}sweeps: {{sizes: {{grid: {{small.val: [1, 2]}}}}}}\n"));
    let plan = |stage: &str| project.watershed(&["plan", "--sweep", "sizes", stage]).status.code();
    assert_eq!((plan("small@val=1"), plan("small@sizes/val=1")), (Some(0), Some(0)));
    assert_eq!((plan("small@others/val=1"), plan("small@sizes/val=9")), (Some(3), Some(3)));
}
