//! The fields of a kind's parameters, read off its JSON Schema, and values that each may take.

use serde_json::{Map, Value, json};

/// One parameter, or one key of a nested one.
pub struct Field {
    /// Names from `with` down.
    pub path: Vec<String>,
    /// Values to try, most of which fit.
    pub values: Vec<Value>,
    /// What the maps above it hold besides, where they are not there by default: from the top down.
    pub around: Vec<Value>,
}

impl Field {
    /// Returns the dotted path.
    pub fn name(&self) -> String {
        self.path.join(".")
    }
}

/// Returns the fields of the parameters that `schema` describes, nested ones too.
pub fn fields(schema: &Value) -> Vec<Field> {
    let mut found = Vec::new();
    collect(schema, schema, &mut Vec::new(), &mut Vec::new(), &mut found);
    found
}

fn collect(root: &Value, schema: &Value, path: &mut Vec<String>, around: &mut Vec<Value>, found: &mut Vec<Field>) {
    for (name, inner) in properties(resolved(root, schema)) {
        path.push(name.clone());
        let branches = branches(root, inner);
        let nested: Vec<&Value> = branches.iter().copied().filter(|b| !properties(b).is_empty()).collect();
        if nested.len() != branches.len() {
            let values = values(root, inner, 0);
            found.push(Field { path: path.clone(), values, around: around.clone() });
        }
        let is_always_there = nested.len() == branches.len();
        for branch in nested {
            let whole = objects(root, branch, 0).into_iter().next().unwrap_or_default();
            around.push(if is_always_there { json!({}) } else { whole });
            collect(root, branch, path, around, found);
            around.pop();
        }
        path.pop();
    }
}

fn properties(schema: &Value) -> Vec<(&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten().collect()
}

/// Follows references.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema.get("$ref").and_then(Value::as_str) {
        Some(target) => resolved(root, root.pointer(target.trim_start_matches('#')).unwrap()),
        None => schema,
    }
}

/// Returns the alternatives of a schema, references followed; itself where it has none.
fn branches<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let schema = resolved(root, schema);
    let of = |key: &str| schema.get(key).and_then(Value::as_array).into_iter().flatten();
    let list: Vec<&Value> = of("anyOf").chain(of("oneOf")).chain(of("allOf")).collect();
    if list.is_empty() { vec![schema] } else { list.into_iter().flat_map(|b| branches(root, b)).collect() }
}

/// Returns values of a schema, different ones, some of which its kind may still refuse.
fn values(root: &Value, schema: &Value, depth: usize) -> Vec<Value> {
    let all = branches(root, schema).into_iter().flat_map(|branch| branch_values(root, branch, depth));
    let mut distinct: Vec<Value> = Vec::new();
    all.for_each(|value| distinct.extend((!distinct.contains(&value)).then_some(value)));
    distinct
}

fn branch_values(root: &Value, schema: &Value, depth: usize) -> Vec<Value> {
    if let Some(only) = schema.get("const") {
        return vec![only.clone()];
    }
    if let Some(list) = schema.get("enum").and_then(Value::as_array) {
        return list.clone();
    }
    let types: Vec<&str> = match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => return vec![json!(true), json!(1), json!("x"), Value::Null, json!({"b": 1}), json!({"b": null})],
    };
    types.into_iter().flat_map(|name| of_type(root, schema, name, depth)).collect()
}

fn of_type(root: &Value, schema: &Value, name: &str, depth: usize) -> Vec<Value> {
    match name {
        "boolean" => vec![json!(false), json!(true)],
        "integer" => within(schema, &[0.0, 1.0, 2.0, 3.0, 8.0, 50.0, 1e6]).map(|n| json!(n as i64)).collect(),
        "number" => within(schema, &[0.0, 0.25, 0.5, 0.999, 1.0, 1.5, 20.0, 1e-7]).map(|n| json!(n)).collect(),
        "string" => texts(schema),
        "array" => arrays(root, schema, depth),
        "object" => objects(root, schema, depth),
        _ => vec![Value::Null],
    }
}

fn within<'a>(schema: &'a Value, numbers: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let (least, most) = (bound("minimum"), bound("maximum"));
    numbers.iter().copied().chain(least).filter(move |n| least.is_none_or(|b| *n >= b) && most.is_none_or(|b| *n <= b))
}

/// Texts of every form that some kind asks for.
fn texts(schema: &Value) -> Vec<Value> {
    let examples = schema.get("examples").and_then(Value::as_array).cloned().unwrap_or_default();
    let forms = ["x", "y z", "7%", "2016-01-01", "https://127.0.0.1/v1", "{{ input }} {{ output }}", "bytes", "1.5"];
    examples.into_iter().chain(forms.map(Value::from)).collect()
}

fn arrays(root: &Value, schema: &Value, depth: usize) -> Vec<Value> {
    if depth > 3 {
        return vec![json!([])];
    }
    if let Some(places) = schema.get("prefixItems").and_then(Value::as_array) {
        let choices: Vec<Vec<Value>> = places.iter().map(|place| values(root, place, depth + 1)).collect();
        let longest = choices.iter().map(Vec::len).max().unwrap_or(0);
        return (0..longest)
            .map(|i| choices.iter().enumerate().map(|(at, c)| c[(i + at) % c.len()].clone()).collect())
            .collect();
    }
    let items = schema.get("items").map(|items| values(root, items, depth + 1)).unwrap_or_default();
    let single = items.iter().map(|item| json!([item]));
    let pairs = items.windows(2).map(|pair| json!(pair));
    [json!([])].into_iter().chain(single).chain(pairs).collect()
}

/// Returns maps: of a schema with properties, one that has them all and, for each of them, one with another value of it.
fn objects(root: &Value, schema: &Value, depth: usize) -> Vec<Value> {
    if depth > 3 {
        return vec![json!({})];
    }
    let known: Vec<(&String, Vec<Value>)> =
        properties(schema).into_iter().map(|(name, inner)| (name, values(root, inner, depth + 1))).collect();
    if known.is_empty() {
        let others = schema.get("additionalProperties").map(|inner| values(root, inner, depth + 1)).unwrap_or_default();
        let named = others
            .iter()
            .flat_map(|value| [json!({"a": value}), json!({"a.b": value}), json!({"a": value, "c": value})]);
        return [json!({})].into_iter().chain(named).collect();
    }
    let whole: Map<String, Value> = known.iter().map(|(name, values)| ((*name).clone(), values[0].clone())).collect();
    let changed = known.iter().flat_map(|(name, values)| {
        values.iter().skip(1).map(|value| {
            let mut other = whole.clone();
            other.insert((*name).clone(), value.clone());
            Value::Object(other)
        })
    });
    [Value::Object(whole.clone())].into_iter().chain(changed).collect()
}

/// Returns `params` with the field set to `value`, the maps above it filled in where they are not there.
pub fn with_field(params: &Value, field: &Field, value: &Value) -> Value {
    let mut changed = params.clone();
    let mut place = &mut changed;
    for (name, around) in field.path.iter().zip(field.around.iter().map(Some).chain([None])) {
        place = place.as_object_mut().unwrap().entry(name).or_insert(Value::Null);
        match around {
            Some(around) if !place.is_object() => *place = around.clone(),
            _ => {}
        }
    }
    *place = value.clone();
    changed
}
