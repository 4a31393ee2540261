//! What an action left: its outputs by port, and what the engine wants to remember about it.
//!
//! On disk it is one JSON line followed by the digest of that line, so that a torn or altered record reads as absent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::artifact::Artifact;
use crate::digest::Digest;

/// Layout of a record. A reader refuses a higher number.
pub const RECORD_VERSION: u32 = 1;

/// One output of an action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// The bytes.
    pub artifact: Artifact,
    /// Report outputs may be lost without making the record a miss.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub report: bool,
}

/// The record of one action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActionResult {
    /// See [`RECORD_VERSION`].
    pub record_version: u32,
    /// Outputs by port.
    pub outputs: BTreeMap<String, Stored>,
    /// Boot of the machine on which the record was written without syncing; under another boot its blobs are rehashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsynced_boot: Option<String>,
    /// What the engine remembers: manifest, parameters, times. Opaque here.
    pub detail: Value,
}

impl ActionResult {
    /// Returns the bytes on disk.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("a record has no map keys that JSON lacks");
        let digest = Digest::of(&bytes).hex();
        bytes.push(b'\n');
        bytes.extend_from_slice(digest.as_bytes());
        bytes.push(b'\n');
        bytes
    }

    /// Reads a record; `None` when it is torn, altered, or of a newer layout.
    pub fn parse(bytes: &[u8]) -> Option<ActionResult> {
        let result: ActionResult = serde_json::from_slice(whole(bytes)?).ok()?;
        (result.record_version <= RECORD_VERSION).then_some(result)
    }

    /// Returns the layout of a whole record that only a newer version can read.
    pub fn newer_version(bytes: &[u8]) -> Option<u32> {
        #[derive(Deserialize)]
        struct Versioned {
            record_version: u32,
        }
        let head: Versioned = serde_json::from_slice(whole(bytes)?).ok()?;
        (head.record_version > RECORD_VERSION).then_some(head.record_version)
    }
}

/// Returns the line of a record that agrees with the digest behind it.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let split = bytes.len().checked_sub(66)?;
    let (body, digest) = (bytes.get(..split)?, std::str::from_utf8(bytes.get(split + 1..split + 65)?).ok()?);
    (Digest::parse(digest)? == Digest::of(body)).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_makes_the_record_absent() {
        let outputs = BTreeMap::new();
        let result = ActionResult { record_version: 1, outputs, unsynced_boot: None, detail: Value::from("x") };
        let bytes = result.to_bytes();
        assert_eq!(ActionResult::parse(&bytes), Some(result));
        for i in 0..bytes.len() - 1 {
            let mut bad = bytes.clone();
            bad[i] ^= 4;
            if bad[i].is_ascii_uppercase() || i == bytes.len() - 66 {
                continue;
            }
            assert_eq!(ActionResult::parse(&bad), None, "byte {i}");
        }
    }
}
