//! `cache gc`: what goes, what stays, and that runs beside it lose nothing.

use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::cache::document;
use crate::project::{Project, files, of_four_stages};

/// Two runs: the first with `large.val` 5, the second with 9.
fn of_two_runs() -> Project {
    let project = of_four_stages();
    project.run(&[]);
    project.run(&["--set", "large.val=9"]);
    project
}

fn gc(project: &Project, arguments: &[&str]) -> Value {
    document(project, &[&["gc"], arguments].concat(), 0)
}

fn hits(project: &Project, arguments: &[&str]) -> usize {
    let plan = project.plan(arguments);
    plan["stages"].as_array().unwrap().iter().filter(|stage| stage["state"] == "hit").count()
}

/// Starts a run on the project's store that goes on until it is killed.
fn long_run(project: &Project) -> (Project, Child) {
    let other = Project::new("stages:\n  long: {use: command, with: {shell: 'echo > ../ready; sleep 60'}}\n");
    let store = project.store();
    let mut command = other.command(&["run", "-q", "--cache", store.to_str().unwrap()]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while files(&store.join("tmp")).iter().all(|path| !path.ends_with("ready")) {
        std::thread::sleep(Duration::from_millis(5));
    }
    (other, child)
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_dry_run_touches_nothing() {
    let project = of_two_runs();
    let before = files(&project.store().join("v1"));
    let told = gc(&project, &["--keep", "1"]);
    assert_eq!((&told["applied"], told["results"].as_u64()), (&Value::from(false), Some(1)));
    assert!(told["bytes"].as_u64().unwrap() > 0);
    assert_eq!(files(&project.store().join("v1")), before);
    assert!(project.says(&["cache", "gc"]).contains("this was a dry run"));
}

#[test]
fn only_what_no_kept_run_refers_to_goes() {
    let project = of_two_runs();
    let told = gc(&project, &["--keep", "1", "--apply"]);
    assert_eq!((told["results"].as_u64(), told["trash_bytes"].as_u64()), (Some(1), Some(0)));
    assert_eq!(told["bytes"], told["freed_bytes"]);
    assert_eq!((hits(&project, &["--set", "large.val=9"]), hits(&project, &[])), (4, 3));
    document(&project, &["verify", "--read-data"], 0);
    assert_eq!(project.run(&[]).outcome("ran"), ["large"]);
    assert_eq!(gc(&project, &["--apply"])["results"], 0);
}

#[test]
fn a_pinned_run_keeps_its_results() {
    let project = of_two_runs();
    document(&project, &["pin", "last~1"], 0);
    assert_eq!(gc(&project, &["--keep", "0"])["pinned_runs"], 1);
    assert_eq!(gc(&project, &["--keep", "0", "--apply"])["results"], 1);
    assert_eq!((hits(&project, &[]), hits(&project, &["--set", "large.val=9"])), (4, 3));
    document(&project, &["unpin", "last~1"], 0);
    gc(&project, &["--keep", "0", "--apply"]);
    assert_eq!((hits(&project, &[]), project.blobs().len()), (0, 0));
}

#[test]
fn a_budget_takes_the_oldest_first_and_no_more_than_it_must() {
    let project = of_four_stages();
    for val in 1..=6 {
        project.run(&["--set", &format!("large.val={val}")]);
    }
    let now = gc(&project, &["--keep", "1"])["store_bytes"].as_u64().unwrap();
    let told = gc(&project, &["--keep", "1", "--budget", &(now - 100).to_string(), "--apply"]);
    assert_eq!(told["results"], 1);
    assert_eq!((hits(&project, &["--set", "large.val=1"]), hits(&project, &["--set", "large.val=2"])), (3, 4));
    assert!(project.says(&["cache", "gc", "--keep", "9", "--budget", "1B"]).contains("above the budget of 1 B"));
}

#[test]
fn beside_a_run_nothing_is_deleted_and_a_look_up_takes_it_back() {
    let project = of_two_runs();
    let (_other, child) = long_run(&project);
    assert_eq!(
        gc(&project, &["--keep", "1", "--apply"])["results"],
        0,
        "objects younger than an hour stay beside a run"
    );
    for record in project.records() {
        let name = format!("ac-{}{}", name_of(record.parent().unwrap()), name_of(&record));
        std::fs::create_dir_all(project.store().join("trash")).unwrap();
        std::fs::rename(&record, project.store().join("trash").join(name)).unwrap();
    }
    for blob in project.blobs() {
        let name = format!("cas-{}{}", name_of(blob.parent().unwrap()), name_of(&blob));
        std::fs::rename(&blob, project.store().join("trash").join(name)).unwrap();
    }
    assert_eq!(gc(&project, &["--keep", "0", "--apply"])["freed_bytes"], 0);
    assert_eq!(project.run(&[]).outcome("hit").len(), 4);
    document(&project, &["verify", "--read-data"], 0);
    end(child);
    let told = gc(&project, &["--apply"]);
    assert!(told["freed_bytes"].as_u64().unwrap() > 0, "{told}");
    assert_eq!(files(&project.store().join("trash")).len(), 0);
}

fn name_of(path: &std::path::Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_string()
}

#[test]
fn paid_replies_go_only_when_asked_for() {
    let project = of_four_stages();
    project.run(&[]);
    project.write(".watershed/v1/rows/teacher-label/ab/cd", "a reply");
    assert_eq!(gc(&project, &["--keep", "0", "--apply"])["paid_replies"], 0);
    assert!(project.path(".watershed/v1/rows/teacher-label/ab/cd").exists());
    assert_eq!(gc(&project, &["--include-paid", "--apply"])["paid_replies"], 1);
    assert!(!project.path(".watershed/v1/rows/teacher-label/ab/cd").exists());
}

#[test]
fn checkpoints_are_kept_for_14_days() {
    let project = of_four_stages();
    project.run(&[]);
    for (number, days) in [(1, 13), (2, 15)] {
        let name = format!(".watershed/partial/{}/state", format!("{number}").repeat(64));
        project.write(&name, "a checkpoint");
        let then = SystemTime::now() - Duration::from_secs(days * 86_400);
        std::fs::File::options().write(true).open(project.path(&name)).unwrap().set_modified(then).unwrap();
    }
    assert_eq!(gc(&project, &["--apply"])["checkpoints"], 1);
    let left = files(&project.store().join("partial"));
    assert!(left.len() == 1 && left[0].to_str().unwrap().contains("/1111"), "{left:?}");
}

#[test]
fn a_damaged_run_log_still_protects_its_results() {
    let project = of_four_stages();
    project.run(&[]);
    let log = files(&project.store().join("v1/run")).remove(0);
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[3] ^= 0x80;
    std::fs::write(&log, bytes).unwrap();
    assert_eq!(gc(&project, &["--keep", "1", "--apply"])["results"], 0);
    assert_eq!(hits(&project, &[]), 4);
}

#[test]
fn a_run_log_that_cannot_be_read_stops_gc_before_anything_goes() {
    let project = of_two_runs();
    let log = files(&project.store().join("v1/run")).remove(0);
    std::fs::remove_file(&log).unwrap();
    std::fs::create_dir(&log).unwrap();
    let output = project.watershed(&["cache", "gc", "--keep", "9", "--apply"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot read `"));
    assert_eq!((hits(&project, &[]), hits(&project, &["--set", "large.val=9"])), (4, 4));
}
