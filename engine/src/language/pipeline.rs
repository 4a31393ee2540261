//! The parts of a pipeline's tree, each of the right form: what the later steps take apart.

use std::collections::HashSet;

use crate::code;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::language::interpolate::EnvNames;
use crate::language::nearest::{did_you_mean, listed};
use crate::node::{Data, Key, Node};

/// Names that a stage may not have, because override paths begin with them.
pub const RESERVED: [&str; 5] = ["params", "env", "sweeps", "stages", "case"];

const TOP_KEYS: [&str; 8] = ["name", "params", "env", "roots", "stages", "sweeps", "expect", "run"];
const STAGE_KEYS: [&str; 6] = ["use", "in", "with", "run", "allow_missing", "description"];

/// A pipeline's tree, taken apart. What has the wrong form is reported and missing here.
#[derive(Default)]
pub struct Pipeline<'a> {
    /// `name:`.
    pub name: Option<&'a str>,
    /// `params:`.
    pub params: Option<&'a Node>,
    /// `env:`.
    pub env: EnvNames,
    /// `roots:`.
    pub roots: Option<&'a Node>,
    /// `stages:` in the order of the file.
    pub stages: Vec<StageText<'a>>,
    /// `expect:`.
    pub expect: Option<&'a Node>,
    /// `run:`.
    pub run: Option<&'a Node>,
}

/// One stage as written.
pub struct StageText<'a> {
    /// Its name.
    pub key: &'a Key,
    /// `use:`.
    pub kind: Option<&'a Node>,
    /// `in:`.
    pub inputs: Option<&'a Node>,
    /// `with:`.
    pub with: Option<&'a Node>,
    /// `run:`.
    pub run: Option<&'a Node>,
    /// `allow_missing:`.
    pub allow_missing: bool,
}

/// Takes a tree apart.
pub fn read<'a>(tree: &'a Node, faults: &mut Diagnostics) -> Pipeline<'a> {
    let Some(entries) = expect_map(tree, "a pipeline", faults) else { return Pipeline::default() };
    let mut pipeline = Pipeline::default();
    for (key, value) in entries {
        match key.text.as_str() {
            "name" => pipeline.name = expect_text(value, "name", faults),
            "params" => pipeline.params = expect_map(value, "`params`", faults).map(|_| value),
            "env" => pipeline.env = read_env(value, faults),
            "roots" => pipeline.roots = expect_map(value, "`roots`", faults).map(|_| value),
            "stages" => pipeline.stages = read_stages(value, faults),
            "expect" => pipeline.expect = expect_map(value, "`expect`", faults).map(|_| value),
            "run" => pipeline.run = expect_map(value, "`run`", faults).map(|_| value),
            "sweeps" => drop(expect_map(value, "`sweeps`", faults)),
            _ => faults.push(unknown_key(key, "a pipeline", &TOP_KEYS)),
        }
    }
    if tree.get("stages").is_none_or(Node::is_null) {
        let help = "write `stages: {NAME: {use: KIND}}`; `watershed init` writes a pipeline that runs";
        faults.push(Diagnostic::at(code::WRONG_SHAPE, tree.span, "the pipeline has no stages").help(help));
    }
    pipeline
}

fn read_env(node: &Node, faults: &mut Diagnostics) -> EnvNames {
    let mut names = EnvNames::new();
    let refuse = |node: &Node, what: &str, wanted: &str| {
        let message = format!("`{what}`: expected {wanted}, found {}", node.describe());
        Diagnostic::at(code::WRONG_SHAPE, node.span, message).help("write `env: [HF_HOME]` or `env: {LANGUAGE: en}`")
    };
    match &node.data {
        Data::Null => {}
        Data::List(list) => {
            for node in list {
                match node.as_text() {
                    Some(name) => drop(names.insert(name.to_string(), None)),
                    None => faults.push(refuse(node, "env", "a name")),
                }
            }
        }
        Data::Map(entries) => {
            for (key, value) in entries {
                if matches!(value.data, Data::List(_) | Data::Map(_)) {
                    faults.push(refuse(value, &format!("env.{}", key.text), "text as default"));
                }
                names.insert(key.text.clone(), plain_text(value));
            }
        }
        _ => faults.push(refuse(node, "env", "a list of names, or a map of name to default")),
    }
    names
}

fn plain_text(node: &Node) -> Option<String> {
    match node.to_json() {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

fn read_stages<'a>(node: &'a Node, faults: &mut Diagnostics) -> Vec<StageText<'a>> {
    let entries = expect_map(node, "`stages`", faults).unwrap_or_default();
    let mut seen = HashSet::new();
    entries
        .iter()
        .filter_map(|(key, value)| {
            check_name(key, faults);
            seen.insert(key.text.as_str()).then(|| read_stage(key, value, faults))
        })
        .collect()
}

fn check_name(key: &Key, faults: &mut Diagnostics) {
    if RESERVED.contains(&key.text.as_str()) {
        let help = format!("call it otherwise: {} begin override paths", RESERVED.join(", "));
        let message = format!("a stage may not be called `{}`", key.text);
        return faults.push(Diagnostic::at(code::BAD_STAGE_NAME, key.span, message).help(help));
    }
    let first_is_fine = key.text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !first_is_fine
        || !key.text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        || key.text.len() > 100
    {
        let help = "begin with a letter or `_`, go on with letters, digits, `_` and `-`";
        let message = format!("`{}` is no name for a stage", crate::node::shorten(&key.text));
        faults.push(Diagnostic::at(code::BAD_STAGE_NAME, key.span, message).help(help));
    }
}

fn read_stage<'a>(key: &'a Key, node: &'a Node, faults: &mut Diagnostics) -> StageText<'a> {
    let mut stage = StageText { key, kind: None, inputs: None, with: None, run: None, allow_missing: false };
    let subject = format!("stage `{}`", key.text);
    let Some(entries) = expect_map(node, &subject, faults) else { return stage };
    for (key, value) in entries {
        match key.text.as_str() {
            "use" => stage.kind = Some(value),
            "in" => stage.inputs = Some(value),
            "with" => stage.with = expect_map(value, &format!("`with` of {subject}"), faults).map(|_| value),
            "run" => stage.run = expect_map(value, &format!("`run` of {subject}"), faults).map(|_| value),
            "allow_missing" => stage.allow_missing = expect_bool(value, "allow_missing", faults),
            "description" => drop(expect_text(value, "description", faults)),
            _ => faults.push(unknown_key(key, &subject, &STAGE_KEYS)),
        }
    }
    if stage.kind.is_none_or(Node::is_null) {
        let fault = Diagnostic::at(code::WRONG_SHAPE, key.span, format!("{subject} does not say its kind"));
        faults.push(fault.help("write `use: KIND`; `watershed kinds` lists them"));
        stage.kind = None;
    }
    stage
}

/// Returns the entries of a map; nothing counts as an empty one.
pub fn expect_map<'a>(node: &'a Node, what: &str, faults: &mut Diagnostics) -> Option<&'a [(Key, Node)]> {
    match &node.data {
        Data::Map(entries) => Some(entries),
        Data::Null => Some(&[]),
        _ => {
            let message = format!("{what}: expected a map, found {}", node.describe());
            faults.push(
                Diagnostic::at(code::WRONG_SHAPE, node.span, message)
                    .help("write `name: value` lines, indented below it"),
            );
            None
        }
    }
}

fn expect_text<'a>(node: &'a Node, what: &str, faults: &mut Diagnostics) -> Option<&'a str> {
    if node.as_text().is_none() {
        let message = format!("`{what}`: expected text, found {}", node.describe());
        faults.push(
            Diagnostic::at(code::WRONG_SHAPE, node.span, message).help("put it in quotes if it is meant as text"),
        );
    }
    node.as_text()
}

fn expect_bool(node: &Node, what: &str, faults: &mut Diagnostics) -> bool {
    if let Data::Bool(flag) = node.data {
        return flag;
    }
    let message = format!("`{what}`: expected `true` or `false`, found {}", node.describe());
    faults.push(Diagnostic::at(code::WRONG_SHAPE, node.span, message).help("write `true` or `false`"));
    false
}

/// Returns the fault of a key that a map of fixed keys does not have.
pub fn unknown_key(key: &Key, subject: &str, known: &[&str]) -> Diagnostic {
    Diagnostic::at(code::UNKNOWN_KEY, key.span, format!("unknown key `{}` in {subject}", key.text))
        .label(did_you_mean(&key.text, known.iter().copied()))
        .help(listed("known here", known.iter().copied()))
}
