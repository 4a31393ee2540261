//! Where each value of a stage comes from: a place in the file, a `--set`, the environment, a preset, or the default.
//!
//! Found by looking at the tree again, after its overrides and before its `${}` are replaced; loading a pipeline for a run
//! keeps none of this.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::diagnostic::Diagnostics;
use crate::language::params::flatten;
use crate::language::place::Place;
use crate::language::{LoadRequest, overrides, read_text, roots, sweep};
use crate::node::Node;
use crate::study::{Binding, CaseRef, RunKeys, Source, StageDef};
use crate::yaml;

/// Most references that are followed from one to the next.
const MOST_STEPS: usize = 64;

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Path, as an override would name it.
    pub path: String,
    /// The value.
    pub value: Value,
    /// Its origin.
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The preset of this name.
    Preset(String),
    /// A place in the file: line and column. For a value behind `${params.NAME}`, where the parameter is, and its path.
    File(u32, u32, Option<String>),
    /// A `--set`, whole.
    Set(String),
    /// An environment variable.
    Environment(String),
}

impl Origin {
    /// Returns it as a person reads it; `file` is the pipeline.
    pub fn text(&self, file: &str) -> String {
        match self {
            Origin::Default => "default".into(),
            Origin::Preset(name) => format!("preset {name}"),
            Origin::File(line, column, None) => format!("{file}:{line}:{column}"),
            Origin::File(line, column, Some(param)) => format!("{file}:{line}:{column} ({param})"),
            Origin::Set(text) => format!("--set {text}"),
            Origin::Environment(name) => format!("environment {name}"),
        }
    }

    /// Returns its sort, for programs.
    pub fn sort(&self) -> &'static str {
        match self {
            Origin::Default => "default",
            Origin::Preset(_) => "preset",
            Origin::File(..) => "file",
            Origin::Set(_) => "set",
            Origin::Environment(_) => "env",
        }
    }
}

/// The tree of one case of a pipeline that loads without faults.
pub struct Origins {
    tree: Node,
    request: LoadRequest,
}

impl Origins {
    /// Reads the tree of a case of the request's sweep, or of the pipeline as it stands.
    pub fn read(request: &LoadRequest, case: Option<&str>) -> Option<Origins> {
        let mut ignored = Diagnostics::default();
        let mut tree = yaml::parse(&read_text(request).ok()?).ok()?;
        for change in overrides::read(&request.overrides, &mut ignored) {
            overrides::apply(&mut tree, &change, &mut ignored);
        }
        let sweeps = sweep::expand(&tree, request.max_cases, &mut ignored);
        let sweep = sweeps.iter().find(|s| request.sweep.as_deref() == Some(&s.key.text));
        let case = sweep.and_then(|s| s.cases.iter().find(|c| Some(c.name.as_str()) == case));
        for change in case.iter().flat_map(|c| &c.overrides) {
            overrides::apply(&mut tree, change, &mut ignored);
        }
        Some(Origins { tree, request: request.clone() })
    }

    /// Returns `params:` with the origins of its values.
    pub fn params(&self) -> Vec<Row> {
        let Some(params) = self.tree.get("params") else { return Vec::new() };
        let row = |(path, value): (String, Value)| {
            let path = format!("params.{path}");
            Row { origin: self.of(self.tree.along(&path).0), path, value }
        };
        flatten(&params.to_json()).into_iter().map(row).collect()
    }

    /// Returns the folders of `roots:`.
    pub fn roots(&self) -> Vec<Row> {
        let Ok(mut place) = Place::of(&self.request.file) else { return Vec::new() };
        roots::read(&self.tree, &mut place, self.request.env, &mut Diagnostics::default());
        let row = |(name, folder): (String, PathBuf)| {
            let node = self.tree.along(&format!("roots.{name}")).0;
            let variable = node.get("env").and_then(Node::as_text);
            let is_set = variable.filter(|name| roots::folder_in(name, self.request.env).is_some());
            let origin = match is_set {
                Some(variable) => Origin::Environment(variable.to_string()),
                None => self.of(node.get("default").unwrap_or(node)),
            };
            Row { path: format!("roots.{name}"), value: folder.display().to_string().into(), origin }
        };
        place.roots.into_iter().map(row).collect()
    }

    /// Returns inputs, parameters and `run` keys of a stage.
    pub fn stage(&self, stage: &StageDef) -> Vec<Row> {
        let inputs = stage.inputs.iter().map(|binding| self.input(stage, binding));
        let params = flatten(&stage.params).into_iter().map(|(path, value)| self.param(stage, &path, value));
        let run = run_keys(&stage.run).into_iter().map(|(key, value)| self.run_key(stage, &key, value));
        inputs.chain(params).chain(run).collect()
    }

    fn input(&self, stage: &StageDef, binding: &Binding) -> Row {
        let many = stage.ports.find_input(&binding.port).is_none_or(|port| port.arity.is_many());
        let label = if many { format!(".{}", binding.label) } else { String::new() };
        let path = format!("in.{}{label}", binding.port);
        let node = self.tree.along(&format!("stages.{}.{path}", stage.name)).0;
        Row { path: format!("{}.{path}", stage.name), value: shown(&binding.source).into(), origin: self.of(node) }
    }

    fn param(&self, stage: &StageDef, path: &str, value: Value) -> Row {
        let with = self.tree.along(&format!("stages.{}.with", stage.name));
        let given = Some(with).filter(|(_, is_there)| *is_there).and_then(|(with, _)| self.given(with, path));
        let preset = || self.preset(stage, path);
        let origin = given.or_else(preset).unwrap_or(Origin::Default);
        Row { path: format!("{}.{path}", stage.name), value, origin }
    }

    /// Returns the origin of a parameter that `with` says, itself or through a reference to a whole map.
    fn given(&self, with: &Node, path: &str) -> Option<Origin> {
        let (node, is_exact) = with.along(path);
        let is_reference = node.as_text().is_some_and(|text| text.contains("${"));
        (is_exact || is_reference).then(|| self.of(node))
    }

    fn preset(&self, stage: &StageDef, path: &str) -> Option<Origin> {
        let name = self.tree.along(&format!("stages.{}.with.preset", stage.name)).0.as_text()?;
        let (_, values) = (stage.kind.presets)().into_iter().find(|(known, _)| *known == name)?;
        flatten(&values).contains_key(path).then(|| Origin::Preset(name.to_string()))
    }

    fn run_key(&self, stage: &StageDef, key: &str, value: Value) -> Row {
        let places = [format!("stages.{}.run.{key}", stage.name), format!("run.{key}")];
        let given = places.iter().map(|path| self.tree.along(path)).find(|(_, is_there)| *is_there);
        let origin = given.map_or(Origin::Default, |(node, _)| self.of(node));
        Row { path: format!("{}.run.{key}", stage.name), value, origin }
    }

    /// Returns the origin of a value, behind the references that it is.
    fn of(&self, node: &Node) -> Origin {
        let (mut node, mut param) = (node, None);
        for _ in 0..MOST_STEPS {
            let name = node.as_text().and_then(|t| t.strip_prefix("${")?.strip_suffix('}'));
            match name.and_then(|name| name.split_once('.')) {
                Some(("env", variable)) => return Origin::Environment(variable.to_string()),
                Some(("params", path)) => {
                    let path = format!("params.{path}");
                    node = self.tree.along(&path).0;
                    param = Some(path);
                }
                _ => break,
            }
        }
        match node.span.line {
            0 => Origin::Set(self.request.overrides.get(node.span.column as usize).cloned().unwrap_or_default()),
            line => Origin::File(line, node.span.column, param),
        }
    }
}

/// Returns an input in its long form.
fn shown(source: &Source) -> String {
    match source {
        Source::Path { text, .. } => text.clone(),
        Source::Output { stage, port, inside, case } => {
            let case = match case {
                CaseRef::Same => String::new(),
                CaseRef::All => "@*".into(),
                CaseRef::Named { sweep, case } => format!("@{sweep}/{case}"),
            };
            let inside = inside.as_ref().map(|path| format!("/{path}")).unwrap_or_default();
            format!("{stage}{case}.{port}{inside}")
        }
    }
}

/// Returns the keys of `run` that have a value, in the units that they are kept in.
fn run_keys(run: &RunKeys) -> Vec<(String, Value)> {
    let common = json!({
        "cpus": run.cpus,
        "gpus": run.gpus,
        "memory": run.memory_bytes,
        "device": run.device,
        "timeout": run.timeout_ms.map(|ms| ms / 1000),
        "retries": run.retries,
        "checkpoint": run.checkpoint,
        "slurm": run.slurm,
    });
    flatten(&common).into_iter().chain(flatten(&run.own)).collect()
}
