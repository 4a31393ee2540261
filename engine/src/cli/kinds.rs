//! `kinds`: what stages there are, and the ports and parameters of one, from its own documentation.

use clap::Args;
use serde_json::{Value, json};

use super::{Common, Format, out};
use crate::port::{Arity, Class, InPort, Ports};
use crate::stage::Kind;

/// Options of `kinds`.
#[derive(Args)]
pub struct Options {
    /// Kind to describe.
    kind: Option<String>,
}

pub fn kinds(options: &Options, common: &Common, kinds: fn() -> Vec<Kind>) -> i32 {
    let all = kinds();
    let chosen: Vec<&Kind> = all.iter().filter(|k| options.kind.as_deref().is_none_or(|n| n == k.name)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = all.iter().map(|k| k.name).collect();
        let wanted = options.kind.as_deref().unwrap_or_default();
        let help = crate::language::nearest(wanted, names.iter().copied())
            .map_or_else(|| format!("there are {}", names.join(", ")), |n| format!("did you mean `{n}`?"));
        out::complain(format!("error: there is no kind `{wanted}`; {help}"));
        return 2;
    }
    match common.format {
        Format::Json => out::json(&json!({"kinds": chosen.iter().map(|k| document(k)).collect::<Vec<_>>()})),
        Format::Human if options.kind.is_none() => out::say(list(&chosen)),
        _ => chosen.iter().for_each(|k| out::say(describe(k))),
    }
    0
}

fn ports_of(kind: &Kind) -> Ports {
    (kind.ports)(&(kind.defaults)())
}

fn document(kind: &Kind) -> Value {
    let ports = ports_of(kind);
    let inputs: Vec<Value> = ports
        .inputs
        .iter()
        .map(|p| json!({"name": p.name, "types": p.accepts, "required": p.arity.is_required(), "many": p.arity.is_many()}))
        .collect();
    let outputs: Vec<Value> =
        ports.outputs.iter().map(|p| json!({"name": p.name, "type": p.record, "class": p.class})).collect();
    json!({
        "kind": kind.name, "version": kind.version, "reproducible": kind.reproducible,
        "in": inputs, "out": outputs, "defaults": (kind.defaults)(), "schema": (kind.schema)(),
        "run_schema": (kind.run_schema)(),
    })
}

fn list(kinds: &[&Kind]) -> String {
    let rows: Vec<Vec<String>> =
        kinds.iter().map(|kind| vec![kind.name.to_string(), first_sentence(&(kind.schema)())]).collect();
    out::table(&["kind".into(), "what it does".into()], &rows)
}

fn first_sentence(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default().replace('\n', " ");
    text.split_once(". ").map_or(text.clone(), |(first, _)| format!("{first}."))
}

fn describe(kind: &Kind) -> String {
    let (schema, defaults, ports) = ((kind.schema)(), (kind.defaults)(), ports_of(kind));
    let mut lines = vec![format!("{}  (version {})", kind.name, kind.version)];
    lines.push(schema["description"].as_str().unwrap_or_default().to_string());
    lines.push("\nin:".into());
    lines.extend(ports.inputs.iter().map(input_line));
    if ports.open_inputs {
        lines.push("  any name: bytes".into());
    }
    lines.push("\nout:".into());
    for port in &ports.outputs {
        let report = if port.class == Class::Report { "  (report)" } else { "" };
        lines.push(format!("  {}: {}{report}", port.name, port.record));
    }
    lines.push("\nwith:".into());
    lines.extend(parameter_lines(&schema, &defaults));
    let own = (kind.run_schema)();
    if own["properties"].as_object().is_some_and(|p| !p.is_empty()) {
        lines.push("\nrun (besides the keys of every kind):".into());
        lines.extend(parameter_lines(&own, &Value::Null));
    }
    let presets: Vec<&str> = (kind.presets)().iter().map(|(name, _)| *name).collect();
    if !presets.is_empty() {
        lines.push(format!("\npresets: {}", presets.join(", ")));
    }
    lines.join("\n")
}

fn input_line(port: &InPort) -> String {
    let types: Vec<&str> = port.accepts.iter().map(|t| t.name()).collect();
    let note = match port.arity {
        Arity::One => "",
        Arity::Optional => "  (optional)",
        Arity::Many => "  (map of label to input)",
        Arity::OptionalMany => "  (optional map of label to input)",
    };
    format!("  {}: {}{note}", port.name, types.join(" or "))
}

fn parameter_lines(schema: &Value, defaults: &Value) -> Vec<String> {
    let Some(properties) = schema["properties"].as_object() else { return Vec::new() };
    let line = |(name, property): (&String, &Value)| {
        let default = match &defaults[name] {
            Value::Null => String::new(),
            value => format!(" = {}", crate::reason::shown(value)),
        };
        let text = property["description"].as_str().unwrap_or_default().replace('\n', " ");
        format!("  {name}{default}\n      {text}")
    };
    properties.iter().map(line).collect()
}
