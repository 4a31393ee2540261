//! A run after an edit of one stage: only that stage and what reads it are loaded and walked; the rest is as the last run left it.
//!
//! It needs a compiled plan that holds in all but the pipeline's text. Whatever is not plain (an edit of two stages, a fault, a
//! stage that came or went, a lost result) sends the run the long way, which finds the same and tells it.

use std::path::Path;

use watershed_cache::{ActionResult, Store};

use crate::compiled::Compiled;
use crate::language::{self, Kinds, LoadRequest};
use crate::layout::Layout;
use crate::session::Session;
use crate::stage::Home;
use crate::walk::{Given, Tally};

/// Bytes of stored inputs up to which they are read before the run, so that damage sends it the long way.
const MOST_READ: u64 = 16 << 20;

/// Edits of which each builds on the one before: reading such a run's log means reading all of theirs.
pub const DEEPEST: u32 = 16;

/// What an edit concerns.
pub struct Edit {
    /// The stages concerned, and those that they read.
    pub session: Session,
    /// Outputs of stages that are only read.
    pub given: Given,
    /// The run whose nodes all others are.
    pub since: String,
    /// How many others there are.
    pub others: usize,
    compiled: Compiled,
    layout: Layout,
    concerned: Vec<usize>,
}

impl Edit {
    /// Finds what an edit concerns; `None` sends the run the long way. `request` is that of the whole pipeline.
    pub fn find(compiled: Compiled, layout: &Path, request: &LoadRequest, cache: &Path, kinds: &Kinds) -> Option<Edit> {
        (compiled.depth < DEEPEST).then_some(())?;
        let former = Layout::load(layout, &compiled.since)?;
        let text = std::fs::read_to_string(&request.file).ok()?;
        let edited = former.edited(&text)?;
        let layout = former.moved(text, edited)?;
        let concerned = layout.below(edited);
        let wanted = wanted(&layout, edited, &concerned);
        (2 * concerned.len() <= layout.stages.len()).then_some(())?;
        let session = open(&layout, &wanted, &concerned, request, cache, kinds)?;
        let given = given(&session, &layout, &wanted, &concerned)?;
        let (since, others) = (compiled.since.clone(), layout.stages.len() - concerned.len());
        Some(Edit { session, given, since, others, compiled, layout, concerned })
    }

    /// Returns the compiled plan after the edit's run.
    pub fn compiled(self, tally: &Tally, run: &str, began_ns: i128) -> Option<Compiled> {
        let mut layout = Layout { run: run.into(), ..self.layout };
        let mut gone = Vec::new();
        for &at in &self.concerned {
            let node = self.session.graph.find(layout.name(at), None)?;
            let reads = layout.reads_of(&self.session.graph.nodes[node].stage)?;
            let place = &mut layout.stages[at];
            gone.push(std::mem::replace(&mut place.key, tally.keys[node]?));
            place.reads = reads;
        }
        self.compiled.after_edit(&self.session, tally, layout, &gone, began_ns)
    }
}

/// Returns what has to be read: the stages concerned, what they read, and the stage behind the edited one.
fn wanted(layout: &Layout, edited: usize, concerned: &[usize]) -> Vec<usize> {
    let reads = concerned.iter().flat_map(|&stage| &layout.stages[stage].reads);
    let behind = Some(edited + 1).filter(|&next| next < layout.stages.len());
    let mut wanted: Vec<usize> = concerned.iter().chain(reads).copied().chain(behind).collect();
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

/// Loads the excerpt. Its stages must be those that were wanted: another name means that the edit reached beyond its stage.
fn open(
    layout: &Layout,
    wanted: &[usize],
    concerned: &[usize],
    request: &LoadRequest,
    cache: &Path,
    kinds: &Kinds,
) -> Option<Session> {
    let name = |&at: &usize| layout.name(at).to_string();
    let only_read = wanted.iter().filter(|at| !concerned.contains(at)).map(name).collect();
    let request = LoadRequest { text: Some(layout.excerpt(wanted)), given: Some(only_read), ..request.clone() };
    let study = language::load(&request, kinds).ok()?;
    let stages = &study.cases.first()?.stages;
    let as_wanted = stages.len() == wanted.len() && stages.iter().zip(wanted).all(|(s, at)| s.name == name(at));
    let light = concerned.iter().all(|at| stages.iter().any(|s| s.name == name(at) && s.kind.home != Home::Torch));
    if as_wanted && light { Session::open(study, cache).ok() } else { None }
}

/// Reads the results of the stages that are only read, and makes sure of their bytes.
fn given(session: &Session, layout: &Layout, wanted: &[usize], concerned: &[usize]) -> Option<Given> {
    let mut given = Given::new();
    for &at in wanted.iter().filter(|at| !concerned.contains(at)) {
        let place = &layout.stages[at];
        let result = session.store.look_up(&place.key)?;
        is_whole(&session.store, &result).then_some(())?;
        given.insert(session.graph.find(layout.name(at), None)?, result.outputs);
    }
    Some(given)
}

fn is_whole(store: &Store, result: &ActionResult) -> bool {
    let mut artifacts = result.outputs.values().filter(|stored| !stored.report).map(|stored| &stored.artifact);
    artifacts.clone().map(|artifact| artifact.size).sum::<u64>() <= MOST_READ
        && artifacts.all(|artifact| store.verify(artifact).is_ok())
}
