//! What the documentation shows is what the program does: the reference of kinds, and the example of a kind from outside.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::project::Project;

fn in_repository(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_reference_of_kinds_is_what_the_program_prints() {
    let printed = Project::new("stages: {}\n").says(&["kinds", "--format", "markdown"]);
    assert!(printed == in_repository("docs/kinds.md"), "docs/kinds.md is old: `make docs` writes it anew");
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
