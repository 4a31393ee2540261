//! `doctor`: what this machine offers and lacks, each with its mend. Changes nothing and asks no network.

mod machine;
mod pipeline;
mod room;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::{Common, Format, open, out};
use crate::stage::Kind;

/// Options of `doctor`.
#[derive(Args)]
pub struct Options {
    /// Pipeline whose needs are looked at too (default watershed.yaml, if it is there).
    file: Option<PathBuf>,
}

/// How something is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Worth knowing; nothing fails by it.
    Note,
    Problem,
}

/// One thing that was looked at.
#[derive(Serialize)]
struct Finding {
    what: &'static str,
    state: State,
    found: String,
    help: Option<String>,
}

impl Finding {
    fn new(what: &'static str, state: State, found: impl Into<String>) -> Finding {
        Finding { what, state, found: found.into(), help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Finding {
        self.help = Some(help.into());
        self
    }
}

pub fn doctor(options: &Options, common: &Common, kinds: fn() -> Vec<Kind>) -> i32 {
    let file = options.file.clone().unwrap_or_else(|| PathBuf::from("watershed.yaml"));
    let root = crate::language::root_of(&file).unwrap_or_default();
    let mut all = machine::findings();
    all.extend(room::findings(&root, &open::cache_of(&root, common)));
    all.extend(pipeline::findings(&file, options.file.is_some(), kinds));
    match common.format {
        Format::Json => out::json(&json!({"checks": all})),
        _ => all.iter().for_each(say),
    }
    if all.iter().any(|finding| finding.state == State::Problem) { 6 } else { 0 }
}

fn say(finding: &Finding) {
    let (sign, style) = match finding.state {
        State::Ok => ("ok  ", "32"),
        State::Note => ("note", "33"),
        State::Problem => ("BAD ", "31"),
    };
    out::say(format!("{}  {:10} {}", out::styled(style, sign), finding.what, finding.found));
    if let Some(help) = &finding.help {
        out::say(format!("{:18}{help}", ""));
    }
}
