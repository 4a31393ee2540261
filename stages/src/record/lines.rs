//! JSON lines: one value a line, UTF-8, `\n`.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use watershed_engine::StageError;

/// Reads every line of a file written by a stage.
///
/// # Errors
/// Names the file and the line that is not what it should be.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, StageError> {
    let file = File::open(path).map_err(|e| StageError::io("read", path, &e))?;
    let mut rows = Vec::new();
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(|e| StageError::io("read", path, &e))?;
        if line.trim().is_empty() {
            continue;
        }
        let row = serde_json::from_str(&line)
            .map_err(|e| StageError::failed(format!("`{}` line {}: {e}", path.display(), index + 1)))?;
        rows.push(row);
    }
    Ok(rows)
}

/// Writes rows, one a line.
///
/// # Errors
/// When the file cannot be written.
pub fn write<T: Serialize>(path: &Path, rows: impl IntoIterator<Item = T>) -> Result<(), StageError> {
    let fail = |e: std::io::Error| StageError::io("write", path, &e);
    let mut out = BufWriter::new(File::create(path).map_err(fail)?);
    for row in rows {
        serde_json::to_writer(&mut out, &row).map_err(|e| fail(e.into()))?;
        out.write_all(b"\n").map_err(fail)?;
    }
    out.flush().map_err(fail)
}
