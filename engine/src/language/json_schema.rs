//! JSON Schema of a whole pipeline, for editors: `watershed schema`.
//!
//! Made from the schemas that the checks use, one `if`/`then` a kind. Wherever a value is not text anyway, a text with
//! `${` in it is allowed too, since a reference may stand for any value.

use serde_json::{Map, Value, json};

use crate::language::kinds::{KindEntry, Kinds};
use crate::language::pipeline::RESERVED;
use crate::language::reference::REMOTE;
use crate::language::run_keys::common_schema;

/// Returns the schema of pipelines that use these kinds.
pub fn json_schema(kinds: &Kinds) -> Value {
    let mut defs = Map::new();
    let common = hoisted("run", common_schema(), &mut defs);
    let mut all_run = common.clone();
    let mut rules = Vec::new();
    for entry in kinds.entries() {
        let run = hoisted(&format!("{}.run", entry.kind.name), entry.run_schema(), &mut defs);
        add_properties(&mut all_run, &run);
        rules.push(rule(entry, with_common(run, &common), &mut defs));
    }
    all_run["additionalProperties"] = Value::Bool(false);
    defs.insert("reference".into(), reference());
    defs.insert("source".into(), source());
    defs.insert("overrides".into(), overrides());
    defs.insert("sweep".into(), sweep());
    defs.insert("stage".into(), stage(kinds, rules));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Watershed pipeline",
        "type": "object",
        "required": ["stages"],
        "additionalProperties": false,
        "properties": {
            "name": {"type": "string", "description": "Name of the pipeline; else the name of its file."},
            "params": {"type": "object", "description": "Values that `${params.NAME}` stands for."},
            "env": env(),
            "roots": roots(),
            "stages": {
                "type": "object",
                "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_-]*$", "not": {"enum": RESERVED}},
                "additionalProperties": {"$ref": "#/$defs/stage"},
            },
            "sweeps": {"type": "object", "additionalProperties": {"$ref": "#/$defs/sweep"}},
            "expect": {
                "type": "object",
                "additionalProperties": {"type": "string", "pattern": "^\\s*(<=|>=|==|<|>)"},
                "description": "Thresholds on metrics, compared after a run: `STAGE.METRIC: \"<= 0.05\"`.",
            },
            "run": all_run,
        },
        "$defs": defs,
    })
}

fn env() -> Value {
    json!({
        "description": "Environment variables that `${env.NAME}` may name: a list of names, or a map of name to default.",
        "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "object"}],
    })
}

fn roots() -> Value {
    let folder = json!({
        "type": "object",
        "properties": {"env": {"type": "string"}, "default": {"type": "string"}},
        "additionalProperties": false,
    });
    json!({
        "type": "object",
        "description": "Folders outside the project that inputs name as `ROOT:path`.",
        "propertyNames": {"pattern": "^[^./@:]+$", "not": {"enum": REMOTE}},
        "additionalProperties": {"anyOf": [{"type": "string"}, folder]},
    })
}

fn reference() -> Value {
    json!({
        "type": "string",
        "pattern": "\\$\\{(params|env)\\.[^}]+\\}",
        "description": "a value from `params` or `env`",
    })
}

/// Paths, what stands in a root or elsewhere, outputs of stages, and texts that a reference makes one of these.
fn source() -> Value {
    let path = r"\.{0,2}/.*|\.{1,2}";
    let output = r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+(/.+)?)?(@.+)?";
    json!({
        "type": "string",
        "anyOf": [
            {"pattern": format!(r"^({path}|{output})$")},
            {"pattern": r"^[^./@:]+:[^\\].*$", "not": {"pattern": format!("^({}):", REMOTE.join("|"))}},
            {"pattern": r"^hf:([^/@]+/){0,2}[^/@]+@[0-9a-f]{40}(/.+)?$"},
            {"pattern": r"^https?://[^#@\s]+#sha256=[0-9A-Fa-f]{64}$"},
            {"$ref": "#/$defs/reference"},
        ],
        "description": "`STAGE`, `STAGE.port`, `STAGE.port/path`, a path that begins with `./`, `../` or `/`, `ROOT:path`, \
                        `hf:OWNER/NAME@COMMIT` or `https://ADDRESS#sha256=DIGEST`",
    })
}

fn overrides() -> Value {
    json!({
        "type": "object",
        "propertyNames": {"pattern": "^[^.]+\\..+$"},
        "description": "override paths, as --set takes them, and their values",
    })
}

fn sweep() -> Value {
    let points = json!({"type": "array", "minItems": 1});
    let bound_points = json!({"type": "array", "minItems": 1, "items": {"type": "array", "minItems": 2}});
    let any = ["cases", "grid", "random", "extends"].map(|key| json!({"required": [key]}));
    json!({
        "type": "object",
        "additionalProperties": false,
        "anyOf": any,
        "properties": {
            "cases": {
                "type": "object",
                "propertyNames": {"pattern": "^[^/]+$"},
                "additionalProperties": {"$ref": "#/$defs/overrides"},
                "description": "Name to overrides.",
            },
            "grid": {
                "type": "object",
                "propertyNames": {"pattern": "^[^.]+\\..+$"},
                "patternProperties": {",": bound_points},
                "additionalProperties": points,
                "description": "Override path to its values.",
            },
            "random": random(),
            "set": {"$ref": "#/$defs/overrides"},
            "extends": {"type": "string", "description": "A sweep whose cases and axes this one begins with."},
        },
    })
}

/// Override paths have a dot, which tells them from `n` and `seed`.
fn random() -> Value {
    let distributions: serde_json::Map<String, Value> =
        super::sweep::DISTRIBUTIONS.iter().map(|name| (name.to_string(), json!({"type": "array"}))).collect();
    json!({
        "type": "object",
        "properties": {
            "n": {"type": "integer", "minimum": 1, "description": "Number of draws."},
            "seed": {"type": "integer", "minimum": 0, "description": "Another seed gives other draws (0)."},
        },
        "patternProperties": {"\\.": {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": false,
            "properties": distributions,
        }},
        "additionalProperties": false,
        "description": "Draws: override path to a distribution, for example `tuned.lr: {log_uniform: [1.0e-5, 1.0e-3]}`.",
    })
}

fn stage(kinds: &Kinds, rules: Vec<Value>) -> Value {
    json!({
        "type": "object",
        "required": ["use"],
        "additionalProperties": false,
        "properties": {
            "use": {"enum": kinds.names().collect::<Vec<_>>(), "description": "The kind of the stage."},
            "in": true,
            "with": true,
            "run": true,
            "allow_missing": {"type": "boolean", "description": "Leaves failed cases of `S@*` out instead of skipping the stage."},
            "description": {"type": "string"},
        },
        "allOf": rules,
    })
}

/// Says what a stage of one kind holds.
fn rule(entry: &KindEntry, run: Value, defs: &mut Map<String, Value>) -> Value {
    let name = entry.kind.name;
    let mut with = hoisted(name, entry.schema(), defs);
    let presets: Vec<&str> = entry.presets().iter().map(|(name, _)| *name).collect();
    if let Some(properties) = with.get_mut("properties").and_then(Value::as_object_mut).filter(|_| !presets.is_empty())
    {
        let preset = json!({"type": "string", "enum": presets, "description": "A named set of parameters; explicit ones beat it."});
        properties.entry("preset").or_insert(preset);
    }
    // What a stage leaves out, a sweep may give.
    with.as_object_mut().map(|map| map.remove("required"));
    let (with_name, run_name) = (format!("{name}.with"), format!("{name}.run"));
    let then = json!({"properties": {
        "in": inputs(entry),
        "with": {"$ref": format!("#/$defs/{with_name}")},
        "run": {"$ref": format!("#/$defs/{run_name}")},
    }});
    defs.insert(with_name, with);
    defs.insert(run_name, run);
    json!({"if": {"properties": {"use": {"const": name}}, "required": ["use"]}, "then": then})
}

/// Names the inputs of the default parameters; other parameters may give others.
fn inputs(entry: &KindEntry) -> Value {
    let one = json!({"$ref": "#/$defs/source"});
    let many = json!({"anyOf": [one, {"type": "object", "additionalProperties": one}]});
    let ports = (entry.kind.ports)(&Value::Null).inputs;
    let named: Map<String, Value> = ports
        .iter()
        .map(|port| (port.name.to_string(), if port.arity.is_many() { many.clone() } else { one.clone() }))
        .collect();
    json!({"anyOf": [one, {"type": "object", "properties": named, "additionalProperties": many}]})
}

fn with_common(mut run: Value, common: &Value) -> Value {
    add_properties(&mut run, common);
    run["additionalProperties"] = Value::Bool(false);
    run
}

fn add_properties(to: &mut Value, from: &Value) {
    let mut all = to.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    for (name, schema) in from.get("properties").and_then(Value::as_object).into_iter().flatten() {
        all.entry(name).or_insert(schema.clone());
    }
    to["properties"] = Value::Object(all);
}

/// Takes a schema with its `$defs` moved to those of the pipeline, under `PREFIX.NAME`, and opened for references.
fn hoisted(prefix: &str, schema: &Value, defs: &mut Map<String, Value>) -> Value {
    let mut schema = renamed(prefix, schema);
    let Some(map) = schema.as_object_mut() else { return schema };
    map.remove("$schema");
    map.remove("title");
    if let Some(Value::Object(own)) = map.remove("$defs") {
        defs.extend(own.into_iter().map(|(name, def)| (format!("{prefix}.{name}"), opened(def))));
    }
    opened(schema)
}

fn renamed(prefix: &str, schema: &Value) -> Value {
    match schema {
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| match value.as_str().filter(|_| key == "$ref") {
                    Some(target) => {
                        (key.clone(), Value::from(target.replace("#/$defs/", &format!("#/$defs/{prefix}."))))
                    }
                    None => (key.clone(), renamed(prefix, value)),
                })
                .collect(),
        ),
        Value::Array(list) => list.iter().map(|value| renamed(prefix, value)).collect(),
        other => other.clone(),
    }
}

/// Allows a reference for each value inside.
fn opened(mut schema: Value) -> Value {
    let Some(map) = schema.as_object_mut() else { return schema };
    for (key, value) in map.iter_mut() {
        match (key.as_str(), value) {
            ("properties", Value::Object(inner)) => {
                inner.iter_mut().for_each(|(_, v)| *v = or_reference(opened(v.take())))
            }
            ("items" | "additionalProperties", value @ Value::Object(_)) => *value = or_reference(opened(value.take())),
            ("prefixItems", Value::Array(list)) => list.iter_mut().for_each(|v| *v = or_reference(opened(v.take()))),
            ("anyOf" | "oneOf" | "allOf", Value::Array(list)) => list.iter_mut().for_each(|v| *v = opened(v.take())),
            _ => {}
        }
    }
    schema
}

fn or_reference(schema: Value) -> Value {
    let is_any_text = schema.get("type") == Some(&Value::from("string")) && schema.get("enum").is_none();
    if !schema.is_object() || is_any_text {
        return schema;
    }
    let description = schema.get("description").cloned();
    let mut either = json!({"anyOf": [schema, {"$ref": "#/$defs/reference"}]});
    if let Some(description) = description {
        either["description"] = description;
    }
    either
}
