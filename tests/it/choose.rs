//! `choose`: the best case of a sweep goes on, whatever type it is of.

use crate::project::{Project, rows};

/// Splits of several sizes; each case scores its number of rows for validation, and the best split's is taken on.
fn project() -> Project {
    let project = Project::new(
        "stages:
  rows:   {use: examples, in: {files: ./data.jsonl}}
  parts:  {use: split, in: rows, with: {val: 3}}
  scores: {use: command, in: {val: parts.val}, with: {shell: 'printf \"{\\\"rows\\\": %d}\" $(wc -l < $IN_val) > $OUT_m', out: {m: metrics}}}
  best:   {use: choose, in: {candidates: parts.val@*, scores: scores@*}, with: {metric: rows, mode: max}}
  again:  {use: split, in: best.chosen, with: {val: 1}}
sweeps:
  sizes: {grid: {parts.val: [3, 9, 5]}}
  seeds: {grid: {parts.val: [4, 6], parts.seed: [1, 2]}}
",
    );
    project.write("data.jsonl", &rows(20));
    project
}

#[test]
fn the_best_case_of_a_sweep_is_chosen_and_goes_on() {
    let project = project();
    let ran = project.run(&["--sweep", "sizes"]);
    assert_eq!((ran.code, ran.outcome("failed")), (0, vec![]), "{:?}", ran.error("best"));
    let sweep = ["--sweep", "sizes", "-o", "-"];
    assert_eq!(project.says(&[&["get", "best.chosen"][..], &sweep].concat()).lines().count(), 9);
    assert_eq!(
        project.says(&[&["get", "best.table"][..], &sweep].concat()),
        "rank,case,rows,parts.val,note\n1,val=9,9,9,\n2,val=5,5,5,\n3,val=3,3,3,\n"
    );
    assert_eq!(project.run(&["--sweep", "sizes"]).outcome("ran"), Vec::<String>::new());
}

#[test]
fn means_are_over_the_overrides_that_are_named() {
    let project = project();
    project.edit("mode: max}", "mode: max, mean_over: [seed]}");
    assert_eq!(project.run(&["--sweep", "seeds"]).code, 0);
    let table = project.says(&["get", "best.table", "--sweep", "seeds", "-o", "-"]);
    assert!(
        table.starts_with("rank,case,rows,mean,averaged,parts.seed,parts.val,note\n1,\"val=6,seed=1\",6,6,2,1,6,\n"),
        "{table}"
    );
}

#[test]
fn chosen_has_the_type_of_the_candidates() {
    let project = project();
    let plan = project.plan(&["again"]);
    let best = plan["stages"].as_array().unwrap().iter().find(|s| s["stage"] == "best").unwrap();
    assert_eq!(best["state"], "depends");
    project.edit("in: best.chosen", "in: best");
    project.says(&["check"]);
    project.edit(
        "again:  {use: split, in: best, with: {val: 1}}",
        "again:  {use: baseline, in: {interactions: best.chosen}}",
    );
    let output = project.watershed(&["check"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("takes `interactions`, found `examples` from `best.chosen`"), "{told}");
}

#[test]
fn a_choice_among_choices_keeps_the_type_and_candidates_are_of_one_type() {
    let project = project();
    let stage = "  first:  {use: choose, in: {candidates: {b: best.chosen}, scores: {b: scores}}, with: {metric: rows, mode: max}}\n";
    let text = std::fs::read_to_string(project.path("watershed.yaml")).unwrap();
    project.write(
        "watershed.yaml",
        &text.replace("stages:\n", &format!("stages:\n{stage}")).replace("in: best.chosen", "in: first"),
    );
    project.says(&["check"]);
    project.edit("{b: best.chosen}", "{b: best.chosen, s: scores}");
    let output = project.watershed(&["check"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains(
            "input `candidates` of stage `first` takes inputs of one type, found `examples` and, as `s`, `metrics`"
        ),
        "{told}"
    );
}

#[test]
fn a_metric_that_no_case_has_is_an_error_with_near_names() {
    let project = project();
    project.edit("metric: rows", "metric: row");
    let ran = project.run(&["--sweep", "sizes"]);
    assert_eq!(ran.error("best"), "no case has the metric `row`: did you mean `rows`? They have `rows`");
}
