//! What `ingest` found: rows, customers, products, dates, repeats, and how far metadata and reviews join.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::day;
use crate::record::interaction::Interaction;
use crate::record::item::Item;

/// One file that was read.
#[derive(Debug, Serialize)]
pub struct FileReport {
    /// Label of the input.
    pub file: String,
    /// Format found.
    pub format: &'static str,
    /// Rows, good and bad.
    pub rows: u64,
    /// Bad rows.
    pub quarantined: u64,
}

/// The report port of `ingest`.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Files read, reviews first.
    pub files: Vec<FileReport>,
    /// Reviews that were kept.
    pub rows: usize,
    /// Distinct customers.
    pub users: usize,
    /// Distinct products with a review.
    pub items: usize,
    /// Day of the first review.
    pub first_day: Option<String>,
    /// Day of the last review.
    pub last_day: Option<String>,
    /// Reviews by stars.
    pub stars: BTreeMap<String, usize>,
    /// Reviews equal to another in every field, beyond the first.
    pub exact_duplicates: usize,
    /// Reviews of a product by a customer who has reviewed it already.
    pub repeated_user_item: usize,
    /// Share of reviews without text.
    pub empty_text: f64,
    /// Products in the metadata.
    pub catalogue: usize,
    /// Metadata rows that repeat a product.
    pub catalogue_duplicates: u64,
    /// Products with a review that are in the metadata.
    pub joined_items: usize,
    /// Reviews whose product is in the metadata.
    pub joined_rows: usize,
}

impl Report {
    /// Counts what there is to count.
    pub fn of(files: Vec<FileReport>, rows: &[Interaction], catalogue: &[Item], catalogue_duplicates: u64) -> Report {
        let known: BTreeSet<&str> = catalogue.iter().map(|item| item.item_id.as_str()).collect();
        let items: BTreeSet<&str> = rows.iter().map(|row| row.item_id.as_str()).collect();
        let pairs: BTreeSet<_> = rows.iter().map(|row| (&row.user_id, &row.item_id)).collect();
        Report {
            files,
            rows: rows.len(),
            users: rows.iter().map(|row| &row.user_id).collect::<BTreeSet<_>>().len(),
            items: items.len(),
            first_day: rows.iter().map(|row| row.time_ms).min().map(day::text),
            last_day: rows.iter().map(|row| row.time_ms).max().map(day::text),
            stars: stars(rows),
            exact_duplicates: exact_duplicates(rows),
            repeated_user_item: rows.len() - pairs.len(),
            empty_text: share(rows.iter().filter(|row| row.text.trim().is_empty()).count(), rows.len()),
            catalogue: catalogue.len(),
            catalogue_duplicates,
            joined_items: items.intersection(&known).count(),
            joined_rows: rows.iter().filter(|row| known.contains(row.item_id.as_str())).count(),
        }
    }
}

fn stars(rows: &[Interaction]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(row.rating.to_string()).or_default() += 1;
    }
    counts
}

fn exact_duplicates(rows: &[Interaction]) -> usize {
    let distinct: BTreeSet<_> = rows
        .iter()
        .map(|r| (&r.user_id, &r.item_id, r.time_ms, r.rating.to_bits(), &r.user_name, &r.title, &r.text, &r.style))
        .collect();
    rows.len() - distinct.len()
}

fn share(part: usize, total: usize) -> f64 {
    if total == 0 { 0.0 } else { part as f64 / total as f64 }
}
