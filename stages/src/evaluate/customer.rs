//! One row for each system and customer: the values that intervals and comparisons are made of.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// What one system did for one customer.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    /// Metric to value; flags are 0 or 1, or a share over several answers.
    #[serde(flatten)]
    pub values: BTreeMap<String, f64>,
    /// Recommended items, bought ones removed, best first; `None` where nothing was ranked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recommended: Option<Vec<String>>,
}

/// A row as it stands in the file.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    system: &'a str,
    customer: &'a str,
    #[serde(flatten)]
    row: &'a Row,
}

/// Rows by system and customer.
#[derive(Debug, Default)]
pub struct Customers(BTreeMap<String, BTreeMap<String, Row>>);

impl Customers {
    /// Returns the row of a customer, made if it is not there.
    pub fn row(&mut self, system: &str, customer: &str) -> &mut Row {
        self.0.entry(system.to_string()).or_default().entry(customer.to_string()).or_default()
    }

    /// Returns the names of the systems.
    pub fn systems(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// Returns the values of `metrics` for each customer of a system, NaN where there is none.
    pub fn columns(&self, system: &str, metrics: &[&str]) -> Vec<Vec<f64>> {
        let value = |row: &Row, metric: &&str| row.values.get(*metric).copied().unwrap_or(f64::NAN);
        let rows = self.0.get(system).into_iter().flat_map(BTreeMap::values);
        rows.map(|row| metrics.iter().map(|metric| value(row, metric)).collect()).collect()
    }

    /// Returns the pairs of values of the customers that both systems have a value for.
    pub fn pairs(&self, a: &str, b: &str, metric: &str) -> Vec<(f64, f64)> {
        let value = |system: &str, customer: &str| self.0.get(system)?.get(customer)?.values.get(metric).copied();
        let customers: BTreeSet<&String> = self.0.get(a).into_iter().flat_map(BTreeMap::keys).collect();
        customers.into_iter().filter_map(|c| Some((value(a, c)?, value(b, c)?))).collect()
    }

    /// Returns the rows as lines, sorted by system and customer.
    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.0.iter().flat_map(|(system, rows)| rows.iter().map(move |(customer, row)| Line { system, customer, row }))
    }
}
