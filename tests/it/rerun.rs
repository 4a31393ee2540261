//! Only what lies downstream of a change runs, and the reason names the leaf.

use crate::project::{of_four_stages, rows};

#[test]
fn a_second_run_does_nothing() {
    let project = of_four_stages();
    assert_eq!(project.run(&[]).outcome("ran"), ["large", "parts", "rows", "small"]);
    let again = project.run(&[]);
    assert_eq!((again.code, again.outcome("ran").len()), (0, 0));
    assert_eq!(again.outcome("hit"), ["large", "parts", "rows", "small"]);
}

#[test]
fn a_changed_parameter_reruns_its_stage_only_and_is_the_reason() {
    let project = of_four_stages();
    project.run(&[]);
    project.edit("val: 5", "val: 7");
    let ran = project.run(&[]);
    assert_eq!(ran.outcome("ran"), ["large"]);
    assert_eq!(ran.reasons("large"), ["large.val 5 -> 7"]);
}

#[test]
fn a_changed_parameter_above_reruns_what_lies_below_it() {
    let project = of_four_stages();
    project.run(&[]);
    let ran = project.run(&["--set", "params.seed=2"]);
    assert_eq!(ran.outcome("ran"), ["large", "parts", "small"]);
    assert_eq!(ran.reasons("parts"), ["parts.seed 1 -> 2"]);
    assert_eq!(ran.reasons("small"), ["input examples <- parts changed"]);
}

#[test]
fn an_old_value_is_a_hit_again() {
    let project = of_four_stages();
    project.run(&[]);
    project.run(&["--set", "large.val=7"]);
    assert_eq!(project.run(&[]).outcome("ran").len(), 0);
}

#[test]
fn comments_order_names_and_place_change_nothing() {
    let project = of_four_stages();
    project.run(&[]);
    project.write(
        "watershed.yaml",
        "# renamed, reordered
stages:
  grown: {with: {val: 5}, in: cut.train, use: split}
  cut:   {with: {seed: 1, test: 4, val: 6}, in: read, use: split}
  tiny:  {use: split, in: cut.val, with: {val: 2, by: group}}
  read:  {use: examples, in: ./moved/data.jsonl}
",
    );
    project.write("moved/data.jsonl", &rows(40));
    let ran = project.run(&[]);
    assert_eq!(ran.outcome("hit"), ["cut", "grown", "read", "tiny"]);
}

#[test]
fn equal_bytes_cut_the_rerun_short() {
    let project = of_four_stages();
    project.run(&[]);
    // The reader counts malformed lines; with none, the limit changes its key and not its bytes.
    project.edit("in: {files: ./data.jsonl}", "in: {files: ./data.jsonl}, with: {max_bad: 3}");
    let ran = project.run(&[]);
    assert_eq!(ran.outcome("ran"), ["rows"]);
    assert_eq!(ran.outcome("hit"), ["large", "parts", "small"]);
}

#[test]
fn a_changed_file_is_named() {
    let project = of_four_stages();
    project.run(&[]);
    project.write("data.jsonl", &rows(41));
    let ran = project.run(&[]);
    assert_eq!(ran.reasons("rows"), ["input files.data: ./data.jsonl changed"]);
}

#[test]
fn plan_tells_hits_runs_and_what_depends_on_them() {
    let project = of_four_stages();
    project.run(&[]);
    let plan = project.plan(&["--set", "parts.val=7"]);
    let states: Vec<&str> = plan["stages"].as_array().unwrap().iter().map(|s| s["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["hit", "run", "depends", "depends"]);
    let reason = &plan["stages"][1]["reasons"][0];
    assert_eq!((&reason["what"], &reason["path"]), (&"param".into(), &"parts.val".into()));
    assert_eq!((&reason["old"], &reason["new"]), (&6.into(), &7.into()));
    assert_eq!(plan["stages"][2]["depends_on"][0], "parts");
}

#[test]
fn why_follows_the_chain_to_the_leaf() {
    let project = of_four_stages();
    project.run(&[]);
    let text = project.says(&["why", "small", "--set", "parts.val=7"]);
    assert_eq!(text.trim(), "small <- parts <- parts.val 6 -> 7");
}

#[test]
fn targets_run_what_they_need_and_no_more() {
    let project = of_four_stages();
    assert_eq!(project.run(&["small"]).outcome("ran"), ["parts", "rows", "small"]);
}

#[test]
fn force_runs_a_stage_again_and_equal_bytes_go_no_further() {
    let project = of_four_stages();
    project.run(&[]);
    let ran = project.run(&["--force", "parts"]);
    assert_eq!(ran.outcome("ran"), ["parts"]);
    assert_eq!(ran.reasons("parts"), ["forced"]);
}

#[test]
fn frozen_runs_nothing_and_tells_what_is_pending() {
    let project = of_four_stages();
    assert_eq!(project.watershed(&["run", "--frozen"]).status.code(), Some(10));
    assert!(!project.store().join("v1").exists());
    project.run(&[]);
    assert_eq!(project.watershed(&["run", "--frozen"]).status.code(), Some(0));
}
