//! The examples of `explain`: every bad one gives exactly its code, every good one nothing.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

use serde_json::Value;
use watershed_engine::code::{ALL, Code, Example, LINTS};

use crate::project::{Project, rows};

const MODEL: &str = "stages:
  base: {use: random-model, in: {tokenizer: ./tokenizer.json}, with: {config: {bos_token_id: 1, eos_token_id: 2, hidden_size: 64, intermediate_size: 160, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, max_position_embeddings: 1024, vocab_size: 512, tie_word_embeddings: true}}}
";

/// A project with every file that the examples name.
fn project() -> Project {
    let project = Project::new(MODEL);
    project.write("data.jsonl", &rows(40));
    project.write("shared/data.jsonl", &rows(4));
    project.write("tokenizer.json", include_str!("../../templates/tokenizer.json"));
    let pipe = CString::new(project.path("queue").as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a string that ends in a zero byte and lives through the call.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    assert_eq!(project.run(&[]).code, 0);
    project.says(&["get", "base", "-o", "model"]);
    project
}

/// Runs the command of an example; returns the codes that it gives.
fn codes(project: &Project, example: Example, list: &str) -> Vec<String> {
    project.write("watershed.yaml", example.text);
    let mut words: Vec<&str> = example.command.split(' ').skip(1).collect();
    words.extend(["--format", "json"]);
    let output = project.watershed(&words);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = document[list].as_array().unwrap_or_else(|| panic!("{example:?}: {document}"));
    let mut codes: Vec<String> = found.iter().map(|f| f["code"].as_str().unwrap().to_string()).collect();
    codes.sort();
    codes.dedup();
    codes
}

fn wrong(project: &Project, code: &Code, list: &str) -> Vec<String> {
    let (bad, good) = (codes(project, code.bad(), list), codes(project, code.good(), list));
    let mut wrong = Vec::new();
    // What cuts answers off may cut their end off too, so a lint may have company.
    let is_shown = if list == "lints" { bad.iter().any(|found| found == code.code) } else { bad == [code.code] };
    if !is_shown {
        wrong.push(format!("{}: the bad example gives {bad:?}", code.code));
    }
    if !good.is_empty() {
        wrong.push(format!("{}: the good example gives {good:?}", code.code));
    }
    wrong
}

#[test]
fn every_fault_is_shown_by_its_bad_example_and_mended_by_its_good_one() {
    let project = project();
    let wrong: Vec<String> = ALL.iter().flat_map(|code| wrong(&project, code, "errors")).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_lint_is_shown_by_its_bad_example_and_mended_by_its_good_one() {
    let project = project();
    let rows = "stages:\n  rows:  {use: examples, in: {files: ./data.jsonl}}\n  parts: {use: split, in: rows, with: {val: 4}}\n";
    project.write("watershed.yaml", rows);
    assert_eq!(project.run(&[]).code, 0);
    let wrong: Vec<String> = LINTS.iter().flat_map(|code| wrong(&project, code, "lints")).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn explain_lists_all_codes_and_shows_one() {
    let project = Project::new("stages: {}\n");
    let list: Value = serde_json::from_str(&project.says(&["explain", "--format", "json"])).unwrap();
    assert_eq!(list["codes"].as_array().unwrap().len(), ALL.len() + LINTS.len());
    let page = project.says(&["explain", "e014"]);
    assert!(page.starts_with("E014: an input that nothing writes\n") && page.contains("rows.exmples"), "{page}");
    let page: Value = serde_json::from_str(&project.says(&["explain", "L003", "--format", "json"])).unwrap();
    assert_eq!(page["bad"]["command"], "watershed plan");
    assert_eq!(project.watershed(&["explain", "E999"]).status.code(), Some(2));
}
