//! Checks a [`Node`] against a JSON Schema and reports every fault where it stands.
//!
//! The schemas come from schemars (draft 2020-12), so only what it writes is understood: types, `properties`, `required`,
//! `additionalProperties`, `items`, `prefixItems`, `enum`, `const`, `oneOf`, `anyOf`, `allOf`, `$ref` and numeric bounds.
//! A general validator would report a failed `anyOf` as such; here the branch that the user meant is found and its own
//! fault is shown.

use serde_json::{Map, Number, Value};

use crate::code;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::language::nearest::{did_you_mean, listed};
use crate::language::run_keys::common_schema;
use crate::node::{Data, Key, Node};

/// What is checked, for messages.
pub struct Shape<'a> {
    /// Schema that `$ref`s start from.
    pub root: &'a Value,
    /// Name of the part, for example `stage `tuned` (lora-train)`.
    pub subject: &'a str,
    /// Override path of the part, for example `tuned`.
    pub path: &'a str,
}

impl Shape<'_> {
    /// Checks `node` against `schema`.
    pub fn check(&self, node: &Node, schema: &Value, faults: &mut Diagnostics) {
        self.value(node, schema, self.path, faults);
    }

    fn value(&self, node: &Node, schema: &Value, path: &str, faults: &mut Diagnostics) {
        // What a field is for stands beside the reference to its type.
        let own = description(schema);
        let schema = self.resolved(schema);
        let about = subject_of(path, if own.is_empty() { description(schema) } else { own });
        for part in list_of(schema, "allOf") {
            self.value(node, part, path, faults);
        }
        if let Some(branches) = branches(schema) {
            return self.choice(node, branches, path, &about, faults);
        }
        if let Some(choices) = choices(schema) {
            return self.one_of_names(node, &choices, path, &about, faults);
        }
        if !accepts_type(schema, node) {
            return faults.push(wrong_type(node, &[schema], path, about));
        }
        match &node.data {
            Data::Map(entries) => self.map(node, entries, schema, path, faults),
            Data::List(elements) => self.list(node, elements, schema, path, about, faults),
            Data::Number(number) => faults.errors.extend(out_of_range(node, number, schema, path, about)),
            _ => {}
        }
    }

    /// Follows `$ref`s. A schema of ours refers to another at most a few times.
    fn resolved<'s>(&'s self, schema: &'s Value) -> &'s Value {
        let mut schema = schema;
        for _ in 0..32 {
            let Some(target) = schema.get("$ref").and_then(Value::as_str) else { break };
            let pointer = target.trim_start_matches('#');
            schema = self.root.pointer(pointer).unwrap_or(&Value::Bool(true));
        }
        schema
    }

    fn map(&self, node: &Node, entries: &[(Key, Node)], schema: &Value, path: &str, faults: &mut Diagnostics) {
        let none = Map::new();
        let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let others = schema.get("additionalProperties");
        for (key, value) in entries {
            let inner = join(path, &key.text);
            match (known.get(&key.text), others) {
                (Some(schema), _) => self.value(value, schema, &inner, faults),
                (None, Some(Value::Bool(false))) => faults.push(self.unknown_key(key, known.keys(), path)),
                (None, Some(schema)) => self.value(value, schema, &inner, faults),
                (None, None) => {}
            }
        }
        for name in list_of(schema, "required").filter_map(Value::as_str) {
            if !entries.iter().any(|(key, _)| key.text == name) {
                let message = format!("`{}` is missing", join(path, name));
                faults.push(
                    Diagnostic::at(code::MISSING_PARAMETER, node.span, message).help(format!("write `{name}: ...`")),
                );
            }
        }
    }

    fn unknown_key<'k>(&self, key: &Key, known: impl Iterator<Item = &'k String> + Clone, path: &str) -> Diagnostic {
        let place = if path == self.path { self.subject.to_string() } else { format!("`{path}`") };
        Diagnostic::at(code::UNKNOWN_KEY, key.span, format!("unknown key `{}` in {place}", key.text))
            .label(self.belonging(key).unwrap_or_else(|| did_you_mean(&key.text, known.clone().map(String::as_str))))
            .help(listed("known here", known.map(String::as_str)))
    }

    /// Says where a key of another part belongs: `run` and `with` are often mixed up.
    fn belonging(&self, key: &Key) -> Option<String> {
        let is_run_key = common_schema()["properties"].get(&key.text).is_some();
        (is_run_key && !self.subject.contains("`run`")).then(|| "this belongs to `run`".to_string())
    }

    fn list(
        &self,
        node: &Node,
        elements: &[Node],
        schema: &Value,
        path: &str,
        about: String,
        faults: &mut Diagnostics,
    ) {
        let first: Vec<&Value> = list_of(schema, "prefixItems").collect();
        for (index, element) in elements.iter().enumerate() {
            if let Some(schema) = first.get(index).copied().or(schema.get("items")) {
                self.value(element, schema, &join(path, &index.to_string()), faults);
            }
        }
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        let most = schema.get("maxItems").and_then(Value::as_u64).unwrap_or(u64::MAX);
        if !(least..=most).contains(&(elements.len() as u64)) {
            let wanted = range_words(Some(least as f64), schema.get("maxItems").and_then(Value::as_f64));
            let message = format!("`{path}`: expected {wanted} elements, found {}", elements.len());
            faults.push(Diagnostic::at(code::OUT_OF_RANGE, node.span, message).help(about));
        }
    }

    /// Checks against the branch that the user most likely meant: the one of the right type with the fewest faults.
    fn choice(&self, node: &Node, branches: Vec<&Value>, path: &str, about: &str, faults: &mut Diagnostics) {
        let branches: Vec<&Value> = branches.into_iter().map(|branch| self.resolved(branch)).collect();
        let names: Vec<String> = branches.iter().filter_map(|b| choices(b)).flatten().collect();
        let mut best: Option<Diagnostics> = None;
        for branch in branches.iter().filter(|b| choices(b).is_none() && accepts_type(b, node)) {
            let mut found = Diagnostics::default();
            self.value(node, branch, path, &mut found);
            if best.as_ref().is_none_or(|b| found.errors.len() < b.errors.len()) {
                best = Some(found);
            }
        }
        let is_name = !names.is_empty() && node.as_text().is_some();
        match best {
            Some(found) if found.is_empty() || !is_name => faults.errors.extend(found.errors),
            _ if is_name => self.one_of_names(node, &names, path, about, faults),
            _ => faults.push(wrong_type(node, &branches, path, about.to_string())),
        }
    }

    fn one_of_names(&self, node: &Node, names: &[String], path: &str, about: &str, faults: &mut Diagnostics) {
        let found = match &node.data {
            Data::Text(text) if names.contains(text) => return,
            Data::Text(text) => text.clone(),
            _ => String::new(),
        };
        let message = format!("`{path}`: expected {}, found {}", words_or(names), node.describe());
        // Near in letters is not near in meaning here.
        let meant =
            if found.eq_ignore_ascii_case("gpu") && names.iter().any(|n| n == "cuda") { "cuda" } else { &found };
        let label = did_you_mean(meant, names.iter().map(String::as_str));
        let help = if about.is_empty() { "write one of these" } else { about };
        faults.push(Diagnostic::at(code::UNKNOWN_CHOICE, node.span, message).label(label).help(help));
    }
}

fn out_of_range(node: &Node, number: &Number, schema: &Value, path: &str, about: String) -> Option<Diagnostic> {
    let number = number.as_f64().unwrap_or_default();
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let (least, above, below) = (bound("minimum"), bound("exclusiveMinimum"), bound("exclusiveMaximum"));
    // The end of an integer type is worth a word only where it is what was passed.
    let most = bound("maximum").or(format_maximum(schema).filter(|most| number > *most));
    let fits = least.is_none_or(|b| number >= b)
        && most.is_none_or(|b| number <= b)
        && above.is_none_or(|b| number > b)
        && below.is_none_or(|b| number < b);
    if fits {
        return None;
    }
    let words = [
        range_words(least, most),
        above.map_or(String::new(), |b| format!("above {b}")),
        below.map_or(String::new(), |b| format!("below {b}")),
    ];
    let wanted = words.into_iter().filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" and ");
    let message = format!("`{path}`: expected {wanted}, found `{}`", node.to_json());
    let help = if about.is_empty() { format!("write a number that is {wanted}") } else { about };
    Some(Diagnostic::at(code::OUT_OF_RANGE, node.span, message).label("out of range").help(help))
}

fn wrong_type(node: &Node, schemas: &[&Value], path: &str, about: String) -> Diagnostic {
    let names: Vec<String> = schemas.iter().filter_map(|s| choices(s)).flatten().collect();
    let mut wanted = if names.is_empty() { Vec::new() } else { vec![words_or(&names)] };
    for words in schemas.iter().filter(|s| choices(s).is_none()).flat_map(|s| type_words(s)) {
        if !wanted.contains(&words) {
            wanted.push(words);
        }
    }
    let message = format!("`{path}`: expected {}, found {}", wanted.join(" or "), node.describe());
    let takes_text = wanted.iter().any(|w| w == "text");
    let help = match &node.data {
        Data::Number(number) if takes_text => format!("write `\"{number}\"` if it is meant as text"),
        Data::Bool(flag) if takes_text => format!("write `\"{flag}\"` if it is meant as text"),
        _ => about,
    };
    Diagnostic::at(code::WRONG_TYPE, node.span, message).help(help)
}

/// Returns `` `NAME`: what it is for ``, or nothing.
fn subject_of(path: &str, about: String) -> String {
    let name = path.rsplit('.').next().unwrap_or(path);
    if about.is_empty() { about } else { format!("`{name}`: {about}") }
}

/// Joins the parts of a dotted path.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_string() } else { format!("{path}.{key}") }
}

/// Returns `` `a`, `b` or `c` ``.
pub fn words_or(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|n| format!("`{n}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing".into(),
    }
}

fn list_of<'s>(schema: &'s Value, key: &str) -> impl Iterator<Item = &'s Value> {
    schema.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn branches(schema: &Value) -> Option<Vec<&Value>> {
    let list: Vec<&Value> = list_of(schema, "anyOf").chain(list_of(schema, "oneOf")).collect();
    (!list.is_empty()).then_some(list)
}

/// Returns the texts that an enumeration allows, if the schema is one.
fn choices(schema: &Value) -> Option<Vec<String>> {
    if let Some(Value::String(only)) = schema.get("const") {
        return Some(vec![only.clone()]);
    }
    if let Some(named) = schema.get("oneOf").and_then(Value::as_array) {
        // An enumeration whose values are documented one by one.
        let name = |branch: &Value| Some(branch.get("const")?.as_str()?.to_string());
        return named.iter().map(name).collect();
    }
    let list = schema.get("enum")?.as_array()?;
    let allows_null = schema.get("type").and_then(Value::as_array).is_some_and(|t| t.contains(&Value::from("null")));
    let names = list.iter().filter_map(|v| v.as_str().map(str::to_string)).collect();
    (!allows_null).then_some(names)
}

fn type_names(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ if schema.get("properties").is_some() => vec!["object"],
        _ => Vec::new(),
    }
}

fn accepts_type(schema: &Value, node: &Node) -> bool {
    if *schema == Value::Bool(false) {
        return false;
    }
    let names = type_names(schema);
    names.is_empty() || names.into_iter().any(|name| is_of_type(node, name))
}

fn is_of_type(node: &Node, name: &str) -> bool {
    match (&node.data, name) {
        (Data::Null, "null") | (Data::Bool(_), "boolean") | (Data::Text(_), "string") => true,
        (Data::List(_), "array") | (Data::Map(_), "object") | (Data::Number(_), "number") => true,
        (Data::Number(number), "integer") => number.is_i64() || number.is_u64(),
        _ => false,
    }
}

fn type_words(schema: &Value) -> Vec<String> {
    let words = |name: &str| match name {
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "text",
        "boolean" => "`true` or `false`",
        "array" => "a list",
        "object" => "a map",
        _ => "nothing",
    };
    type_names(schema).into_iter().filter(|n| *n != "null").map(|n| words(n).to_string()).collect()
}

/// Upper end of the integer formats whose `maximum` schemars leaves out.
fn format_maximum(schema: &Value) -> Option<f64> {
    match schema.get("format")?.as_str()? {
        "uint32" => Some(f64::from(u32::MAX)),
        "int32" => Some(f64::from(i32::MAX)),
        "uint16" => Some(f64::from(u16::MAX)),
        "uint8" => Some(f64::from(u8::MAX)),
        _ => None,
    }
}

/// Returns `1 to 9`, `1 or more`, `9 or less`, or nothing for no bounds.
pub fn range_words(least: Option<f64>, most: Option<f64>) -> String {
    match (least, most) {
        (Some(least), Some(most)) if least == most => format!("{least}"),
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (Some(least), None) => format!("{least} or more"),
        (None, Some(most)) => format!("{most} or less"),
        (None, None) => String::new(),
    }
}

/// First paragraph of a schema's description, which is that of a field's comment, as a help text.
fn description(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let text = text.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    let mut letters = text.trim_end_matches('.').chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => first.to_lowercase().chain(letters).collect(),
        (first, _) => first.into_iter().chain(letters).collect(),
    }
}
