//! `grid:` of a sweep: axes of values, each perhaps binding several paths.

use crate::code;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::language::interpolate::format_number;
use crate::language::pipeline::expect_map;
use crate::node::{Data, Key, Node};

/// One axis of a grid.
#[derive(Clone)]
pub struct Axis {
    /// The axis as written.
    pub key: Key,
    /// Paths that it binds.
    pub paths: Vec<String>,
    /// Points, each with one value a path.
    pub points: Vec<Vec<Node>>,
}

/// Reads `grid:`.
pub fn read(node: &Node, faults: &mut Diagnostics) -> Vec<Axis> {
    let entries = expect_map(node, "`grid`", faults).unwrap_or_default();
    let axis = |(key, value): &(Key, Node)| {
        let points = points(key, value, faults)?;
        Some(Axis { key: key.clone(), paths: paths(key), points })
    };
    entries.iter().filter_map(axis).collect()
}

/// Returns the paths that an axis binds.
pub fn paths(key: &Key) -> Vec<String> {
    key.text.split(',').map(|p| p.trim().to_string()).collect()
}

/// Reads the points of an axis, each with one value a path.
pub fn points(key: &Key, node: &Node, faults: &mut Diagnostics) -> Option<Vec<Vec<Node>>> {
    let count = key.text.split(',').count();
    let Some(list) = node.as_list().filter(|list| !list.is_empty()) else {
        let found = node.as_list().map_or_else(|| node.describe(), |_| "an empty list".into());
        let message = format!("axis `{}`: expected a list of values, found {found}", key.text);
        faults.push(Diagnostic::at(code::BAD_SWEEP, node.span, message).help("write `path: [1, 2, 3]`"));
        return None;
    };
    let mut points = Vec::new();
    for element in list {
        match element.as_list().filter(|values| values.len() == count) {
            Some(values) if count > 1 => points.push(values.to_vec()),
            _ if count == 1 => points.push(vec![element.clone()]),
            _ => {
                let found = element.as_list().map_or_else(|| element.describe(), |list| list.len().to_string());
                let message = format!("axis `{}`: expected {count} values at each point, found {found}", key.text);
                let help = "write `\"a.x, b.y\": [[1, 2], [3, 4]]`";
                faults.push(Diagnostic::at(code::BAD_SWEEP, element.span, message).help(help));
                return None;
            }
        }
    }
    Some(points)
}

/// Names the axes by the ends of their paths, as long as it takes to tell them apart.
pub fn names(axes: &[Axis]) -> Vec<Vec<String>> {
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
pub fn value_name(node: &Node, index: usize) -> String {
    match &node.data {
        Data::Number(number) => format_number(number),
        Data::Bool(flag) => flag.to_string(),
        Data::Null => "none".into(),
        Data::Text(text) => text.replace(['/', ' ', ','], "_"),
        Data::List(_) | Data::Map(_) => format!("#{}", index + 1),
    }
}
