//! A folder with rows of the tiny-llama fixture, in which tests run the program's jobs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use watershed_engine::job::{Cancel, JobEvent, Limits, Sink};
use watershed_engine::{Job, JobInput, JobSpec, RecordType, StageError};

use super::execute;
use super::fixture::tiny_llama;

/// Dropout draws from libtorch's one generator of a process: a job has a process to itself, and so has a test's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Cancels a job once it has told `after` updates, finished answers or ranked prompts (0 never does), and keeps what it tells.
struct Listener<'a> {
    after: u64,
    seen: AtomicU64,
    cancel: Cancel,
    told: &'a Mutex<Vec<JobEvent>>,
}

impl Sink for Listener<'_> {
    fn emit(&self, event: JobEvent) {
        let counts = match &event {
            JobEvent::Metric { values, .. } => values.contains_key("lr"),
            JobEvent::Progress { unit, .. } => unit == "answers" || unit == "prompts",
            _ => false,
        };
        if counts && self.seen.fetch_add(1, Ordering::SeqCst) + 1 == self.after {
            self.cancel.cancel();
        }
        self.told.lock().unwrap().push(event);
    }
}

/// A project folder with training and validation rows of the fixture.
pub(super) struct Project {
    folder: tempfile::TempDir,
    pub(super) base: PathBuf,
    /// `run.checkpoint`.
    pub(super) cadence: &'static str,
    /// `run.memory`.
    pub(super) memory: Option<u64>,
    /// The other `run` keys.
    pub(super) keys: Value,
    /// What the last job told.
    pub(super) told: Mutex<Vec<JobEvent>>,
}

impl Project {
    pub(super) fn new() -> Option<Project> {
        let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(tiny_llama("dataset.json")?).unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let lines = |rows: &[Value], from: usize| -> String {
            let line = |(i, row): (usize, &Value)| {
                let mut row = row.clone();
                row["id"] = (i + from).to_string().into();
                row["source"] = if i % 3 == 0 { "alpaca" } else { "reviews" }.into();
                format!("{row}\n")
            };
            rows.iter().enumerate().map(line).collect()
        };
        std::fs::write(folder.path().join("train.jsonl"), lines(&rows[..32], 0)).unwrap();
        std::fs::write(folder.path().join("val.jsonl"), lines(&rows[64..72], 64)).unwrap();
        let unlabelled = rows[64..72].iter().cloned().map(|mut row| {
            row.as_object_mut().unwrap().remove("output");
            row
        });
        std::fs::write(folder.path().join("prompts.jsonl"), lines(&unlabelled.collect::<Vec<_>>(), 64)).unwrap();
        Some(Project {
            folder,
            base: tiny_llama("model")?,
            cadence: "epoch",
            memory: None,
            keys: Value::Null,
            told: Mutex::default(),
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn run(
        &self,
        kind: &str,
        params: Value,
        inputs: &[(&str, PathBuf)],
        out: &str,
        after: u64,
    ) -> Result<PathBuf, StageError> {
        let out = self.path(out);
        std::fs::create_dir_all(&out).unwrap();
        let ports = ["adapter", "last", "curves", "receipt", "timing", "samples", "answers", "report", "ranking"];
        let input = |path: &PathBuf| JobInput {
            label: "x".into(),
            path: path.clone(),
            digest: "d1".into(),
            record: RecordType::Bytes,
            gathered: false,
        };
        let spec = JobSpec {
            kind: kind.into(),
            params,
            run: self.keys.clone(),
            inputs: inputs.iter().map(|(port, path)| (port.to_string(), vec![input(path)])).collect(),
            outputs: ports.iter().map(|port| (port.to_string(), out.join(port))).collect(),
            checkpoint: Some(out.join("checkpoint")),
            limits: Limits { checkpoint: self.cadence.into(), memory_bytes: self.memory, ..Limits::default() },
            ..JobSpec::default()
        };
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let cancel = Cancel::default();
        self.told.lock().unwrap().clear();
        let sink = Listener { after, seen: AtomicU64::new(0), cancel: cancel.clone(), told: &self.told };
        execute(&Job::new(spec, &sink, cancel)).map(|()| out)
    }

    pub(super) fn inputs(&self) -> Vec<(&'static str, PathBuf)> {
        vec![("train", self.path("train.jsonl")), ("val", self.path("val.jsonl")), ("base", self.base.clone())]
    }

    pub(super) fn train(&self, params: Value, out: &str, after: u64) -> Result<PathBuf, StageError> {
        self.run("lora-train", params, &self.inputs(), out, after)
    }

    /// Trains on from the adapter in this folder.
    pub(super) fn train_on(&self, adapter: &Path, params: Value, out: &str) -> Result<PathBuf, StageError> {
        let inputs = [self.inputs(), vec![("adapter", adapter.to_path_buf())]].concat();
        self.run("lora-train", params, &inputs, out, 0)
    }

    /// The lines that the last job logged at this level.
    pub(super) fn logged(&self, wanted: &str) -> Vec<String> {
        let line = |event: &JobEvent| match event {
            JobEvent::Log { level, text } if level == wanted => Some(text.clone()),
            _ => None,
        };
        self.told.lock().unwrap().iter().filter_map(line).collect()
    }
}
