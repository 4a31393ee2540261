//! In what two runs differ: parameters, inputs, counts, metrics, outputs and numerics, node by node.
//!
//! Nodes are paired by stage and case. Two nodes of one key are one record, so nothing of them is read.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use watershed_cache::{Digest, Store, Stored};

use crate::archive::{Run, RunNode};
use crate::event::Reason;
use crate::findings::Findings;
use crate::graph;
use crate::metrics::is_interval;
use crate::reason::{self, Made};

/// Two runs side by side.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Pairs of nodes that differ.
    pub pairs: Vec<Pair>,
    /// Pairs that do not.
    pub equal: usize,
    /// Titles of nodes that only the first run has.
    pub only_old: Vec<String>,
    /// Titles of nodes that only the second run has.
    pub only_new: Vec<String>,
}

/// A stage, of some cases, in both runs.
#[derive(Debug, Default)]
pub struct Pair {
    /// The stage.
    pub stage: String,
    /// The cases in which these two nodes meet; empty outside sweeps.
    pub cases: Vec<String>,
    /// How it ended, where only one of the two did well.
    pub outcome: Option<(String, String)>,
    /// What it was made from: parameters, inputs, kinds, environment, tools.
    pub leaves: Vec<Reason>,
    /// Rows in and out, and whatever else the kind counted.
    pub counts: Vec<Change<f64>>,
    /// Metrics and losses that differ.
    pub numbers: Vec<Change<f64>>,
    /// Metrics whose intervals share a number, by name; only where both have one.
    pub overlaps: BTreeMap<String, bool>,
    /// Metrics that are equal.
    pub equal_numbers: usize,
    /// All data outputs.
    pub outputs: Vec<Change<Output>>,
    /// Device, threads and libraries that differ.
    pub numerics: Vec<Change<Value>>,
    /// Records that are gone: nothing but the parameters of the log was compared.
    pub gone: bool,
}

/// Something by name, before and after; `None` where there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Change<T> {
    /// Its name.
    pub name: String,
    /// In the first run.
    pub old: Option<T>,
    /// In the second.
    pub new: Option<T>,
}

/// The bytes of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// Their digest.
    pub digest: Digest,
    /// Their number.
    pub bytes: u64,
}

impl Comparison {
    /// Compares two runs of one store.
    pub fn of(store: &Store, old: &Run, new: &Run) -> Comparison {
        let (was, is) = (by_case(old), by_case(new));
        let mut all = Comparison::default();
        let mut met: BTreeMap<(usize, usize), Vec<String>> = BTreeMap::new();
        for (place, (before, after)) in was.iter().filter_map(|(place, before)| Some((place, (before, is.get(place)?))))
        {
            met.entry((*before, *after)).or_default().extend(place.1.clone());
        }
        let pairs: Vec<_> = met.into_iter().map(|((a, b), cases)| (&old.nodes[a], &new.nodes[b], cases)).collect();
        let (differ, same): (Vec<_>, Vec<_>) =
            pairs.into_iter().partition(|(a, b, _)| a.key.is_none() || a.key != b.key);
        let old_keys: Vec<Option<Digest>> = differ.iter().map(|(a, ..)| a.key).collect();
        let new_keys: Vec<Option<Digest>> = differ.iter().map(|(_, b, _)| b.key).collect();
        let (before, after) = (Findings::of_all(store, &old_keys), Findings::of_all(store, &new_keys));
        all.equal = same.len();
        for (((a, b, cases), before), after) in differ.into_iter().zip(before).zip(after) {
            let pair = Pair::of((a, before), (b, after), cases);
            if pair.is_equal() { all.equal += 1 } else { all.pairs.push(pair) }
        }
        all.only_old = alone(old, &was, &is);
        all.only_new = alone(new, &is, &was);
        all
    }

    /// Says whether nothing differs.
    pub fn is_equal(&self) -> bool {
        self.pairs.is_empty() && self.only_old.is_empty() && self.only_new.is_empty()
    }
}

/// Stage and case.
type Place = (String, Option<String>);

/// Where the nodes of a run belong: one in no case or in all stands for itself, one of several cases for each.
fn by_case(run: &Run) -> BTreeMap<Place, usize> {
    let mut places = BTreeMap::new();
    // What was picked of one case is compared by stage alone.
    let cases = !run.cases.is_empty();
    for (index, node) in run.nodes.iter().enumerate().filter(|(_, node)| node.outcome != "unneeded") {
        let labels: Vec<Option<String>> = match node.cases.as_slice() {
            of if cases && !of.is_empty() => of.iter().cloned().map(Some).collect(),
            _ => vec![None],
        };
        places.extend(labels.into_iter().map(|label| ((node.stage.clone(), label), index)));
    }
    places
}

/// Returns the titles of nodes that meet none of the other run's.
fn alone(run: &Run, own: &BTreeMap<Place, usize>, other: &BTreeMap<Place, usize>) -> Vec<String> {
    let mut cases: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for (place, index) in own.iter().filter(|(place, _)| !other.contains_key(*place)) {
        cases.entry(*index).or_default().extend(place.1.clone());
    }
    cases.into_iter().map(|(index, cases)| graph::title(&run.nodes[index].stage, &cases)).collect()
}

impl Pair {
    fn of(old: (&RunNode, Option<Findings>), new: (&RunNode, Option<Findings>), cases: Vec<String>) -> Pair {
        let ((a, before), (b, after)) = (old, new);
        let differs = is_good(&a.outcome) != is_good(&b.outcome);
        let outcome = differs.then(|| (a.outcome.clone(), b.outcome.clone()));
        let pair = Pair { stage: a.stage.clone(), cases, outcome, ..Pair::default() };
        match (before, after) {
            (Some(before), Some(after)) => pair.with_records(&before, &after),
            _ => Pair { leaves: logged(a, b), gone: a.key.is_some() && b.key.is_some(), ..pair },
        }
    }

    fn with_records(self, old: &Findings, new: &Findings) -> Pair {
        let (was, is) = (&old.provenance, &new.provenance);
        let numbers: Vec<Change<f64>> = changes(&old.numbers, &new.numbers, |n| *n);
        let numbers: Vec<Change<f64>> = numbers.into_iter().filter(|n| !is_interval(&n.name)).collect();
        let count = numbers.len();
        let numbers: Vec<Change<f64>> = numbers.into_iter().filter(|n| n.old != n.new).collect();
        let overlap = |n: &Change<f64>| Some((n.name.clone(), meet(old.interval(&n.name)?, new.interval(&n.name)?)));
        Pair {
            leaves: reason::leaves(&self.stage, Made::of(was), Made::of(is)),
            counts: changed(&was.counts, &is.counts, |n| *n),
            overlaps: numbers.iter().filter_map(overlap).collect(),
            equal_numbers: count - numbers.len(),
            numbers,
            outputs: changes(&data(&old.outputs), &data(&new.outputs), |output| *output),
            numerics: changed(&was.numerics, &is.numerics, Value::clone),
            ..self
        }
    }

    /// Says whether the two nodes are alike in everything that is compared.
    fn is_equal(&self) -> bool {
        let outputs = self.outputs.iter().all(|output| output.old == output.new);
        let lists =
            self.leaves.is_empty() && self.counts.is_empty() && self.numbers.is_empty() && self.numerics.is_empty();
        outputs && lists && self.outcome.is_none() && !self.gone
    }

    /// Returns the title of the pair.
    pub fn title(&self) -> String {
        graph::title(&self.stage, &self.cases)
    }
}

fn is_good(outcome: &str) -> bool {
    matches!(outcome, "ran" | "hit")
}

/// Compares what the logs alone tell.
fn logged(old: &RunNode, new: &RunNode) -> Vec<Reason> {
    let changes = changed(&old.params, &new.params, Value::clone);
    let path = |name: &str| format!("{}.{name}", old.stage);
    let value = |value: Option<Value>| value.unwrap_or_else(|| "default".into());
    changes.into_iter().map(|c| reason::param(&path(&c.name), value(c.old), value(c.new))).collect()
}

fn data(outputs: &BTreeMap<String, Stored>) -> BTreeMap<String, Output> {
    let data = outputs.iter().filter(|(_, stored)| !stored.report);
    data.map(|(port, s)| (port.clone(), Output { digest: s.artifact.digest, bytes: s.artifact.size })).collect()
}

fn meet((a_low, a_high): (f64, f64), (b_low, b_high): (f64, f64)) -> bool {
    a_low.max(b_low) <= a_high.min(b_high)
}

fn changed<V: PartialEq, T>(old: &BTreeMap<String, V>, new: &BTreeMap<String, V>, of: fn(&V) -> T) -> Vec<Change<T>> {
    let differs = |change: &Change<T>| old.get(&change.name) != new.get(&change.name);
    changes(old, new, of).into_iter().filter(differs).collect()
}

fn changes<V, T>(old: &BTreeMap<String, V>, new: &BTreeMap<String, V>, of: fn(&V) -> T) -> Vec<Change<T>> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let change = |name: &String| Change { name: name.clone(), old: old.get(name).map(of), new: new.get(name).map(of) };
    names.into_iter().map(change).collect()
}
