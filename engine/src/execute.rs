//! Executes one action: lock, lay out inputs, run, check, publish with the record last.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use watershed_cache::{ActionResult, Stored, record::RECORD_VERSION, sandbox::Sandbox};

use crate::cancel::Cancel;
use crate::cases;
use crate::checkpoint;
use crate::event::Event;
use crate::fault::StageError;
use crate::graph::{From, Node, NodeId};
use crate::job::{Job, JobEvent, JobInput, JobSpec, Limits, Sink};
use crate::key::seed_of;
use crate::lookup::{self, KnownInput, Looked};
use crate::port::Class;
use crate::process;
use crate::record::Provenance;
use crate::runlog::{RunLog, now_ms};
use crate::session::{Session, store_error};
use crate::slots::Lease;
use crate::stage::Home;
use crate::worker::panic_text;

/// Stages that run longer are synced to the disk before their record: losing a GPU-hour costs more than a sync.
const DURABLE_FROM: Duration = Duration::from_secs(1);

/// Warnings of a stage that its record keeps.
const MOST_WARNINGS: usize = 50;

/// Folders of each execution: its outputs, and what it needs meanwhile, with links to its inputs.
const FOLDERS: &[&str] = &["out", "scratch", "scratch/in"];

/// How an execution ended without a result.
pub enum Ended {
    /// The stage or the machine failed.
    Failed(StageError),
    /// An input's bytes were damaged or gone: the node that wrote them has to run again.
    LostInput(NodeId),
}

/// One action about to run.
pub struct Action<'a> {
    /// The session.
    pub session: &'a Session,
    /// The node.
    pub node: NodeId,
    /// Key, manifest and inputs.
    pub looked: &'a Looked,
    /// What it may use.
    pub lease: &'a Lease,
    /// Where it tells what it does.
    pub log: &'a RunLog,
    /// Raised when it shall stop.
    pub cancel: Cancel,
    /// No network.
    pub offline: bool,
    /// How long to wait for another process that executes the same action.
    pub patience: Duration,
    /// Runs even if the record is there.
    pub forced: bool,
    /// Runs without what an execution before has left in its checkpoint.
    pub fresh: bool,
}

/// The result of an action and whether this process executed it.
pub struct Finished {
    /// The record.
    pub result: ActionResult,
    /// `false` when another process had published it meanwhile.
    pub executed: bool,
    /// Wall time of the execution.
    pub wall_ms: u64,
}

/// What an execution may take up from earlier ones.
#[derive(Debug, Clone, Default)]
pub struct Aids {
    /// Folder of checkpoints.
    pub checkpoint: Option<PathBuf>,
    /// Folder of replies to paid requests.
    pub memo: Option<PathBuf>,
}

/// What an execution left in its private folder, which goes with this value.
pub struct Produced {
    /// Where each output lies, if the stage wrote it.
    pub outputs: BTreeMap<String, PathBuf>,
    /// Wall time of the execution.
    pub wall: Duration,
    _sandbox: Sandbox,
}

impl Action<'_> {
    /// Executes the action, or takes the result that another process published while this one waited.
    ///
    /// # Errors
    /// See [`Ended`].
    pub fn run(&self) -> Result<Finished, Ended> {
        let store = &self.session.store;
        let mut told = false;
        let mut go_on = || {
            if !std::mem::replace(&mut told, true) {
                self.tell("waits for another process that executes the same action");
            }
            !self.cancel.is_cancelled()
        };
        let lock =
            store.lock(&self.looked.key, self.patience, &mut go_on).map_err(|e| Ended::Failed(store_error(e)))?;
        let _lock = lock.ok_or(Ended::Failed(StageError::Cancelled))?;
        let there = store.look_up(&self.looked.key).filter(|result| lookup::has_ports(self.node(), result));
        if let Some(result) = there.filter(|_| !self.forced) {
            return Ok(Finished { result, executed: false, wall_ms: 0 });
        }
        store.refuse_newer(&self.looked.key).map_err(|e| Ended::Failed(store_error(e)))?;
        let sink = NodeSink::new(self.node(), self.log);
        let produced = self.produce(self.aids().map_err(Ended::Failed)?, &sink)?;
        self.keep(produced, sink).map_err(Ended::Failed)
    }

    /// Executes the action in a private folder of its own. Nothing is published.
    ///
    /// # Errors
    /// See [`Ended`].
    pub fn produce(&self, aids: Aids, sink: &dyn Sink) -> Result<Produced, Ended> {
        let sandbox = self.session.store.sandbox(FOLDERS).map_err(|e| Ended::Failed(store_error(e)))?;
        let inputs = self.lay_out_inputs(sandbox.path())?;
        self.execute(sandbox, inputs, aids, sink).map_err(Ended::Failed)
    }

    fn node(&self) -> &Node {
        &self.session.graph.nodes[self.node]
    }

    fn tell(&self, text: &str) {
        let (stage, case) = (self.node().stage.name.clone(), self.node().case().map(str::to_string));
        self.log.emit(Event::Log { stage, case, level: "info".into(), text: text.into() });
    }

    /// Verifies stored inputs by reading them, and gives each a path.
    fn lay_out_inputs(&self, sandbox: &Path) -> Result<BTreeMap<String, Vec<JobInput>>, Ended> {
        let mut inputs: BTreeMap<String, Vec<JobInput>> = BTreeMap::new();
        for (number, known) in self.looked.inputs.iter().enumerate() {
            let path = self.lay_out(known, &sandbox.join("in").join(number.to_string()))?;
            inputs.entry(known.input.port.clone()).or_default().push(JobInput {
                label: known.input.label.clone(),
                path,
                digest: known.artifact.digest.hex(),
                record: known.input.record,
                gathered: known.input.gathered,
            });
        }
        Ok(inputs)
    }

    fn lay_out(&self, known: &KnownInput, target: &Path) -> Result<PathBuf, Ended> {
        let store = &self.session.store;
        let (parent, inside) = match &known.input.from {
            From::Path { path, .. } => return Ok(path.clone()),
            From::Cases => return self.lay_out_cases(target).map_err(Ended::Failed),
            From::Node { node, inside, .. } => (*node, inside),
        };
        store.verify(&known.artifact).map_err(|_| Ended::LostInput(parent))?;
        if known.artifact.folder {
            store.lay_out(&known.artifact.digest, target).map_err(|e| Ended::Failed(store_error(e)))?;
            return Ok(target.to_path_buf());
        }
        let blob = store.blob(&known.artifact.digest);
        let Some(name) = inside.as_deref().and_then(|p| p.rsplit('/').next()) else { return Ok(blob) };
        let path = target.join(name);
        let link = fs::create_dir_all(target)
            .and_then(|()| fs::hard_link(&blob, &path).or_else(|_| fs::copy(&blob, &path).map(drop)));
        link.map_err(|e| Ended::Failed(StageError::io("lay out", &path, &e)))?;
        Ok(path)
    }

    fn lay_out_cases(&self, folder: &Path) -> Result<PathBuf, StageError> {
        let (path, text) = (folder.join(cases::FILE), lookup::cases_json(self.session, &self.looked.inputs));
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, text));
        written.map_err(|e| StageError::io("write", &path, &e))?;
        Ok(path)
    }

    fn execute(
        &self,
        sandbox: Sandbox,
        inputs: BTreeMap<String, Vec<JobInput>>,
        aids: Aids,
        sink: &dyn Sink,
    ) -> Result<Produced, StageError> {
        let begun = Instant::now();
        self.changed_input()?.map_or(Ok(()), |input| Err(changed(&input, "since the run began")))?;
        let spec = self.spec(sandbox.path(), inputs, aids);
        let (outputs, checkpoint) = (spec.outputs.clone(), spec.checkpoint.clone());
        let performed = self.perform(spec, sink, &sandbox.path().join("worker.log"));
        self.unless_changed(performed, checkpoint, sink)?;
        Ok(Produced { outputs, wall: begun.elapsed(), _sandbox: sandbox })
    }

    /// Passes on how a stage ended; when an input changed meanwhile it failed, and its checkpoint goes.
    fn unless_changed(
        &self,
        performed: Result<(), StageError>,
        checkpoint: Option<PathBuf>,
        sink: &dyn Sink,
    ) -> Result<(), StageError> {
        let looked = self.changed_input();
        let Ok(Some(input)) = &looked else { return performed.and(looked.map(drop)) };
        let _ = checkpoint.map(fs::remove_dir_all);
        let text = format!("input `{input}` changed while the stage ran: nothing is kept of what it has done");
        sink.emit(JobEvent::Log { level: "warn".into(), text });
        performed.and(Err(changed(input, "while the stage ran")))
    }

    /// Publishes what was produced, the record last.
    fn keep(&self, produced: Produced, sink: NodeSink) -> Result<Finished, StageError> {
        let wall = produced.wall;
        let durable = wall >= DURABLE_FROM;
        let outputs = self.publish(&produced.outputs, durable)?;
        let result = self.record(outputs, wall, sink);
        self.session.store.record(&self.looked.key, result.clone(), durable).map_err(store_error)?;
        let _ = fs::remove_dir_all(self.session.store.partial(&self.looked.key));
        Ok(Finished { result, executed: true, wall_ms: wall.as_millis() as u64 })
    }

    /// Everything that earlier executions left for this action, but for one that begins anew its checkpoint.
    fn aids(&self) -> Result<Aids, StageError> {
        let store = &self.session.store;
        let checkpoint = store.partial(&self.looked.key);
        if self.fresh {
            let lock = checkpoint::hold(&checkpoint, |_| !self.cancel.is_cancelled());
            let _ = fs::remove_dir_all(&checkpoint);
            drop(lock);
        } else if !self.node().stage.kind.judges.is_empty() {
            let work = self.looked.work(self.node());
            store
                .take_over(&self.looked.key, &|folder| checkpoint::is_of(folder, &work) && checkpoint::is_free(folder))
                .map_err(store_error)?;
        }
        Ok(Aids { checkpoint: Some(checkpoint), memo: Some(store.memo_folder(self.node().stage.kind.name)) })
    }

    fn spec(&self, sandbox: &Path, inputs: BTreeMap<String, Vec<JobInput>>, aids: Aids) -> JobSpec {
        let stage = &self.node().stage;
        let (folder, scratch) = (sandbox.join("out"), sandbox.join("scratch"));
        JobSpec {
            kind: stage.kind.name.into(),
            version: stage.kind.version,
            work: self.looked.work(self.node()).hex(),
            params: stage.params.clone(),
            run: stage.run.own.clone(),
            inputs,
            outputs: stage.ports.outputs.iter().map(|o| (o.name.to_string(), folder.join(o.name.as_ref()))).collect(),
            seed: seed_of(&self.looked.key),
            checkpoint: aids.checkpoint,
            memo: aids.memo,
            scratch,
            limits: Limits {
                cpus: self.lease.cpus.max(1),
                device: self.lease.device.into(),
                gpus: self.lease.gpus.clone(),
                memory_bytes: stage.run.memory_bytes,
                checkpoint: stage.run.checkpoint.clone(),
            },
            offline: self.offline,
            folder: self.session.study.folder(),
        }
    }

    fn perform(&self, spec: JobSpec, sink: &dyn Sink, log: &Path) -> Result<(), StageError> {
        let kind = &self.node().stage.kind;
        if kind.home == Home::Torch {
            return process::run(spec, sink, &self.cancel, log);
        }
        let job = Job::new(spec, sink, self.cancel.clone());
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (kind.run)(&job)))
            .unwrap_or_else(|panic| Err(StageError::Failed(format!("internal error: {}", panic_text(&*panic)))))
    }

    /// Returns an input whose bytes are no longer those of the key: neither a result nor a checkpoint made from them may be kept
    /// under it.
    fn changed_input(&self) -> Result<Option<String>, StageError> {
        for known in &self.looked.inputs {
            let From::Path { path, text } = &known.input.from else { continue };
            if self.session.identify_now(path, known.input.record)? != known.artifact {
                return Ok(Some(text.clone()));
            }
        }
        Ok(None)
    }

    fn publish(
        &self,
        outputs: &BTreeMap<String, PathBuf>,
        durable: bool,
    ) -> Result<BTreeMap<String, Stored>, StageError> {
        let mut stored = BTreeMap::new();
        for port in &self.node().stage.ports.outputs {
            let path = &outputs[port.name.as_ref()];
            let report = port.class == Class::Report;
            if fs::symlink_metadata(path).is_err() {
                if report {
                    continue;
                }
                return Err(StageError::Failed(format!("the stage ended without writing its output `{}`", port.name)));
            }
            let artifact = self.session.store.publish(path, durable).map_err(store_error)?;
            stored.insert(port.name.to_string(), Stored { artifact, report });
        }
        Ok(stored)
    }

    fn record(&self, outputs: BTreeMap<String, Stored>, wall: Duration, sink: NodeSink) -> ActionResult {
        let former = self.session.store.peek(&self.looked.key);
        let told = sink.told.into_inner().expect("no thread panics while it holds this lock");
        let provenance = Provenance {
            manifest: self.looked.manifest.clone(),
            params: self.node().stage.params.clone(),
            wall_ms: wall.as_millis() as u64,
            finished_ms: now_ms(),
            host: fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_string(),
            numerics: told.numerics,
            counts: told.counts,
            warnings: told.warnings,
            replaced: former.map(|f| Provenance::replaced(&f, &outputs)).unwrap_or_default(),
        };
        let detail = serde_json::to_value(provenance).expect("provenance has no map keys that JSON lacks");
        ActionResult { record_version: RECORD_VERSION, outputs, unsynced_boot: None, detail }
    }
}

fn changed(input: &str, when: &str) -> StageError {
    StageError::Failed(format!("input `{input}` changed {when}; run again"))
}

#[derive(Default)]
struct Told {
    counts: BTreeMap<String, f64>,
    numerics: BTreeMap<String, Value>,
    warnings: Vec<String>,
}

impl Told {
    /// A stage may repeat itself; its record does not, nor does it grow without end.
    fn warn(&mut self, text: &str) {
        if self.warnings.len() < MOST_WARNINGS && !self.warnings.iter().any(|known| known == text) {
            self.warnings.push(text.to_string());
        }
    }
}

/// Turns what a job tells into lines of the run log, and keeps what belongs into its record.
struct NodeSink<'a> {
    node: &'a Node,
    log: &'a RunLog,
    told: Mutex<Told>,
    progressed_ms: AtomicU64,
}

impl<'a> NodeSink<'a> {
    fn new(node: &'a Node, log: &'a RunLog) -> NodeSink<'a> {
        NodeSink { node, log, told: Mutex::default(), progressed_ms: AtomicU64::new(0) }
    }

    /// Kinds may tell progress as often as they like; the log keeps five lines a second and the last one.
    fn is_time_for_progress(&self, last: bool) -> bool {
        let now = self.log.elapsed_ms() + 1;
        let before = self.progressed_ms.load(Ordering::Relaxed);
        let due = last || before == 0 || now - before >= 200;
        if due {
            self.progressed_ms.store(now, Ordering::Relaxed);
        }
        due
    }
}

impl Sink for NodeSink<'_> {
    fn emit(&self, event: JobEvent) {
        let (stage, case) = (self.node.stage.name.clone(), self.node.case().map(str::to_string));
        let told = || self.told.lock().expect("no thread panics while it holds this lock");
        match event {
            JobEvent::Progress { done, total, unit, note } => {
                if self.is_time_for_progress(done == total) {
                    self.log.emit(Event::Progress { stage, case, done, total, unit, note });
                }
            }
            JobEvent::Metric { step, epoch, values } => {
                self.log.emit(Event::Metric { stage, case, step, epoch, values })
            }
            JobEvent::Log { level, text } => {
                if level == "warn" {
                    told().warn(&text);
                }
                self.log.emit(Event::Log { stage, case, level, text });
            }
            JobEvent::Count { name, value } => drop(told().counts.insert(name, value)),
            JobEvent::Numerics { values } => told().numerics.extend(values),
        }
    }
}
