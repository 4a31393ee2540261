//! `mix`: joins example sets, each in the wanted number.
//!
//! Rows are drawn by content: every row has a rank, BLAKE3(seed, content), and the smallest ranks are taken. So a larger
//! number keeps the rows of a smaller one, and the order of an extra's file changes nothing.
//!
//! This file is also the pattern for a new kind: parameters, ports, checks, work, tests, in this order.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_engine::fault::ParamFault;
use watershed_engine::port::RecordType::{Bytes, Examples};
use watershed_engine::stage::NoRunKeys;
use watershed_engine::{Job, Ports, Stage, StageError};

use crate::amount::{Amount, apportion};
use crate::formats::{self, ids};
use crate::record::example::Example;
use crate::record::lines;
use crate::seeded;

/// Joins the rows of `base` with rows of the extras.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mix {
    /// How many rows of each extra to add, for example `{alpaca: 2000}` or `{alpaca: 10%}` (of the extra's rows). An extra
    /// that is not named here is added whole.
    pub extra_rows: BTreeMap<String, Amount>,
    /// Instead of `extra_rows`: the share of each set in the result, for example `{base: 1, alpaca: 3}`. Needs `total`.
    pub weights: BTreeMap<String, f64>,
    /// Rows of the result under `weights`.
    pub total: Option<u64>,
    /// Whether rows may be taken again when a set has fewer than it shall give.
    pub repeat: bool,
    /// Chooses which rows are taken.
    pub seed: u64,
}

impl Stage for Mix {
    const KIND: &'static str = "mix";
    const VERSION: u32 = 1;
    type Run = NoRunKeys;

    fn ports(&self) -> Ports {
        Ports::new().reads("base", Examples).reads_many("extra", &[Examples, Bytes]).writes("examples", Examples)
    }

    fn check(&self) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        if !self.weights.is_empty() && !self.extra_rows.is_empty() {
            faults.push(ParamFault::new(
                "weights",
                "`weights` and `extra_rows` exclude each other",
                "keep one of them",
            ));
        }
        if self.weights.is_empty() != self.total.is_none() {
            faults.push(ParamFault::new("total", "`weights` and `total` belong together", "give both or neither"));
        }
        for (label, weight) in self.weights.iter().filter(|(_, weight)| !(weight.is_finite() && **weight >= 0.0)) {
            faults.push(ParamFault::new(
                format!("weights.{label}"),
                format!("{weight} is no share"),
                "use a number from 0",
            ));
        }
        faults
    }

    fn run(&self, _run: &NoRunKeys, job: &Job) -> Result<(), StageError> {
        let mut sets = vec![("base", formats::read(job.input("base")?)?)];
        for extra in job.inputs("extra") {
            sets.push((&extra.label, formats::read(&extra.path)?));
        }
        self.check_labels(&sets)?;
        let counts = self.counts(&sets)?;
        let mut mixed = Vec::new();
        for ((label, rows), count) in sets.into_iter().zip(counts) {
            job.count(&format!("rows_{label}"), count as f64);
            mixed.extend(self.take(label, rows, count));
        }
        job.count("rows_out", mixed.len() as f64);
        ids::make_unique(&mut mixed);
        lines::write(job.output("examples"), mixed)
    }
}

impl Mix {
    fn check_labels(&self, sets: &[(&str, Vec<Example>)]) -> Result<(), StageError> {
        let labels: Vec<&str> = sets.iter().map(|(label, _)| *label).collect();
        let unknown = |label: &&String, known: &[&str]| !known.contains(&label.as_str());
        if labels[1..].contains(&"base") {
            return Err(StageError::failed(
                "an extra is labelled `base`, as the base itself: give it another label in `in.extra`",
            ));
        }
        let wrong_row = self.extra_rows.keys().find(|label| unknown(label, &labels[1..]));
        let wrong_weight = self.weights.keys().find(|label| unknown(label, &labels));
        let (parameter, label) = match (wrong_row, wrong_weight) {
            (Some(label), _) => ("extra_rows", label),
            (None, Some(label)) => ("weights", label),
            (None, None) => return Ok(()),
        };
        let known = labels[1..].join("`, `");
        Err(StageError::failed(format!(
            "`{parameter}` names `{label}`, but the extras are `{known}`: correct the label"
        )))
    }

    /// Returns how many rows each set gives.
    fn counts(&self, sets: &[(&str, Vec<Example>)]) -> Result<Vec<usize>, StageError> {
        let weight = |label: &str| self.weights.get(label).copied().unwrap_or(0.0);
        let counts = match self.total {
            Some(total) => apportion(total as usize, &sets.iter().map(|(label, _)| weight(label)).collect::<Vec<_>>()),
            None => sets
                .iter()
                .map(|(label, rows)| self.extra_rows.get(*label).map_or(rows.len(), |n| n.of(rows.len())))
                .collect(),
        };
        for ((label, rows), count) in sets.iter().zip(&counts) {
            if *count > rows.len() && (!self.repeat || rows.is_empty()) {
                let found = rows.len();
                let help = "ask for fewer, or set `repeat: true`";
                return Err(StageError::failed(format!("`{label}` shall give {count} rows but has {found}: {help}")));
            }
        }
        Ok(counts)
    }

    /// Takes `count` rows, the smallest ranks first; a whole `base` keeps its order.
    fn take(&self, label: &str, mut rows: Vec<Example>, count: usize) -> Vec<Example> {
        if label != "base" {
            rows.iter_mut().for_each(|row| (row.id, row.source) = (format!("{label}/{}", row.id), label.to_string()));
        }
        rows.iter_mut().filter(|row| row.source.is_empty()).for_each(|row| row.source = label.to_string());
        if label != "base" || count != rows.len() {
            rows.sort_by_cached_key(|row| {
                let content = ids::content(row);
                (seeded::draw(self.seed, &content), content)
            });
        }
        rows.iter().cycle().take(count).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};
    use watershed_engine::{Kind, job::run_alone};

    use super::*;

    fn alpaca(path: &Path, name: &str, rows: usize) {
        let rows: Vec<Value> =
            (0..rows).map(|i| json!({"instruction": format!("{name} {i}"), "output": "yes"})).collect();
        std::fs::write(path, Value::from(rows).to_string()).unwrap();
    }

    /// Mixes 5 rows with 20 of `more` and 10 of `other`.
    fn mixed(params: Value) -> Result<Vec<Example>, StageError> {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        alpaca(&path("b"), "own", 5);
        alpaca(&path("m"), "more", 20);
        alpaca(&path("o"), "other", 10);
        let inputs = [("base", "b", &*path("b")), ("extra", "more", &*path("m")), ("extra", "other", &*path("o"))];
        run_alone(&Kind::of::<Mix>(), params, &inputs, folder.path())?;
        lines::read(&path("examples"))
    }

    fn ids_from(rows: &[Example], source: &str) -> Vec<String> {
        rows.iter().filter(|row| row.source == source).map(|row| row.id.clone()).collect()
    }

    #[test]
    fn counts_and_percentages_of_extras_join_the_whole_base() {
        let rows = mixed(json!({"extra_rows": {"more": 25, "other": 0}})).unwrap_err().to_string();
        assert!(rows.contains("`more` shall give 25 rows but has 20"), "{rows}");
        let rows = mixed(json!({"extra_rows": {"more": "30%", "other": 0}})).unwrap();
        assert_eq!((rows.len(), ids_from(&rows, "more").len(), ids_from(&rows, "base").len()), (11, 6, 5));
        assert_eq!(rows[0].instruction, "own 0");
        assert_eq!(mixed(json!({})).unwrap().len(), 35);
    }

    #[test]
    fn more_rows_keep_the_fewer_and_another_seed_draws_others() {
        let few = ids_from(&mixed(json!({"extra_rows": {"more": 4}})).unwrap(), "more");
        let many = ids_from(&mixed(json!({"extra_rows": {"more": 9}})).unwrap(), "more");
        let other = ids_from(&mixed(json!({"extra_rows": {"more": 4}, "seed": 1})).unwrap(), "more");
        assert_eq!(few, many[..4]);
        assert_ne!(few, other);
    }

    #[test]
    fn weights_divide_the_total_and_repeat_only_when_allowed() {
        let rows = mixed(json!({"weights": {"base": 1, "more": 3}, "total": 16})).unwrap();
        assert_eq!((ids_from(&rows, "base").len(), ids_from(&rows, "more").len(), rows.len()), (4, 12, 16));
        let short = json!({"weights": {"base": 1, "more": 1}, "total": 24});
        assert!(mixed(short).unwrap_err().to_string().contains("`base` shall give 12 rows but has 5"));
        let rows = mixed(json!({"weights": {"base": 1, "more": 1}, "total": 24, "repeat": true})).unwrap();
        let unique: std::collections::BTreeSet<_> = rows.iter().map(|row| &row.id).collect();
        assert_eq!((rows.len(), unique.len()), (24, 24));
    }

    #[test]
    fn conversations_and_alpaca_rows_mixed_are_read_again_as_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let turns = json!([{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]);
        std::fs::write(path("talk"), json!({"messages": turns}).to_string()).unwrap();
        alpaca(&path("more"), "more", 2);
        for (base, extra) in [("talk", "more"), ("more", "talk")] {
            let inputs = [("base", base, &*path(base)), ("extra", extra, &*path(extra))];
            run_alone(&Kind::of::<Mix>(), json!({}), &inputs, folder.path()).unwrap();
            let rows = formats::read(&path("examples")).unwrap();
            let is_talk = |row: &Example| (row.messages.is_some(), row.instruction.is_empty());
            assert_eq!(rows.iter().filter(|row| is_talk(row) == (true, true)).count(), 1);
            assert_eq!(rows.iter().filter(|row| is_talk(row) == (false, false)).count(), 2);
        }
    }

    #[test]
    fn wrong_labels_and_contradictions_are_faults() {
        let wrong = mixed(json!({"extra_rows": {"mroe": 1}})).unwrap_err().to_string();
        assert!(wrong.contains("`extra_rows` names `mroe`, but the extras are `more`, `other`"), "{wrong}");
        let check = |params| (Kind::of::<Mix>().check)(&params).into_iter().map(|fault| fault.path).collect::<Vec<_>>();
        assert_eq!(
            check(json!({"weights": {"base": -1}, "extra_rows": {"more": 1}})),
            ["weights", "total", "weights.base"]
        );
        assert_eq!(check(json!({"weights": {"base": 1}, "total": 3})), Vec::<String>::new());
    }
}
