//! A run inside the test program, on kinds of its own: what no shipped kind does on demand.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_engine::backoff::Backoff;
use watershed_engine::cancel::Cancel;
use watershed_engine::language::{Kinds, LoadRequest, load};
use watershed_engine::port::RecordType::Bytes;
use watershed_engine::session::Session;
use watershed_engine::slots::Slots;
use watershed_engine::{Job, Kind, Ports, Stage, StageError, plan, run, walk};

use crate::project::{Project, Ran};

/// Counts to a number, one file of its checkpoint for each step, and writes at which step it began.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Count {
    /// Where it ends.
    pub to: u64,
}

/// How a count goes.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CountRun {
    /// Step after which it waits until it is told to stop.
    pub stall_after: Option<u64>,
    /// Step after which it panics.
    pub panic_after: Option<u64>,
    /// Times that a try ends with a passing fault, in the life of the test program.
    pub faults: u64,
}

static FAULTS: AtomicU64 = AtomicU64::new(0);

impl Stage for Count {
    const KIND: &'static str = "count";
    const VERSION: u32 = 1;
    const HOUSE: &'static str = "test";
    type Run = CountRun;

    fn ports(&self) -> Ports {
        Ports::new().may_read("after", Bytes).writes("out", Bytes)
    }

    fn run(&self, run: &CountRun, job: &Job) -> Result<(), StageError> {
        if run.faults > 0 && FAULTS.fetch_add(1, Ordering::SeqCst) < run.faults {
            return Err(StageError::Retry("the line is bad".into()));
        }
        let folder = job.checkpoint();
        let is_done = |step: &u64| folder.is_some_and(|folder| folder.join(step.to_string()).exists());
        let begin = (1..).find(|step| !is_done(step)).unwrap_or(1);
        for step in begin..=self.to {
            if let Some(folder) = folder {
                std::fs::write(folder.join(step.to_string()), "").unwrap();
            }
            assert!(run.panic_after != Some(step), "no way on after step {step}");
            while run.stall_after == Some(step) {
                job.check_cancelled()?;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        std::fs::write(job.output("out"), format!("from {begin}\n")).map_err(|e| StageError::failed(e.to_string()))
    }
}

/// Runs a project's pipeline here.
pub fn run_inside(project: &Project, keep_going: bool) -> Ran {
    let session = open(project);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = heard.clone();
    let options = walk::Options {
        slots: Slots::new(2, Vec::new()),
        keep_going,
        forced: Vec::new(),
        given: walk::Given::new(),
        offline: true,
        patience: Duration::from_secs(60),
        backoff: Backoff { base: Duration::from_millis(1), cap: Duration::from_millis(4) },
        cancel: Cancel::default(),
    };
    let listener = move |entry: &_| hears.lock().unwrap().push(serde_json::to_value(entry).unwrap());
    let outcome = run::run(&session, &[], options, Box::new(listener)).unwrap();
    let events = std::mem::take(&mut *heard.lock().unwrap());
    Ran { code: outcome.exit, events }
}

/// Plans a project's pipeline here; returns of each stage whether it would go on from a checkpoint.
pub fn goes_on_inside(project: &Project) -> Vec<bool> {
    plan::plan(&open(project), &[], &[]).iter().map(|line| line.goes_on).collect()
}

fn open(project: &Project) -> Session {
    let kinds = watershed_stages::kinds().into_iter().chain([Kind::of::<Count>()]);
    let study = load(&LoadRequest::new(project.path("watershed.yaml")), &Kinds::new(kinds.collect())).unwrap();
    Session::open(study, &project.store()).unwrap()
}

/// Returns the checkpoint folders of a store.
pub fn partials(store: &Path) -> Vec<std::path::PathBuf> {
    let items = std::fs::read_dir(store.join("partial")).into_iter().flatten().flatten();
    items.map(|item| item.path()).collect()
}
