//! Kind `synthetic`: invented shop data in the shape of the 2018 files, so that everything downstream runs without real ones.
//!
//! Rows are invented, never sampled: what they share with real sets are the schema, the statistics of data.md 1 and 2 and the
//! kinds of junk. They carry a signal to learn (`purchases`), and product titles that differ in wording (`catalogue`), since
//! models are asked to recommend by title.

mod catalogue;
mod pages;
mod prose;
mod purchases;
mod shelves;

use std::io::Write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use watershed_engine::fault::ParamFault;
use watershed_engine::port::RecordType::Bytes;
use watershed_engine::stage::NoRunKeys;
use watershed_engine::{Job, Ports, Stage, StageError};

use self::catalogue::{Product, products};
use self::purchases::{Purchase, purchases};
use self::shelves::SHELVES;
use crate::day::DAY_MS;
use crate::seeded::SplitMix;

/// Invents reviews and product metadata in the 2018 format.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Synthetic {
    /// Another seed gives another shop.
    pub seed: u64,
    /// Number of customers.
    pub customers: u64,
    /// Number of products.
    pub items: u64,
    /// Number of main categories, 1 to 8.
    pub categories: u64,
    /// Number of distinct ratings (duplicates come on top); without it about 7 a customer, 4 at least and 30 at most.
    pub ratings: Option<u64>,
    /// Share of reviews that are repeated: half of them exactly, half as a second review of the same product; and share of
    /// product pages that are repeated.
    pub duplicate_rate: f64,
    /// Share of reviews and product pages that carry junk: tags, entities, page code.
    pub junk_rate: f64,
}

impl Default for Synthetic {
    fn default() -> Synthetic {
        Synthetic {
            seed: 0,
            customers: 240,
            items: 180,
            categories: 6,
            ratings: None,
            duplicate_rate: 0.03,
            junk_rate: 0.05,
        }
    }
}

impl Stage for Synthetic {
    const KIND: &'static str = "synthetic";
    const VERSION: u32 = 1;
    type Run = NoRunKeys;

    fn ports(&self) -> Ports {
        Ports::new().writes("reviews", Bytes).writes("items", Bytes)
    }

    fn check(&self) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        let mut demand = |holds: bool, path: &str, message: String| {
            if !holds {
                faults.push(ParamFault::new(path, message, ""));
            }
        };
        let rate = 0.0..=1.0;
        demand(self.customers > 0, "customers", "there must be a customer".into());
        demand(self.items > 0, "items", "there must be a product".into());
        let most = SHELVES.len() as u64;
        demand(
            (1..=most).contains(&self.categories),
            "categories",
            format!("`categories` must be 1 to {most}, found {}", self.categories),
        );
        demand(rate.contains(&self.duplicate_rate), "duplicate_rate", "`duplicate_rate` must be 0 to 1".into());
        demand(rate.contains(&self.junk_rate), "junk_rate", "`junk_rate` must be 0 to 1".into());
        let possible = self.customers..=self.customers.saturating_mul(self.items);
        let fits = self.ratings.is_none_or(|ratings| possible.contains(&ratings));
        demand(
            fits,
            "ratings",
            format!("`ratings` must be {} (one a customer) to {}", possible.start(), possible.end()),
        );
        faults
    }

    fn run(&self, _: &NoRunKeys, job: &Job) -> Result<(), StageError> {
        let products = products(self.seed, self.items, self.categories);
        let mut reviews = self.reviews(&products);
        reviews.sort_by(|a, b| key(a).cmp(&key(b)));
        job.count("rows_out", reviews.len() as f64);
        write(job, "reviews", &reviews)?;
        write(job, "items", &self.pages(&products))
    }
}

impl Synthetic {
    fn reviews(&self, products: &[Product]) -> Vec<Value> {
        let mut rows = Vec::new();
        for purchase in purchases(self, products) {
            let product = &products[purchase.product];
            rows.push(pages::review(self.seed, self.junk_rate, &purchase, product, 0));
            let mut random = SplitMix::new(self.seed, &format!("repeat {} {}", purchase.customer, product.asin));
            if random.unit() < self.duplicate_rate {
                let is_exact = random.unit() < 0.5;
                let later = purchase.time_ms + if is_exact { 0 } else { DAY_MS * (1 + random.below(20) as i64) };
                let again = Purchase { time_ms: later, ..purchase };
                rows.push(pages::review(self.seed, self.junk_rate, &again, product, u32::from(!is_exact)));
            }
        }
        rows
    }

    fn pages(&self, products: &[Product]) -> Vec<Value> {
        let mut rows = Vec::new();
        for (number, product) in products.iter().enumerate() {
            let page = pages::meta(self.seed, self.junk_rate, products, number);
            if SplitMix::new(self.seed, &format!("repeat page {}", product.asin)).unit() < self.duplicate_rate {
                rows.push(page.clone());
            }
            rows.push(page);
        }
        rows
    }
}

/// The real files stand by product, then by time.
fn key(row: &Value) -> (Option<&str>, Option<i64>, Option<&str>) {
    (row["asin"].as_str(), row["unixReviewTime"].as_i64(), row["reviewerID"].as_str())
}

fn write(job: &Job, port: &str, rows: &[Value]) -> Result<(), StageError> {
    let fail = |e: std::io::Error| StageError::io("write", job.output(port), &e);
    let mut out = job.create(port)?;
    for row in rows {
        pages::write_line(&mut out, row).map_err(fail)?;
    }
    out.flush().map_err(fail)
}

#[cfg(test)]
mod tests;
