//! What the engine remembers of an action in its record: the manifest, and where, when and how it was computed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use watershed_cache::{ActionResult, Digest, Stored};

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
    /// What the stage warned of, each once and at most fifty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Data outputs that this key had before, newest last: kept as evidence that computing it again gives other bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<BTreeMap<String, Digest>>,
}

/// Former results kept in a record.
const EVIDENCE: usize = 8;

impl Provenance {
    /// Reads it out of a record; `None` when a newer engine wrote something else there.
    pub fn of(result: &ActionResult) -> Option<Provenance> {
        Provenance::deserialize(&result.detail).ok()
    }

    /// Returns the evidence that a record with these `outputs` keeps of the `former` one it replaces.
    pub fn replaced(former: &ActionResult, outputs: &BTreeMap<String, Stored>) -> Vec<BTreeMap<String, Digest>> {
        let mut replaced = Provenance::of(former).map(|p| p.replaced).unwrap_or_default();
        let was = data_digests(&former.outputs);
        if was != data_digests(outputs) {
            replaced.push(was);
        }
        replaced.drain(..replaced.len().saturating_sub(EVIDENCE));
        replaced
    }
}

fn data_digests(outputs: &BTreeMap<String, Stored>) -> BTreeMap<String, Digest> {
    outputs.iter().filter(|(_, s)| !s.report).map(|(port, s)| (port.clone(), s.artifact.digest)).collect()
}
