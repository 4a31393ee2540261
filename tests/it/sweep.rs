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

/// Three seeds of a split; `told` prints what a reader of all cases is given.
fn gathered() -> Project {
    let project = Project::new(
        "stages:
  rows:  {use: examples, in: {files: ./data.jsonl}}
  parts: {use: split, in: rows, with: {val: 2}}
  told:  {use: command, in: {parts: parts.val@*}, with: {shell: '(cat $IN_cases; ls $IN_parts) > $OUT_out'}}
sweeps:
  seeds: {cases: {a: {parts.seed: 1}, b: {stages.parts.with.seed: 2, parts.run.cpus: 1}}}
  sizes: {cases: {good: {parts.val: 3}, bad: {parts.val: 4000}}}
",
    );
    project.write("data.jsonl", &rows(20));
    project
}

#[test]
fn a_reader_of_all_cases_gets_an_entry_a_case_and_the_list_of_cases() {
    let project = gathered();
    let told = |arguments: &[&str]| {
        assert_eq!(project.run(arguments).code, 0);
        project.says(&[&["get", "told", "-o", "-"], arguments].concat())
    };
    assert_eq!(
        told(&["--sweep", "seeds"]),
        "[\n{\"name\":\"a\",\"overrides\":{\"parts.seed\":1},\"in\":[\"parts\"]},\n\
         {\"name\":\"b\",\"overrides\":{\"parts.seed\":2},\"in\":[\"parts\"]}\n]\na\nb\n"
    );
    assert_eq!(told(&[]), "[\n{\"name\":\"base\",\"overrides\":{},\"in\":[\"parts\"]}\n]\nbase\n");
}

#[test]
fn a_changed_override_runs_the_reader_again_even_where_all_bytes_stay() {
    let project = gathered();
    project.edit("{val: 2}", "{val: 0}");
    assert_eq!(project.run(&["--sweep", "seeds"]).code, 0);
    project.edit("{parts.seed: 1}", "{parts.seed: 7}");
    let again = project.run(&["--sweep", "seeds"]);
    assert_eq!(again.outcome("ran"), ["parts@a", "told"], "val is empty under every seed");
    assert_eq!(again.reasons("told"), ["input cases (the overrides of the cases) changed"]);
    project.edit("parts.run.cpus: 1", "parts.run.cpus: 2");
    assert_eq!(project.run(&["--sweep", "seeds"]).outcome("ran"), Vec::<String>::new(), "`run` is in no key");
}

#[test]
fn failed_cases_skip_their_reader_unless_it_allows_them_to_be_missing() {
    let project = gathered();
    let ran = project.run(&["--sweep", "sizes"]);
    assert_eq!((ran.outcome("failed"), ran.outcome("skipped")), (vec!["parts@bad".into()], vec!["told".into()]));
    assert_eq!(ran.error("told"), "`parts@bad` did not finish");
    project.edit("told:  {use: command,", "told:  {use: command, allow_missing: true,");
    let ran = project.run(&["--sweep", "sizes"]);
    assert_eq!((ran.code, ran.outcome("ran")), (1, vec!["told".to_string()]));
    let told = project.says(&["get", "told", "-o", "-", "--run", "last"]);
    assert!(told.contains(r#"{"name":"bad","overrides":{"parts.val":4000},"in":[]}"#), "{told}");
    assert!(told.ends_with("]\ngood\n"), "{told}");
    let none = project.run(&["--sweep", "sizes", "--cases", "bad"]);
    assert_eq!(none.outcome("skipped"), ["told"], "no case is left to read");
}

#[test]
fn the_list_of_cases_keeps_its_port_to_itself() {
    let project = gathered();
    project.edit("in: {parts: parts.val@*}", "in: {parts: parts.val@*, cases: ./data.jsonl}");
    let output = project.watershed(&["check"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3));
    assert!(told.contains("input `cases` of stage `told` is the list of the cases that it reads"), "{told}");
}

#[test]
fn a_plan_says_what_cases_share_and_how_long_it_takes() {
    let project = swept();
    let last = |arguments: &[&str]| {
        project.says(&[&["plan"], arguments].concat()).lines().rev().take(2).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(
        last(&["--sweep", "sizes"]),
        "1 to run, 12 depend on them (time unknown), 0 in the store\n6 cases: 13 nodes, 7 of them shared, 24 without sharing"
    );
    project.run(&[]);
    let plan = project.plan(&["--sweep", "sizes"]);
    assert_eq!(plan["sharing"]["without_sharing"], 24);
    assert_eq!((&plan["estimate"]["unknown"], &plan["estimate"]["from_runs"]), (&0.into(), &3.into()));
    let text = last(&["--set", "parts.val=5"]);
    assert!(text.contains(" from 3 earlier runs), 1 in the store"), "{text}");
    assert!(last(&[]).contains("0 to run, 0 depend on them, 4 in the store"), "{}", last(&[]));
}

#[test]
fn a_plan_of_very_many_cases_is_folded_for_people_and_whole_for_programs() {
    let project = of_four_stages();
    let text = std::fs::read_to_string(project.path("watershed.yaml")).unwrap();
    let seeds: Vec<String> = (0..300).map(|i| i.to_string()).collect();
    project
        .write("watershed.yaml", &format!("{text}sweeps: {{s: {{grid: {{parts.seed: [{}]}}}}}}\n", seeds.join(", ")));
    let told = project.says(&["plan", "--sweep", "s"]);
    assert!(told.contains("… 295 more of this stage, like these") && told.lines().count() < 40, "{told}");
    assert!(told.contains("300 cases: 901 nodes, 1 of them shared, 1200 without sharing"), "{told}");
    assert_eq!(project.plan(&["--sweep", "s"])["stages"].as_array().unwrap().len(), 901);
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
