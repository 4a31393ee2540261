//! `roots:`: folders outside the project that inputs may name as `ROOT:path`. Where they are is in no key.

use std::path::PathBuf;

use crate::code;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::language::pipeline::unknown_key;
use crate::language::place::Place;
use crate::language::reference::REMOTE;
use crate::node::{Base, Node};

/// Reads `roots: {NAME: {env: VARIABLE, default: path}}`, or `{NAME: path}` for short, into `place`.
pub fn read(tree: &Node, place: &mut Place, lookup: fn(&str) -> Option<String>, faults: &mut Diagnostics) {
    let entries = tree.get("roots").and_then(Node::as_map).unwrap_or_default();
    for (key, node) in entries {
        if REMOTE.contains(&key.text.as_str()) || key.text.contains(['.', '/', '@', ':']) {
            let message = format!("a root may not be called `{}`", key.text);
            faults.push(
                Diagnostic::at(code::WRONG_SHAPE, key.span, message).help("call it otherwise, for example `models`"),
            );
            continue;
        }
        match folder(&key.text, node, place, lookup, faults) {
            Some(path) => drop(place.roots.insert(key.text.clone(), path)),
            None => drop(place.broken_roots.insert(key.text.clone())),
        }
    }
}

/// Reads the folder that a variable names; an empty one names none.
pub fn folder_in(variable: &str, lookup: fn(&str) -> Option<String>) -> Option<String> {
    lookup(variable).filter(|value| !value.is_empty())
}

fn folder(
    name: &str,
    node: &Node,
    place: &Place,
    lookup: fn(&str) -> Option<String>,
    faults: &mut Diagnostics,
) -> Option<PathBuf> {
    if let Some(text) = node.as_text() {
        return Some(place.absolute(text, node.base));
    }
    let help = format!("write `{name}: {{env: VARIABLE, default: ./{name}}}`");
    let Some(entries) = node.as_map() else {
        let message = format!("root `{name}`: expected a map, found {}", node.describe());
        faults.push(Diagnostic::at(code::WRONG_SHAPE, node.span, message).help(help));
        return None;
    };
    for (key, _) in entries.iter().filter(|(key, _)| !matches!(key.text.as_str(), "env" | "default")) {
        faults.push(unknown_key(key, &format!("root `{name}`"), &["env", "default"]));
    }
    for key in ["env", "default"] {
        if let Some(value) = node.get(key).filter(|value| value.as_text().is_none()) {
            let message = format!("`{key}` of root `{name}`: expected text, found {}", value.describe());
            faults.push(Diagnostic::at(code::WRONG_SHAPE, value.span, message).help(help));
            return None;
        }
    }
    let variable = node.get("env").and_then(Node::as_text);
    if let Some(value) = variable.and_then(|name| folder_in(name, lookup)) {
        return Some(place.absolute(&value, Base::CurrentFolder));
    }
    let default = node.get("default").filter(|d| d.as_text().is_some());
    let Some(default) = default else {
        let message = match variable {
            Some(variable) => {
                format!("root `{name}`: the environment variable `{variable}` is not set, and there is no default")
            }
            None => format!("root `{name}` says no folder"),
        };
        faults.push(Diagnostic::at(code::ENV_NOT_SET, node.span, message).help(help));
        return None;
    };
    default.as_text().map(|text| place.absolute(text, default.base))
}
