//! Commands that help: `doctor`, `completions`, annotations for GitHub, and JSON where people get words.

use serde_json::Value;

use crate::project::{Project, rows};

const LABELS: &str = "stages:
  goods:    {use: synthetic}
  read:     {use: ingest, in: goods}
  prompts:  {use: prompt, in: read}
  labelled: {use: teacher-label, in: prompts, with: {backend: openai, endpoint: \"http://127.0.0.1:9/v1\", model: m}, run: {api_key: {env: KEY_OF_THE_TEACHER}}}
";

fn document(project: &Project, arguments: &[&str]) -> Value {
    let all = [arguments, &["--format", "json"]].concat();
    serde_json::from_slice(&project.watershed(&all).stdout).unwrap()
}

/// Returns state and words of a check.
fn check(checks: &Value, what: &str) -> (String, String) {
    let found = checks["checks"].as_array().unwrap().iter().find(|c| c["what"] == what);
    let found = found.unwrap_or_else(|| panic!("no `{what}` in {checks}"));
    (found["state"].as_str().unwrap().into(), found["found"].as_str().unwrap().into())
}

#[test]
fn doctor_tells_whether_a_key_is_set_and_never_what_it_is() {
    let project = Project::new(LABELS);
    let output = project.command(&["doctor", "--format", "json"]).env_remove("KEY_OF_THE_TEACHER").output().unwrap();
    let (state, words) = check(&serde_json::from_slice(&output.stdout).unwrap(), "key");
    assert!(state == "note" && words.starts_with("`KEY_OF_THE_TEACHER` is not set"), "{words}");
    let output = project.command(&["doctor"]).env("KEY_OF_THE_TEACHER", "sk-12345").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("`KEY_OF_THE_TEACHER` is set, for stage `labelled`") && !text.contains("12345"), "{text}");
}

#[test]
fn doctor_leaves_the_folder_as_it_was_and_finds_what_is_wrong() {
    let project = Project::new(LABELS);
    let before = crate::project::files(&project.path(""));
    let healthy = document(&project, &["doctor"]);
    assert_eq!(crate::project::files(&project.path("")), before);
    assert_eq!(check(&healthy, "pipeline").0, "ok");
    assert_eq!(check(&healthy, "disk").0, "ok");
    project.write(".watershed/index/stat.json", "{");
    assert!(check(&document(&project, &["doctor"]), "index").1.contains("stat.json cannot be read"));
    project.write("watershed.yaml", "stages: {}\nmore: 1\n");
    assert_eq!(check(&document(&project, &["doctor"]), "pipeline").0, "problem");
    assert_eq!(project.watershed(&["doctor"]).status.code(), Some(6));
    let nowhere = project.command(&["doctor", "--format", "json", "--cache", "/proc/store"]).output().unwrap();
    assert_eq!(check(&serde_json::from_slice(&nowhere.stdout).unwrap(), "disk").0, "problem");
}

#[test]
fn each_shell_completes_each_command() {
    let project = Project::new("");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = project.says(&["completions", shell]);
        assert!(["check", "config", "doctor", "origins"].iter().all(|word| script.contains(word)), "{shell}");
    }
    assert_eq!(project.watershed(&["completions", "csh"]).status.code(), Some(2));
}

#[test]
fn faults_are_annotations_where_github_is_asked_for() {
    let project = Project::new("stages:\n  rows: {use: examples, in: {files: ./data.jsonl}, with: {max_badd: 1%}}\n");
    project.write("data.jsonl", &rows(4));
    let output = project.watershed(&["check", "--format", "github"]);
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("::error file=watershed.yaml,line=2,col=59,title=E006::unknown "), "{text}");
    assert!(text.contains("%0Ahelp: did you mean `max_bad`?") && text.lines().count() == 1, "{text}");
    project.edit("max_badd", "max_bad");
    assert_eq!(project.says(&["check", "--format", "github"]), "watershed: 1 stages, no faults\n");
}

#[test]
fn init_and_report_tell_programs_what_they_wrote() {
    let project = Project::new("");
    let written = document(&project, &["init", "mine", "--template", "quickstart"]);
    assert_eq!((&written["template"], &written["folder"]), (&"quickstart".into(), &"mine".into()));
    let files = written["files"].as_array().unwrap();
    assert!(files.iter().all(|name| project.path("mine").join(name.as_str().unwrap()).is_file()) && files.len() > 1);
    project.write("data.jsonl", &rows(4));
    project.write("watershed.yaml", "stages:\n  rows: {use: examples, in: {files: ./data.jsonl}}\n");
    assert_eq!(project.run(&[]).code, 0);
    assert_eq!(document(&project, &["report", "-o", "page.html"]), serde_json::json!({"wrote": "page.html"}));
}

#[test]
fn get_takes_the_main_output_of_a_stage_and_tells_programs_when_there_is_none() {
    let project = Project::new(
        "stages:\n  goods: {use: synthetic}\n  read:  {use: ingest, in: goods}\n  parts: {use: holdout, in: {interactions: read.interactions, items: read.items}}\n",
    );
    assert_eq!(project.run(&[]).code, 0);
    let interactions = project.says(&["get", "read", "-o", "-"]);
    assert_eq!(interactions, project.says(&["get", "read.interactions", "-o", "-"]));
    assert_eq!(interactions, project.says(&["get", "read", "-o", "-", "--run", "last"]));
    for (word, code) in [("parts", "E017"), ("parts.tset", "E014"), ("part", "E035")] {
        let all = ["get", word, "-o", "x", "--format", "json"];
        for run in [&[][..], &["--run", "last"]] {
            let output = project.watershed(&[&all, run].concat());
            assert_eq!(output.status.code(), Some(3), "{word}");
            let document: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(document["errors"][0]["code"], code, "{document}");
        }
    }
}
