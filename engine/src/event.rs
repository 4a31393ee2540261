//! What a run tells while it goes: the lines of the run log and of `run --format json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::difference::Difference;
use crate::settings::Settings;
use crate::stage::Reproducible;
use crate::verdict::Verdict;

/// Why a stage runs. `what` is one of `first_run, param, input, env, tool, kind_version, output_missing, rebuilt, forced`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// Sort of reason.
    pub what: String,
    /// `STAGE.key` for parameters, `STAGE.in.PORT` for inputs, else the stage.
    pub path: String,
    /// Value in the nearest former record.
    pub old: Value,
    /// Value now.
    pub new: Value,
    /// Words for people; the JSON contract does not rely on it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Whose former record it was, where it was not the stage's own: a sibling case, or the stage's former name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<String>,
}

/// Returns progress as people read it: `3/10 updates, loss 1.5`.
pub fn progress(done: u64, total: u64, unit: &str, note: &str) -> String {
    let share = if total > 0 { format!("{done}/{total} {unit}") } else { format!("{done} {unit}") };
    if note.is_empty() { share } else { format!("{share}, {note}") }
}

/// One line of the run log. Every line also has `t_ms`, milliseconds since the run began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// First line.
    RunStarted {
        /// Id of the run.
        run: String,
        /// Name of the pipeline.
        pipeline: String,
        /// Path of the pipeline, relative to the project root where possible.
        file: String,
        /// Sweep, if one is run.
        sweep: Option<String>,
        /// Nodes in the graph.
        nodes: usize,
        /// Milliseconds since 1970 UTC.
        started_ms: u64,
        /// Version of the engine.
        version: String,
    },
    /// A case of the sweep, before its nodes.
    CasePlanned {
        /// Its name.
        case: String,
        /// What it has at the paths that the sweep's cases set.
        set: Settings,
    },
    /// A node of the graph, as it was known at the start: enough to draw the graph and the tables.
    StagePlanned {
        /// Stage.
        stage: String,
        /// Case, if the node belongs to exactly one.
        case: Option<String>,
        /// All cases of the node.
        cases: Vec<String>,
        /// Kind.
        kind: String,
        /// Parameters that differ from their defaults, dotted path to value.
        params: BTreeMap<String, Value>,
        /// Stages (with case where it has one) that it reads.
        reads: Vec<String>,
    },
    /// A stage begins to execute.
    StageStarted {
        /// Stage.
        stage: String,
        /// Case.
        case: Option<String>,
        /// All cases.
        cases: Vec<String>,
        /// Action key, hex.
        key: String,
        /// Why it runs.
        reasons: Vec<Reason>,
    },
    /// Progress of a stage.
    Progress {
        /// Stage.
        stage: String,
        /// Case.
        case: Option<String>,
        /// Units done.
        done: u64,
        /// Units in all; 0 when unknown.
        total: u64,
        /// What is counted.
        unit: String,
        /// Short text.
        note: String,
    },
    /// Numbers of one update or evaluation.
    Metric {
        /// Stage.
        stage: String,
        /// Case.
        case: Option<String>,
        /// Update.
        step: u64,
        /// Epoch.
        epoch: f64,
        /// Name to number.
        values: BTreeMap<String, f64>,
    },
    /// A line of a stage's log.
    Log {
        /// Stage.
        stage: String,
        /// Case.
        case: Option<String>,
        /// `info`, or what the user is shown too: `note` or `warn`.
        level: String,
        /// The line.
        text: String,
    },
    /// A stage ended.
    StageFinished {
        /// Stage.
        stage: String,
        /// Case.
        case: Option<String>,
        /// All cases.
        cases: Vec<String>,
        /// `ran`, `hit`, `failed` or `skipped`.
        outcome: String,
        /// Action key, hex; empty when it was never known.
        key: String,
        /// Why it ran.
        reasons: Vec<Reason>,
        /// Wall time of the execution; of the record for a hit.
        wall_ms: u64,
        /// Error text of a failed or skipped stage.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// `diverged` for a training whose numbers are no longer numbers; absent for other failures.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<String>,
    },
    /// A stage was executed twice from nothing and its data outputs were compared (`--check-determinism`).
    DeterminismChecked {
        /// Stage.
        stage: String,
        /// Case.
        case: Option<String>,
        /// All cases.
        cases: Vec<String>,
        /// `equal`, `differs`, `failed` or `skipped`.
        outcome: String,
        /// Action key, hex; empty when it was never known.
        key: String,
        /// What the kind declares.
        reproducible: Reproducible,
        /// Whether the first execution gave the bytes that the store holds; `None` where it holds none.
        as_stored: Option<bool>,
        /// The first difference between the two.
        difference: Option<Difference>,
        /// Wall time of both executions.
        wall_ms: u64,
        /// Why it was not compared.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// A line of `expect:` was compared.
    Expectation(Verdict),
    /// Nothing had changed since another run: its nodes are this run's, all served from the store.
    Unchanged {
        /// Id of that run.
        since: String,
    },
    /// Last line.
    RunFinished {
        /// Id of the run.
        run: String,
        /// `ok`, `failed`, `cancelled` or `expectation_failed`.
        outcome: String,
        /// Nodes executed.
        ran: usize,
        /// Nodes served from the store.
        hit: usize,
        /// Nodes that failed.
        failed: usize,
        /// Nodes that were not reached.
        skipped: usize,
        /// Wall time.
        wall_ms: u64,
    },
}
