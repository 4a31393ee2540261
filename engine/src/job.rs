//! One execution as a stage sees it: inputs, outputs, seed, progress, metrics, memo, cancel and a checkpoint folder.
//!
//! [`JobSpec`] is plain data, so the same job runs in the engine's process or is sent to a worker program as JSON.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use watershed_cache::Memo;

pub use crate::cancel::Cancel;

use crate::cases::{self, Listed};
use crate::checkpoint;
use crate::fault::StageError;
use crate::port::RecordType;

/// One input of a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobInput {
    /// Label within a port that takes several; else the source stage's name or the file's.
    pub label: String,
    /// Where the bytes lie; read only.
    pub path: PathBuf,
    /// Digest of the contents, hex.
    pub digest: String,
    /// What the bytes are.
    pub record: RecordType,
    /// One of the entries, one a case, that `S@*` gives.
    #[serde(default)]
    pub gathered: bool,
}

/// What the scheduler gave the job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Limits {
    /// Threads the job may keep busy.
    pub cpus: usize,
    /// `cpu` or `cuda`, resolved.
    pub device: String,
    /// Leased CUDA devices.
    pub gpus: Vec<u32>,
    /// Bytes of memory the user allowed, if said.
    pub memory_bytes: Option<u64>,
    /// When to checkpoint: `epoch`, or a number of updates as text.
    pub checkpoint: String,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { cpus: 1, device: "cpu".into(), gpus: Vec::new(), memory_bytes: None, checkpoint: "epoch".into() }
    }
}

/// Everything about a job that is plain data.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct JobSpec {
    /// Name of the kind.
    pub kind: String,
    /// Version of the kind that made the key.
    pub version: u32,
    /// Digest of the work, hex: the action key without the parameters that judge the work when it is done; empty outside a
    /// pipeline.
    #[serde(default)]
    pub work: String,
    /// Resolved parameters.
    pub params: Value,
    /// The kind's own `run` keys.
    pub run: Value,
    /// Inputs by port, in the order of their labels.
    pub inputs: BTreeMap<String, Vec<JobInput>>,
    /// Where to write each output; the parent folders exist, the paths do not.
    pub outputs: BTreeMap<String, PathBuf>,
    /// First 8 bytes of the action key.
    pub seed: u64,
    /// Folder that survives a kill; `None` under `--check-determinism`.
    pub checkpoint: Option<PathBuf>,
    /// Folder of request memos; `None` under `--check-determinism`.
    pub memo: Option<PathBuf>,
    /// Folder on the store's disk for what is needed only while the job runs; nothing is in it but an empty folder `in`.
    pub scratch: PathBuf,
    /// What the scheduler gave.
    pub limits: Limits,
    /// No network (`--offline`).
    pub offline: bool,
    /// Folder of the pipeline file, absolute: where relative paths in `run` begin.
    pub folder: PathBuf,
}

/// What a job tells while it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum JobEvent {
    /// How far it is.
    Progress {
        /// Units done.
        done: u64,
        /// Units in all; 0 when unknown.
        total: u64,
        /// What is counted, for example `rows`.
        unit: String,
        /// Short text beside the bar, for example `loss 1.32`.
        note: String,
    },
    /// Numbers of one update or evaluation.
    Metric {
        /// Update, counted from 1; 0 is before the first.
        step: u64,
        /// Epoch so far, fractional.
        epoch: f64,
        /// Name to number.
        values: BTreeMap<String, f64>,
    },
    /// A line for the stage's log.
    Log {
        /// `info`, or what the user is shown too: `note` or `warn`.
        level: String,
        /// The line.
        text: String,
    },
    /// A number that tells what the stage did, for example `rows_in`; kept with the result.
    Count {
        /// Name of the number.
        name: String,
        /// The number.
        value: f64,
    },
    /// Device and libraries that computed the result; kept with the result, in no key.
    Numerics {
        /// For example device, threads, libtorch, micro_batch.
        values: BTreeMap<String, Value>,
    },
}

/// Receives what a job tells.
pub trait Sink: Sync {
    /// Takes one event.
    fn emit(&self, event: JobEvent);
}

/// One execution of a stage.
pub struct Job<'a> {
    spec: JobSpec,
    sink: &'a dyn Sink,
    cancel: Cancel,
    checkpoint: OnceLock<Option<Held>>,
}

/// A checkpoint folder that no other process works in.
struct Held {
    folder: PathBuf,
    _lock: File,
}

impl<'a> Job<'a> {
    /// Joins plain data with the live ends.
    pub fn new(spec: JobSpec, sink: &'a dyn Sink, cancel: Cancel) -> Job<'a> {
        Job { spec, sink, cancel, checkpoint: OnceLock::new() }
    }

    /// Returns the plain data.
    pub fn spec(&self) -> &JobSpec {
        &self.spec
    }

    /// Returns the path of a required input.
    ///
    /// # Errors
    /// When the port is empty, which the checks before a run rule out.
    pub fn input(&self, port: &str) -> Result<&Path, StageError> {
        self.optional_input(port).ok_or_else(|| StageError::failed(format!("input `{port}` is missing")))
    }

    /// Returns the path of an optional input.
    pub fn optional_input(&self, port: &str) -> Option<&Path> {
        self.inputs(port).first().map(|i| i.path.as_path())
    }

    /// Returns all inputs of a port, sorted by label.
    pub fn inputs(&self, port: &str) -> &[JobInput] {
        self.spec.inputs.get(port).map_or(&[], Vec::as_slice)
    }

    /// Returns what is known of the cases that `S@*` gives; nothing for a job that reads no `S@*` or is not told of them.
    ///
    /// # Errors
    /// When `cases.json` cannot be read.
    pub fn cases(&self) -> Result<Vec<Listed>, StageError> {
        self.optional_input(cases::PORT).map_or_else(|| Ok(Vec::new()), cases::read)
    }

    /// Returns where to write an output; nothing is there yet.
    ///
    /// # Panics
    /// When the kind declares no such output.
    pub fn output(&self, port: &str) -> &Path {
        self.spec.outputs.get(port).unwrap_or_else(|| panic!("kind `{}` declares no output `{port}`", self.spec.kind))
    }

    /// Opens an input for buffered reading.
    ///
    /// # Errors
    /// When the port is empty or the file cannot be opened.
    pub fn open(&self, port: &str) -> Result<BufReader<File>, StageError> {
        let path = self.input(port)?;
        File::open(path).map(BufReader::new).map_err(|e| StageError::io("read", path, &e))
    }

    /// Creates an output file for buffered writing.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(&self, port: &str) -> Result<BufWriter<File>, StageError> {
        let path = self.output(port);
        File::create(path).map(BufWriter::new).map_err(|e| StageError::io("write", path, &e))
    }

    /// Returns a number that depends on the action key alone.
    pub fn seed(&self) -> u64 {
        self.spec.seed
    }

    /// Returns the folder whose contents survive a kill, if there is one. What it holds is of this very action: another's
    /// is moved aside, with a warning.
    pub fn checkpoint(&self) -> Option<&Path> {
        self.checkpoint.get_or_init(|| self.claim_checkpoint()).as_ref().map(|held| held.folder.as_path())
    }

    fn claim_checkpoint(&self) -> Option<Held> {
        let folder = self.spec.checkpoint.clone()?;
        let claimed = checkpoint::hold(&folder, |looks| self.waits_for_checkpoint(looks)).and_then(|lock| {
            let refused = lock.as_ref().map(|_| checkpoint::claim(&folder, &checkpoint::Header::of(&self.spec)));
            Ok((lock, refused.transpose()?.flatten()))
        });
        match claimed {
            Ok((lock, refused)) => {
                let told = refused.map(|why| format!("{why}; it is left aside and the stage begins anew"));
                told.into_iter().for_each(|text| self.warn(text));
                Some(Held { folder, _lock: lock? })
            }
            Err(error) => {
                let path = folder.display();
                self.warn(format!("cannot keep a checkpoint in `{path}`: {error}; a kill costs the whole stage"));
                None
            }
        }
    }

    fn waits_for_checkpoint(&self, looks: u64) -> bool {
        if looks == 0 {
            self.note("waits for a worker that an ended run left behind to write its checkpoint");
        }
        !self.is_cancelled()
    }

    /// Opens the memo of paid requests; without a folder nothing is remembered.
    pub fn memo(&self) -> Memo {
        Memo::at(self.spec.memo.clone())
    }

    /// Says whether the job shall stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Ends the job if it shall stop.
    ///
    /// # Errors
    /// [`StageError::Cancelled`] when it shall.
    pub fn check_cancelled(&self) -> Result<(), StageError> {
        if self.is_cancelled() { Err(StageError::Cancelled) } else { Ok(()) }
    }

    /// Tells how far the job is.
    pub fn progress(&self, done: u64, total: u64, unit: &str, note: impl Into<String>) {
        self.sink.emit(JobEvent::Progress { done, total, unit: unit.into(), note: note.into() });
    }

    /// Tells the numbers of one update or evaluation.
    pub fn metric(&self, step: u64, epoch: f64, values: &[(&str, f64)]) {
        let values = values.iter().map(|(k, v)| (k.to_string(), *v)).collect();
        self.sink.emit(JobEvent::Metric { step, epoch, values });
    }

    /// Tells a number that describes what was done, for example `rows_in`.
    pub fn count(&self, name: &str, value: f64) {
        self.sink.emit(JobEvent::Count { name: name.into(), value });
    }

    /// Writes a line to the stage's log.
    pub fn log(&self, text: impl Into<String>) {
        self.sink.emit(JobEvent::Log { level: "info".into(), text: text.into() });
    }

    /// Writes a line to the stage's log and to the user.
    pub fn note(&self, text: impl Into<String>) {
        self.sink.emit(JobEvent::Log { level: "note".into(), text: text.into() });
    }

    /// Writes a warning to the stage's log and to the user.
    pub fn warn(&self, text: impl Into<String>) {
        self.sink.emit(JobEvent::Log { level: "warn".into(), text: text.into() });
    }

    /// Tells which device and libraries compute the result.
    pub fn numerics(&self, values: BTreeMap<String, Value>) {
        self.sink.emit(JobEvent::Numerics { values });
    }
}

/// A sink that keeps nothing; for tests of single kinds.
pub struct Silent;

impl Sink for Silent {
    fn emit(&self, _event: JobEvent) {}
}

/// Runs one kind on files, outside any pipeline; for tests of single kinds.
///
/// `inputs` are (port, label, path); outputs land in `folder/PORT`, and what is needed meanwhile in `folder/scratch`.
///
/// # Errors
/// What the kind says.
pub fn run_alone(
    kind: &crate::Kind,
    params: Value,
    inputs: &[(&str, &str, &Path)],
    folder: &Path,
) -> Result<(), StageError> {
    let params = (kind.resolve)(&params).map_err(StageError::Failed)?;
    let mut spec = JobSpec { kind: kind.name.into(), version: kind.version, seed: 1, ..JobSpec::default() };
    for out in (kind.ports)(&params).outputs {
        spec.outputs.insert(out.name.to_string(), folder.join(out.name.as_ref()));
    }
    for (port, label, path) in inputs {
        let input = JobInput {
            label: label.to_string(),
            path: path.to_path_buf(),
            digest: String::new(),
            record: RecordType::Bytes,
            gathered: false,
        };
        spec.inputs.entry(port.to_string()).or_default().push(input);
    }
    spec.params = params;
    spec.checkpoint = Some(folder.join("checkpoint"));
    spec.memo = Some(folder.join("memo"));
    spec.scratch = folder.join("scratch");
    (kind.run)(&Job::new(spec, &Silent, Cancel::default()))
}
