//! Override paths of `--set` and of sweeps, applied to the tree before anything else looks at it.
//!
//! `params.NAME`, `STAGE.key` (short for `stages.STAGE.with.key`), `STAGE.in.PORT`, `STAGE.run.KEY`. Whether a parameter of
//! that name exists is for the schema to say: the override is checked like any other text, at its own place.

use crate::code;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::language::nearest::{did_you_mean, listed};
use crate::node::{Data, Key, Node, Span};
use crate::yaml;

/// One override: where, and what.
#[derive(Debug, Clone)]
pub struct Override {
    /// Path as written.
    pub path: String,
    /// Where the path stands.
    pub span: Span,
    /// The new value.
    pub value: Node,
}

/// Reads the `--set` options.
pub fn read(typed: &[String], faults: &mut Diagnostics) -> Vec<Override> {
    let mut all = Vec::new();
    for (index, text) in typed.iter().enumerate() {
        let span = Span::command_line(index);
        let Some((path, value)) = text.split_once('=') else {
            faults.push(
                Diagnostic::at(code::BAD_OVERRIDE, span, format!("`{text}` has no `=`")).help("write `path=value`"),
            );
            continue;
        };
        match yaml::parse_value(value, span) {
            Ok(value) => all.push(Override { path: path.trim().to_string(), span, value }),
            Err(fault) => faults.push(*fault),
        }
    }
    all
}

/// Puts an override into the tree of a pipeline.
pub fn apply(tree: &mut Node, change: &Override, faults: &mut Diagnostics) {
    match target(tree, &change.path) {
        Ok(path) => {
            if let Err(fault) = set(tree, &path, change) {
                faults.push(*fault);
            }
        }
        Err((message, near, help)) => {
            faults.push(Diagnostic::at(code::BAD_OVERRIDE, change.span, message).label(near).help(help));
        }
    }
}

/// Says what is wrong with an override path, without applying it.
pub fn check(tree: &Node, path: &str, span: Span, faults: &mut Diagnostics) {
    if let Err((message, near, help)) = target(tree, path) {
        faults.push(Diagnostic::at(code::BAD_OVERRIDE, span, message).label(near).help(help));
    }
}

/// What an override path reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim<'p> {
    /// `params.…`
    Params,
    /// A stage.
    Stage(&'p str),
}

/// Returns what a path reaches, whether or not it is there.
pub fn aim(path: &str) -> Aim<'_> {
    let stage = path.strip_prefix("stages.").unwrap_or(path);
    let head = stage.split('.').next().unwrap_or(stage);
    if path.starts_with("params.") { Aim::Params } else { Aim::Stage(head) }
}

/// Message, nearest name, help.
type Refusal = (String, String, String);

/// Spells a path out from the root of the tree.
fn target<'p>(tree: &Node, path: &'p str) -> Result<Vec<&'p str>, Refusal> {
    let segments: Vec<&str> = path.split('.').collect();
    let forms = "write `params.NAME`, `STAGE.key`, `STAGE.in.PORT` or `STAGE.run.KEY`";
    if segments.len() < 2 || segments.iter().any(|s| s.is_empty()) {
        return Err((format!("`{path}` is no override path"), String::new(), forms.into()));
    }
    let spelled = match segments[..] {
        ["params", ..] => return known_param(tree, path, segments),
        ["stages", stage, part @ ("with" | "in" | "run"), ..] => [&["stages", stage, part], &segments[3..]].concat(),
        ["stages", ..] => {
            let message = format!("`{path}` is no override path");
            return Err((message, String::new(), "the long form is `stages.STAGE.with.key`".into()));
        }
        [stage, part @ ("in" | "run"), ..] => [&["stages", stage, part], &segments[2..]].concat(),
        [stage, ..] => [&["stages", stage, "with"], &segments[1..]].concat(),
        [] => Vec::new(),
    };
    known_stage(tree, path, spelled)
}

fn known_param<'p>(tree: &Node, path: &str, segments: Vec<&'p str>) -> Result<Vec<&'p str>, Refusal> {
    let message = format!("there is no parameter `{path}`");
    let Some(params) = tree.get("params").filter(|params| params.as_map().is_some_and(|map| !map.is_empty())) else {
        return Err((message, String::new(), "the pipeline has no parameters; write `params:` with some first".into()));
    };
    let mut node = params;
    for segment in &segments[1..] {
        let Some(next) = node.get(segment) else {
            let near = did_you_mean(segment, names_in(node));
            let around = if node.as_map().is_some() { node } else { params };
            return Err((message, near, listed("parameters", names_in(around))));
        };
        node = next;
    }
    Ok(segments)
}

fn names_in(map: &Node) -> impl Iterator<Item = &str> {
    map.as_map().unwrap_or_default().iter().map(|(key, _)| key.text.as_str())
}

fn known_stage<'p>(tree: &Node, path: &str, spelled: Vec<&'p str>) -> Result<Vec<&'p str>, Refusal> {
    let stages = tree.get("stages").and_then(Node::as_map).unwrap_or_default();
    let names = || stages.iter().map(|(key, _)| key.text.as_str());
    if names().any(|name| name == spelled[1]) {
        return Ok(spelled);
    }
    let message = format!("`{path}` overrides stage `{}`, which there is not", spelled[1]);
    Err((message, did_you_mean(spelled[1], names().chain(["params"])), listed("stages", names())))
}

/// Replaces the value at `path`, making the maps on the way there.
fn set(tree: &mut Node, path: &[&str], change: &Override) -> Result<(), Box<Diagnostic>> {
    let mut node = tree;
    for (depth, segment) in path.iter().enumerate() {
        if node.is_null() {
            node.data = Data::Map(Vec::new());
        }
        let described = node.describe();
        let Data::Map(entries) = &mut node.data else {
            let owner = path[..depth]
                .iter()
                .filter(|s| !matches!(**s, "stages" | "with"))
                .copied()
                .collect::<Vec<_>>()
                .join(".");
            let message = format!("`{}` goes into `{owner}`, which is {described}", change.path);
            let fault = Diagnostic::at(code::BAD_OVERRIDE, change.span, message);
            return Err(Box::new(fault.help(format!("override `{owner}` as a whole, or what its `${{}}` names"))));
        };
        let index = entries.iter().position(|(key, _)| key.text == *segment).unwrap_or_else(|| {
            let key = Key { text: (*segment).to_string(), span: change.span };
            entries.push((key, Node::new(Data::Null, change.span)));
            entries.len() - 1
        });
        // What is wrong with the new value is to be shown where it was written, key and all.
        if depth + 1 == path.len() && depth > 1 {
            entries[index].0.span = change.span;
        }
        node = &mut entries[index].1;
    }
    *node = change.value.clone();
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn after(set: &str) -> Result<serde_json::Value, Diagnostics> {
        let text = "params: {lr: 1, m: {k: 1}}\nstages:\n  a: {use: x, in: b, with: {lora: {r: 8}}}\n  b: {use: y}\n";
        let mut tree = yaml::parse(text).unwrap();
        let mut faults = Diagnostics::default();
        for change in read(&[set.to_string()], &mut faults) {
            apply(&mut tree, &change, &mut faults);
        }
        if faults.is_empty() { Ok(tree.to_json()) } else { Err(faults) }
    }

    #[test]
    fn short_and_long_paths_reach_the_same_place() {
        for path in ["a.lora.r", "stages.a.with.lora.r"] {
            assert_eq!(after(&format!("{path}=16")).unwrap()["stages"]["a"]["with"], json!({"lora": {"r": 16}}));
        }
        assert_eq!(after("b.seed=[1, x]").unwrap()["stages"]["b"]["with"], json!({"seed": [1, "x"]}));
        assert_eq!(after("b.run.cpus=2").unwrap()["stages"]["b"]["run"], json!({"cpus": 2}));
        assert_eq!(after("a.in=c.d").unwrap()["stages"]["a"]["in"], json!("c.d"));
        assert_eq!(after("params.m.k=text").unwrap()["params"]["m"]["k"], json!("text"));
    }

    #[test]
    fn unknown_paths_are_faults_with_the_nearest_name() {
        for set in
            ["c.r=1", "params.lrr=1", "a=1", "a..r=1", "stages.a.use=z", "a.in.port=z", "a.lora.r.x=1", "nothing"]
        {
            let faults = after(set).expect_err(set);
            assert_eq!(faults.errors[0].code, code::BAD_OVERRIDE, "{set}: {faults}");
        }
        assert_eq!(after("params.lrr=1").unwrap_err().errors[0].label, "did you mean `lr`?");
    }

    #[test]
    fn an_unknown_parameter_is_told_those_that_there_are() {
        let help = |set: &str| after(set).unwrap_err().errors[0].help.clone();
        assert_eq!(help("params.x=1"), Some("parameters: lr, m".into()));
        assert_eq!(help("params.m.x=1"), Some("parameters: k".into()));
        assert_eq!(help("params.lr.x=1"), Some("parameters: lr, m".into()), "a number has none inside");
        for text in ["stages: {}\n", "params: {}\n"] {
            let help = target(&yaml::parse(text).unwrap(), "params.x").unwrap_err().2;
            assert_eq!(help, "the pipeline has no parameters; write `params:` with some first");
        }
    }
}
