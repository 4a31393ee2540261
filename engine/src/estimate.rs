//! How long a plan would take and what it would cost, told from former executions and from previews.
//!
//! A node takes as long as the record of its stage whose parameters are nearest to its own; where its stage has none, as its
//! preview says, else as another stage of its kind took. What none of them tells stays unknown, and is counted as such: a
//! guess for a training out of nothing would be believed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;
use watershed_cache::Digest;

use crate::plan::{Planned, State};
use crate::record::Provenance;
use crate::session::Session;
use crate::study::StageDef;

/// Records looked at for each stage: those of a sweep's first cases say as much as all of them.
const SAMPLES: usize = 8;

/// What is known of the work that a plan would do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Estimate {
    /// Wall time of the nodes whose time is known, added up, in milliseconds.
    pub wall_ms: u64,
    /// Former executions that this comes from.
    pub from_runs: usize,
    /// Nodes of unknown time.
    pub unknown: usize,
    /// Paid requests, at most; `None` where no preview tells.
    pub calls: Option<u64>,
    /// Price in US dollars, at most; `None` where no preview tells.
    pub usd: Option<f64>,
    /// By line of the plan: milliseconds, where known and where there is work.
    pub lines: Vec<Option<u64>>,
}

/// One former execution.
struct Sample {
    key: Digest,
    params: BTreeMap<String, Value>,
    wall_ms: u64,
}

/// Estimates the work of a plan.
pub fn of(session: &Session, lines: &[Planned]) -> Estimate {
    let samples = samples(session, lines);
    let by_kind = by_kind(session, lines, &samples);
    let (mut estimate, mut used) = (Estimate::default(), BTreeSet::new());
    for line in lines {
        let stage = &session.graph.nodes[line.node].stage;
        let cost = line.preview.as_ref().map(|preview| &preview.cost);
        let own = samples.get(stage.name.as_str()).and_then(|samples| nearest(samples.iter(), stage));
        let seconds = cost.and_then(|cost| cost.seconds);
        let other = || by_kind.get(stage.kind.name).and_then(|samples| nearest(samples.iter().copied(), stage));
        let sample = own.or_else(|| if seconds.is_none() { other() } else { None });
        let wall_ms = sample.map(|sample| sample.wall_ms).or(seconds.map(|seconds| (seconds * 1000.0) as u64));
        let is_work = !matches!(line.state, State::Hit(..));
        estimate.lines.push(wall_ms.filter(|_| is_work));
        if is_work {
            estimate.wall_ms += wall_ms.unwrap_or(0);
            estimate.unknown += usize::from(wall_ms.is_none());
            used.extend(sample.map(|sample| sample.key));
            add(&mut estimate.calls, cost.and_then(|cost| cost.calls));
            add(&mut estimate.usd, cost.and_then(|cost| cost.usd));
        }
    }
    estimate.from_runs = used.len();
    estimate
}

fn add<N: std::ops::Add<Output = N> + Default + Copy>(sum: &mut Option<N>, more: Option<N>) {
    if let Some(more) = more {
        *sum = Some(sum.unwrap_or_default() + more);
    }
}

/// Returns former executions of the stages that have work to do, and of others of their kinds.
fn samples<'a>(session: &'a Session, lines: &[Planned]) -> HashMap<&'a str, Vec<Sample>> {
    let history = session.history.lock().expect("no thread panics while it holds this lock");
    let nodes = &session.graph.nodes;
    let is_work = |line: &&Planned| !matches!(line.state, State::Hit(..));
    let kinds: BTreeSet<&str> = lines.iter().filter(is_work).map(|l| nodes[l.node].stage.kind.name).collect();
    let mut samples = HashMap::new();
    for stage in lines.iter().map(|line| &nodes[line.node].stage).filter(|stage| kinds.contains(stage.kind.name)) {
        samples.entry(stage.name.as_str()).or_insert_with(|| {
            let keys = history.keys_of_stage(&session.study.name, &stage.name).take(SAMPLES);
            keys.filter_map(|key| sample(session, key)).collect()
        });
    }
    samples
}

fn sample(session: &Session, key: Digest) -> Option<Sample> {
    let provenance = Provenance::of(&session.store.peek(&key)?)?;
    Some(Sample { key, params: provenance.manifest.params, wall_ms: provenance.wall_ms })
}

/// Two commands have nothing in common but their kind, so kinds with inputs of any name tell nothing of each other.
fn by_kind<'s>(
    session: &Session,
    lines: &[Planned],
    samples: &'s HashMap<&str, Vec<Sample>>,
) -> HashMap<&'static str, Vec<&'s Sample>> {
    let stages: BTreeMap<&str, &StageDef> =
        lines.iter().map(|line| &*session.graph.nodes[line.node].stage).map(|s| (s.name.as_str(), s)).collect();
    let mut found: HashMap<&'static str, Vec<&Sample>> = HashMap::new();
    for stage in stages.into_values().filter(|stage| !stage.ports.open_inputs) {
        found.entry(stage.kind.name).or_default().extend(samples.get(stage.name.as_str()).into_iter().flatten());
    }
    found
}

/// Returns the sample whose parameters differ least from a stage's, the newest among equals.
fn nearest<'s>(samples: impl Iterator<Item = &'s Sample>, stage: &StageDef) -> Option<&'s Sample> {
    samples.min_by_key(|sample| {
        let others = sample.params.iter().filter(|(path, value)| stage.differing.get(*path) != Some(*value)).count();
        let missing = stage.differing.keys().filter(|path| !sample.params.contains_key(*path)).count();
        others + missing
    })
}
