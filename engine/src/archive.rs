//! Former runs, read back from their logs: what `show`, `runs`, `log`, `get --run` and the report are made of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use watershed_cache::{ActionResult, Digest, Store};

use crate::event::{Event, Reason};
use crate::metrics::{self, Metrics};
use crate::runlog::{self, Entry};

/// One run as its log tells it.
pub struct Run {
    /// Its id.
    pub id: String,
    /// Name of the pipeline.
    pub pipeline: String,
    /// The pipeline file as the log names it.
    pub file: String,
    /// Sweep that was run.
    pub sweep: Option<String>,
    /// When it began, milliseconds since 1970 UTC.
    pub started_ms: u64,
    /// `ok`, `failed`, …; `unfinished` when it was killed or still runs.
    pub outcome: String,
    /// Wall time; up to the last line for an unfinished run.
    pub wall_ms: u64,
    /// Its nodes in the order of the graph.
    pub nodes: Vec<RunNode>,
    /// Lines of `expect:` with what was found.
    pub expectations: Vec<(String, String, Option<f64>, bool)>,
}

/// One node of a run.
#[derive(Debug, Clone, Default)]
pub struct RunNode {
    /// Stage.
    pub stage: String,
    /// Case, if it belongs to exactly one.
    pub case: Option<String>,
    /// All its cases.
    pub cases: Vec<String>,
    /// Kind.
    pub kind: String,
    /// Parameters that differ from their defaults.
    pub params: BTreeMap<String, Value>,
    /// Titles of the nodes it read.
    pub reads: Vec<String>,
    /// `ran`, `hit`, `failed`, `skipped`, or `unfinished`.
    pub outcome: String,
    /// Action key, if it was known.
    pub key: Option<Digest>,
    /// Why it ran.
    pub reasons: Vec<Reason>,
    /// When it began to execute, milliseconds since the run began.
    pub started_ms: Option<u64>,
    /// Wall time of the execution, also of a hit's.
    pub wall_ms: u64,
    /// Why it failed or was skipped.
    pub error: Option<String>,
}

impl RunNode {
    /// Returns the name under which tables show it.
    pub fn title(&self) -> String {
        crate::graph::title(&self.stage, &self.cases)
    }

    /// Returns the record behind the node, if it is still in the store.
    pub fn record(&self, store: &Store) -> Option<ActionResult> {
        store.peek(&self.key?)
    }

    /// Returns the numbers in the node's outputs of type `metrics`.
    pub fn metrics(&self, store: &Store) -> Metrics {
        self.record(store).map(|record| metrics::of_record(store, &record)).unwrap_or_default()
    }
}

impl Run {
    /// Reads the run in a folder.
    ///
    /// # Errors
    /// When its log cannot be read or holds no whole line.
    pub fn read(folder: &Path) -> std::io::Result<Run> {
        let entries = runlog::read(folder)?;
        if entries.is_empty() {
            return Err(std::io::Error::other("the run log has no whole line"));
        }
        let mut run = begin(&entries).unwrap_or_else(|| nameless(folder));
        for entry in &entries {
            if let Event::Unchanged { since } = &entry.event {
                run.nodes = served(Run::read(&folder.with_file_name(since))?);
            }
            run.take(entry);
        }
        Ok(run)
    }

    fn take(&mut self, entry: &Entry) {
        if self.outcome == "unfinished" {
            self.wall_ms = entry.t_ms;
        }
        match &entry.event {
            Event::StagePlanned { stage, case, cases, kind, params, reads } => self.nodes.push(RunNode {
                stage: stage.clone(),
                case: case.clone(),
                cases: cases.clone(),
                kind: kind.clone(),
                params: params.clone(),
                reads: reads.clone(),
                outcome: "unfinished".into(),
                ..RunNode::default()
            }),
            Event::StageStarted { stage, cases, key, reasons, .. } => {
                let started = entry.t_ms;
                if let Some(node) = self.node(stage, cases) {
                    node.started_ms = Some(started);
                    node.key = Digest::parse(key);
                    node.reasons.clone_from(reasons);
                }
            }
            Event::StageFinished { stage, cases, outcome, key, reasons, wall_ms, error, .. } => {
                if let Some(node) = self.node(stage, cases) {
                    node.outcome.clone_from(outcome);
                    node.key = Digest::parse(key).or(node.key);
                    node.reasons.clone_from(reasons);
                    node.wall_ms = *wall_ms;
                    node.error.clone_from(error);
                }
            }
            Event::DeterminismChecked { stage, cases, outcome, key, wall_ms, error, .. } => {
                if let Some(node) = self.node(stage, cases) {
                    node.outcome.clone_from(outcome);
                    node.key = Digest::parse(key).or(node.key);
                    node.wall_ms = *wall_ms;
                    node.error.clone_from(error);
                }
            }
            Event::Expectation { path, bound, value, held } => {
                self.expectations.push((path.clone(), bound.clone(), *value, *held));
            }
            Event::RunFinished { outcome, wall_ms, .. } => {
                self.outcome.clone_from(outcome);
                self.wall_ms = *wall_ms;
            }
            _ => {}
        }
    }

    fn node(&mut self, stage: &str, cases: &[String]) -> Option<&mut RunNode> {
        self.nodes.iter_mut().find(|n| n.stage == stage && n.cases == cases)
    }
}

fn begin(entries: &[Entry]) -> Option<Run> {
    let Event::RunStarted { run, pipeline, file, sweep, started_ms, .. } = &entries.first()?.event else { return None };
    Some(Run {
        id: run.clone(),
        pipeline: pipeline.clone(),
        file: file.clone(),
        sweep: sweep.clone(),
        started_ms: *started_ms,
        outcome: "unfinished".into(),
        wall_ms: 0,
        nodes: Vec::new(),
        expectations: Vec::new(),
    })
}

/// The nodes of a run as a later one finds them that has nothing to do.
fn served(run: Run) -> Vec<RunNode> {
    let hit = |node| RunNode { outcome: "hit".into(), reasons: Vec::new(), started_ms: None, ..node };
    run.nodes.into_iter().map(hit).collect()
}

/// A run whose first line is damaged: the folder still has its id, and later lines its results.
fn nameless(folder: &Path) -> Run {
    Run {
        id: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        pipeline: "?".into(),
        file: "?".into(),
        sweep: None,
        started_ms: 0,
        outcome: "unfinished".into(),
        wall_ms: 0,
        nodes: Vec::new(),
        expectations: Vec::new(),
    }
}

/// Finds a run folder by `last`, `last~N`, id or prefix.
///
/// # Errors
/// Says what was looked for and what there is.
pub fn find(runs: &Path, wanted: &str) -> Result<PathBuf, String> {
    let folders = runlog::list(runs);
    if folders.is_empty() {
        return Err(format!("there is no run in `{}`; `watershed run` makes one", runs.display()));
    }
    let back = match wanted {
        "last" => Some(0),
        _ => wanted.strip_prefix("last~").and_then(|n| n.parse::<usize>().ok()),
    };
    if let Some(back) = back {
        return folders.get(back).cloned().ok_or_else(|| format!("there are only {} runs", folders.len()));
    }
    let named = |f: &&PathBuf| f.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(wanted));
    match folders.iter().filter(named).collect::<Vec<_>>().as_slice() {
        [] => Err(format!("there is no run `{wanted}`; `watershed runs` lists them")),
        [only] => Ok((*only).clone()),
        several => Err(format!("`{wanted}` begins the names of {} runs; write more of it", several.len())),
    }
}
