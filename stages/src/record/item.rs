//! `items`: products as JSON lines, sorted by item.

use std::path::Path;

use serde::{Deserialize, Serialize};
use watershed_engine::StageError;

use super::lines;

/// One product. Absent fields are left out of the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Product.
    pub item_id: String,
    /// Its name; empty when unknown.
    #[serde(default)]
    pub title: String,
    /// Maker; empty when unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub brand: String,
    /// Paths from main category to leaf.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<Vec<String>>,
    /// Bullet points.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Text of the product page.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Price in cents; the lower end of a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_cents: Option<u64>,
    /// Upper end of a price range, in cents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_max_cents: Option<u64>,
    /// Items bought by the same customers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_buy: Vec<String>,
    /// Items looked at by the same customers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_view: Vec<String>,
}

/// Reads a file of items.
///
/// # Errors
/// Names the line that is not an item.
pub fn read(path: &Path) -> Result<Vec<Item>, StageError> {
    lines::read(path)
}

/// Writes items, sorted by id.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, mut items: Vec<Item>) -> Result<(), StageError> {
    items.sort_by(|a, b| a.item_id.cmp(&b.item_id));
    lines::write(path, items)
}
