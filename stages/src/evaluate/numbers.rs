//! The flat result: `system.metric` to number.

use std::collections::BTreeMap;
use std::path::Path;

use watershed_engine::StageError;

use super::names;
use crate::metrics::interval::{Bounds, quantile};

/// Numbers by `system.metric`, sorted.
#[derive(Debug, Default)]
pub struct Numbers(BTreeMap<String, f64>);

impl Numbers {
    /// Sets a number; one that is not there, or not finite, is left out.
    pub fn put(&mut self, system: &str, metric: &str, value: impl Into<Option<f64>>) {
        if let Some(value) = value.into().filter(|value| value.is_finite()) {
            self.0.insert(format!("{system}.{metric}"), value);
        }
    }

    /// Sets `metric_low` and `metric_high`.
    pub fn put_bounds(&mut self, system: &str, metric: &str, bounds: Option<Bounds>) {
        self.put(system, &format!("{metric}_low"), bounds.map(|b| b.0));
        self.put(system, &format!("{metric}_high"), bounds.map(|b| b.1));
    }

    /// Returns a number.
    pub fn get(&self, system: &str, metric: &str) -> Option<f64> {
        self.0.get(&format!("{system}.{metric}")).copied()
    }

    /// Leaves out what is not among `metrics`; an empty list keeps all.
    ///
    /// # Errors
    /// When a metric that was asked for could not be computed from the inputs.
    pub fn keep_only(&mut self, metrics: &[String]) -> Result<(), StageError> {
        let belongs = |key: &str, metric: &str| names::is_number_of(key, metric);
        for metric in metrics {
            if !self.0.keys().any(|key| belongs(key, metric)) {
                let text = format!(
                    "metric `{metric}` cannot be computed from these inputs: {}",
                    names::describe(metric).unwrap_or("see the list of metrics")
                );
                return Err(StageError::failed(text));
            }
        }
        if !metrics.is_empty() {
            self.0.retain(|key, _| metrics.iter().any(|metric| belongs(key, metric)));
        }
        Ok(())
    }

    /// Writes one JSON object, sorted by key.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), StageError> {
        let mut text = serde_json::to_string_pretty(&self.0).map_err(|e| StageError::failed(e.to_string()))?;
        text.push('\n');
        std::fs::write(path, text).map_err(|e| StageError::io("write", path, &e))
    }
}

/// Returns the mean of the values that are there.
pub fn mean(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values.into_iter().flatten() {
        sum += value;
        count += 1.0;
    }
    (count > 0.0).then(|| sum / count)
}

/// Returns the 90th percentile of the values that are there.
pub fn p90(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().flatten().collect();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 0.9)
}

/// Returns 1 for yes, 0 for no.
pub fn flag(yes: bool) -> Option<f64> {
    Some(f64::from(yes))
}
