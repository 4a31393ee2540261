//! `kinds`: what stages there are, and the ports and parameters of one, from its own documentation.

mod flow;
mod human;
mod markdown;
mod page;
mod parameter;

use clap::Args;
use serde_json::{Value, json};

use self::page::Page;
use super::{Common, Format, out};
use crate::stage::Kind;

/// Options of `kinds`.
#[derive(Args)]
pub struct Options {
    /// Kind to describe.
    kind: Option<String>,
}

pub fn kinds(options: &Options, common: &Common, kinds: fn() -> Vec<Kind>) -> i32 {
    let all: Vec<Kind> = kinds().into_iter().filter(|kind| !kind.fetches).collect();
    let chosen: Vec<&Kind> = all.iter().filter(|k| options.kind.as_deref().is_none_or(|n| n == k.name)).collect();
    if chosen.is_empty() {
        return unknown(options.kind.as_deref().unwrap_or_default(), &all);
    }
    if common.format == Format::Json {
        out::json(&json!({"kinds": chosen.iter().map(|k| document(k)).collect::<Vec<_>>()}));
        return 0;
    }
    let pages: Vec<Page> = chosen.into_iter().map(Page::of).collect();
    out::say(match (common.format, options.kind.is_some()) {
        (Format::Markdown, false) => markdown::reference(&pages).trim_end().to_string(),
        (Format::Markdown, true) => markdown::section(&pages[0]).trim_end().to_string(),
        (_, false) => list(&pages),
        (_, true) => human::describe(&pages[0]),
    });
    0
}

fn unknown(wanted: &str, all: &[Kind]) -> i32 {
    let names: Vec<&str> = all.iter().map(|k| k.name).collect();
    let help = crate::language::nearest(wanted, names.iter().copied())
        .map_or_else(|| format!("there are {}", names.join(", ")), |n| format!("did you mean `{n}`?"));
    out::complain(format!("error: there is no kind `{wanted}`; {help}"));
    2
}

fn document(kind: &Kind) -> Value {
    let ports = (kind.ports)(&(kind.defaults)());
    let inputs: Vec<Value> = ports
        .inputs
        .iter()
        .map(|p| json!({"name": p.name, "types": p.accepts, "required": p.arity.is_required(), "many": p.arity.is_many()}))
        .collect();
    let outputs: Vec<Value> =
        ports.outputs.iter().map(|p| json!({"name": p.name, "type": p.record, "class": p.class})).collect();
    let presets: serde_json::Map<String, Value> =
        (kind.presets)().into_iter().map(|(name, values)| (name.to_string(), values)).collect();
    let numbers: serde_json::Map<String, Value> =
        kind.numbers.iter().map(|(name, meaning)| (name.to_string(), Value::from(*meaning))).collect();
    json!({
        "kind": kind.name, "version": kind.version, "reproducible": kind.reproducible,
        "in": inputs, "open_inputs": ports.open_inputs, "out": outputs, "defaults": (kind.defaults)(),
        "presets": presets, "numbers": numbers, "schema": (kind.schema)(), "run_schema": (kind.run_schema)(),
    })
}

fn list(pages: &[Page]) -> String {
    let rows: Vec<Vec<String>> = pages.iter().map(|page| vec![page.name.to_string(), page.first_sentence()]).collect();
    let table = out::table(&["kind".into(), "what it does".into()], &rows);
    format!("{table}\n\n`watershed kinds KIND` prints its inputs, outputs and parameters")
}
