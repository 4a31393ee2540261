//! Golden diagnostics: what `check` says of each bad pipeline in `tests/diagnostics`, word for word.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use watershed_engine::code::ALL;

use crate::project::{Project, rows};

/// Codes that no text of a pipeline gives: the file itself cannot be read, the command line names no stage.
const NOT_BY_TEXT: [&str; 2] = ["E001", "E035"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics")
}

/// Returns the bad pipelines, sorted.
pub fn samples() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    all.sort();
    all
}

/// A project with every file that the samples name.
pub fn project() -> Project {
    let project = Project::new("");
    project.write("data.jsonl", &rows(40));
    project.write("shared/data.jsonl", &rows(4));
    project.write("model/config.json", "{}");
    let pipe = CString::new(project.path("queue").as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a string that ends in a zero byte and lives through the call.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    project
}

/// Returns what `check` says of a sample; the project's folder is masked.
fn said(project: &Project, sample: &Path) -> String {
    let name = sample.file_name().unwrap().to_str().unwrap();
    std::fs::copy(sample, project.path(name)).unwrap();
    let output = project.command(&["check", name]).env_remove("NOBODY_SETS_THIS").output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{name} has no fault");
    let root = project.path("").canonicalize().unwrap();
    let parent = root.parent().unwrap().display().to_string();
    String::from_utf8(output.stderr)
        .unwrap()
        .replace(&root.display().to_string(), "/PROJECT")
        .replace(&parent, "/PARENT")
}

/// Splits the text into faults; each begins with `error[CODE]`.
fn faults(text: &str) -> Vec<&str> {
    text.split("error[").skip(1).collect()
}

#[test]
fn every_bad_pipeline_is_told_as_written_down() {
    let project = project();
    let mut wrong = Vec::new();
    for sample in samples() {
        let (said, golden) = (said(&project, &sample), sample.with_extension("txt"));
        if std::env::var_os("WATERSHED_BLESS").is_some() {
            std::fs::write(&golden, &said).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if said != expected {
            wrong.push(format!("{}: expected\n{expected}found\n{said}", sample.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_fault_has_a_place_and_a_mend() {
    for sample in samples() {
        let text = std::fs::read_to_string(sample.with_extension("txt")).unwrap();
        let name = sample.file_name().unwrap().to_str().unwrap();
        assert!(!faults(&text).is_empty(), "{name}");
        for fault in faults(&text) {
            assert!(fault.contains(&format!("--> {name}:")), "{name} has no place: {fault}");
            assert!(fault.contains("\nhelp: ") || fault.contains("did you mean"), "{name} has no mend: {fault}");
            let message = fault.lines().next().unwrap();
            assert!(!message.ends_with('.') && message.chars().count() < 220, "{message}");
        }
    }
}

#[test]
fn every_code_that_a_text_can_cause_occurs() {
    let texts: Vec<String> =
        samples().iter().map(|s| std::fs::read_to_string(s.with_extension("txt")).unwrap()).collect();
    let found: BTreeSet<&str> = texts.iter().flat_map(|text| faults(text)).map(|fault| &fault[..4]).collect();
    let missing: Vec<&str> =
        ALL.iter().map(|c| c.code).filter(|c| !found.contains(c) && !NOT_BY_TEXT.contains(c)).collect();
    assert!(missing.is_empty() && texts.len() >= 60, "no sample for {missing:?}");
}
