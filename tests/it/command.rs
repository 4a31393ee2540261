//! The kind `command`: what is in its key, what its child sees, and that no child outlives the engine.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::project::{Project, files};

/// A project whose stage `out` runs the interpreter `bin/pet`, asked for its version.
fn with_tool() -> Project {
    let project = Project::new(
        "stages:
  out: {use: command, with: {shell: 'pet > $OUT_out', tools: {pet: [pet, -V]}}, run: {path: [./bin]}}
",
    );
    install(&project, "bin/pet", "echo Pet 1.0");
    project
}

fn install(project: &Project, name: &str, script: &str) {
    project.write(name, &format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(project.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn another_version_of_a_tool_runs_the_stage_again() {
    let project = with_tool();
    assert_eq!(project.run(&[]).outcome("ran"), ["out"]);
    assert_eq!(project.run(&[]).outcome("hit"), ["out"]);
    install(&project, "bin/pet", "echo Pet 1.0; exit 0 # other bytes, same version");
    assert_eq!(project.run(&[]).outcome("hit"), ["out"]);
    install(&project, "bin/pet", "echo Pet 2.0");
    assert!(project.says(&["why", "out"]).contains("tool pet: Pet 1.0 -> Pet 2.0"));
    let ran = project.run(&[]);
    assert_eq!(ran.reasons("out"), ["tool pet: Pet 1.0 -> Pet 2.0"]);
    let reason = &ran.events.iter().find(|e| e["event"] == "stage_finished").unwrap()["reasons"][0];
    assert_eq!((reason["what"].as_str(), reason["path"].as_str()), (Some("tool"), Some("out.tools.pet")));
}

#[test]
fn a_tool_that_cannot_be_asked_is_named() {
    let project = with_tool();
    std::fs::remove_file(project.path("bin/pet")).unwrap();
    let ran = project.run(&[]);
    assert_eq!(ran.code, 6);
    for word in ["`tools.pet`", "no program `pet`", "install it", "`run.path`"] {
        assert!(ran.error("out").contains(word), "{}", ran.error("out"));
    }
    let plan = project.plan(&[]);
    assert!(plan["stages"][0]["error"].as_str().unwrap().contains("no program `pet`"), "{plan}");
}

#[test]
fn folders_of_run_path_begin_at_the_pipeline_wherever_one_stands() {
    let project = with_tool();
    let pipeline = project.path("watershed.yaml");
    let mut command = project.command(&["run", pipeline.to_str().unwrap()]);
    let output = command.current_dir("/").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(project.says(&["get", "out", "-o", "-"]), "Pet 1.0\n");
}

#[test]
fn an_interpreter_without_a_version_is_a_lint() {
    let project = Project::new("stages:\n  out: {use: command, with: {argv: [python3, -c, 'print(1)']}}\n");
    assert_eq!(project.plan(&[])["lints"][0]["code"], "L010");
}

#[test]
fn the_suffix_that_a_program_sees_is_in_the_key() {
    let project = Project::new(
        "stages:\n  out: {use: command, in: {x: ./a.csv}, with: {shell: 'echo \"${IN_x##*/}\" > $OUT_out'}}\n",
    );
    for name in ["a.csv", "v1.csv", "v1.csv.gz"] {
        project.write(name, "1");
    }
    let run = |old: &str, new: &str| {
        project.edit(old, new);
        (project.run(&[]).outcome("ran").len(), project.says(&["get", "out", "-o", "-"]))
    };
    assert_eq!(run("a.csv", "a.csv"), (1, "x.csv\n".into()));
    assert_eq!(run("a.csv", "v1.csv"), (0, "x.csv\n".into()));
    assert_eq!(run("v1.csv", "v1.csv.gz"), (1, "x.csv.gz\n".into()));
}

#[test]
fn what_a_folder_ignores_is_in_no_key() {
    let project =
        Project::new("stages:\n  out: {use: command, in: {x: ./x}, with: {shell: 'cat $IN_x/a > $OUT_out'}}\n");
    project.write("x/a", "1");
    project.write("x/.watershedignore", "*.log # of the last try\nscratch/\n");
    assert_eq!(project.run(&[]).outcome("ran"), ["out"]);
    for name in ["x/last.log", "x/scratch/a", "x/.git/HEAD", "x/__pycache__/a.pyc"] {
        project.write(name, "changed");
    }
    assert_eq!(project.run(&[]).outcome("hit"), ["out"]);
    project.write("x/b", "1");
    assert_eq!(project.run(&[]).outcome("ran"), ["out"]);
}

/// The case's name is the file's name in the folder that the command sees.
#[test]
fn cases_that_change_places_run_their_reader_again() {
    let project = Project::new(
        "stages:
  one: {use: command, with: {shell: 'echo $N > $OUT_out', env: {N: 0}}}
  all: {use: command, in: {x: one@*}, with: {shell: '(cd $IN_x; cat a; cat b) > $OUT_out'}}
sweeps:
  s: {cases: {a: {one.env.N: 1}, b: {one.env.N: 2}}}
",
    );
    assert_eq!(project.run(&["--sweep", "s"]).code, 0);
    project.edit("a: {one.env.N: 1}, b: {one.env.N: 2}", "a: {one.env.N: 2}, b: {one.env.N: 1}");
    assert_eq!(project.run(&["--sweep", "s"]).outcome("ran"), ["all"]);
    assert_eq!(project.says(&["get", "all", "--sweep", "s", "-o", "-"]), "2\n1\n");
}

#[test]
fn no_grandchild_outlives_an_engine_that_was_killed() {
    let project = Project::new(
        "stages:\n  long: {use: command, with: {shell: 'sleep 600 & echo $! > ../pid; wait; echo > $OUT_out'}}\n",
    );
    let mut engine = project.command(&["run", "-q"]).stdout(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    let pid = loop {
        let found = files(&project.store().join("tmp")).into_iter().find(|p| p.ends_with("pid"));
        let text = found.and_then(|p| std::fs::read_to_string(p).ok()).unwrap_or_default();
        if text.ends_with('\n') {
            break text.trim().to_string();
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "the stage did not start");
        std::thread::sleep(Duration::from_millis(10));
    };
    let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The number is known before the shell's copy has become `sleep`.
    while !state().contains("(sleep)") {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", state());
        std::thread::sleep(Duration::from_millis(10));
    }
    engine.kill().unwrap();
    engine.wait().unwrap();
    let killed = Instant::now();
    while !state().is_empty() && !state().contains(") Z ") {
        assert!(killed.elapsed() < Duration::from_secs(20), "the grandchild lives: {}", state());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn variables_that_a_program_sees_differ_are_different_results() {
    let project = Project::new("stages:\n  out: {use: command, with: {shell: 'echo $A > $OUT_out', env: {A: 1}}}\n");
    project.run(&[]);
    project.edit("A: 1", "A: 1.0");
    assert_eq!(project.run(&[]).outcome("ran"), ["out"]);
    assert_eq!(project.says(&["get", "out", "-o", "-"]), "1.0\n");
    project.edit("A: 1.0", "A: \"1.0\"");
    assert_eq!(project.run(&[]).outcome("hit"), ["out"]);
}

#[test]
fn an_input_is_called_as_a_file_and_a_variable_can_be() {
    let refused = |names: &str, words: &str| {
        let project = Project::new(&format!(
            "stages:\n  out: {{use: command, in: {{{names}}}, with: {{shell: 'ls > $OUT_out'}}}}\n"
        ));
        project.write("f.txt", "1");
        let output = project.watershed(&["check"]);
        let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(text.contains(words), "{text}");
    };
    refused("\"../../evil\": ./f.txt", "`../../evil` is no name for an input");
    refused("x/y: ./f.txt", "`x/y` is no name for an input");
    refused("a-b: ./f.txt, a_b: ./f.txt", "inputs `a-b` and `a_b` would be the same variable");
}

#[test]
fn an_answer_of_a_tool_that_differs_in_no_line_is_a_reason_too() {
    let project = with_tool();
    install(&project, "bin/pet", "printf 'Pet 1.0\\nfor all'");
    project.run(&[]);
    install(&project, "bin/pet", "printf 'Pet 1.0\\r\\nfor all'");
    assert_eq!(project.run(&[]).reasons("out"), ["tool pet: its answer differs"]);
    install(&project, "bin/pet", "true");
    assert_eq!(project.run(&[]).reasons("out"), ["tool pet: Pet 1.0 -> none"]);
}
