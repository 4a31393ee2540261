//! Kind `holdout`: keeps what customers bought last away from training, so that it can be asked for later.
//!
//! Dates have day precision and half of the customers buy several products on their last day (recsys.md, top note), so "the
//! last one" is often a choice. It goes by a hash of seed, customer and product, never by the order of a file, which would
//! leak how the file was sorted; the share of customers whose choice it was is in the report.

mod last_out;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use watershed_engine::fault::ParamFault;
use watershed_engine::port::RecordType::{Interactions, Items};
use watershed_engine::stage::NoRunKeys;
use watershed_engine::{Job, Ports, Stage, StageError};

use self::last_out::{Parted, take_last};
use crate::day;
use crate::record::interaction::{self, Interaction};
use crate::record::lines;

/// Holds out what each customer bought last, or everything from a moment on.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Holdout {
    /// `last_out` holds out each customer's last product, `timestamp` every row from `at` on.
    pub by: By,
    /// Which of several products bought at a customer's last moment is the last one. A customer keeps at least one product
    /// for training.
    pub ties: Ties,
    /// The moment of `by: timestamp`: a date like `2016-01-01`, or milliseconds since 1970 UTC.
    pub at: Option<Moment>,
    /// Decides ties, by a hash of seed, customer and product.
    pub seed: u64,
}

/// How rows are held out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The last product of each customer.
    #[default]
    LastOut,
    /// Every row from a moment on.
    Timestamp,
}

/// What happens to customers who bought several products at their last moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ties {
    /// One of them is held out, chosen by hash.
    #[default]
    Hash,
    /// All of them are held out.
    Basket,
    /// None is: such customers are in `train` only.
    Exclude,
}

/// A moment in milliseconds, written as a number or as a date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Moment {
    /// Milliseconds since 1970 UTC.
    Ms(i64),
    /// ISO 8601.
    Date(String),
}

impl Moment {
    fn time_ms(&self) -> Option<i64> {
        match self {
            Moment::Ms(ms) => Some(*ms),
            Moment::Date(text) => day::parse_iso(text),
        }
    }
}

impl JsonSchema for Moment {
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["integer", "string"]})
    }
}

/// The report port of `holdout`.
#[derive(Debug, Serialize)]
struct Report {
    customers: usize,
    customers_with_test: usize,
    customers_with_valid: usize,
    /// Share of customers whose last day holds two or more products.
    last_day_tied_share: f64,
    /// Customers whose held-out product was chosen among several of the same moment.
    ties: usize,
    test: usize,
    train: usize,
    valid: usize,
    fit: usize,
    /// Further rows of held-out products, in no output: they would show the answer.
    repeats_dropped: usize,
}

impl Stage for Holdout {
    const KIND: &'static str = "holdout";
    const VERSION: u32 = 1;
    type Run = NoRunKeys;

    fn ports(&self) -> Ports {
        Ports::new()
            .reads("interactions", Interactions)
            .may_read("items", Items)
            .writes("test", Interactions)
            .writes("train", Interactions)
            .writes("valid", Interactions)
            .writes("fit", Interactions)
            .writes("items", Items)
            .reports("report")
    }

    fn check(&self) -> Vec<ParamFault> {
        let fault = |message: &str| vec![ParamFault::new("at", message, "write a date, for example `at: 2016-01-01`")];
        match (self.by, &self.at) {
            (By::Timestamp, None) => fault("`by: timestamp` needs the moment `at`"),
            (By::Timestamp, Some(at)) if at.time_ms().is_none() => fault("`at` is no date"),
            (By::LastOut, Some(_)) => fault("`at` counts only with `by: timestamp`"),
            _ => Vec::new(),
        }
    }

    fn run(&self, _: &NoRunKeys, job: &Job) -> Result<(), StageError> {
        let rows = interaction::read(job.input("interactions")?)?;
        if rows.is_empty() {
            return Err(StageError::failed("input `interactions` has no rows; nothing can be held out"));
        }
        let rows_in = rows.len();
        let tied_share = last_day_tied_share(&rows);
        let customers = rows.iter().map(|row| &row.user_id).collect::<BTreeSet<_>>().len();
        let test = match self.at.as_ref().and_then(Moment::time_ms).filter(|_| self.by == By::Timestamp) {
            Some(at) => from_moment(rows, at),
            None => take_last(rows, self.ties, self.seed),
        };
        let valid = take_last(test.kept.clone(), self.ties, self.seed);
        let report = Report {
            customers,
            customers_with_test: test.customers,
            customers_with_valid: valid.customers,
            last_day_tied_share: tied_share,
            ties: test.ties,
            test: test.held.len(),
            train: test.kept.len(),
            valid: valid.held.len(),
            fit: valid.kept.len(),
            repeats_dropped: test.repeats,
        };
        job.count("rows_in", rows_in as f64);
        job.count("rows_out", (report.test + report.train) as f64);
        job.log(format!("{:.0} % of customers bought two or more products on their last day", tied_share * 100.0));
        lines::write(job.output("report"), [&report])?;
        interaction::write(job.output("test"), test.held)?;
        interaction::write(job.output("train"), test.kept)?;
        interaction::write(job.output("valid"), valid.held)?;
        interaction::write(job.output("fit"), valid.kept)?;
        pass_items(job)
    }
}

/// Parts rows at a moment; a later row of a product that the customer had before is dropped, since it is no news.
fn from_moment(rows: Vec<Interaction>, at: i64) -> Parted {
    let (later, kept): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.time_ms >= at);
    let known: BTreeSet<_> = kept.iter().map(|row| (row.user_id.clone(), row.item_id.clone())).collect();
    let mut seen = known;
    let all = later.len();
    let held: Vec<Interaction> =
        later.into_iter().filter(|row| seen.insert((row.user_id.clone(), row.item_id.clone()))).collect();
    let customers = held.iter().map(|row| &row.user_id).collect::<BTreeSet<_>>().len();
    Parted { repeats: all - held.len(), customers, ties: 0, held, kept }
}

fn last_day_tied_share(rows: &[Interaction]) -> f64 {
    let mut last: BTreeMap<&str, (i64, BTreeSet<&str>)> = BTreeMap::new();
    for row in rows {
        let day = row.time_ms.div_euclid(day::DAY_MS);
        let entry = last.entry(&row.user_id).or_insert_with(|| (day, Default::default()));
        if day > entry.0 {
            *entry = (day, Default::default());
        }
        if day == entry.0 {
            entry.1.insert(&row.item_id);
        }
    }
    let tied = last.values().filter(|(_, items)| items.len() >= 2).count();
    tied as f64 / last.len().max(1) as f64
}

/// Hands the catalogue on byte for byte; without one the output is an empty file.
fn pass_items(job: &Job) -> Result<(), StageError> {
    let to = job.output("items");
    let copied = match job.optional_input("items") {
        Some(from) => std::fs::read(from).map_err(|e| StageError::io("read", from, &e))?,
        None => Vec::new(),
    };
    std::fs::write(to, copied).map_err(|e| StageError::io("write", to, &e))
}

#[cfg(test)]
mod tests;
