//! Faults while stages run: rows 10, 11, 39, 41, 43; a panic and deep rows of 42.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::inside::{goes_on_inside, partials, run_inside};
use crate::project::{Project, Ran, files, rows};

const PATIENCE: Duration = Duration::from_secs(30);

/// Shell text that waits for a file, at most as long as a test does.
fn wait_for(path: &Path) -> String {
    format!("for i in $(seq 1500); do [ -e {0} ] && break; sleep 0.02; done; [ -e {0} ]", path.display())
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_gone(pid: &str) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    state.is_empty() || state.contains(") Z ")
}

fn start(project: &Project, arguments: &[&str]) -> Child {
    let mut command = project.command(&[&["run", "--format", "json"], arguments].concat());
    command.stdout(Stdio::piped()).spawn().unwrap()
}

/// Reads events up to the first that holds `text`.
fn read_until(lines: &mut impl Iterator<Item = std::io::Result<String>>, text: &str) -> Vec<Value> {
    let mut events = Vec::new();
    for line in lines {
        let line = line.unwrap();
        events.push(serde_json::from_str(&line).unwrap());
        if line.contains(text) {
            return events;
        }
    }
    panic!("no event holds `{text}`: {events:?}")
}

fn signal(child: &Child, number: i32) {
    // SAFETY: signals a child that is not yet waited for.
    unsafe { libc::kill(child.id() as i32, number) };
}

fn logged(ran: &Ran, text: &str) -> usize {
    ran.events.iter().filter(|e| e["event"] == "log" && e["text"].as_str().unwrap().contains(text)).count()
}

#[test]
fn row_10_an_input_that_changes_while_its_stage_runs_is_not_published() {
    for (input, file) in [("./x.txt", "x.txt"), ("./folder", "folder/x.txt")] {
        let project = Project::new("");
        let path = project.path(file);
        let path = path.display();
        project.write(
            "watershed.yaml",
            &format!(
                "stages:
  reads: {{use: command, in: {{x: {input}}}, with: {{shell: 'cat {path} > $OUT_out; grep -q two {path} || echo two >> {path}'}}}}
"
            ),
        );
        project.write(file, "one\n");
        let ran = project.run(&[]);
        assert_eq!((ran.code, project.records().len(), project.blobs().len()), (1, 0, 0));
        assert_eq!(ran.error("reads"), format!("input `{input}` changed while the stage ran; run again"));
        assert_eq!(project.run(&[]).outcome("ran"), ["reads"]);
        assert_eq!(project.says(&["get", "reads", "-o", "-"]), "one\ntwo\n");
    }
}

#[test]
fn row_11_a_killed_owner_frees_its_action_at_once() {
    let project = Project::new("");
    let (started, go) = (project.path("started"), project.path("go"));
    let shell = format!("echo x >> {}; {}; echo done > $OUT_out", started.display(), wait_for(&go));
    project.write("watershed.yaml", &format!("stages:\n  slow: {{use: command, with: {{shell: '{shell}'}}}}\n"));
    let starts = || std::fs::read_to_string(&started).unwrap_or_default().lines().count();
    let mut owner = start(&project, &[]);
    until("the owner's start", || starts() == 1);
    let mut waiter = start(&project, &[]);
    let mut lines = BufReader::new(waiter.stdout.take().unwrap()).lines();
    read_until(&mut lines, "waits for another process that executes the same action");
    assert_eq!(starts(), 1);
    let killed = Instant::now();
    owner.kill().unwrap();
    owner.wait().unwrap();
    until("the waiter's start", || starts() == 2);
    assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
    std::fs::write(&go, "").unwrap();
    let events = read_until(&mut lines, "run_finished");
    assert_eq!(waiter.wait().unwrap().code(), Some(0));
    assert_eq!(Ran { code: 0, events }.outcome("ran"), ["slow"]);
}

#[test]
fn row_11_of_two_processes_one_runs_and_the_other_waits_then_hits() {
    let project = Project::new("");
    let go = project.path("go");
    let shell = format!("{}; echo done > $OUT_out", wait_for(&go));
    project.write("watershed.yaml", &format!("stages:\n  slow: {{use: command, with: {{shell: '{shell}'}}}}\n"));
    let mut owner = start(&project, &[]);
    let mut owners = BufReader::new(owner.stdout.take().unwrap()).lines();
    read_until(&mut owners, "stage_started");
    until("the sandbox", || !files(&project.store().join("tmp")).is_empty());
    let mut waiter = start(&project, &[]);
    let mut lines = BufReader::new(waiter.stdout.take().unwrap()).lines();
    read_until(&mut lines, "waits for another process");
    std::fs::write(&go, "").unwrap();
    let end = |events| Ran { code: 0, events };
    assert_eq!(end(read_until(&mut owners, "run_finished")).outcome("ran"), ["slow"]);
    assert_eq!(end(read_until(&mut lines, "run_finished")).outcome("hit"), ["slow"]);
    assert_eq!((owner.wait().unwrap().code(), waiter.wait().unwrap().code()), (Some(0), Some(0)));
}

/// A stage whose child notes the polite signal and goes on, with a grandchild that ignores it too.
fn stubborn(run: &str) -> Project {
    let project = Project::new("");
    let at = |name: &str| project.path(name).display().to_string();
    let shell = format!(
        "trap \"echo > {}\" TERM; (trap \"\" TERM; sleep 600) & echo $! > {}; while true; do wait; sleep 0.05; done",
        at("asked"),
        at("pid")
    );
    project.write(
        "watershed.yaml",
        &format!("stages:\n  long: {{use: command, with: {{shell: '{shell}'}}, run: {{{run}}}}}\n"),
    );
    project
}

fn grandchild(project: &Project) -> String {
    let read = || std::fs::read_to_string(project.path("pid")).unwrap_or_default();
    until("the grandchild's start", || read().ends_with('\n'));
    read()
}

#[test]
fn row_39_one_interrupt_asks_and_a_second_ends_at_once() {
    let project = stubborn("");
    let mut engine = start(&project, &[]);
    let pid = grandchild(&project);
    signal(&engine, libc::SIGINT);
    // as `timeout` does it, to the process and to its group
    signal(&engine, libc::SIGINT);
    until("the polite signal", || project.path("asked").exists());
    std::thread::sleep(Duration::from_millis(100));
    assert!(engine.try_wait().unwrap().is_none(), "the first interrupt leaves the stage its time");
    let second = Instant::now();
    signal(&engine, libc::SIGINT);
    assert_eq!(engine.wait().unwrap().code(), Some(130));
    assert!(second.elapsed() < Duration::from_secs(5), "{:?}", second.elapsed());
    until("the end of the grandchild", || is_gone(&pid));
    assert_eq!(project.run(&["--frozen"]).code, 10);
}

#[test]
fn row_39_an_interrupted_run_says_so() {
    let project = Project::new("stages:\n  long: {use: command, with: {shell: 'sleep 600; echo > $OUT_out'}}\n");
    let mut engine = start(&project, &[]);
    let mut lines = BufReader::new(engine.stdout.take().unwrap()).lines();
    read_until(&mut lines, "stage_started");
    signal(&engine, libc::SIGINT);
    let last = read_until(&mut lines, "run_finished").pop().unwrap();
    assert_eq!((engine.wait().unwrap().code(), last["outcome"].as_str()), (Some(130), Some("cancelled")));
}

#[test]
fn row_39_an_interrupted_stage_keeps_the_time_that_it_took() {
    let project = Project::new("");
    let shell = format!("sleep 0.2; echo > {}; sleep 600; echo > $OUT_out", project.path("begun").display());
    project.write("watershed.yaml", &format!("stages:\n  long: {{use: command, with: {{shell: '{shell}'}}}}\n"));
    let mut engine = start(&project, &[]);
    until("the stage's start", || project.path("begun").exists());
    signal(&engine, libc::SIGINT);
    assert_eq!(engine.wait().unwrap().code(), Some(130));
    let shown: Value = serde_json::from_str(&project.says(&["show", "--format", "json"])).unwrap();
    let (stage, told) = (&shown["stages"][0], project.says(&["log", "long"]));
    assert!(stage["outcome"] == "skipped" && stage["wall_ms"].as_u64() >= Some(200), "{stage}");
    assert!(told.contains("skipped after ") && !told.contains("after 0 ms"), "{told}");
    assert!(told.contains(": cancelled while it ran"), "{told}");
}

fn count(text: &str) -> Project {
    Project::new(&format!("stages:\n  counts: {{use: count, {text}}}\n"))
}

fn counted(project: &Project) -> String {
    let blob = project.blobs().into_iter().next().unwrap();
    std::fs::read_to_string(blob).unwrap()
}

#[test]
fn a_stage_that_is_out_of_time_goes_on_from_its_checkpoint() {
    let project = count("with: {to: 5}, run: {stall_after: 3, timeout: 0.05s}");
    assert_eq!(goes_on_inside(&project), [false]);
    let ran = run_inside(&project, false);
    let expected = "timed out, resumable: the time limit of `run.timeout` was reached; run again: a stage with a checkpoint goes on from there, any other begins anew";
    assert_eq!((ran.code, ran.error("counts").as_str()), (1, expected));
    project.edit("stall_after: 3, timeout: 0.05s", "timeout: 60s");
    assert_eq!(goes_on_inside(&project), [true]);
    assert_eq!(run_inside(&project, false).outcome("ran"), ["counts"]);
    assert_eq!(goes_on_inside(&project), [false], "it is done");
    assert_eq!(counted(&project), "from 4\n");
    assert_eq!(partials(&project.store()).len(), 0);
}

#[test]
fn row_41_a_checkpoint_of_another_action_or_version_is_refused() {
    let stall = "run: {stall_after: 3, timeout: 0.05s}";
    for disguise in [false, true] {
        let project = count(&format!("with: {{to: 6}}, {stall}"));
        run_inside(&project, false);
        let own = partials(&project.store()).pop().unwrap();
        if disguise {
            let header = std::fs::read_to_string(own.join("header.json")).unwrap();
            std::fs::write(own.join("header.json"), header.replace("\"version\":1", "\"version\":9")).unwrap();
            project.edit(stall, "run: {}");
        } else {
            // Another action, whose place the checkpoint is copied to.
            project.edit("to: 6", "to: 7");
            run_inside(&project, false);
            let other = partials(&project.store()).into_iter().find(|path| *path != own).unwrap();
            std::fs::remove_dir_all(&other).unwrap();
            std::fs::rename(&own, &other).unwrap();
            project.edit(stall, "run: {}");
        }
        let ran = run_inside(&project, false);
        assert_eq!(ran.outcome("ran"), ["counts"]);
        assert_eq!(logged(&ran, "it is left aside and the stage begins anew"), 1, "{:?}", ran.events);
        assert_eq!(counted(&project), "from 1\n");
    }
}

#[test]
fn passing_faults_are_tried_again_as_often_as_said() {
    let project = count("with: {to: 2}, run: {faults: 2, retries: 2}");
    let ran = run_inside(&project, false);
    assert_eq!(ran.outcome("ran"), ["counts"]);
    assert_eq!(logged(&ran, "the line is bad; trying again in 0.0 s (retry 2 of 2)"), 1, "{:?}", ran.events);
    let project = count("with: {to: 2}, run: {faults: 1000, retries: 1}");
    let ran = run_inside(&project, false);
    assert_eq!((ran.code, ran.error("counts").as_str()), (1, "the line is bad"));
    assert_eq!(logged(&ran, "trying again"), 1, "{:?}", ran.events);
}

#[test]
fn a_command_asks_for_another_try_with_exit_code_75() {
    let project = Project::new("");
    let tries = project.path("tries");
    let shell =
        |code: u32| format!("echo x >> {0}; [ $(wc -l < {0}) -ge 3 ] || exit {code}; echo > $OUT_out", tries.display());
    let stage =
        |code| format!("stages:\n  a: {{use: command, with: {{shell: '{}'}}, run: {{retries: 2}}}}\n", shell(code));
    project.write("watershed.yaml", &stage(3));
    assert_eq!((project.run(&[]).code, std::fs::read_to_string(&tries).unwrap().lines().count()), (1, 1));
    std::fs::remove_file(&tries).unwrap();
    project.write("watershed.yaml", &stage(75));
    let ran = project.run(&[]);
    assert_eq!(
        (ran.outcome("ran"), logged(&ran, "exit code 75 and printed nothing; trying again in")),
        (vec!["a".into()], 2)
    );
}

#[test]
fn a_forced_stage_that_meets_a_passing_fault_still_runs() {
    let project = Project::new("");
    let tries = project.path("tries");
    let shell = format!("echo x >> {0}; [ $(wc -l < {0}) -ne 2 ] || exit 75; echo > $OUT_out", tries.display());
    project.write(
        "watershed.yaml",
        &format!("stages:\n  a: {{use: command, with: {{shell: '{shell}'}}, run: {{retries: 1}}}}\n"),
    );
    assert_eq!(project.run(&[]).outcome("ran"), ["a"]);
    assert_eq!(project.run(&["--force", "a"]).outcome("ran"), ["a"]);
    assert_eq!(std::fs::read_to_string(&tries).unwrap().lines().count(), 3);
}

#[test]
fn a_signal_ends_a_rest_at_once() {
    let server = crate::server::Server::answers(503, "later");
    let address = format!("{}/rows.jsonl#sha256={}", server.endpoint(), "0".repeat(64));
    let project = Project::new(&format!("stages:\n  rows: {{use: examples, in: {{files: \"{address}\"}}}}\n"));
    let mut command = project.command(&["run", "--format", "json"]);
    let mut engine = command.env("WATERSHED_BACKOFF", "3600").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(engine.stdout.take().unwrap()).lines();
    let told = read_until(&mut lines, "trying again in").pop().unwrap();
    assert!(told["text"].as_str().unwrap().contains("s (retry 1 of 2)"), "{told}");
    let begun = Instant::now();
    signal(&engine, libc::SIGTERM);
    assert_eq!(engine.wait().unwrap().code(), Some(143));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(server.times_asked(), 1);
}

#[test]
fn row_42_a_panic_fails_its_stage_and_no_other() {
    let project = Project::new(
        "stages:
  breaks: {use: count, with: {to: 3}, run: {panic_after: 2}}
  below:  {use: count, in: {after: breaks}}
  other:  {use: count, with: {to: 1}}
",
    );
    let ran = run_inside(&project, true);
    assert_eq!((ran.code, ran.outcome("ran"), ran.outcome("skipped")), (1, vec!["other".into()], vec!["below".into()]));
    assert_eq!(ran.error("breaks"), "internal error: no way on after step 2");
}

#[test]
fn row_42_rows_nested_without_end_are_bad_rows_and_no_end_of_the_stack() {
    let project = Project::new("stages:\n  rows: {use: examples, in: ./data.jsonl}\n");
    for nested in [format!("{}{}", "[".repeat(500_000), "]".repeat(500_000)), "{\"a\":".repeat(500_000)] {
        project.write("data.jsonl", &format!("{}{nested}\n", rows(3)));
        let ran = project.run(&[]);
        assert!(ran.code == 1 && !ran.error("rows").is_empty(), "{}: {:?}", ran.code, ran.events);
    }
}

#[test]
fn row_43_a_stage_out_of_time_is_ended_with_all_its_children() {
    let project = Project::new("");
    let pid = project.path("pid");
    let shell =
        format!("(trap \"\" TERM; sleep 600 & echo $! > {}; wait; wait) & wait; echo > $OUT_out", pid.display());
    project.write(
        "watershed.yaml",
        &format!("stages:\n  long: {{use: command, with: {{shell: '{shell}'}}, run: {{timeout: 0.5s}}}}\n"),
    );
    let ran = project.run(&[]);
    assert!(ran.code == 1 && ran.error("long").starts_with("timed out, resumable"), "{:?}", ran.events);
    let pid = grandchild(&project);
    until("the end of the grandchild", || is_gone(&pid));
    assert_eq!(project.records().len(), 0);
}

#[test]
fn devices_named_on_the_command_line_are_leased_by_number() {
    let project = Project::new("");
    let stage = |own: &str, other: &str| {
        let at = |name: &str| project.path(name);
        let shell =
            format!("echo $CUDA_VISIBLE_DEVICES > $OUT_out; echo > {}; {}", at(own).display(), wait_for(&at(other)));
        format!("  {own}: {{use: command, with: {{shell: '{shell}'}}, run: {{device: cuda, gpus: 1}}}}\n")
    };
    let both = "  both: {use: command, with: {shell: 'echo $CUDA_VISIBLE_DEVICES > $OUT_out'}, run: {device: cuda, gpus: 2}}\n";
    let none = "  none: {use: command, with: {shell: 'echo none$CUDA_VISIBLE_DEVICES > $OUT_out'}}\n";
    // `a` and `b` run at once: each waits for the other.
    let pipeline = format!("stages:\n{}{}{both}{none}", stage("a", "b"), stage("b", "a"));
    project.write("watershed.yaml", &pipeline);
    let ran = project.run(&["-j", "2", "--gpus", "2,0,2"]);
    assert_eq!(ran.code, 0, "{:?}", ran.events);
    let mut single = ["a", "b"].map(|name| project.says(&["get", name, "-o", "-"]));
    single.sort();
    assert_eq!(single, ["0\n", "2\n"]);
    assert_eq!(project.says(&["get", "both", "-o", "-"]), "0,2\n");
    assert_eq!(project.says(&["get", "none", "-o", "-"]), "none\n");
    project.edit("gpus: 2}", "gpus: 3}");
    project.edit("echo $CUDA_VISIBLE_DEVICES > $OUT_out", "echo $CUDA_VISIBLE_DEVICES > $OUT_out;");
    let ran = project.run(&["both", "--gpus", "2,0"]);
    assert!(ran.code == 6 && ran.error("both").contains("asks for 3 GPUs and this run may use 2"), "{:?}", ran.events);
}

#[test]
fn a_failure_starts_nothing_more_unless_told_to_keep_going() {
    let project = || {
        Project::new(
            "stages:
  bad:   {use: command, with: {shell: 'exit 3'}}
  good:  {use: command, with: {shell: 'echo > $OUT_out'}}
  below: {use: command, in: {x: good}, with: {shell: 'cp $IN_x $OUT_out'}}
sweeps: {s: {cases: {a: {bad.env: {N: 1}}}}}
",
        )
    };
    let outcomes = |arguments: &[&str]| {
        let ran = project().run(&[&["-j", "1"], arguments].concat());
        (ran.code, ran.outcome("ran").len(), ran.outcome("skipped").len())
    };
    assert_eq!(outcomes(&[]), (1, 0, 2));
    assert_eq!(outcomes(&["--fail-fast"]), (1, 0, 2));
    assert_eq!(outcomes(&["--keep-going"]), (1, 2, 0));
    assert_eq!(outcomes(&["--sweep", "s"]), (1, 2, 0));
    assert_eq!(outcomes(&["--sweep", "s", "--fail-fast"]), (1, 0, 2));
}

#[test]
fn frozen_counts_what_is_forced_as_pending() {
    let project = crate::project::of_four_stages();
    project.run(&[]);
    assert_eq!(project.run(&["--frozen"]).code, 0);
    assert_eq!(project.run(&["--frozen", "--force", "parts"]).code, 10);
    assert_eq!(project.run(&["--offline", "--frozen"]).code, 0);
}
