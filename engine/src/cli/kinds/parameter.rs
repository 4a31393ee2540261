//! The parameters of a kind as one flat list, read off the JSON Schema that also checks them.
//!
//! A nested parameter has its own entry under its dotted path, which is also what `--set` takes after the stage's name.

use serde_json::Value;

use super::flow::flow;
use crate::language::{join, range_words};

/// One parameter, ready to be shown.
#[derive(Debug, PartialEq)]
pub struct Parameter {
    /// Dotted path inside `with` or `run`.
    pub path: String,
    /// What may be written there, in words.
    pub wants: String,
    /// Default as YAML, if there is one; a map whose parts are listed has none of its own.
    pub default: Option<String>,
    /// What it does.
    pub about: String,
    /// What each form of the value means, where the kind says so.
    pub forms: Vec<(String, String)>,
}

/// Returns all parameters that a schema describes, each followed by those inside it.
///
/// `defaults` is the kind's own; where it says nothing, the schema's `default` counts.
pub fn parameters(schema: &Value, defaults: &Value) -> Vec<Parameter> {
    Reader { root: schema }.inside(schema, defaults, "")
}

struct Reader<'s> {
    root: &'s Value,
}

impl<'s> Reader<'s> {
    fn inside(&self, schema: &'s Value, defaults: &Value, path: &str) -> Vec<Parameter> {
        let properties = schema["properties"].as_object().into_iter().flatten();
        properties.flat_map(|(name, property)| self.parameter(property, &defaults[name], &join(path, name))).collect()
    }

    fn parameter(&self, property: &'s Value, default: &Value, path: &str) -> Vec<Parameter> {
        let default = if default.is_null() { &property["default"] } else { default };
        let branches = self.branches(property);
        let inner: Vec<Parameter> = branches.iter().flat_map(|branch| self.inside(branch, default, path)).collect();
        let own = |text: &str| if text.is_empty() { prose(self.resolved(property)) } else { text.to_string() };
        let is_told_inside = default.is_object() && !inner.is_empty();
        let mut all = vec![Parameter {
            path: path.to_string(),
            wants: alternatives(&self.wants(property, false)),
            default: (!default.is_null() && !is_told_inside).then(|| flow(default)),
            about: own(&prose(property)),
            forms: self.forms(property),
        }];
        all.extend(inner);
        all
    }

    /// Follows `$ref`s. A schema of ours refers to another at most a few times.
    fn resolved(&self, schema: &'s Value) -> &'s Value {
        let mut schema = schema;
        for _ in 0..32 {
            let Some(target) = schema["$ref"].as_str() else { break };
            schema = self.root.pointer(target.trim_start_matches('#')).unwrap_or(&Value::Bool(true));
        }
        schema
    }

    /// Returns the schemas of which a value must fit one; `null` is no form of its own.
    fn branches(&self, schema: &'s Value) -> Vec<&'s Value> {
        let schema = self.resolved(schema);
        match any_of(schema) {
            Some(list) => list.iter().flat_map(|branch| self.branches(branch)).collect(),
            None if schema["type"] == "null" => Vec::new(),
            None => vec![schema],
        }
    }

    fn wants(&self, schema: &'s Value, is_many: bool) -> Vec<String> {
        let mut all = Vec::new();
        for words in self.branches(schema).into_iter().flat_map(|branch| self.form(branch, is_many)) {
            if !all.contains(&words) {
                all.push(words);
            }
        }
        all
    }

    /// Says in words what fits a schema without branches.
    fn form(&self, schema: &'s Value, is_many: bool) -> Vec<String> {
        let names: Vec<&Value> = schema["enum"].as_array().into_iter().flatten().chain(schema.get("const")).collect();
        if !names.is_empty() {
            return names.into_iter().map(|name| format!("`{}`", flow(name))).collect();
        }
        let types = match &schema["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
            one => one.as_str().into_iter().collect::<Vec<_>>(),
        };
        if types.is_empty() {
            return vec![if is_many { "values" } else { "anything" }.into()];
        }
        types.into_iter().filter(|t| *t != "null").map(|t| self.of_type(t, schema, is_many)).collect()
    }

    fn of_type(&self, name: &str, schema: &'s Value, is_many: bool) -> String {
        let plural = if is_many { "s" } else { "" };
        match name {
            "integer" => format!("whole number{plural}{}", range(schema)),
            "number" => format!("number{plural}{}", range(schema)),
            "string" => match schema["examples"][0].as_str() {
                Some(example) => format!("text{plural} like `{example}`"),
                None => format!("text{plural}"),
            },
            "boolean" => "`true` or `false`".into(),
            "array" => format!("list{plural} of {}", self.elements(schema)),
            _ => match &schema["additionalProperties"] {
                others @ Value::Object(_) => {
                    format!("map{plural} of name to {}", alternatives(&self.wants(others, false)))
                }
                _ => format!("map{plural}"),
            },
        }
    }

    fn elements(&self, schema: &'s Value) -> String {
        let first = schema.get("items").or(schema["prefixItems"].get(0)).unwrap_or(&Value::Bool(true));
        let words = alternatives(&self.wants(first, true));
        match (schema["minItems"].as_u64(), schema["maxItems"].as_u64()) {
            (Some(least), Some(most)) if least == most => format!("{least} {words}"),
            _ => words,
        }
    }

    /// Returns what the kind says about each form, if it says anything.
    fn forms(&self, schema: &'s Value) -> Vec<(String, String)> {
        let Some(list) = any_of(self.resolved(schema)) else { return Vec::new() };
        let of_branch = |branch: &'s Value| match self.forms(branch) {
            inner if inner.is_empty() => vec![(alternatives(&self.wants(branch, false)), prose(branch))],
            inner => inner,
        };
        list.iter().flat_map(of_branch).filter(|(form, text)| !form.is_empty() && !text.is_empty()).collect()
    }
}

fn any_of(schema: &Value) -> Option<&Vec<Value>> {
    schema["anyOf"].as_array().or(schema["oneOf"].as_array())
}

fn range(schema: &Value) -> String {
    match range_words(schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        words if words.is_empty() => words,
        words => format!(" ({words})"),
    }
}

/// Returns a schema's description on one line.
fn prose(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn alternatives(words: &[String]) -> String {
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use schemars::JsonSchema;
    use serde_json::json;

    use super::*;

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is used")]
    struct Sample {
        /// How many.
        #[schemars(range(min = 1, max = 9))]
        n: u32,
        /// Where to.
        side: Option<Side>,
        /// What is
        /// inside.
        inner: Inner,
        shares: BTreeMap<String, f64>,
        betas: (f64, f64),
    }

    /// A side.
    #[derive(JsonSchema)]
    #[serde(rename_all = "lowercase")]
    #[allow(dead_code, reason = "only its schema is used")]
    enum Side {
        /// Towards the heart.
        Left,
        /// Away from it.
        Right,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is used")]
    struct Inner {
        flags: Vec<bool>,
    }

    fn listed() -> Vec<(String, String, Option<String>, String)> {
        let schema = schemars::schema_for!(Sample).to_value();
        let defaults = json!({"n": 3, "side": null, "inner": {"flags": [true]}, "betas": [0.5, 1.0]});
        let all = parameters(&schema, &defaults).into_iter();
        all.map(|p| (p.path, p.wants, p.default, p.about)).collect()
    }

    #[test]
    fn nested_parameters_follow_the_one_they_are_in() {
        let row = |path: &str, wants: &str, default: Option<&str>, about: &str| {
            (path.to_string(), wants.to_string(), default.map(String::from), about.to_string())
        };
        let expected = [
            row("n", "whole number (1 to 9)", Some("3"), "How many."),
            row("side", "`left` or `right`", None, "Where to."),
            row("inner", "map", None, "What is inside."),
            row("inner.flags", "list of `true` or `false`", Some("[true]"), ""),
            row("shares", "map of name to number", None, ""),
            row("betas", "list of 2 numbers", Some("[0.5, 1.0]"), ""),
        ];
        assert_eq!(listed(), expected);
    }

    #[test]
    fn each_choice_comes_with_its_meaning() {
        let schema = schemars::schema_for!(Sample).to_value();
        let side = parameters(&schema, &Value::Null).remove(1);
        let form = |name: &str, text: &str| (name.to_string(), text.to_string());
        assert_eq!(side.forms, [form("`left`", "Towards the heart."), form("`right`", "Away from it.")]);
    }
}
