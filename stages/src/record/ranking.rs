//! `ranking`: recommended items by customer as JSON lines, best first.

use serde::{Deserialize, Serialize};

/// The recommendations for one customer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// Customer; of a prompt without one, its id.
    pub group: String,
    /// Items, best first.
    pub items: Vec<String>,
    /// Scores of the items.
    pub scores: Vec<f64>,
}
