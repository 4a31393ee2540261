//! Why an action is not a hit: the difference between its manifest and the nearest former one.

mod input;
mod text;

use std::collections::BTreeSet;

use serde_json::Value;

pub use self::text::change;
use crate::event::Reason;
use crate::graph::{Node, NodeInput};
use crate::key::Manifest;
use crate::record::Provenance;

/// What an action was made from: its manifest, and all its parameters, which fill in what a manifest leaves out as default.
#[derive(Clone, Copy)]
pub struct Made<'a> {
    /// The manifest.
    pub manifest: &'a Manifest,
    /// All parameters, defaults included.
    pub params: &'a Value,
}

impl<'a> Made<'a> {
    /// Returns what a record was made from.
    pub fn of(provenance: &'a Provenance) -> Made<'a> {
        Made { manifest: &provenance.manifest, params: &provenance.params }
    }
}

/// Returns the leaves in which a node differs from a former record of its stage; empty when they are equal.
pub fn differences(node: &Node, old: &Provenance, new: &Manifest) -> Vec<Reason> {
    let now = Made { manifest: new, params: &node.stage.params };
    all(&node.stage.name, Made::of(old), now, Some(node))
}

/// Returns the leaves in which two actions of a stage differ.
pub fn leaves(stage: &str, old: Made<'_>, new: Made<'_>) -> Vec<Reason> {
    all(stage, old, new, None)
}

fn all(stage: &str, old: Made<'_>, new: Made<'_>, node: Option<&Node>) -> Vec<Reason> {
    let (was, is) = (old.manifest, new.manifest);
    let mut reasons = Vec::new();
    if (&was.kind, was.version, was.build) != (&is.kind, is.version, is.build) {
        let name = |m: &Manifest| Value::from(format!("{}@{}", m.kind, m.version));
        let text = format!("kind {} -> {}", shown(&name(was)), shown(&name(is)));
        reasons.push(Reason { text, ..reason("kind_version", stage, name(was), name(is)) });
    }
    reasons.extend(param_differences(stage, old, new));
    reasons.extend(input::differences(stage, was, is, node));
    reasons.extend(env_differences(stage, was, is));
    reasons.extend(tool_differences(stage, was, is));
    if was.outputs != is.outputs && reasons.is_empty() {
        reasons.push(reason("param", &format!("{stage}.out"), Value::Null, Value::Null));
    }
    reasons
}

/// Returns the reason for an action that nothing like it was recorded before.
pub fn first_run(node: &Node) -> Reason {
    Reason { text: "first run".into(), ..reason("first_run", &node.stage.name, Value::Null, Value::Null) }
}

/// Returns the reason for an action whose record stands but whose outputs are gone or damaged.
pub fn output_missing(node: &Node) -> Reason {
    let text = "an output is missing from the store or damaged".into();
    Reason { text, ..reason("output_missing", &node.stage.name, Value::Null, Value::Null) }
}

/// Returns the reason for an action that `--force` names.
pub fn forced(node: &Node) -> Reason {
    Reason { text: "forced".into(), ..reason("forced", &node.stage.name, Value::Null, Value::Null) }
}

/// Returns the reason for an input whose writer ran again under the same key and gave other bytes.
pub fn rebuilt(node: &Node, input: &NodeInput, changed: &Reason) -> Reason {
    let text = format!("input {}: rebuilt with other bytes", input.label);
    Reason { what: "rebuilt".into(), path: node.stage.name.clone(), text, ..changed.clone() }
}

/// Says whether a reason is that this input of a node changed.
pub fn is_about(reason: &Reason, node: &Node, input: &NodeInput) -> bool {
    let place = reason.path.strip_prefix(&format!("{}.in.", node.stage.name));
    reason.what == "input" && place.and_then(|place| input::at(node, place)) == Some(input)
}

/// A map that became one value, or the other way about, is one leaf: what lies below it is not told again.
fn param_differences(stage: &str, old: Made<'_>, new: Made<'_>) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = Vec::new();
    let mut above: Option<String> = None;
    for path in union(old.manifest.params.keys(), new.manifest.params.keys()) {
        let below = above.as_ref().is_some_and(|above| path.starts_with(above.as_str()));
        if below || old.manifest.params.get(path) == new.manifest.params.get(path) {
            continue;
        }
        let value = |made: Made<'_>| {
            // A manifest's null is a default that was taken away, maybe for a map whose leaves it holds too.
            let found =
                made.manifest.params.get(path).filter(|value| !value.is_null()).or_else(|| at(made.params, path));
            found.cloned().unwrap_or(Value::Null)
        };
        let (was, is) = (value(old), value(new));
        above = Some(format!("{path}.")).filter(|_| was.is_object() || is.is_object());
        reasons.push(reason("param", &format!("{stage}.{path}"), was, is));
    }
    reasons
}

fn env_differences(stage: &str, old: &Manifest, new: &Manifest) -> Vec<Reason> {
    let value = |m: &Manifest, name: &String| m.env.get(name).map_or(Value::Null, |v| v.as_str().into());
    let named =
        union(old.env.keys(), new.env.keys()).into_iter().filter(|name| old.env.get(*name) != new.env.get(*name));
    let told = |name: &String| {
        let (was, is) = (value(old, name), value(new, name));
        let text = format!("env {name} {}", change(&was, &is));
        Reason { text, ..reason("env", stage, was, is) }
    };
    named.map(told).collect()
}

/// Of a long answer, such as a list of packages, the text shows the first line that differs.
fn tool_differences(stage: &str, old: &Manifest, new: &Manifest) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for tool in union(old.tools.keys(), new.tools.keys()) {
        let (was, is) = (old.tools.get(tool), new.tools.get(tool));
        if was == is {
            continue;
        }
        let answer = |answer: Option<&String>| answer.cloned().unwrap_or_default();
        let text = match text::first_difference(&answer(was), &answer(is)) {
            Some((_, lines)) => format!("tool {tool}: {lines}"),
            // line ends and empty answers are no lines
            None => format!("tool {tool}: its answer differs"),
        };
        let value = |answer: Option<&String>| answer.map_or(Value::Null, |a| a.as_str().into());
        reasons.push(Reason { text, ..reason("tool", &format!("{stage}.tools.{tool}"), value(was), value(is)) });
    }
    reasons
}

/// Returns the reason that a parameter differs.
pub fn param(path: &str, old: Value, new: Value) -> Reason {
    reason("param", path, old, new)
}

fn reason(what: &str, path: &str, old: Value, new: Value) -> Reason {
    let text = if old.is_null() && new.is_null() { path.to_string() } else { format!("{path} {}", change(&old, &new)) };
    Reason { what: what.into(), path: path.into(), old, new, text, beside: None }
}

fn union<'a>(a: impl Iterator<Item = &'a String>, b: impl Iterator<Item = &'a String>) -> BTreeSet<&'a String> {
    a.chain(b).collect()
}

fn at<'a>(params: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(params, |value, key| value.get(key))
}

/// Returns reasons as people read them, with whom they were compared where that is another one.
pub fn told(reasons: &[Reason]) -> String {
    let texts: Vec<&str> = reasons.iter().map(|r| r.text.as_str()).collect();
    let beside = reasons.iter().find_map(|reason| reason.beside.as_ref());
    let beside = beside.map(|title| format!(" (compared with {title})")).unwrap_or_default();
    format!("{}{beside}", texts.join(", "))
}

/// Returns a value as a user would write it, strings without quotes.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(s) if s.len() == 64 && s.bytes().all(|b| b.is_ascii_hexdigit()) => s[..8].to_string(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn an_answer_that_differs_in_line_ends_only_is_told_and_ends() {
        let made = |answer: Option<&str>| Manifest {
            kind: "watershed/command".into(),
            version: 1,
            build: None,
            params: BTreeMap::new(),
            inputs: Vec::new(),
            env: BTreeMap::new(),
            tools: answer.map(|answer| ("pet".to_string(), answer.to_string())).into_iter().collect(),
            outputs: BTreeMap::new(),
        };
        let told = |old, new| {
            let (was, is, params) = (made(old), made(new), Value::Null);
            let of = |manifest| Made { manifest, params: &params };
            leaves("a", of(&was), of(&is)).into_iter().map(|reason| reason.text).collect::<Vec<_>>()
        };
        assert_eq!(told(Some(""), None), ["tool pet: its answer differs"]);
        assert_eq!(told(Some("a\r\nb"), Some("a\nb")), ["tool pet: its answer differs"]);
        assert_eq!(told(Some("a\nb"), Some("a\nc\nd")), ["tool pet: b -> c"]);
        assert_eq!(told(None, Some("a")), ["tool pet: none -> a"]);
    }
}
