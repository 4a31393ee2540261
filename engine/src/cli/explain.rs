//! `explain`: what a code means, how to mend it, and an example of each.

use clap::Args;
use serde_json::{Value, json};

use super::{Common, Format, out};
use crate::code::{self, Code, Example};

/// Options of `explain`.
#[derive(Args)]
pub struct Options {
    /// Code of a fault or a lint, for example E014; without it, all are listed.
    code: Option<String>,
}

pub fn explain(options: &Options, common: &Common) -> i32 {
    let Some(name) = &options.code else { return list(common) };
    let Some(code) = code::find(name) else {
        out::complain(format!("error: there is no code `{name}`; `watershed explain` lists all"));
        return 2;
    };
    match common.format {
        Format::Json => out::json(&document(code)),
        _ => out::say(page(code)),
    }
    0
}

fn list(common: &Common) -> i32 {
    let all = || code::ALL.iter().chain(code::LINTS);
    match common.format {
        Format::Json => {
            let codes: Vec<Value> = all().map(|c| json!({"code": c.code, "title": c.title})).collect();
            out::json(&json!({"codes": codes}));
        }
        _ => all().for_each(|c| out::say(format!("{}  {}", c.code, c.title))),
    }
    0
}

fn document(code: &Code) -> Value {
    json!({"code": code.code, "title": code.title, "text": code.text, "bad": code.bad(), "good": code.good()})
}

fn page(code: &Code) -> String {
    format!(
        "{}: {}\n\n{}\n\n{}\n{}",
        code.code,
        code.title,
        code.text,
        shown("wrong", code.bad()),
        shown("right", code.good())
    )
}

fn shown(verdict: &str, example: Example) -> String {
    let lines: Vec<String> = example.text.lines().map(|line| format!("    {line}")).collect();
    format!("{verdict}, under `{}`:\n\n{}\n", example.command, lines.join("\n"))
}
