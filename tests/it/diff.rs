//! `diff`: in what two runs, or two cases, differ.

use serde_json::Value;

use crate::mask::masked;
use crate::project::{Project, rows};

/// A split whose validation rows are rated: a number with an interval.
fn rated() -> Project {
    let shell = "n=$(wc -l < $IN_v); echo \"{\\\"a.rate\\\": $n.5, \\\"a.rate_low\\\": $n.1, \\\"a.rate_high\\\": $n.9, \\\"systems\\\": 1}\" > $OUT_m";
    let project = Project::new(&format!(
        "name: study
stages:
  rows:   {{use: examples, in: {{files: ./data.jsonl}}}}
  parts:  {{use: split, in: rows, with: {{val: 4, test: 4}}}}
  scores: {{use: command, in: {{v: parts.val}}, with: {{shell: '{shell}', out: {{m: metrics}}}}}}
sweeps:
  sizes: {{cases: {{one: {{parts.val: 5}}, two: {{parts.val: 8}}}}}}
"
    ));
    project.write("data.jsonl", &rows(40));
    project
}

fn diff(project: &Project, arguments: &[&str]) -> String {
    let mut all = vec!["diff"];
    all.extend(arguments);
    masked(&project.says(&all))
}

#[test]
fn two_runs_differ_in_parameters_inputs_rows_metrics_and_outputs() {
    let project = rated();
    project.says(&["run"]);
    project.says(&["run", "--set", "parts.val=6"]);
    assert_eq!(
        diff(&project, &["last~1", "last"]),
        "RUN -> RUN

parameters
  parts.val  4 -> 6

inputs
  scores.in.v  3bec05e4 -> 5296b6d0

rows and other counts
  parts.rows_train  32 -> 30  (-2, -6.2 %)
  parts.rows_val    4 -> 6  (+2, +50.0 %)

metrics
  scores.a.rate  4.5000 -> 6.5000  (+2, +44.4 %)  intervals do not overlap
  scores         1 more equal

outputs
  parts.test   equal    296 B
  parts.train  differs  2.3 KiB -> 2.2 KiB
  parts.val    differs  298 B -> 448 B
  scores.m     differs  69 B -> 69 B

2 stages differ, 1 equal"
    );
}

#[test]
fn equal_runs_say_so_and_only_exit_code_makes_a_difference_fail() {
    let project = rated();
    project.says(&["run"]);
    project.says(&["run"]);
    assert_eq!(diff(&project, &["last~1", "last", "--exit-code"]), "RUN and RUN are equal: 3 stages");
    project.says(&["run", "--set", "parts.val=6"]);
    project.says(&["diff", "last~1", "last"]);
    assert_eq!(project.watershed(&["diff", "last~1", "last", "--exit-code"]).status.code(), Some(1));
}

#[test]
fn sweeps_are_compared_case_by_case_and_cases_with_each_other() {
    let project = rated();
    project.says(&["run"]);
    project.says(&["run", "--sweep", "sizes"]);
    project.edit("two: {parts.val: 8}", "two: {parts.val: 9}, three: {parts.val: 10}");
    project.says(&["run", "--sweep", "sizes"]);
    let told = diff(&project, &["last~1", "last"]);
    for words in [
        "parameters\n  parts.val (two)  8 -> 9\n",
        "\n  scores.a.rate (two)  8.5000 -> 9.5000  (+1, +11.8 %)  intervals do not overlap\n",
        "only in RUN\n  rows@three\n  parts@three\n  scores@three\n\n2 stages differ, 3 equal",
    ] {
        assert!(told.contains(words), "{told}");
    }
    let cases: Value =
        serde_json::from_str(&project.says(&["diff", "last@one", "last@two", "--format", "json"])).unwrap();
    assert_eq!(cases["stages"][0]["differences"][0]["path"], "parts.val");
    assert_eq!(cases["stages"][1]["metrics"][0]["intervals_overlap"], false);
    assert_eq!(cases["equal_stages"], 1);
    let output = project.watershed(&["diff", "last~2", "last"]);
    let told = masked(&String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        (output.status.code(), told.as_str()),
        (Some(2), "error: run RUN ran a sweep and run RUN none; name one of its cases, for example `RUN@one`")
    );
    let output = project.watershed(&["diff", "last@one", "last@tow"]);
    let told = masked(&String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        (output.status.code(), told.as_str()),
        (Some(1), "error: run RUN has no case `tow`; did you mean `two`?")
    );
}

#[test]
fn what_only_one_run_has_and_what_failed_is_told() {
    let project = rated();
    project.says(&["run"]);
    project.edit(
        "  parts:  {use: split, in: rows, with: {val: 4, test: 4}}",
        "  cut:    {use: split, in: rows, with: {val: 90}}",
    );
    project.edit("{v: parts.val}", "{v: cut.val}");
    project.edit("sweeps:\n  sizes: {cases: {one: {parts.val: 5}, two: {parts.val: 8}}}\n", "");
    assert_eq!(project.run(&[]).code, 1);
    assert_eq!(
        diff(&project, &["last~1", "last"]),
        "RUN -> RUN

outcomes
  scores  ran -> skipped

only in RUN
  parts

only in RUN
  cut

1 stage differs, 1 equal"
    );
}
