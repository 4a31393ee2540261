//! `interactions`: ratings and reviews as CSV, sorted by user, time, item.

use std::path::Path;

use serde::{Deserialize, Serialize};
use watershed_engine::StageError;

/// One rating with its review. Later columns may be empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Interaction {
    /// Customer.
    pub user_id: String,
    /// Product.
    pub item_id: String,
    /// Stars.
    pub rating: f64,
    /// Milliseconds since 1970 UTC; may have day precision.
    pub time_ms: i64,
    /// Display name of the customer.
    pub user_name: String,
    /// Headline of the review.
    pub title: String,
    /// The review.
    pub text: String,
    /// Variant, `Key: value` pairs joined by `; `, for example `Size: 6 Feet; Color: White`.
    pub style: String,
}

/// Reads a file of interactions.
///
/// # Errors
/// Names the line that is not an interaction.
pub fn read(path: &Path) -> Result<Vec<Interaction>, StageError> {
    let mut reader = csv::Reader::from_path(path)
        .map_err(|e| StageError::failed(format!("cannot read `{}`: {e}", path.display())))?;
    reader
        .deserialize()
        .map(|row| row.map_err(|e| StageError::failed(format!("`{}` is not interactions: {e}", path.display()))))
        .collect()
}

/// Writes interactions, sorted by user, time, item; rows equal in all three keep their order.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, mut rows: Vec<Interaction>) -> Result<(), StageError> {
    rows.sort_by(|a, b| (&a.user_id, a.time_ms, &a.item_id).cmp(&(&b.user_id, b.time_ms, &b.item_id)));
    let fail = |e: csv::Error| match e.into_kind() {
        csv::ErrorKind::Io(e) => StageError::io("write", path, &e),
        other => StageError::failed(format!("cannot write `{}`: {other:?}", path.display())),
    };
    let mut out = csv::WriterBuilder::new().has_headers(false).from_path(path).map_err(fail)?;
    out.write_record(["user_id", "item_id", "rating", "time_ms", "user_name", "title", "text", "style"])
        .map_err(fail)?;
    for row in &rows {
        out.serialize(row).map_err(fail)?;
    }
    out.flush().map_err(|e| StageError::io("write", path, &e))
}
