//! Sweeps: named cases, grids and random draws, expanded into sets of overrides.
//!
//! A sweep with several of them gives each case at each point in each draw. All are counted before any is made.

mod glob;
mod grid;
mod random;

use std::collections::HashSet;

use crate::code;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::language::nearest::{did_you_mean, listed};
use crate::language::overrides::Override;
use crate::language::pipeline::{expect_map, unknown_key};
use crate::node::{Key, Node};

pub use glob::fits;
pub use random::DISTRIBUTIONS;

use grid::Axis;
use random::Random;

/// Most cases that a sweep may have, unless `--max-cases` says otherwise.
pub const MAX_CASES: usize = 10_000;

const SWEEP_KEYS: [&str; 5] = ["cases", "grid", "random", "set", "extends"];

/// A sweep, expanded.
pub struct Sweep {
    /// Its name.
    pub key: Key,
    /// Its cases, in the order of the file.
    pub cases: Vec<CaseText>,
}

/// One case: a name and what it overrides.
#[derive(Debug, Clone)]
pub struct CaseText {
    /// Name within the sweep.
    pub name: String,
    /// Overrides, those of `set` first.
    pub overrides: Vec<Override>,
}

/// The parts of a sweep after `extends`.
#[derive(Clone, Default)]
struct Parts {
    set: Vec<Override>,
    cases: Vec<(Key, Vec<Override>)>,
    axes: Vec<Axis>,
    random: Random,
}

/// Expands every sweep of the tree.
pub fn expand(tree: &Node, max_cases: usize, faults: &mut Diagnostics) -> Vec<Sweep> {
    let entries = tree.get("sweeps").and_then(Node::as_map).unwrap_or_default();
    entries
        .iter()
        .map(|(key, _)| {
            let before = faults.errors.len();
            check_name("sweep", key, faults);
            let parts = read(entries, key, &mut Vec::new(), faults);
            if let Some(parts) = parts.as_ref().filter(|_| faults.errors.len() == before) {
                parts.random.check(key, faults);
            }
            Sweep { key: key.clone(), cases: parts.map(|p| p.expand(key, max_cases, faults)).unwrap_or_default() }
        })
        .collect()
}

fn read(all: &[(Key, Node)], key: &Key, chain: &mut Vec<String>, faults: &mut Diagnostics) -> Option<Parts> {
    let node = &all.iter().find(|(k, _)| k.text == key.text)?.1;
    let subject = format!("sweep `{}`", key.text);
    let entries = expect_map(node, &subject, faults)?;
    chain.push(key.text.clone());
    let mut parts = match node.get("extends") {
        Some(parent) => extended(all, parent, chain, faults)?,
        None => Parts::default(),
    };
    for (key, value) in entries {
        match key.text.as_str() {
            "extends" => {}
            "set" => replace_all(&mut parts.set, read_overrides(value, "`set`", faults), |o| o.path.clone()),
            "cases" => replace_all(&mut parts.cases, read_cases(value, faults), |(key, _)| key.text.clone()),
            "grid" => replace_all(&mut parts.axes, grid::read(value, faults), |axis| axis.key.text.clone()),
            "random" => parts.random.replace_by(Random::read(key, value, faults)),
            _ => faults.push(unknown_key(key, &subject, &SWEEP_KEYS)),
        }
    }
    let is_misspelt = entries.iter().any(|(key, _)| !SWEEP_KEYS.contains(&key.text.as_str()));
    let says_cases = ["cases", "grid", "random"]
        .iter()
        .any(|key| node.get(key).is_some_and(|n| n.as_map().is_none_or(|m| !m.is_empty())));
    if parts.cases.is_empty() && parts.axes.is_empty() && !says_cases && !is_misspelt {
        faults.push(
            Diagnostic::at(code::BAD_SWEEP, key.span, format!("{subject} has no cases"))
                .help("write `cases`, `grid` or `random`"),
        );
    }
    Some(parts)
}

fn extended(all: &[(Key, Node)], parent: &Node, chain: &mut Vec<String>, faults: &mut Diagnostics) -> Option<Parts> {
    let name = parent.as_text().unwrap_or_default();
    let names = || all.iter().map(|(key, _)| key.text.as_str());
    if chain.iter().any(|n| n == name) {
        let message = format!("sweeps extend each other: {} -> {name}", chain.join(" -> "));
        faults.push(Diagnostic::at(code::BAD_SWEEP, parent.span, message).help("remove one `extends`"));
        return None;
    }
    let Some((key, _)) = all.iter().find(|(key, _)| key.text == name) else {
        let fault = Diagnostic::at(code::UNKNOWN_SWEEP, parent.span, format!("there is no sweep {}", parent.quoted()));
        faults.push(fault.label(did_you_mean(name, names())).help(listed("sweeps", names())));
        return None;
    };
    read(all, key, chain, faults)
}

/// Puts `newer` over `older`: what has the same name is replaced where it stood.
fn replace_all<T>(older: &mut Vec<T>, newer: Vec<T>, name: impl Fn(&T) -> String) {
    for item in newer {
        match older.iter().position(|o| name(o) == name(&item)) {
            Some(index) => older[index] = item,
            None => older.push(item),
        }
    }
}

fn read_overrides(node: &Node, what: &str, faults: &mut Diagnostics) -> Vec<Override> {
    let entries = expect_map(node, what, faults).unwrap_or_default();
    let one = |(key, value): &(Key, Node)| Override { path: key.text.clone(), span: key.span, value: value.clone() };
    entries.iter().map(one).collect()
}

fn read_cases(node: &Node, faults: &mut Diagnostics) -> Vec<(Key, Vec<Override>)> {
    let entries = expect_map(node, "`cases`", faults).unwrap_or_default();
    let mut cases = Vec::new();
    for (key, value) in entries {
        check_name("case", key, faults);
        cases.push((key.clone(), read_overrides(value, &format!("case `{}`", key.text), faults)));
    }
    cases
}

/// A name stands in `S@SWEEP/CASE` and, for who reads `S@*`, as a file.
fn check_name(what: &str, key: &Key, faults: &mut Diagnostics) {
    let help = match key.text.as_str() {
        "." | ".." => "readers of `S@*` find a file under this name",
        text if text.contains('/') => "`S@SWEEP/CASE` needs the `/`",
        _ => return,
    };
    let message = format!("a {what} may not be called `{}`", key.text);
    faults.push(Diagnostic::at(code::BAD_SWEEP, key.span, message).help(help));
}

impl Parts {
    fn expand(self, key: &Key, max_cases: usize, faults: &mut Diagnostics) -> Vec<CaseText> {
        let sizes = self.axes.iter().map(|axis| axis.points.len()).chain(self.random.n);
        let count = sizes.chain([self.cases.len().max(1)]).try_fold(1usize, |n, size| n.checked_mul(size));
        if count.is_none_or(|n| n > max_cases) {
            let many = count.map_or("more cases than can be counted".to_string(), |n| format!("{n} cases"));
            let message = format!("sweep `{}` has {many}, more than {max_cases}", key.text);
            let help = "leave out points, split the sweep, or allow more with `--max-cases`";
            faults.push(Diagnostic::at(code::BAD_SWEEP, key.span, message).help(help));
            return Vec::new();
        }
        let names = grid::names(&self.axes);
        let mut cases: Vec<CaseText> = self.starts();
        for (axis, names) in self.axes.iter().zip(&names) {
            cases = cases
                .iter()
                .flat_map(|case| axis.points.iter().enumerate().map(|(i, p)| case.at(axis, names, i, p)))
                .collect();
        }
        if let Some(n) = self.random.n {
            let draws: Vec<Vec<Override>> = (0..n).map(|number| self.random.draw(number)).collect();
            cases = cases.iter().flat_map(|case| draws.iter().enumerate().map(|(i, d)| case.drawn(i, d))).collect();
        }
        let mut seen = HashSet::new();
        if let Some(twice) = cases.iter().find(|case| !seen.insert(case.name.as_str())) {
            let message = format!("sweep `{}` has two cases called `{}`", key.text, twice.name);
            faults.push(Diagnostic::at(code::BAD_SWEEP, key.span, message).help("remove the value that stands twice"));
        }
        cases
    }

    fn starts(&self) -> Vec<CaseText> {
        if self.cases.is_empty() {
            return vec![CaseText { name: String::new(), overrides: self.set.clone() }];
        }
        let one = |(key, own): &(Key, Vec<Override>)| CaseText {
            name: key.text.clone(),
            overrides: self.set.iter().chain(own).cloned().collect(),
        };
        self.cases.iter().map(one).collect()
    }
}

impl CaseText {
    fn at(&self, axis: &Axis, names: &[String], index: usize, point: &[Node]) -> CaseText {
        let mut case = self.clone();
        for ((path, name), value) in axis.paths.iter().zip(names).zip(point) {
            case.add_name(&format!("{name}={}", grid::value_name(value, index)));
            case.overrides.push(Override { path: path.clone(), span: axis.key.span, value: value.clone() });
        }
        case
    }

    /// Draws are called by number, not by value: a drawn rate is long to write, and `why` compares a case with its former self.
    fn drawn(&self, index: usize, overrides: &[Override]) -> CaseText {
        let mut case = self.clone();
        case.add_name(&format!("random-{}", index + 1));
        case.overrides.extend_from_slice(overrides);
        case
    }

    fn add_name(&mut self, part: &str) {
        if !self.name.is_empty() {
            self.name.push(',');
        }
        self.name.push_str(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn names(sweep: &str) -> Vec<String> {
        let mut faults = Diagnostics::default();
        let tree =
            yaml::parse(&format!("sweeps:\n  base: {{cases: {{p: {{a.x: 1}}, q: {{a.x: 2}}}}}}\n  s: {sweep}\n"))
                .unwrap();
        let sweeps = expand(&tree, MAX_CASES, &mut faults);
        assert!(faults.is_empty(), "{faults}");
        sweeps[1].cases.iter().map(|c| c.name.clone()).collect()
    }

    #[test]
    fn grids_are_named_by_their_values() {
        assert_eq!(
            names("{grid: {t.lora.r: [4, 8], t.lr: [1.0e-4, 3.0e-4]}}"),
            ["r=4,lr=0.0001", "r=4,lr=0.0003", "r=8,lr=0.0001", "r=8,lr=0.0003"]
        );
        assert_eq!(names("{grid: {\"a.x, b.y\": [[1, 2], [3, 4]]}}"), ["x=1,y=2", "x=3,y=4"]);
        assert_eq!(names("{grid: {a.seed: [1], b.seed: [2]}}"), ["a.seed=1,b.seed=2"]);
    }

    #[test]
    fn extending_adds_axes_to_cases() {
        assert_eq!(names("{extends: base, grid: {t.seed: [1, 2]}}"), ["p,seed=1", "p,seed=2", "q,seed=1", "q,seed=2"]);
    }

    #[test]
    fn draws_are_numbered_and_multiply_cases_and_grids() {
        assert_eq!(names("{random: {n: 3, a.x: {int: [1, 9]}}}"), ["random-1", "random-2", "random-3"]);
        assert_eq!(
            names("{extends: base, grid: {t.y: [1]}, random: {n: 2, t.z: {int: [1, 9]}}}"),
            ["p,y=1,random-1", "p,y=1,random-2", "q,y=1,random-1", "q,y=1,random-2"]
        );
    }

    #[test]
    fn explosions_are_counted_not_built() {
        let axes = (0..9).map(|i| format!("a.x{i}: [0,1,2,3,4,5,6,7,8,9]")).collect::<Vec<_>>().join(", ");
        let tree = yaml::parse(&format!("sweeps: {{s: {{grid: {{{axes}}}}}}}")).unwrap();
        let mut faults = Diagnostics::default();
        assert!(expand(&tree, MAX_CASES, &mut faults)[0].cases.is_empty());
        assert_eq!(faults.errors[0].code, code::BAD_SWEEP);
    }
}
