//! A checked pipeline: what the language hands to the graph.
//!
//! Everything here is resolved: overrides and sweeps applied, `${}` replaced, short forms of inputs spelled out, parameters
//! filled with defaults and presets. Without a sweep there is one case without a name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::port::{Ports, RecordType};
use crate::stage::Kind;

/// A pipeline file, checked, in all its cases.
pub struct Study {
    /// `name:` of the pipeline, else the file's stem.
    pub name: String,
    /// The pipeline file; `-` for standard input.
    pub file: PathBuf,
    /// Folder that paths may not leave.
    pub root: PathBuf,
    /// Text of the pipeline file, for the report.
    pub text: String,
    /// Name of the sweep being run.
    pub sweep: Option<String>,
    /// `params:` as it stands outside sweeps, after `--set`; null without it.
    pub params: Value,
    /// The cases, in the order of the file.
    pub cases: Vec<Case>,
    /// Cases of any sweep that inputs name as `S@SWEEP/CASE`, and those that these name in turn.
    pub named: BTreeMap<(String, String), Case>,
    /// Thresholds compared after the run.
    pub expect: Vec<Expectation>,
}

impl Study {
    /// Returns the pipeline file as run logs name it: from the root where it lies under it.
    pub fn file_in_root(&self) -> String {
        self.file.strip_prefix(&self.root).unwrap_or(&self.file).display().to_string()
    }

    /// Returns the folder of the pipeline file, absolute; the current one for standard input.
    pub fn folder(&self) -> PathBuf {
        let folder = self.file.parent().unwrap_or(Path::new(""));
        let here = || std::env::current_dir().unwrap_or_default();
        if folder.as_os_str().is_empty() { here() } else { std::path::absolute(folder).unwrap_or_else(|_| here()) }
    }
}

/// One point of a sweep, or the pipeline as it stands.
pub struct Case {
    /// Name within the sweep; `None` without one.
    pub name: Option<String>,
    /// Overrides that make the case, path to value, for tables of differing columns.
    pub overrides: Vec<(String, Value)>,
    /// Stages in the order of the file.
    pub stages: Vec<Arc<StageDef>>,
}

impl Case {
    /// Returns the label under which a reader of `S@*` finds the case: its name, `base` without one.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or("base")
    }
}

/// One stage of one case, resolved.
pub struct StageDef {
    /// Name in `stages:`.
    pub name: String,
    /// Line of the name in the pipeline file; 0 for a stage that is not written there.
    pub line: u32,
    /// Its kind.
    pub kind: Arc<Kind>,
    /// All parameters, defaults and presets filled in; `preset` itself is gone.
    pub params: Value,
    /// The parameters that differ from their defaults, dotted path to value, sorted: what the key holds.
    pub differing: BTreeMap<String, Value>,
    /// What it reads and writes under these parameters.
    pub ports: Ports,
    /// Inputs, sorted by port and label.
    pub inputs: Vec<Binding>,
    /// Declared environment that it names, name to value: in the key.
    pub env: BTreeMap<String, String>,
    /// How to execute it: in no key.
    pub run: RunKeys,
    /// `allow_missing: true`: failed cases of `S@*` are left out instead of skipping the stage.
    pub allow_missing: bool,
}

/// One input of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Binding {
    /// Port.
    pub port: String,
    /// Label within a port that takes several; else the source's name.
    pub label: String,
    /// Where the bytes come from.
    pub source: Source,
    /// Type that the source promises.
    pub record: RecordType,
}

/// Where an input's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// An output of a stage.
    Output {
        /// The stage.
        stage: String,
        /// Its output port.
        port: String,
        /// A file inside a folder output.
        inside: Option<String>,
        /// Which case of the stage.
        case: CaseRef,
    },
    /// A file or folder of the user's.
    Path {
        /// Absolute, links not followed.
        path: PathBuf,
        /// As written, for messages.
        text: String,
    },
}

/// Which case of a stage an input names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CaseRef {
    /// The reader's own case.
    Same,
    /// `S@*`: all cases of the sweep being run.
    All,
    /// `S@NAME/CASE`.
    Named {
        /// Sweep.
        sweep: String,
        /// Case within it.
        case: String,
    },
}

/// `run:` of a stage after the defaults of the pipeline: how, never what.
#[derive(Debug, Clone)]
pub struct RunKeys {
    /// Threads it may keep busy; 1 by default.
    pub cpus: usize,
    /// CUDA devices it wants when the device resolves to CUDA.
    pub gpus: usize,
    /// Bytes of memory, if said.
    pub memory_bytes: Option<u64>,
    /// `auto`, `cpu` or `cuda`.
    pub device: String,
    /// Longest wall time, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Tries after the first.
    pub retries: u32,
    /// When to checkpoint.
    pub checkpoint: String,
    /// The kind's own keys.
    pub own: Value,
    /// Keys for cluster executors, kept as they stand.
    pub slurm: Value,
}

/// One line of `expect:`.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    /// `STAGE.METRIC`, as written.
    pub path: String,
    /// Stage whose `metrics` output holds the number.
    pub stage: String,
    /// Name of the number.
    pub metric: String,
    /// `<=`, `<`, `>=`, `>` or `==`.
    pub operator: String,
    /// Right-hand side.
    pub bound: f64,
}
