//! `cases.json`: what a reader of `S@*` is told of the cases whose outputs it gets.
//!
//! A list, one case a line, sorted by name: `name`, `overrides` (path to value) and `in`, the ports in which the case has an
//! entry under its name; a failed case that `allow_missing` leaves out has none. It is an input like any other, so its bytes
//! are in the key: a reader that may look at overrides runs again when they change, even where every other input stays.
//! Overrides of `run` are left out, since `run` is in no key.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fault::StageError;
use crate::study::Study;

/// Port on which a stage gets the list.
pub const PORT: &str = "cases";

/// Name of the file.
pub const FILE: &str = "cases.json";

/// One case as its reader is told of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// Name within the sweep; `base` without one.
    pub name: String,
    /// Override path in its short form to the value as written.
    pub overrides: BTreeMap<String, Value>,
    /// Ports in which the case has an entry.
    #[serde(rename = "in")]
    pub ports: BTreeSet<String>,
}

/// Returns the text of `cases.json`; `entries` are port and label of the inputs that the reader gets of `S@*`.
pub fn text<'a>(study: &Study, entries: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut listed: BTreeMap<&str, Listed> = study.cases.iter().map(|case| (case.label(), blank(case))).collect();
    for (port, label) in entries {
        if let Some(case) = listed.get_mut(label) {
            case.ports.insert(port.to_string());
        }
    }
    let lines: Vec<String> = listed.values().map(|case| serde_json::to_string(case).unwrap_or_default()).collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

fn blank(case: &crate::study::Case) -> Listed {
    let kept = case.overrides.iter().filter_map(|(path, value)| Some((short(path)?, value.clone())));
    Listed { name: case.label().to_string(), overrides: kept.collect(), ports: BTreeSet::new() }
}

/// Returns an override path in its short form; `None` for one of `run`.
fn short(path: &str) -> Option<String> {
    let path = path.strip_prefix("stages.").unwrap_or(path);
    let mut segments: Vec<&str> = path.split('.').collect();
    match segments.get(1) {
        Some(&"run") if segments[0] != "params" => return None,
        Some(&"with") if segments[0] != "params" => drop(segments.remove(1)),
        _ => {}
    }
    Some(segments.join("."))
}

/// Reads the file.
///
/// # Errors
/// When it is no such list.
pub fn read(path: &Path) -> Result<Vec<Listed>, StageError> {
    let bytes = std::fs::read(path).map_err(|e| StageError::io("read", path, &e))?;
    serde_json::from_slice(&bytes).map_err(|e| StageError::failed(format!("`{}` lists no cases: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_short_and_run_is_left_out() {
        assert_eq!(short("stages.tuned.with.lora.r").as_deref(), Some("tuned.lora.r"));
        assert_eq!(short("tuned.lr").as_deref(), Some("tuned.lr"));
        assert_eq!(short("stages.tuned.in.train").as_deref(), Some("tuned.in.train"));
        assert_eq!(short("params.run").as_deref(), Some("params.run"));
        assert_eq!((short("tuned.run.cpus"), short("stages.tuned.run.cpus")), (None, None));
    }
}
