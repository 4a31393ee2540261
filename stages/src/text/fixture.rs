//! The tiny-llama fixture as this module's tests read it; every number of it comes from its `reference.json`.

use serde_json::Value;

use crate::fixture;
pub use crate::fixture::tiny_llama;

/// Returns `reference.json` of the fixture.
pub fn reference() -> Option<Value> {
    fixture::json("tiny-llama/reference.json")
}

/// Returns a list of ids out of the reference.
pub fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// Returns the token that texts begin with, none where the model has no such habit.
pub fn beginning(reference: &Value) -> Option<u32> {
    let adds = reference["shape"]["bos"].as_bool().unwrap();
    reference["bos_id"].as_u64().filter(|_| adds).map(|id| id as u32)
}

/// Returns every list of rows in the reference with the length that they were cut at.
pub fn cuts(reference: &Value) -> Vec<(String, usize)> {
    let shorter = reference.as_object().unwrap().keys().filter_map(|name| {
        let cut = name.strip_prefix("truncated_at_")?.parse().unwrap();
        Some((name.clone(), cut))
    });
    let whole = reference["cutoff"].as_u64().unwrap_or(CUTOFF) as usize;
    shorter.chain([("examples".to_string(), whole)]).collect()
}

/// Where the fixture's README says that rows are cut, unless `reference.json` says it itself.
const CUTOFF: u64 = 192;
