//! Files of training examples as people have them, read into [`Example`]s.
//!
//! Two questions are answered apart: how records lie in the file ([`container`]: JSON array, JSON lines, CSV, each plain or
//! gz) and what one record means ([`shape`]: Alpaca, messages, ...). Both are told from content, never from a file's name.

pub mod container;
pub mod ids;
pub mod prompt;
pub mod shape;
pub mod turns;

use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use watershed_engine::StageError;

use crate::record::example::Example;
use container::Record;
use shape::{Columns, Fields, Format};
use turns::TurnsCut;

/// A record that is no example.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bad {
    /// Line of the file where the record begins, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
    /// The record, or the text of a line that could not be parsed.
    pub row: Value,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// How the rows were read; `None` for an empty file.
    pub format: Option<Format>,
    /// The examples, in the order of the file, ids unique.
    pub rows: Vec<Example>,
    /// Records that are none.
    pub bad: Vec<Bad>,
    /// Rows whose id, or whose whole content, had occurred before.
    pub repeated: usize,
    /// What conversations lost at their ends.
    pub turns_cut: TurnsCut,
}

/// Reads a file in any detectable format; every record must be an example. Holds the whole file in memory.
///
/// # Errors
/// Names the file, and the line of the first record that is no example.
pub fn read(path: &Path) -> Result<Vec<Example>, StageError> {
    let parsed = gather(path, Format::Detect, &Columns::default(), Ok)?;
    match parsed.bad.first() {
        None => Ok(parsed.rows),
        Some(bad) => Err(refused(path, bad)),
    }
}

/// Reads a file of prompts in any detectable format: their answers, where there are any, are kept. Holds the whole file in
/// memory.
///
/// # Errors
/// Names the file, and the line of the first record that asks nothing.
pub fn prompts(path: &Path) -> Result<Vec<Example>, StageError> {
    let read = |record: Result<Record, Bad>| record.and_then(|record| identified(record, prompt::prompt));
    let rows: Result<Vec<Example>, Bad> = container::read(path)?.into_iter().map(read).collect();
    let mut rows = rows.map_err(|bad| refused(path, &bad))?;
    ids::make_unique(&mut rows);
    Ok(rows)
}

/// Reads a file, keeps apart what is no example, and cuts off turns that teach nothing.
///
/// # Errors
/// When the file cannot be read, is no JSON, JSON lines or CSV, or has a shape that cannot be told.
pub fn parse(path: &Path, format: Format, columns: &Columns) -> Result<Parsed, StageError> {
    let mut turns_cut = TurnsCut::default();
    let parsed = gather(path, format, columns, |row| turns_cut.cut(row))?;
    Ok(Parsed { turns_cut, ..parsed })
}

/// Reads a file of which `mend` makes examples, or says why a row is none.
fn gather(
    path: &Path,
    format: Format,
    columns: &Columns,
    mut mend: impl FnMut(Example) -> Result<Example, String>,
) -> Result<Parsed, StageError> {
    let records = container::read(path)?;
    let Some(first) = records.iter().find_map(|record| record.as_ref().ok()) else {
        return Ok(Parsed {
            format: None,
            rows: Vec::new(),
            bad: records.into_iter().filter_map(Result::err).collect(),
            repeated: 0,
            turns_cut: TurnsCut::default(),
        });
    };
    let settled = format
        .settle(&first.fields, columns)
        .map_err(|reason| StageError::failed(format!("`{}` line {}: {reason}", path.display(), first.line)))?;
    let (mut rows, mut bad) = (Vec::with_capacity(records.len()), Vec::new());
    for record in records {
        let read = |fields: &Fields| mend(format.of(fields, settled, columns).example(fields, columns)?);
        match record.and_then(|record| identified(record, read)) {
            Ok(row) => rows.push(row),
            Err(fault) => bad.push(fault),
        }
    }
    let repeated = ids::make_unique(&mut rows);
    Ok(Parsed { format: Some(settled), rows, bad, repeated, turns_cut: TurnsCut::default() })
}

fn refused(path: &Path, bad: &Bad) -> StageError {
    StageError::failed(format!("`{}` line {}: {}", path.display(), bad.line, bad.reason))
}

/// Returns the example that `read` makes of a record; without an id of its own, it is known by its content.
fn identified(record: Record, mut read: impl FnMut(&Fields) -> Result<Example, String>) -> Result<Example, Bad> {
    let Record { line, fields } = record;
    let mut row = read(&fields).map_err(|reason| Bad { line, reason, row: Value::Object(fields) })?;
    if row.id.is_empty() {
        row.id = ids::content(&row)[..16].to_string();
    }
    Ok(row)
}
