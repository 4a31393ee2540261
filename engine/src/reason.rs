//! Why an action is not a hit: the difference between its manifest and the nearest former one.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::event::Reason;
use crate::graph::{From, Node, NodeInput};
use crate::key::Manifest;
use crate::record::Provenance;

/// Returns the leaves in which two manifests of one stage differ; empty when they are equal.
///
/// Values left out of a manifest are defaults; the full parameters of the record and of the stage fill them in.
pub fn differences(node: &Node, old: &Provenance, new: &Manifest) -> Vec<Reason> {
    let stage = &node.stage.name;
    let mut reasons = Vec::new();
    if (&old.manifest.kind, old.manifest.version, old.manifest.build) != (&new.kind, new.version, new.build) {
        let name = |m: &Manifest| Value::from(format!("{}@{}", m.kind, m.version));
        reasons.push(reason("kind_version", stage, name(&old.manifest), name(new)));
    }
    reasons.extend(param_differences(node, old, new));
    reasons.extend(input_differences(node, old, new));
    for name in union(old.manifest.env.keys(), new.env.keys()) {
        let value = |m: &Manifest| m.env.get(name).map_or(Value::Null, |v| v.as_str().into());
        if value(&old.manifest) != value(new) {
            reasons.push(reason("env", name, value(&old.manifest), value(new)));
        }
    }
    reasons.extend(tool_differences(node, old, new));
    if old.manifest.outputs != new.outputs && reasons.is_empty() {
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
    let port = reason.path.strip_prefix(&format!("{}.in.", node.stage.name));
    reason.what == "input" && port.is_some_and(|port| names(input, port))
}

fn names(input: &NodeInput, port: &str) -> bool {
    input.port == port || port.strip_prefix(&format!("{}.", input.port)) == Some(&input.label)
}

fn param_differences(node: &Node, old: &Provenance, new: &Manifest) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for path in union(old.manifest.params.keys(), new.params.keys()) {
        if old.manifest.params.get(path) == new.params.get(path) {
            continue;
        }
        let was = old.manifest.params.get(path).or_else(|| at(&old.params, path)).cloned().unwrap_or(Value::Null);
        let is = new.params.get(path).or_else(|| at(&node.stage.params, path)).cloned().unwrap_or(Value::Null);
        let text = format!("{}.{path} {} -> {}", node.stage.name, shown(&was), shown(&is));
        reasons.push(Reason { text, ..reason("param", &format!("{}.{path}", node.stage.name), was, is) });
    }
    reasons
}

fn input_differences(node: &Node, old: &Provenance, new: &Manifest) -> Vec<Reason> {
    let name = |port: &str, label: &str| {
        if label.is_empty() { port.to_string() } else { format!("{port}.{label}") }
    };
    let digests = |m: &Manifest| -> std::collections::BTreeMap<String, Value> {
        m.inputs.iter().map(|i| (name(&i.port, &i.label), i.digest.hex().into())).collect()
    };
    let (was, is) = (digests(&old.manifest), digests(new));
    let mut reasons = Vec::new();
    for port in union(was.keys(), is.keys()) {
        let (old_digest, new_digest) = (was.get(port), is.get(port));
        if old_digest == new_digest {
            continue;
        }
        let value = |v: Option<&Value>| v.cloned().unwrap_or(Value::Null);
        let path = format!("{}.in.{port}", node.stage.name);
        let text = input_text(node, port, old_digest.is_some(), new_digest.is_some());
        reasons.push(Reason { text, ..reason("input", &path, value(old_digest), value(new_digest)) });
    }
    reasons
}

fn input_text(node: &Node, port: &str, was: bool, is: bool) -> String {
    let source = node.inputs.iter().find(|input| names(input, port));
    let from = match source.map(|i| &i.from) {
        Some(From::Path { text, .. }) => format!(": {text}"),
        Some(From::Cases) => " (the overrides of the cases)".into(),
        _ => source.map(|i| format!(" <- {}", i.label)).unwrap_or_default(),
    };
    match (was, is) {
        (false, _) => format!("input {port}{from} added"),
        (_, false) => format!("input {port} removed"),
        _ => format!("input {port}{from} changed"),
    }
}

/// Of a long answer, such as a list of packages, the text shows the first line that differs.
fn tool_differences(node: &Node, old: &Provenance, new: &Manifest) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for tool in union(old.manifest.tools.keys(), new.tools.keys()) {
        let (was, is) = (old.manifest.tools.get(tool), new.tools.get(tool));
        if was == is {
            continue;
        }
        let lines = |answer: Option<&String>| -> Vec<String> {
            answer.iter().flat_map(|a| a.lines()).map(str::to_string).collect()
        };
        let (was_lines, is_lines) = (lines(was), lines(is));
        let differ = (0..).find(|&i| was_lines.get(i) != is_lines.get(i)).unwrap_or(0);
        let line = |lines: &[String]| lines.get(differ).cloned().unwrap_or_else(|| "none".into());
        let text = format!("tool {tool}: {} -> {}", line(&was_lines), line(&is_lines));
        let value = |answer: Option<&String>| answer.map_or(Value::Null, |a| a.as_str().into());
        reasons.push(Reason {
            text,
            ..reason("tool", &format!("{}.tools.{tool}", node.stage.name), value(was), value(is))
        });
    }
    reasons
}

fn reason(what: &str, path: &str, old: Value, new: Value) -> Reason {
    let text = if old.is_null() && new.is_null() {
        path.to_string()
    } else {
        format!("{path} {} -> {}", shown(&old), shown(&new))
    };
    Reason { what: what.into(), path: path.into(), old, new, text }
}

fn union<'a>(a: impl Iterator<Item = &'a String>, b: impl Iterator<Item = &'a String>) -> BTreeSet<&'a String> {
    a.chain(b).collect()
}

fn at<'a>(params: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(params, |value, key| value.get(key))
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
