//! Fixture files for this module's tests.

use std::path::{Path, PathBuf};

/// Returns a file of the tiny-llama fixture, or says that its test is skipped.
pub fn tiny_llama(name: &str) -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let root = std::env::var_os("WATERSHED_FIXTURES").map_or(default, PathBuf::from);
    let path = root.join("tiny-llama").join(name);
    if !path.exists() {
        eprintln!("skipped: no `{}`", path.display());
        return None;
    }
    Some(path)
}

/// Returns `reference.json` of the fixture.
pub fn reference() -> Option<serde_json::Value> {
    let text = std::fs::read_to_string(tiny_llama("reference.json")?).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

/// Returns a list of ids out of the reference.
pub fn ids(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}
