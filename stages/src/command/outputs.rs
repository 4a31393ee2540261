//! Declared outputs of a command: names, perhaps with types.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use watershed_engine::fault::ParamFault;
use watershed_engine::{RecordType, StageError};

/// Names, or names with record types.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Outputs {
    /// Names; every one is `bytes`.
    Names(Vec<String>),
    /// Name to record type.
    Typed(BTreeMap<String, String>),
}

impl Default for Outputs {
    fn default() -> Outputs {
        Outputs::Names(vec!["out".into()])
    }
}

/// One spelling for one meaning, because it is in the key: names in their order where all are `bytes`.
impl Serialize for Outputs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Outputs::Typed(types) if types.values().any(|record| record != RecordType::Bytes.name()) => {
                types.serialize(serializer)
            }
            _ => {
                let mut names: Vec<&str> = self.names().collect();
                names.sort_unstable();
                names.serialize(serializer)
            }
        }
    }
}

impl Outputs {
    /// Returns the names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.typed().map(|(name, _)| name)
    }

    /// Returns names and types; a type that does not exist counts as `bytes` ([`Outputs::check`] tells it).
    pub fn typed(&self) -> impl Iterator<Item = (&str, RecordType)> {
        let (names, types) = match self {
            Outputs::Names(names) => (Some(names.iter().map(|n| (n.as_str(), RecordType::Bytes))), None),
            Outputs::Typed(types) => (None, Some(types)),
        };
        let types = types.into_iter().flatten();
        let types = types.map(|(name, record)| (name.as_str(), RecordType::parse(record).unwrap_or(RecordType::Bytes)));
        names.into_iter().flatten().chain(types)
    }

    /// Returns what is wrong with names and types.
    pub fn check(&self) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        let mut seen = BTreeSet::new();
        for name in self.names() {
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
            if !plain || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
                let help = "a letter, then letters, digits, `_` or `-`";
                faults.push(ParamFault::new("out", format!("`{name}` is no name for an output"), help));
            }
            // Two names that differ in `-` and `_` alone would share a variable.
            if !seen.insert(name.replace('-', "_")) {
                faults.push(ParamFault::new(
                    "out",
                    format!("output `{name}` is declared twice"),
                    "give each its own name",
                ));
            }
        }
        if let Outputs::Typed(types) = self {
            let unknown = types.iter().filter(|(_, record)| RecordType::parse(record).is_none());
            faults.extend(unknown.map(|(name, record)| unknown_type(name, record)));
        }
        faults
    }
}

fn unknown_type(name: &str, record: &str) -> ParamFault {
    let known: Vec<String> = RecordType::ALL.iter().map(|t| format!("`{}`", t.name())).collect();
    ParamFault::new(
        format!("out.{name}"),
        format!("`{record}` is no record type"),
        format!("one of {}", known.join(", ")),
    )
}

/// Checks that a file is one flat JSON object of numbers, which `show` and `expect` rely on.
///
/// # Errors
/// Names the key that holds something else.
pub fn check_metrics(name: &str, path: &Path) -> Result<(), StageError> {
    let text = std::fs::read_to_string(path).map_err(|e| StageError::io("read", path, &e))?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|e| StageError::failed(format!("output `{name}` is declared `metrics` and is not JSON: {e}")))?;
    let Value::Object(object) = value else {
        return Err(StageError::failed(format!("output `{name}` is declared `metrics` and is not a JSON object")));
    };
    match object.iter().find(|(_, v)| !v.is_number() && !v.is_null()) {
        None => Ok(()),
        Some((key, value)) => Err(StageError::failed(format!(
            "output `{name}` is declared `metrics`, and its `{key}` is no number: {value}"
        ))),
    }
}
