//! What the record of one node tells: its numbers, losses included, and where they come from.

use std::collections::BTreeMap;

use serde_json::Value;
use watershed_cache::{Digest, Store, Stored};

use crate::archive::Run;
use crate::losses::Losses;
use crate::metrics;
use crate::record::Provenance;

/// What one action left, as tables show it.
#[derive(Debug)]
pub struct Findings {
    /// Numbers of its `metrics` and of its `curves`, by name.
    pub numbers: BTreeMap<String, f64>,
    /// Its manifest, parameters, numerics and counts.
    pub provenance: Provenance,
    /// Its outputs by port.
    pub outputs: BTreeMap<String, Stored>,
}

impl Findings {
    /// Reads the record under `key`; `None` when it is gone.
    pub fn of(store: &Store, key: &Digest) -> Option<Findings> {
        let record = store.peek(key)?;
        let provenance = Provenance::of(&record)?;
        let told = metrics::of_record(store, &record);
        let mut numbers: BTreeMap<String, f64> =
            told.into_iter().filter_map(|(name, value)| Some((name, Value::as_f64(&value)?))).collect();
        if let Some(losses) = Losses::of_record(store, &record, &provenance) {
            numbers.extend(losses.numbers().into_iter().map(|(name, loss)| (name.to_string(), loss)));
        }
        Some(Findings { numbers, provenance, outputs: record.outputs })
    }

    /// Reads the records of a run's nodes.
    pub fn of_run(store: &Store, run: &Run) -> Vec<Option<Findings>> {
        Findings::of_all(store, &run.nodes.iter().map(|node| node.key).collect::<Vec<_>>())
    }

    /// Reads many records, on all processors: thousands of small files wait mostly for the system.
    pub fn of_all(store: &Store, keys: &[Option<Digest>]) -> Vec<Option<Findings>> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = keys.len().div_ceil(threads).max(1);
        let mut all: Vec<Option<Findings>> = keys.iter().map(|_| None).collect();
        std::thread::scope(|scope| {
            for (keys, places) in keys.chunks(share).zip(all.chunks_mut(share)) {
                scope.spawn(move || {
                    keys.iter()
                        .zip(places)
                        .for_each(|(key, place)| *place = key.and_then(|key| Findings::of(store, &key)));
                });
            }
        });
        all
    }

    /// Returns the ends of a number's interval, where it has one.
    pub fn interval(&self, name: &str) -> Option<(f64, f64)> {
        let end = |end: &str| self.numbers.get(&format!("{name}_{end}")).copied();
        end("low").zip(end("high"))
    }
}
