//! `peek`: a row as the model sees it, before anything is trained.

use crate::model::project;
use crate::project::Project;

fn refusal(project: &Project, words: &[&str]) -> (Option<i32>, String) {
    let output = project.watershed(words);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_training_row_shows_what_is_read_and_what_is_learned() {
    let Some(project) = project(|_| {}) else { return };
    let (code, text) = refusal(&project, &["peek", "tuned"]);
    assert!(code == Some(1) && text.contains("`rows` has to run first: `watershed run rows`"), "{text}");
    assert_eq!(project.run(&["rows"]).code, 0);
    let text = project.says(&["peek", "tuned", "--row", "3"]);
    for line in ["row 3, of 8,", "read    | What is 2?", "read    | ### Response:", "learned | It is 2.", "ids     | "]
    {
        assert!(text.contains(line), "`{line}` is not in:\n{text}");
    }
    let document: serde_json::Value =
        serde_json::from_str(&project.says(&["peek", "tuned", "--row", "worst", "--format", "json"])).unwrap();
    assert_eq!(document["runs"][1]["fate"], "learned");
    assert_eq!(document["facts"]["of"], 8);
}

#[test]
fn a_cut_answer_is_seen_and_a_prompt_is_exact() {
    let Some(project) = project(|_| {}) else { return };
    assert_eq!(project.run(&["rows"]).code, 0);
    let set = ["--set", "tuned.max_len=40", "--set", "tuned.overflow=truncate"];
    let text = project.says(&[&["peek", "tuned", "--row", "worst"][..], &set].concat());
    assert!(text.contains("answer_tokens_cut") && text.contains("cut     | "), "{text}");
    let text = project.says(&["peek", "answers", "--row", "1"]);
    assert!(text.contains("read    | What is 0?") && !text.contains("It is 0."), "{text}");
}

#[test]
fn what_cannot_be_shown_is_said() {
    let Some(project) = project(|_| {}) else { return };
    assert_eq!(project.run(&["rows"]).code, 0);
    for (words, wanted, text) in [
        (vec!["peek", "tuned", "--row", "9"], 1, "there is no row 9: `train` has 8"),
        (vec!["peek", "rows"], 1, "`rows` (examples) reads no rows that a model sees"),
        (vec!["peek"], 3, "name a stage whose rows to look at"),
        (vec!["peek", "tuned", "--row", "0"], 2, "a number from 1, or `worst`"),
    ] {
        let (code, said) = refusal(&project, &words);
        assert!(code == Some(wanted) && said.contains(text), "{words:?}: {code:?} {said}");
    }
}
