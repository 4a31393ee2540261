//! Fixture files for this module's tests.

use std::path::PathBuf;

use crate::fixture;

/// Returns a file of the tiny-llama fixture, or says that its test is skipped.
pub fn tiny_llama(name: &str) -> Option<PathBuf> {
    fixture::file(&format!("tiny-llama/{name}"))
}

/// Returns `reference.json` of the fixture.
pub fn reference() -> Option<serde_json::Value> {
    fixture::json("tiny-llama/reference.json")
}

/// Returns a list of ids out of the reference.
pub fn ids(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}
