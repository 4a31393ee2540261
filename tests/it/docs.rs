//! What the documentation shows is what the program does: the reference of kinds, and the example of a kind from outside.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::project::{Project, has_worker, rows};

fn in_repository(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_reference_of_kinds_is_what_the_program_prints() {
    let printed = Project::new("stages: {}\n").says(&["kinds", "--format", "markdown"]);
    assert!(printed == in_repository("docs/kinds.md"), "docs/kinds.md is old: `make docs` writes it anew");
}

/// Returns the lines between two lines of a section of the README.
fn of_readme(section: &str, begin: &str) -> Vec<String> {
    let readme = in_repository("README.md");
    let lines = readme.lines().skip_while(|line| *line != section).skip_while(|line| *line != begin).skip(1);
    lines.take_while(|line| *line != "```").map(String::from).collect()
}

#[test]
fn the_readmes_pipeline_passes_its_check_and_its_sweep_is_the_templates() {
    let pipeline = of_readme("## My JSONL and my model folder", "```yaml");
    let project = Project::new(&pipeline.join("\n"));
    project.write("data.jsonl", &rows(40));
    project.write("my-model/config.json", "{}");
    project.says(&["check"]);
    let sweep = pipeline.iter().find(|line| line.starts_with("  ranks:")).unwrap();
    assert!(in_repository("templates/finetune.yaml").contains(sweep), "{sweep}");
}

#[test]
fn the_readmes_commands_work_on_the_template_that_it_names() {
    if !has_worker() {
        return;
    }
    let project = Project::of_template("finetune");
    let lines = of_readme("## My JSONL and my model folder", "```sh");
    let commands = lines.iter().map(|line| line.split(" #").next().unwrap_or_default().split_whitespace().collect());
    let commands: Vec<Vec<&str>> = commands.collect();
    assert!(commands.len() > 8 && commands.iter().all(|words| words[0] == "watershed"), "{commands:?}");
    commands.iter().for_each(|words| drop(project.says(&words[1..])));
    let shown: Value = serde_json::from_str(&project.says(&["show", "--format", "json"])).unwrap();
    assert_eq!((shown["sweep"].as_str(), shown["cases"].as_array().unwrap().len()), (Some("ranks"), 6));
    assert!(project.path("my-adapter/adapter_config.json").is_file());
}

/// Builds examples/custom-stage as its README says; returns the program.
pub fn custom_stage() -> PathBuf {
    let profile: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let build = ["build", "--quiet", "--offline", "--workspace", "--example", "custom-stage", "--manifest-path"];
    assert!(Command::new(env!("CARGO")).args(build).arg(manifest).args(profile).status().unwrap().success());
    Path::new(env!("CARGO_BIN_EXE_watershed")).with_file_name("examples").join("custom-stage")
}

#[test]
fn a_kind_from_outside_runs_beside_ours_and_is_a_hit_the_second_time() {
    let project = Project::new(&in_repository("examples/custom-stage/watershed.yaml"));
    let program = custom_stage();
    let run = || {
        let output = Command::new(&program).arg("run").current_dir(project.path("")).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (first, second) = (run(), run());
    assert!(first.contains("ok: 4 ran, 0 in the store"), "{first}");
    assert!(second.contains("ok: 0 ran, 4 in the store"), "{second}");
}

#[test]
fn a_kind_from_outside_is_unknown_to_the_program_without_it() {
    let project = Project::new(&in_repository("examples/custom-stage/watershed.yaml"));
    let output = project.watershed(&["check"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no kind `sample-customers`"));
}
