//! Parameters of one stage: preset, defaults, and what differs from them.

use std::borrow::Cow;
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
    /// What the user and the preset wrote.
    written: Value,
}

impl Params {
    /// Fills in the defaults of what was written; the error is serde's.
    fn of(written: Value, entry: &KindEntry) -> Result<Params, String> {
        let resolved = (entry.kind.resolve)(&written)?;
        let mut differing = differing(&leaves(&resolved, entry.schema()), entry.defaults());
        // The name of an expanded preset decides nothing. Without presets, `preset` is a parameter like others.
        if !entry.presets().is_empty() {
            differing.remove("preset");
        }
        Ok(Params { resolved, differing, written })
    }

    /// Returns the parameters once it is known which inputs are bound.
    pub fn settled(self, entry: &KindEntry, is_bound: &dyn Fn(&str) -> bool) -> Params {
        let Some(over) = (entry.kind.settle)(&self.written, is_bound) else { return self };
        let mut written = self.written.clone();
        merge(&mut written, over);
        Params::of(written, entry).unwrap_or(self)
    }
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
    let params = match Params::of(given, entry) {
        Ok(params) => params,
        Err(words) => {
            let message = format!("the parameters of {subject} do not fit: {words}");
            faults.push(Diagnostic::at(code::BAD_PARAMETERS, with.span, message).help(kind_help(entry)));
            return None;
        }
    };
    for fault in (entry.kind.check)(&params.resolved) {
        faults.push(placed(&fault, stage, span, with, entry));
    }
    (faults.errors.len() == before).then_some(params)
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

/// The same for a key: no two trees that fit `schema` share their leaves.
///
/// In a struct a null is the parameter left out. In a map whose names the user chooses it is a value, and a name with a dot
/// is quoted, so that it is no path.
pub fn leaves(value: &Value, schema: &Value) -> BTreeMap<String, Value> {
    let mut leaves = BTreeMap::new();
    walk_typed("", value, schema, schema, &mut leaves);
    leaves
}

fn walk_typed(path: &str, value: &Value, root: &Value, schema: &Value, leaves: &mut BTreeMap<String, Value>) {
    let Some(map) = value.as_object().filter(|map| path.is_empty() || !map.is_empty()) else {
        return drop(leaves.insert(path.to_string(), value.clone()));
    };
    let (properties, before) = (properties(map, root, schema), leaves.len());
    for (name, inner) in map {
        match properties.and_then(|known| known.get(name)) {
            Some(_) if inner.is_null() => {}
            Some(schema) => walk_typed(&join(path, name), inner, root, schema, leaves),
            None => walk_typed(&join(path, &quoted(name)), inner, root, others(schema), leaves),
        }
    }
    // A struct that is there, with nothing said in it, is not one that is left out.
    if leaves.len() == before && !path.is_empty() {
        leaves.insert(path.to_string(), Value::Object(Map::new()));
    }
}

/// Returns the properties of the struct that a map is; nothing where its names are the user's.
fn properties<'s>(map: &Map<String, Value>, root: &'s Value, schema: &'s Value) -> Option<&'s Map<String, Value>> {
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        return properties(map, root, root.pointer(target.trim_start_matches('#'))?);
    }
    let own = schema.get("properties").and_then(Value::as_object);
    let branches = ["anyOf", "oneOf", "allOf"].into_iter().filter_map(|key| schema.get(key)?.as_array()).flatten();
    let fits = |known: &&Map<String, Value>| map.keys().all(|name| known.contains_key(name));
    own.or_else(|| branches.filter_map(|branch| properties(map, root, branch)).find(fits))
}

/// Returns the schema of what the user names in a map.
fn others(schema: &Value) -> &Value {
    schema.get("additionalProperties").unwrap_or(&Value::Null)
}

fn quoted(name: &str) -> Cow<'_, str> {
    if name.contains(['.', '"']) { format!("{name:?}").into() } else { name.into() }
}

/// Returns the leaves that are not as in `defaults`. A default that was taken away is a null.
fn differing(resolved: &BTreeMap<String, Value>, defaults: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let changed = resolved.iter().filter(|(path, value)| !defaults.get(*path).is_some_and(|d| is_same(d, value)));
    let mut all: BTreeMap<String, Value> = changed.map(|(path, value)| (path.clone(), value.clone())).collect();
    let gone = defaults.iter().filter(|(path, value)| !resolved.contains_key(*path) && !is_empty_map(value));
    all.extend(gone.map(|(path, _)| (path.clone(), Value::Null)));
    all
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
        json!(differing(&flatten(&resolved), &flatten(&defaults)))
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
    fn no_two_trees_share_their_leaves() {
        let nested = json!({"type": "object", "properties": {"x": {}, "y": {}}});
        let schema = json!({
            "properties": {"free": {"additionalProperties": true}, "known": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}},
            "$defs": {"n": nested}
        });
        let told = |value: Value| json!(leaves(&value, &schema));
        assert_eq!(told(json!({"free": {"a": {"b": 1}}})), json!({"free.a.b": 1}));
        assert_eq!(told(json!({"free": {"a.b": 1}})), json!({"free.\"a.b\"": 1}));
        assert_eq!(told(json!({"free": {"a": null}})), json!({"free.a": null}));
        assert_eq!(told(json!({"free": {}, "known": {"x": 1, "y": null}})), json!({"free": {}, "known.x": 1}));
        assert_eq!(told(json!({"known": {"x": null, "y": null}})), json!({"known": {}}));
        assert_eq!(told(json!({"known": null})), json!({}));
    }

    #[test]
    fn explicit_keys_beat_the_preset_deeply() {
        let mut under = json!({"lora": {"r": 8, "alpha": 16}, "lr": 1});
        merge(&mut under, json!({"lora": {"r": 4}}));
        assert_eq!(under, json!({"lora": {"r": 4, "alpha": 16}, "lr": 1}));
    }
}
