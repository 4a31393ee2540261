//! What the engine remembers of an action in its record: the manifest, and where, when and how it was computed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use watershed_cache::ActionResult;

use crate::key::Manifest;

/// The engine's part of a record. Only `manifest` decides anything; the rest is provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// What the key was made from.
    pub manifest: Manifest,
    /// All parameters, defaults included.
    pub params: Value,
    /// Wall time of the execution, in milliseconds.
    pub wall_ms: u64,
    /// When it ended, milliseconds since 1970 UTC.
    pub finished_ms: u64,
    /// Host that computed it.
    pub host: String,
    /// Device, threads, libraries.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub numerics: BTreeMap<String, Value>,
    /// Numbers the stage told about its work, for example `rows_in`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, f64>,
    /// Times this key was computed with other bytes before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rebuilt: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Provenance {
    /// Reads it out of a record; `None` when a newer engine wrote something else there.
    pub fn of(result: &ActionResult) -> Option<Provenance> {
        Provenance::deserialize(&result.detail).ok()
    }
}
