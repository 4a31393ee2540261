//! Sweeps: named cases and grids, expanded into sets of overrides.
//!
//! A sweep with both `cases` and `grid` gives each case at each point. Points are counted before any is made.

use std::collections::HashSet;

use crate::code;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::language::interpolate::format_number;
use crate::language::nearest::{did_you_mean, listed};
use crate::language::overrides::Override;
use crate::language::pipeline::{expect_map, unknown_key};
use crate::node::{Data, Key, Node};

/// Most cases that a sweep may have.
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
}

/// One axis of a grid.
#[derive(Clone)]
struct Axis {
    key: Key,
    /// Paths that the axis binds.
    paths: Vec<String>,
    /// Points, each with one value a path.
    points: Vec<Vec<Node>>,
}

/// Expands every sweep of the tree.
pub fn expand(tree: &Node, faults: &mut Diagnostics) -> Vec<Sweep> {
    let entries = tree.get("sweeps").and_then(Node::as_map).unwrap_or_default();
    entries
        .iter()
        .map(|(key, _)| {
            let parts = read(entries, key, &mut Vec::new(), faults);
            Sweep { key: key.clone(), cases: parts.map(|p| p.expand(key, faults)).unwrap_or_default() }
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
            "grid" => replace_all(&mut parts.axes, read_grid(value, faults), |axis| axis.key.text.clone()),
            "random" => faults.push(
                Diagnostic::at(code::NOT_AVAILABLE, key.span, "`random` sweeps are not available yet")
                    .help("write a `grid` or `cases`"),
            ),
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
                .help("write `cases` or `grid`"),
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
        if key.text.contains('/') {
            let message = format!("a case may not be called `{}`", key.text);
            faults.push(Diagnostic::at(code::BAD_SWEEP, key.span, message).help("`S@SWEEP/CASE` needs the `/`"));
        }
        cases.push((key.clone(), read_overrides(value, &format!("case `{}`", key.text), faults)));
    }
    cases
}

fn read_grid(node: &Node, faults: &mut Diagnostics) -> Vec<Axis> {
    let entries = expect_map(node, "`grid`", faults).unwrap_or_default();
    entries.iter().filter_map(|(key, value)| read_axis(key, value, faults)).collect()
}

fn read_axis(key: &Key, node: &Node, faults: &mut Diagnostics) -> Option<Axis> {
    let paths: Vec<String> = key.text.split(',').map(|p| p.trim().to_string()).collect();
    let list = node.as_list().filter(|list| !list.is_empty());
    let point = |node: &Node| match paths.len() {
        1 => Some(vec![node.clone()]),
        n => node.as_list().filter(|values| values.len() == n).map(<[Node]>::to_vec),
    };
    let Some(list) = list else {
        let message = format!("axis `{}`: expected a list of values, found {}", key.text, node.describe());
        faults.push(Diagnostic::at(code::BAD_SWEEP, node.span, message).help("write `path: [1, 2, 3]`"));
        return None;
    };
    let mut points = Vec::new();
    for element in list {
        let Some(values) = point(element) else {
            let message = format!(
                "axis `{}`: expected {} values at each point, found {}",
                key.text,
                paths.len(),
                element.as_list().map_or_else(|| element.describe(), |list| list.len().to_string())
            );
            faults.push(
                Diagnostic::at(code::BAD_SWEEP, element.span, message).help("write `\"a.x, b.y\": [[1, 2], [3, 4]]`"),
            );
            return None;
        };
        points.push(values);
    }
    Some(Axis { key: key.clone(), paths, points })
}

impl Parts {
    fn expand(self, key: &Key, faults: &mut Diagnostics) -> Vec<CaseText> {
        let sizes = self.axes.iter().map(|axis| axis.points.len());
        let count = sizes.chain([self.cases.len().max(1)]).try_fold(1usize, |n, size| n.checked_mul(size));
        if count.is_none_or(|n| n > MAX_CASES) {
            let many = count.map_or("more cases than can be counted".to_string(), |n| format!("{n} cases"));
            let message = format!("sweep `{}` has {many}, more than {MAX_CASES}", key.text);
            faults
                .push(Diagnostic::at(code::BAD_SWEEP, key.span, message).help("leave out points, or split the sweep"));
            return Vec::new();
        }
        let names = axis_names(&self.axes);
        let mut cases: Vec<CaseText> = self.starts();
        for (axis, names) in self.axes.iter().zip(&names) {
            cases = cases
                .iter()
                .flat_map(|case| axis.points.iter().enumerate().map(|(i, p)| case.at(axis, names, i, p)))
                .collect();
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
            let comma = if case.name.is_empty() { "" } else { "," };
            case.name.push_str(&format!("{comma}{name}={}", value_name(value, index)));
            case.overrides.push(Override { path: path.clone(), span: axis.key.span, value: value.clone() });
        }
        case
    }
}

/// Names the axes by the ends of their paths, as long as it takes to tell them apart.
fn axis_names(axes: &[Axis]) -> Vec<Vec<String>> {
    let all: Vec<&str> = axes.iter().flat_map(|a| a.paths.iter().map(String::as_str)).collect();
    let name = |path: &String| {
        let parts: Vec<&str> = path.split('.').collect();
        let ends = (1..=parts.len()).map(|n| parts[parts.len() - n..].join("."));
        let is_clear = |end: &String| all.iter().filter(|p| **p == end || p.ends_with(&format!(".{end}"))).count() <= 1;
        ends.into_iter().find(is_clear).unwrap_or_else(|| path.clone())
    };
    axes.iter().map(|axis| axis.paths.iter().map(name).collect()).collect()
}

/// Writes a value for a case's name; lists and maps are numbered.
fn value_name(node: &Node, index: usize) -> String {
    match &node.data {
        Data::Number(number) => format_number(number),
        Data::Bool(flag) => flag.to_string(),
        Data::Null => "none".into(),
        Data::Text(text) => text.replace(['/', ' ', ','], "_"),
        Data::List(_) | Data::Map(_) => format!("#{}", index + 1),
    }
}

/// Says whether `name` fits a pattern of `*` and `?`.
pub fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, n) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
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
        let sweeps = expand(&tree, &mut faults);
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
    fn explosions_are_counted_not_built() {
        let axes = (0..9).map(|i| format!("a.x{i}: [0,1,2,3,4,5,6,7,8,9]")).collect::<Vec<_>>().join(", ");
        let tree = yaml::parse(&format!("sweeps: {{s: {{grid: {{{axes}}}}}}}")).unwrap();
        let mut faults = Diagnostics::default();
        assert!(expand(&tree, &mut faults)[0].cases.is_empty());
        assert_eq!(faults.errors[0].code, code::BAD_SWEEP);
    }

    #[test]
    fn globs_fit_as_in_a_shell() {
        assert!(fits("config-*", "config-1") && fits("*lr=0.?", "r=8,lr=0.1") && fits("*", ""));
        assert!(!fits("config-?", "config-10") && !fits("a*b", "ac"));
    }
}
