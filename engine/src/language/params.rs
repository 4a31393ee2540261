//! Parameters of one stage: preset, defaults, and what differs from them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::code;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::fault::ParamFault;
use crate::language::kinds::KindEntry;
use crate::language::nearest::{did_you_mean, listed};
use crate::language::shape::{Shape, join};
use crate::node::{Data, Node, Span};

/// Parameters after all checks.
pub struct Params {
    /// All of them, defaults and preset filled in.
    pub resolved: Value,
    /// Those that differ from their defaults, dotted path to value.
    pub differing: BTreeMap<String, Value>,
}

/// Checks `with` of a stage and fills in what it leaves out. `with` has its `${}` replaced already.
///
/// Returns nothing when there was a fault; it is in `faults` then.
pub fn check(stage: &str, span: Span, with: &Node, entry: &KindEntry, faults: &mut Diagnostics) -> Option<Params> {
    let before = faults.errors.len();
    let subject = format!("stage `{stage}` ({})", entry.kind.name);
    let preset = with.get("preset").filter(|_| !entry.presets().is_empty());
    let explicit = if preset.is_some() { without_preset(with) } else { with.clone() };
    Shape { root: entry.schema(), subject: &subject, path: stage }.check(&explicit, entry.schema(), faults);
    let preset = preset.and_then(|node| preset_values(stage, node, entry, faults));
    if faults.errors.len() > before {
        return None;
    }
    let mut given = preset.unwrap_or_else(|| Value::Object(Map::new()));
    merge(&mut given, explicit.to_json());
    let resolved = match (entry.kind.resolve)(&given) {
        Ok(resolved) => resolved,
        Err(words) => {
            let message = format!("the parameters of {subject} do not fit: {words}");
            faults.push(Diagnostic::at(code::BAD_PARAMETERS, with.span, message).help(kind_help(entry)));
            return None;
        }
    };
    for fault in (entry.kind.check)(&resolved) {
        faults.push(placed(&fault, stage, span, with, entry));
    }
    let differing = differing(&resolved, entry.defaults());
    (faults.errors.len() == before).then_some(Params { resolved, differing })
}

fn without_preset(with: &Node) -> Node {
    let entries = with.as_map().unwrap_or_default();
    let kept = entries.iter().filter(|(key, _)| key.text != "preset").cloned().collect();
    Node { data: Data::Map(kept), ..with.clone() }
}

/// Returns the values of a named preset. A kind may document a preset that is its defaults without listing it.
fn preset_values(stage: &str, node: &Node, entry: &KindEntry, faults: &mut Diagnostics) -> Option<Value> {
    let name = node.as_text().unwrap_or_default();
    let names = || entry.presets().iter().map(|(name, _)| *name);
    if node.is_null() || entry.defaults().get("preset") == Some(&Value::from(name)) && !names().any(|n| n == name) {
        return None;
    }
    let found = entry.presets().iter().find(|(known, _)| *known == name);
    if found.is_none() {
        let message =
            format!("`{stage}.preset`: expected a preset of `{}`, found {}", entry.kind.name, node.describe());
        let fault = Diagnostic::at(code::UNKNOWN_CHOICE, node.span, message);
        faults.push(fault.label(did_you_mean(name, names())).help(listed("presets", names())));
    }
    found.map(|(_, values)| values.clone())
}

/// Lays `over` over `under`: maps are merged key by key, anything else is replaced.
fn merge(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                match under.get_mut(&key) {
                    Some(old) if old.is_object() && value.is_object() => merge(old, value),
                    _ => drop(under.insert(key, value)),
                }
            }
        }
        (under, over) => *under = over,
    }
}

fn kind_help(entry: &KindEntry) -> String {
    format!("`watershed kinds {}` prints its parameters", entry.kind.name)
}

/// Puts a fault of the kind's own check at the parameter it names, or at the nearest thing above it that is written.
fn placed(fault: &ParamFault, stage: &str, span: Span, with: &Node, entry: &KindEntry) -> Diagnostic {
    let (node, is_exact) = with.along(&fault.path);
    let is_written = is_exact || node.span != with.span;
    let place = match with.get("preset") {
        _ if is_written && !fault.path.is_empty() => node.span,
        Some(preset) if !fault.path.is_empty() => preset.span,
        _ => span,
    };
    let what =
        if fault.path.is_empty() { format!("stage `{stage}`") } else { format!("`{}`", join(stage, &fault.path)) };
    let help = if fault.help.is_empty() { kind_help(entry) } else { fault.help.clone() };
    Diagnostic::at(code::BAD_PARAMETERS, place, format!("{what}: {}", fault.message)).help(help)
}

/// Writes a tree of parameters as dotted paths. Lists and empty maps are leaves; nulls are left out.
pub fn flatten(value: &Value) -> BTreeMap<String, Value> {
    fn walk(path: &str, value: &Value, leaves: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(map) if !map.is_empty() => map.iter().for_each(|(k, v)| walk(&join(path, k), v, leaves)),
            Value::Null => {}
            _ if path.is_empty() => {}
            _ => drop(leaves.insert(path.to_string(), value.clone())),
        }
    }
    let mut leaves = BTreeMap::new();
    walk("", value, &mut leaves);
    leaves
}

/// Returns the leaves that are not as in `defaults`. A default that was taken away is a null.
fn differing(resolved: &Value, defaults: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let mut changed = Changed { defaults, path: String::new(), kept: 0, all: BTreeMap::new() };
    changed.walk(resolved);
    let Changed { kept, mut all, .. } = changed;
    if kept < defaults.len() {
        let leaves = flatten(resolved);
        let gone = defaults.iter().filter(|(path, value)| !leaves.contains_key(*path) && !is_empty_map(value));
        all.extend(gone.map(|(path, _)| (path.clone(), Value::Null)));
    }
    all.remove("preset");
    all
}

/// Leaves that differ, found without writing down the many that do not.
struct Changed<'a> {
    defaults: &'a BTreeMap<String, Value>,
    path: String,
    /// Leaves that have a default.
    kept: usize,
    all: BTreeMap<String, Value>,
}

impl Changed<'_> {
    fn walk(&mut self, value: &Value) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                let length = self.path.len();
                for (key, value) in map {
                    if length > 0 {
                        self.path.push('.');
                    }
                    self.path.push_str(key);
                    self.walk(value);
                    self.path.truncate(length);
                }
            }
            Value::Null => {}
            _ if self.path.is_empty() => {}
            _ => {
                let default = self.defaults.get(&self.path);
                self.kept += usize::from(default.is_some());
                if !default.is_some_and(|default| is_same(default, value)) {
                    self.all.insert(self.path.clone(), value.clone());
                }
            }
        }
    }
}

/// Compares as numbers where both are: `1` is `1.0`.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| is_same(value, other)))
        }
        _ => a == b,
    }
}

fn is_empty_map(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn differing_of(resolved: Value, defaults: Value) -> Value {
        json!(differing(&resolved, &flatten(&defaults)))
    }

    #[test]
    fn only_what_differs_is_kept() {
        let defaults = json!({"r": 8, "lr": 1.0, "lora": {"a": null, "t": ["q"]}, "extra": {}});
        assert_eq!(
            differing_of(json!({"r": 8, "lr": 1, "lora": {"a": null, "t": ["q"]}, "extra": {}}), defaults.clone()),
            json!({})
        );
        let changed = json!({"r": 16, "lr": 1.0, "lora": {"a": 2, "t": ["q", "v"]}, "extra": {"x": 1}});
        assert_eq!(differing_of(changed, defaults), json!({"extra.x": 1, "lora.a": 2, "lora.t": ["q", "v"], "r": 16}));
    }

    #[test]
    fn a_default_taken_away_differs() {
        assert_eq!(
            differing_of(json!({"a": null, "m": {}}), json!({"a": 1, "m": {"x": 2}})),
            json!({"a": null, "m": {}, "m.x": null})
        );
    }

    #[test]
    fn explicit_keys_beat_the_preset_deeply() {
        let mut under = json!({"lora": {"r": 8, "alpha": 16}, "lr": 1});
        merge(&mut under, json!({"lora": {"r": 4}}));
        assert_eq!(under, json!({"lora": {"r": 4, "alpha": 16}, "lr": 1}));
    }
}
