//! A run with nothing to do loads no pipeline; whatever changed is still seen.

use std::time::Duration;

use serde_json::Value;

use crate::project::{Project, files, replace};

/// A project that reads a file, a folder, the environment and a tool's answer, and expects a number.
fn of_everything() -> Project {
    let project = Project::new(
        "env: {PET_NAME: rex}
stages:
  file:   {use: command, in: {x: ./one.txt}, with: {shell: 'cat $IN_x > $OUT_out'}}
  folder: {use: command, in: {x: ./many}, with: {shell: 'cat $IN_x/* > $OUT_out'}}
  named:  {use: command, with: {shell: 'echo ${env.PET_NAME} > $OUT_out'}}
  asked:  {use: command, with: {shell: 'cat $IN_y > $OUT_out', tools: {pet: [sh, ./pet]}}, in: {y: file}}
  rated:  {use: command, with: {shell: 'echo \"{\\\"rate\\\": 0.05}\" > $OUT_m', out: {m: metrics}}}
expect: {rated.rate: \"<= 0.1\"}
",
    );
    project.edit("[sh, ./pet]", &format!("[sh, {}]", project.path("pet").display()));
    project.write("one.txt", "one");
    project.write("many/a.txt", "a");
    project.write("pet", "echo Pet 1.0");
    // Files are trusted by their times only when they have rested for a tick of the file system.
    std::thread::sleep(Duration::from_millis(80));
    project
}

/// Returns the events of the newest run, as its log has them.
fn last_log(project: &Project) -> Vec<Value> {
    let logs = files(&project.store().join("v1/run"));
    let newest = logs.iter().filter(|path| path.ends_with("events.jsonl")).max().unwrap();
    std::fs::read_to_string(newest).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn stood_still(project: &Project) -> bool {
    last_log(project).iter().any(|event| event["event"] == "unchanged")
}

#[test]
fn a_run_with_nothing_to_do_says_the_same_and_keeps_its_place_in_the_history() {
    let project = of_everything();
    project.says(&["run"]);
    assert!(!stood_still(&project));
    let text = project.says(&["run"]);
    assert!(stood_still(&project), "{text}");
    for words in ["ok: 0 ran, 5 in the store, 0 failed, 0 skipped", "expect rated.rate <= 0.1: held, found 0.05"] {
        assert!(text.contains(words), "{text}");
    }
    let shown: Value = serde_json::from_str(&project.says(&["show", "--format", "json"])).unwrap();
    let stages = shown["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 5);
    assert!(stages.iter().all(|stage| stage["outcome"] == "hit"), "{shown}");
}

/// Changes one thing, and returns whether the next run still stood still, and how many stages it executed.
fn after(change: fn(&Project)) -> (bool, u64) {
    let project = of_everything();
    project.says(&["run"]);
    change(&project);
    project.says(&["run"]);
    let log = last_log(&project);
    (stood_still(&project), log.last().unwrap()["ran"].as_u64().unwrap())
}

#[test]
fn whatever_changed_is_seen() {
    assert_eq!(after(|_| ()), (true, 0));
    assert_eq!(after(|p| p.write("one.txt", "two")), (false, 2), "an input");
    assert_eq!(after(|p| p.write("many/b.txt", "b")), (false, 1), "a new file in an input folder");
    assert_eq!(after(|p| p.write("many/a.txt", "c")), (false, 1), "a changed file in an input folder");
    assert_eq!(after(|p| p.write("pet", "echo Pet 2.0")), (false, 1), "what a tool answers");
    assert_eq!(after(|p| p.edit("0.05", "0.06")), (false, 1), "the pipeline");
    assert_eq!(after(|p| p.edit("env:", "# only a comment\nenv:")), (false, 0), "a comment");
}

#[test]
fn what_the_store_lost_is_seen() {
    let emptied = |p: &Project| {
        for blob in p.blobs() {
            std::fs::remove_file(&blob).unwrap();
            std::fs::write(&blob, "").unwrap();
        }
    };
    assert_eq!(after(emptied), (false, 4), "emptied blobs, two of them one");
    assert_eq!(
        after(|p| std::fs::remove_dir_all(p.store().join("v1/cas")).unwrap()),
        (false, 4),
        "lost blobs, two of them one"
    );
    assert_eq!(after(|p| std::fs::remove_dir_all(p.store().join("v1/ac")).unwrap()), (false, 5), "lost records");
    assert_eq!(after(|p| std::fs::remove_dir_all(p.store().join("v1/run")).unwrap()), (false, 0), "lost logs");
    let torn = |p: &Project| files(&p.store().join("index/plan")).iter().for_each(|plan| replace(plan, b"{"));
    assert_eq!(after(torn), (false, 0), "a torn plan");
}

#[test]
fn another_environment_is_another_run() {
    let project = of_everything();
    project.says(&["run"]);
    let output = project.command(&["run"]).env("PET_NAME", "tom").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 ran"), "{output:?}");
    project.says(&["run"]);
    assert_eq!((stood_still(&project), last_log(&project).last().unwrap()["hit"].as_u64()), (false, Some(5)));
}

#[test]
fn options_that_ask_for_more_take_the_long_way() {
    let project = of_everything();
    project.says(&["run"]);
    assert!(project.says(&["run", "--force", "file"]).contains("1 ran"));
    assert!(project.says(&["run", "--frozen"]).contains("nothing to run"));
    assert_eq!(project.run(&[]).outcome("hit").len(), 5);
    assert!(project.says(&["run", "--set", "rated.shell=echo '{\"rate\":0.01}' > $OUT_m"]).contains("1 ran"));
}

#[test]
fn another_path_to_a_tool_is_another_run() {
    let project =
        Project::new("stages:\n  out: {use: command, with: {shell: 'pet > $OUT_out', tools: {pet: [pet]}}}\n");
    let outer = std::env::var("PATH").unwrap();
    for version in ["1.0", "2.0"] {
        let pet = project.path(&format!("v{version}/pet"));
        project.write(&format!("v{version}/pet"), &format!("#!/bin/sh\necho Pet {version}\n"));
        std::fs::set_permissions(&pet, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let ran = |version: &str| {
        let path = format!("{}:{outer}", project.path(&format!("v{version}")).display());
        let output = project.command(&["run"]).env("PATH", path).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for (version, words) in
        [("1.0", "1 ran"), ("1.0", "0 ran"), ("2.0", "1 ran"), ("2.0", "0 ran"), ("1.0", "0 ran, 1 in")]
    {
        let said = ran(version);
        assert!(said.contains(words), "{version}: {said}");
    }
}
