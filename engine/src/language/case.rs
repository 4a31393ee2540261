//! One case of a pipeline, from its tree (overrides applied) to its checked stages.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::code;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::language::input::{self, Bound, Sources, Writer};
use crate::language::interpolate::{EnvUsed, Scope};
use crate::language::kinds::{KindEntry, Kinds};
use crate::language::nearest::{did_you_mean, listed};
use crate::language::params;
use crate::language::pipeline::{self, Pipeline, StageText};
use crate::language::place::Place;
use crate::language::{expect, follow, run_keys};
use crate::node::{Data, Node, Span};
use crate::study::{Binding, CaseRef, Expectation, RunKeys, Source, StageDef};

/// What all cases of a pipeline share.
pub struct Context<'a> {
    /// The kinds there are.
    pub kinds: &'a Kinds,
    /// Folders and files.
    pub place: &'a Place,
    /// Sweeps and their cases.
    pub sweeps: &'a BTreeMap<String, Vec<String>>,
    /// Reads the environment.
    pub lookup: fn(&str) -> Option<String>,
    /// Stages whose inputs are not looked at.
    pub given: &'a HashSet<String>,
}

/// A case after its checks.
#[derive(Default)]
pub struct Checked {
    /// `name:` of the pipeline.
    pub name: Option<String>,
    /// Its stages, in the order of the file.
    pub stages: Vec<Arc<StageDef>>,
    /// Which stage reads which.
    pub edges: Vec<Edge>,
    /// Its thresholds.
    pub expect: Vec<Expectation>,
    /// What its stages write, in the order of the file.
    pub writers: Vec<Writer>,
}

/// A stage that reads another.
pub struct Edge {
    /// The reader.
    pub from: String,
    /// The stage it reads.
    pub to: String,
    /// Which case of that stage.
    pub case: CaseRef,
    /// Where the input stands.
    pub span: Span,
}

/// A stage whose parameters are known, but whose inputs are not.
struct Draft<'a> {
    text: &'a StageText<'a>,
    entry: Option<&'a KindEntry>,
    params: Option<params::Params>,
    inputs: Option<Node>,
    env: EnvUsed,
    run: RunKeys,
}

/// Checks one case.
pub fn check(tree: &Node, context: &Context<'_>, faults: &mut Diagnostics) -> Checked {
    let text = pipeline::read(tree, faults);
    let scope = Scope::new(text.params, &text.env, context.lookup);
    if let Some(run) = text.run {
        run_keys::check_defaults(&scope.fill(run, &mut EnvUsed::new(), faults), context.kinds, faults);
    }
    let mut drafts: Vec<Draft<'_>> = Vec::with_capacity(text.stages.len());
    for stage in &text.stages {
        // Those left out would look unknown to their readers.
        if faults.is_full() {
            return Checked::default();
        }
        drafts.push(draft(stage, &text, &scope, context, faults));
    }
    let mut writers: Vec<Writer> = drafts.iter().map(writer).collect();
    let by_name = drafts.iter().enumerate().map(|(index, d)| (d.text.key.text.as_str(), index)).collect();
    let on_trial = |writers: &[Writer], index: usize, faults: &mut Diagnostics| {
        input::bind(&writers[index], drafts[index].inputs.as_ref(), &sources(writers, &by_name, context), faults)
    };
    follow::settle(&mut writers, on_trial, faults);
    let sources = sources(&writers, &by_name, context);
    let bound: Vec<Vec<Bound>> = drafts
        .iter()
        .zip(&writers)
        .map(|(d, writer)| match context.given.contains(&writer.name) {
            true => Vec::new(),
            false => input::bind(writer, d.inputs.as_ref(), &sources, faults),
        })
        .collect();
    let expect = text.expect.map(|node| expect::read(node, &writers, faults)).unwrap_or_default();
    let edges =
        writers.iter().zip(&bound).flat_map(|(reader, list)| list.iter().filter_map(|b| edge(reader, b))).collect();
    let fetched = sources.fetches.into_inner();
    let fetchers = fetched.values().filter_map(|fetch| Some(fetch.define(context.kinds.fetcher()?)));
    let own = drafts.into_iter().zip(&writers).zip(bound).filter_map(|((d, w), b)| finish(d, w, b)).map(Arc::new);
    let stages = fetchers.chain(own).collect();
    Checked { name: text.name.map(str::to_string), stages, edges, expect, writers }
}

/// The stages around one that is checked alone.
pub struct Neighbours<'a> {
    case: &'a Checked,
    by_name: HashMap<&'a str, usize>,
}

impl<'a> Neighbours<'a> {
    /// Takes them from a case.
    pub fn of(case: &'a Checked) -> Neighbours<'a> {
        let by_name = case.writers.iter().enumerate().map(|(index, writer)| (writer.name.as_str(), index)).collect();
        Neighbours { case, by_name }
    }
}

/// Checks the only stage of `text` among the stages of a case; `None` when they cannot stay as they are: it has other ports,
/// or reads other stages or files to fetch.
pub fn check_alone(
    text: &Pipeline<'_>,
    context: &Context<'_>,
    neighbours: &Neighbours<'_>,
    faults: &mut Diagnostics,
) -> Option<StageDef> {
    let scope = Scope::new(text.params, &text.env, context.lookup);
    let draft = draft(text.stages.first()?, text, &scope, context, faults);
    let own = writer(&draft);
    let before = &neighbours.case.writers[*neighbours.by_name.get(own.name.as_str())?];
    let follows = own.ports.iter().flat_map(|ports| &ports.outputs).any(|out| out.follows.is_some());
    if own.ports != before.ports || follows {
        return None;
    }
    let sources = sources(&neighbours.case.writers, &neighbours.by_name, context);
    let bound = input::bind(&own, draft.inputs.as_ref(), &sources, faults);
    let reads: Vec<(&str, &CaseRef)> = bound.iter().filter_map(|(binding, _)| source_of(binding)).collect();
    let read = neighbours.case.edges.iter().filter(|edge| edge.from == own.name);
    let read: Vec<(&str, &CaseRef)> = read.map(|edge| (edge.to.as_str(), &edge.case)).collect();
    if reads != read {
        return None;
    }
    finish(draft, &own, bound)
}

fn source_of(binding: &Binding) -> Option<(&str, &CaseRef)> {
    match &binding.source {
        Source::Output { stage, case, .. } => Some((stage, case)),
        Source::Path { .. } => None,
    }
}

fn sources<'a>(stages: &'a [Writer], by_name: &'a HashMap<&'a str, usize>, context: &'a Context<'a>) -> Sources<'a> {
    Sources {
        stages,
        by_name,
        sweeps: context.sweeps,
        place: context.place,
        lookup: context.lookup,
        can_fetch: context.kinds.fetcher().is_some(),
        fetches: RefCell::default(),
    }
}

fn edge(reader: &Writer, (binding, span): &Bound) -> Option<Edge> {
    let (stage, case) = source_of(binding)?;
    Some(Edge { from: reader.name.clone(), to: stage.to_string(), case: case.clone(), span: *span })
}

fn draft<'a>(
    text: &'a StageText<'a>,
    pipeline: &Pipeline<'a>,
    scope: &Scope<'_>,
    context: &Context<'a>,
    faults: &mut Diagnostics,
) -> Draft<'a> {
    let entry = text.kind.and_then(|node| find_kind(node, context.kinds, faults));
    let mut env = EnvUsed::new();
    let count = faults.errors.len();
    let empty = Node::new(Data::Map(Vec::new()), text.key.span);
    let with = scope.fill_params(text.with.filter(|w| !w.is_null()).unwrap_or(&empty), &mut env, faults);
    let is_filled = faults.errors.len() == count;
    let inputs = text.inputs.map(|node| scope.fill(node, &mut EnvUsed::new(), faults));
    let own_run = text.run.map(|node| scope.fill(node, &mut EnvUsed::new(), faults));
    let name = &text.key.text;
    let params = entry.filter(|_| is_filled).and_then(|e| params::check(name, text.key.span, &with, e, faults));
    let run = entry.map(|e| run_keys::read(name, own_run.as_ref(), pipeline.run, e, faults)).unwrap_or_default();
    Draft { text, entry, params, inputs, env, run }
}

fn find_kind<'k>(node: &Node, kinds: &'k Kinds, faults: &mut Diagnostics) -> Option<&'k KindEntry> {
    let name = node.as_text().unwrap_or_default();
    let found = kinds.entry(name);
    if found.is_none() {
        let fault = Diagnostic::at(code::UNKNOWN_KIND, node.span, format!("there is no kind {}", node.quoted()));
        faults.push(fault.label(did_you_mean(name, kinds.names())).help(listed("kinds", kinds.names())));
    }
    found
}

/// Returns what other stages may read of a stage. Where its parameters are wrong, its ports are those of the defaults,
/// unless they may depend on parameters.
fn writer(draft: &Draft<'_>) -> Writer {
    let ports = draft.entry.and_then(|entry| match &draft.params {
        Some(params) => Some((entry.kind.ports)(&params.resolved)),
        None => Some((entry.kind.ports)(&Value::Null)).filter(|ports| !ports.open_inputs),
    });
    Writer {
        name: draft.text.key.text.clone(),
        span: draft.text.key.span,
        kind: draft.entry.map(|e| e.kind.name),
        ports,
    }
}

/// Joins what is known of a stage; one of an unknown kind is left out.
fn finish(draft: Draft<'_>, writer: &Writer, bound: Vec<Bound>) -> Option<StageDef> {
    let entry = draft.entry?;
    let kind = entry.kind.clone();
    let is_bound = |port: &str| bound.iter().any(|(binding, _)| binding.port == port);
    let params = draft.params.map(|params| params.settled(entry, &is_bound));
    let (resolved, differing) = params.map_or((json!({}), BTreeMap::new()), |p| (p.resolved, p.differing));
    Some(StageDef {
        name: writer.name.clone(),
        line: draft.text.key.span.line,
        kind,
        params: resolved,
        differing,
        ports: writer.ports.clone().unwrap_or_default(),
        inputs: bound.into_iter().map(|(binding, _)| binding).collect(),
        env: draft.env,
        run: draft.run,
        allow_missing: draft.text.allow_missing,
    })
}
