//! Where fixture files are. The tests of every crate here take this file in by `#[path]`, so that there is one answer.

#![allow(dead_code, reason = "each crate uses its own part")]

use std::path::{Path, PathBuf};

/// Returns the folder of fixtures: `$WATERSHED_FIXTURES`, else `tests/fixtures` of the workspace.
pub fn folder() -> PathBuf {
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("tests/fixtures"));
    let default = || above.find(|folder| folder.is_dir());
    std::env::var_os("WATERSHED_FIXTURES").map(PathBuf::from).or_else(default).unwrap_or_default()
}

/// Returns a fixture, or says that its test is skipped.
pub fn file(name: &str) -> Option<PathBuf> {
    let path = folder().join(name);
    if !path.exists() {
        eprintln!("skipped: no `{}`", path.display());
        return None;
    }
    Some(path)
}

/// Returns a file or folder of `tiny-llama`, or says that its test is skipped.
pub fn tiny_llama(name: &str) -> Option<PathBuf> {
    file(&format!("tiny-llama/{name}"))
}

/// Returns a JSON file of the fixtures, or says that its test is skipped.
pub fn json(name: &str) -> Option<serde_json::Value> {
    let text = std::fs::read_to_string(file(name)?).unwrap();
    Some(serde_json::from_str(&text).expect("fixtures are JSON"))
}

/// Returns the weight files of a model's folder, sorted: one, or the shards of one.
pub fn weights(model: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(model).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
    files.sort();
    files
}

/// Copies the files of a folder into another, which may be there already.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}
