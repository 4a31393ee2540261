//! `table`: all cases, ranked, as CSV.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use watershed_engine::StageError;

use super::standing::Standing;

/// Writes the table; `averaged` adds the mean by which cases are ranked and the size of their group.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, metric: &str, standings: &[Standing], averaged: bool) -> Result<(), StageError> {
    let overrides: BTreeSet<&String> = standings.iter().flat_map(|standing| standing.overrides.keys()).collect();
    let mut head = vec!["rank", "case", metric];
    head.extend_from_slice(if averaged { &["mean", "averaged"] } else { &[] });
    head.extend(overrides.iter().map(|path| path.as_str()));
    head.push("note");
    let fail = |e: csv::Error| StageError::failed(format!("cannot write `{}`: {e}", path.display()));
    let mut table = csv::Writer::from_path(path).map_err(fail)?;
    table.write_record(head).map_err(fail)?;
    for (index, standing) in standings.iter().enumerate() {
        let rank = if standing.counts.is_some() { (index + 1).to_string() } else { String::new() };
        let mut row = vec![rank, standing.case.clone(), number(standing.score.number())];
        if averaged {
            row.extend([number(standing.counts), standing.group_size.to_string()]);
        }
        row.extend(overrides.iter().map(|path| standing.overrides.get(*path).map_or(String::new(), plain)));
        row.push(standing.note.clone());
        table.write_record(row).map_err(fail)?;
    }
    table.flush().map_err(|e| StageError::io("write", path, &e))
}

/// Returns the shortest text of a number, nothing for none.
pub fn number(number: Option<f64>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}
