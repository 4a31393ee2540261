//! Fixture files for tests: those of `$WATERSHED_FIXTURES`, else of `tests/fixtures`.

use std::path::{Path, PathBuf};

/// Returns the folder of fixtures.
pub fn folder() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    std::env::var_os("WATERSHED_FIXTURES").map_or(default, PathBuf::from)
}

/// Returns a fixture file, or says that its test is skipped.
pub fn file(name: &str) -> Option<PathBuf> {
    let path = folder().join(name);
    if !path.exists() {
        eprintln!("skipped: no `{}`", path.display());
        return None;
    }
    Some(path)
}

/// Returns a JSON file of the fixtures, or says that its test is skipped.
pub fn json(name: &str) -> Option<serde_json::Value> {
    let text = std::fs::read_to_string(file(name)?).unwrap();
    Some(serde_json::from_str(&text).expect("fixtures are JSON"))
}
