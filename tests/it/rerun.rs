//! Only what lies downstream of a change runs, and the reason names the leaf.

use crate::project::{Project, flip, of_four_stages, rows};

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
fn another_form_of_the_prompts_is_another_result() {
    let project = Project::new(
        "stages:
  reviews: {use: synthetic, with: {customers: 12}}
  read:    {use: ingest, in: {reviews: reviews.reviews, items: reviews.items}}
  asked:   {use: prompt, in: {interactions: read, items: read}, with: {preset: paper, min_products: 1}}
",
    );
    let before = project.run(&[]);
    assert_eq!(before.code, 0, "{:?}", before.events);
    project.edit("preset: paper", "preset: numbered");
    let ran = project.run(&[]);
    assert_eq!(
        (ran.outcome("ran"), ran.reasons("asked")),
        (vec!["asked".into()], vec!["asked.preset paper -> numbered".into()])
    );
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
fn force_runs_a_stage_also_when_its_input_was_damaged() {
    let project = of_four_stages();
    project.run(&["rows"]);
    let written = project.blobs();
    project.run(&[]);
    // Whatever `rows` wrote is damaged; the sizes stay, so only a reader sees it.
    written.iter().filter(|blob| blob.metadata().unwrap().len() > 0).for_each(|blob| flip(blob, 9));
    let ran = project.run(&["--force", "parts"]);
    assert_eq!((ran.code, ran.outcome("ran")), (0, vec!["parts".to_string(), "rows".into()]), "{:?}", ran.events);
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

#[test]
fn a_stage_that_gives_other_bytes_under_its_old_key_is_the_reason_for_its_readers() {
    let project = Project::new(
        "stages:
  drawn: {use: command, with: {shell: 'date +%N > ${out.out}'}}
  read:  {use: command, in: {drawn: drawn}, with: {shell: 'cat ${in.drawn} > ${out.out}'}}
",
    );
    project.run(&[]);
    project.run(&["drawn", "--force", "drawn"]);
    let plan = project.plan(&[]);
    assert_eq!(plan["stages"][0]["state"], "hit");
    let reason = &plan["stages"][1]["reasons"][0];
    assert_eq!((reason["what"].as_str(), reason["path"].as_str()), (Some("rebuilt"), Some("read")));
    assert_ne!(reason["old"], reason["new"]);
    assert_eq!(project.says(&["why", "read"]), "read <- input drawn: rebuilt with other bytes\n");
    assert_eq!(project.run(&[]).outcome("ran"), ["read"]);
}

#[test]
fn a_failed_stage_is_told_with_its_key() {
    let project = Project::new("stages:\n  broken: {use: command, with: {shell: 'exit 3'}}\n");
    let ran = project.run(&[]);
    let end = ran.events.iter().find(|e| e["event"] == "stage_finished").unwrap();
    assert_eq!((ran.code, end["outcome"].as_str()), (1, Some("failed")));
    assert_eq!(end["key"], project.plan(&[])["stages"][0]["key"]);
}

#[test]
fn a_plan_tells_which_facts_wait_for_which_stage() {
    let project = Project::new(
        "stages:
  rows:     {use: examples, in: ./data.jsonl}
  labelled: {use: teacher-label, in: {prompts: rows}, with: {backend: openai, endpoint: 'http://127.0.0.1:9/v1', model: m}}
",
    );
    project.write("data.jsonl", &rows(3));
    let told = project.says(&["plan"]);
    assert!(told.contains("\nlabelled: calls unknown until `rows` has run\n"), "{told}");
    project.run(&["rows"]);
    assert!(!project.says(&["plan"]).contains("unknown until"));
}

#[test]
fn a_folder_that_is_a_model_to_one_stage_is_every_file_to_another() {
    let Some(model) = crate::fixture::tiny_llama("model") else { return };
    let project = Project::new(
        "stages:
  copied: {use: export, in: {base: ./base}}
  listed: {use: command, in: {m: ./base}, with: {shell: 'ls $IN_m > $OUT_out'}}
",
    );
    crate::fixture::copy(&model, &project.path("base"));
    project.write("base/README.md", "1");
    assert_eq!(project.run(&[]).outcome("ran"), ["copied", "listed"]);
    project.write("base/NOTES.md", "2");
    assert_eq!(project.run(&[]).outcome("ran"), ["listed"]);
}
