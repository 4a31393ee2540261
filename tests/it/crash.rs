//! Kills and signals: nothing finished is lost, nothing half-written is served.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::project::{Project, Ran, files};

/// Ten stages in a row, each long enough to be hit by a signal.
fn chain() -> Project {
    let mut text = String::from("stages:\n  s0: {use: command, with: {shell: 'sleep 0.05; echo 0 > $OUT_out'}}\n");
    for i in 1..10 {
        let before = i - 1;
        text.push_str(&format!(
            "  s{i}: {{use: command, in: {{x: s{before}}}, with: {{shell: 'sleep 0.05; (cat $IN_x; echo {i}) > $OUT_out'}}}}\n"
        ));
    }
    Project::new(&text)
}

fn last_output(project: &Project) -> String {
    project.says(&["get", "s9", "-o", "-"])
}

#[test]
fn after_kill_9_the_next_run_redoes_only_unfinished_actions() {
    let quiet = chain();
    quiet.run(&[]);
    for delay_ms in [30, 130, 270, 410] {
        let project = chain();
        let mut child = project.command(&["run", "-q"]).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        let finished = project.records().len();
        let ran = project.run(&[]);
        assert_eq!(ran.code, 0);
        assert_eq!((ran.outcome("hit").len(), ran.outcome("ran").len()), (finished, 10 - finished));
        assert_eq!(last_output(&project), last_output(&quiet));
        assert_eq!(files(&project.store().join("tmp")).len(), 0);
    }
}

#[test]
fn sigterm_ends_a_run_with_143_and_leaves_no_child() {
    let project =
        Project::new("stages:\n  long: {use: command, with: {shell: 'echo $$ > ../pid; sleep 60; echo > $OUT_out'}}\n");
    let mut child = project.command(&["run", "--format", "json"]).stdout(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while files(&project.store().join("tmp")).iter().all(|p| !p.ends_with("pid")) {
        assert!(begun.elapsed() < Duration::from_secs(20), "the stage did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    // SAFETY: signals a child that is not yet waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(project.run(&["--frozen"]).code, 10);
}

#[test]
fn eight_processes_on_one_store_execute_each_action_once() {
    let project = chain();
    let start = || project.command(&["run", "--format", "json"]).stdout(Stdio::piped()).spawn().unwrap();
    let children: Vec<_> = (0..8).map(|_| start()).collect();
    let runs: Vec<Ran> = children.into_iter().map(|child| Ran::of(&child.wait_with_output().unwrap())).collect();
    assert!(runs.iter().all(|ran| ran.code == 0), "{:?}", runs.iter().map(|ran| ran.code).collect::<Vec<_>>());
    assert_eq!(runs.iter().map(|ran| ran.outcome("ran").len()).sum::<usize>(), 10);
    assert_eq!(runs.iter().map(|ran| ran.outcome("hit").len()).sum::<usize>(), 70);
}

#[test]
fn a_run_that_may_not_wait_for_another_ends_with_exit_5() {
    let waits = "touch ../begun; for i in $(seq 500); do test -e ../go && break; sleep 0.02; done; echo > $OUT_out";
    let project = Project::new(&format!("stages:\n  long: {{use: command, with: {{shell: '{waits}'}}}}\n"));
    let mut first = project.command(&["run"]).stdout(Stdio::null()).spawn().unwrap();
    let begun = || files(&project.store().join("tmp")).iter().any(|path| path.ends_with("begun"));
    while !begun() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let second = project.run(&["--lock-timeout", "0"]);
    assert_eq!(second.code, 5);
    assert!(second.error("long").contains("end it, or wait longer with `--lock-timeout`"), "{}", second.error("long"));
    let place = files(&project.store().join("tmp")).into_iter().find(|path| path.ends_with("begun")).unwrap();
    std::fs::write(place.with_file_name("go"), "").unwrap();
    assert!(first.wait().unwrap().success());
    assert_eq!(project.run(&["--lock-timeout", "0"]).outcome("hit"), ["long"]);
}
