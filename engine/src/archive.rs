//! Former runs, read back from their logs: what `show`, `runs`, `log`, `get --run` and the report are made of.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde_json::Value;
use watershed_cache::{ActionResult, Digest, Store};

use crate::event::{self, Event, Reason};
use crate::language;
use crate::metrics::{self, Metrics};
use crate::runlog::{self, Entry};
use crate::settings::Settings;
use crate::verdict::Verdict;

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
    /// `ok`, `failed`, …; `running` while it goes, `unfinished` when it was killed.
    pub outcome: String,
    /// Wall time; up to the last line for an unfinished run.
    pub wall_ms: u64,
    /// The cases of the sweep, in the order of the file.
    pub cases: Vec<RunCase>,
    /// Its nodes in the order of the graph.
    pub nodes: Vec<RunNode>,
    /// Lines of `expect:` with what was found.
    pub expectations: Vec<Verdict>,
}

/// One case of the sweep that was run.
#[derive(Debug, Clone)]
pub struct RunCase {
    /// Its name.
    pub name: String,
    /// What it has at the paths that the sweep's cases set.
    pub set: Settings,
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
    /// `ran`, `hit`, `failed`, `skipped`; `waiting` and `running` in a run that goes on, `unfinished` in one that was killed,
    /// `unneeded` when the run was asked for other stages.
    pub outcome: String,
    /// What a stage under way last told of its progress.
    pub progress: Option<String>,
    /// What it warned of in this run.
    pub warnings: Vec<String>,
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
    /// `diverged` where a failure was that.
    pub fault: Option<String>,
}

impl RunNode {
    /// Returns the name under which tables show it.
    pub fn title(&self) -> String {
        crate::graph::title(&self.stage, &self.cases)
    }

    /// Returns how it ended, as tables show it: its outcome, or the sort of its failure.
    pub fn word(&self) -> &str {
        self.fault.as_deref().unwrap_or(&self.outcome)
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
        // Asked before the log is read, so that a run which ends meanwhile is never taken for a killed one.
        let live = runlog::is_live(folder);
        let entries = runlog::read(folder)?;
        if entries.is_empty() {
            return Err(std::io::Error::other("the run log has no whole line"));
        }
        let mut reader = Reader { run: begin(&entries).unwrap_or_else(|| nameless(folder)), index: HashMap::new() };
        for entry in &entries {
            if let Event::Unchanged { since } = &entry.event {
                let since = Run::read(&folder.with_file_name(since))?;
                reader.run.cases.clone_from(&since.cases);
                served(since).for_each(|node| reader.plan(node));
            }
            reader.take(entry);
        }
        reader.run.settle(live);
        Ok(reader.run)
    }

    /// Says whether its log has no end yet.
    pub fn is_open(&self) -> bool {
        matches!(self.outcome.as_str(), "unfinished" | "running")
    }

    /// Returns the nodes that the run was asked for.
    pub fn needed(&self) -> impl Iterator<Item = &RunNode> {
        self.nodes.iter().filter(|node| node.outcome != "unneeded")
    }

    /// Returns what the run did for one case: its nodes as those of a run without a sweep.
    ///
    /// # Errors
    /// When there is no such case.
    pub fn of_case(mut self, case: &str) -> Result<Run, String> {
        let names = || self.cases.iter().map(|case| case.name.as_str());
        if !names().any(|name| name == case) {
            let near = language::nearest(case, names()).map(|near| format!("did you mean `{near}`?"));
            let help = near.unwrap_or_else(|| language::listed("cases", names()));
            return Err(format!("run {} has no case `{case}`; {help}", self.id));
        }
        let belongs = |cases: &[String]| cases.iter().any(|name| name == case);
        self.nodes.retain(|node| belongs(&node.cases));
        self.expectations.retain(|verdict| belongs(&verdict.cases));
        self.cases.clear();
        Ok(self)
    }

    /// Tells a run that goes on from one that was killed, and in one that ended what it was not asked for.
    fn settle(&mut self, live: bool) {
        let open = self.is_open();
        if open && live {
            self.outcome = "running".into();
            self.wall_ms = runlog::now_ms().saturating_sub(self.started_ms);
        }
        for node in self.nodes.iter_mut().filter(|node| node.outcome == "unfinished") {
            node.outcome = match (open, live, node.started_ms) {
                (true, true, Some(_)) => "running",
                (true, true, None) => "waiting",
                (true, false, _) => "unfinished",
                (false, ..) => "unneeded",
            }
            .into();
            if let (true, Some(started_ms)) = (open, node.started_ms) {
                node.wall_ms = self.wall_ms.saturating_sub(started_ms);
            }
        }
    }
}

/// A run being read, and where its nodes are.
struct Reader {
    run: Run,
    index: HashMap<(String, Vec<String>), usize>,
}

impl Reader {
    fn take(&mut self, entry: &Entry) {
        if self.run.outcome == "unfinished" {
            self.run.wall_ms = entry.t_ms;
        }
        match &entry.event {
            Event::CasePlanned { case, set } => {
                self.run.cases.push(RunCase { name: case.clone(), set: set.clone() });
            }
            Event::StagePlanned { stage, case, cases, kind, params, reads } => self.plan(RunNode {
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
            Event::Progress { stage, case, done, total, unit, note } => {
                let told = event::progress(*done, *total, unit, note);
                if let Some(node) = self.under_way(stage, case.as_deref()) {
                    node.progress = Some(told);
                }
            }
            Event::Log { stage, case, level, text } if level == "warn" => {
                if let Some(node) = self.under_way(stage, case.as_deref()) {
                    node.warnings.push(text.clone());
                }
            }
            Event::StageFinished { stage, cases, outcome, key, reasons, wall_ms, error, fault, .. } => {
                if let Some(node) = self.node(stage, cases) {
                    node.outcome.clone_from(outcome);
                    node.key = Digest::parse(key).or(node.key);
                    node.reasons.clone_from(reasons);
                    node.wall_ms = *wall_ms;
                    node.error.clone_from(error);
                    node.fault.clone_from(fault);
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
            Event::Expectation(verdict) => self.run.expectations.push(verdict.clone()),
            Event::RunFinished { outcome, wall_ms, .. } => {
                self.run.outcome.clone_from(outcome);
                self.run.wall_ms = *wall_ms;
            }
            _ => {}
        }
    }

    /// Takes a node; in the run of an edit it stands in for that of the former run.
    fn plan(&mut self, node: RunNode) {
        match self.node(&node.stage, &node.cases) {
            Some(former) => *former = node,
            None => {
                self.index.insert((node.stage.clone(), node.cases.clone()), self.run.nodes.len());
                self.run.nodes.push(node);
            }
        }
    }

    /// Returns the node that told of itself: a line of its own says only in which case it is, if it is in one.
    fn under_way(&mut self, stage: &str, case: Option<&str>) -> Option<&mut RunNode> {
        if let Some(case) = case {
            return self.node(stage, &[case.to_string()]);
        }
        let is_it = |node: &&mut RunNode| node.stage == stage && node.cases.len() != 1 && node.outcome == "unfinished";
        self.run.nodes.iter_mut().filter(is_it).find(|node| node.started_ms.is_some())
    }

    fn node(&mut self, stage: &str, cases: &[String]) -> Option<&mut RunNode> {
        let index = *self.index.get(&(stage.to_string(), cases.to_vec()))?;
        self.run.nodes.get_mut(index)
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
        cases: Vec::new(),
        nodes: Vec::new(),
        expectations: Vec::new(),
    })
}

/// The nodes of a run as a later one finds them that has nothing to do.
fn served(run: Run) -> impl Iterator<Item = RunNode> {
    let hit = |node: RunNode| match node.outcome.as_str() {
        "unneeded" => node,
        _ => RunNode { outcome: "hit".into(), reasons: Vec::new(), started_ms: None, ..node },
    };
    run.nodes.into_iter().map(hit)
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
        cases: Vec::new(),
        nodes: Vec::new(),
        expectations: Vec::new(),
    }
}

/// Finds a run folder by id or prefix.
///
/// # Errors
/// Says what was looked for and what there is.
pub fn find(runs: &Path, wanted: &str) -> Result<PathBuf, String> {
    let folders = runlog::list(runs);
    if folders.is_empty() {
        return Err(format!("there is no run in `{}`; `watershed run` makes one", runs.display()));
    }
    let named = |f: &&PathBuf| f.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(wanted));
    match folders.iter().filter(named).collect::<Vec<_>>().as_slice() {
        [] => Err(format!("there is no run `{wanted}`; `watershed runs` lists them")),
        [only] => Ok((*only).clone()),
        several => Err(format!("`{wanted}` begins the names of {} runs; write more of it", several.len())),
    }
}
