//! Numbers in outputs of type `metrics`: read from a record, and arranged as a table with a row a metric, a column a system.

use std::collections::BTreeMap;

use serde_json::Value;
use watershed_cache::{ActionResult, Store};

use crate::port::RecordType;
use crate::record::Provenance;

/// Numbers by name, `system.metric` or `metric`.
pub type Metrics = BTreeMap<String, Value>;

/// Returns the numbers that an action left.
pub fn of_record(store: &Store, record: &ActionResult) -> Metrics {
    let Some(provenance) = Provenance::of(record) else { return Metrics::new() };
    let types = &provenance.manifest.outputs;
    let ports = types.iter().filter(|(_, record)| *record == RecordType::Metrics.name()).map(|(name, _)| name);
    let blobs = ports.filter_map(|name| record.outputs.get(name)).map(|s| store.blob(&s.artifact.digest));
    blobs.filter_map(|path| serde_json::from_slice::<Metrics>(&std::fs::read(path).ok()?).ok()).flatten().collect()
}

/// Metrics of several systems side by side.
#[derive(Debug, Default, PartialEq)]
pub struct Table<'a> {
    /// Columns, in the order of their names.
    pub systems: Vec<&'a str>,
    /// Metric to system to number.
    pub rows: BTreeMap<&'a str, BTreeMap<&'a str, f64>>,
}

impl<'a> Table<'a> {
    /// Arranges numbers; those without a system belong to `alone`.
    pub fn of(metrics: &'a Metrics, alone: &'a str) -> Table<'a> {
        let plain: Vec<&str> = metrics.keys().filter_map(|name| Some(name.rsplit_once('.')?.0)).collect();
        let mut table = Table::default();
        for (name, value) in metrics {
            let (system, metric) = split(name, &plain).unwrap_or((alone, name));
            if !table.systems.contains(&system) {
                table.systems.push(system);
            }
            if let Some(number) = value.as_f64() {
                table.rows.entry(metric).or_default().insert(system, number);
            }
        }
        table
    }

    /// Returns the ends of a number's interval, where it has one.
    pub fn interval(&self, metric: &str, system: &str) -> Option<(f64, f64)> {
        let end = |end: &str| self.rows.get(format!("{metric}_{end}").as_str())?.get(system).copied();
        end("low").zip(end("high"))
    }
}

/// Says whether a metric is the end of another one's interval.
pub fn is_interval(metric: &str) -> bool {
    metric.ends_with("_low") || metric.ends_with("_high")
}

/// Returns a number as tables show it: counts whole, the rest with four decimals.
pub fn shown(value: f64) -> String {
    if value == value.trunc() && value.abs() < 1e9 { format!("{value:.0}") } else { format!("{value:.4}") }
}

/// Splits at the last dot, for systems are named by users' labels; `tuned.val_loss.base` is `tuned`'s where `tuned` has others.
fn split<'a>(name: &'a str, systems: &[&'a str]) -> Option<(&'a str, &'a str)> {
    let (system, _) = name.rsplit_once('.')?;
    let shorter = system.rsplit_once('.').map(|(shorter, _)| shorter).filter(|shorter| systems.contains(shorter));
    let system = shorter.unwrap_or(system);
    Some((system, &name[system.len() + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_by_source_stays_with_its_system_and_a_dotted_label_stays_whole() {
        let names = ["r=8,lr=0.1.hit@10", "tuned.val_loss", "tuned.val_loss.base", "rows"];
        let metrics: Metrics = names.iter().map(|n| (n.to_string(), 1.into())).collect();
        let table = Table::of(&metrics, "scores");
        assert_eq!(table.systems, ["r=8,lr=0.1", "scores", "tuned"]);
        assert_eq!(table.rows.keys().copied().collect::<Vec<_>>(), ["hit@10", "rows", "val_loss", "val_loss.base"]);
    }

    #[test]
    fn intervals_belong_to_their_metric() {
        let metrics =
            Metrics::from([("a.m".into(), 2.into()), ("a.m_low".into(), 1.into()), ("a.m_high".into(), 3.into())]);
        let table = Table::of(&metrics, "");
        assert_eq!((table.interval("m", "a"), table.interval("m", "b")), (Some((1.0, 3.0)), None));
    }
}
