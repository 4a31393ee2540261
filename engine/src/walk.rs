//! The walk: looks every node up as soon as its inputs are known, and executes the misses, several at once.
//!
//! One thread owns all state and decides; each execution has a thread of its own and reports back through a channel. No
//! async runtime: a walk waits for few, long things, and a run with nothing to do should not start one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Scope;
use std::time::{Duration, Instant};

use watershed_cache::Stored;

use crate::event::{Event, Reason};
use crate::execute::{Action, Ended, Finished};
use crate::fault::StageError;
use crate::graph::{NodeId, NodeInput};
use crate::job::Cancel;
use crate::lookup::{self, Looked, Outputs};
use crate::plan::preview_inputs;
use crate::preview::Severity;
use crate::reason;
use crate::record::Provenance;
use crate::runlog::RunLog;
use crate::session::Session;
use crate::slots::{Lease, Slots};
use crate::stage::Home;

/// How to walk.
pub struct Options {
    /// What may run at once.
    pub slots: Slots,
    /// Whether a failed stage leaves unrelated ones running.
    pub keep_going: bool,
    /// Nodes that run whatever the store holds.
    pub forced: Vec<NodeId>,
    /// No network.
    pub offline: bool,
    /// How long to wait for another process that executes the same action.
    pub patience: Duration,
    /// Raised when the run shall end.
    pub cancel: Cancel,
}

/// How a walk ended.
#[derive(Debug, Default)]
pub struct Tally {
    /// Nodes executed.
    pub ran: usize,
    /// Nodes served from the store.
    pub hit: usize,
    /// Nodes that failed, with their errors.
    pub failed: Vec<(NodeId, StageError)>,
    /// Nodes not reached.
    pub skipped: usize,
    /// Outputs of the nodes that are done.
    pub outputs: Vec<Option<BTreeMap<String, Stored>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unneeded,
    Waiting,
    Ready,
    Running,
    Done,
    Failed,
    Skipped,
}

struct Pending {
    looked: Looked,
    reasons: Vec<Reason>,
}

struct Running {
    lease: Lease,
    cancel: Cancel,
    deadline: Option<Instant>,
    timed_out: bool,
    reasons: Vec<Reason>,
}

type Report = (NodeId, Looked, Result<Finished, Ended>);

/// Walks the needed nodes of a session, telling the log what happens.
pub fn walk(session: &Session, needed: &[bool], options: Options, log: &RunLog) -> Tally {
    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        let mut walk = Walk::new(session, needed, options, log, sender);
        walk.run(scope, &receiver);
        walk.tally()
    })
}

struct Walk<'a> {
    session: &'a Session,
    options: Options,
    log: &'a RunLog,
    sender: Sender<Report>,
    state: Vec<State>,
    outputs: Vec<Option<BTreeMap<String, Stored>>>,
    waiting_for: Vec<usize>,
    readers: Vec<Vec<NodeId>>,
    pending: BTreeMap<NodeId, Pending>,
    running: BTreeMap<NodeId, Running>,
    lost: BTreeSet<NodeId>,
    passed_gate: BTreeSet<NodeId>,
    tried: BTreeMap<NodeId, u32>,
    tally: Tally,
    stopping: bool,
}

impl Outputs for Walk<'_> {
    fn of(&self, node: NodeId) -> Option<&BTreeMap<String, Stored>> {
        self.outputs[node].as_ref()
    }
}

impl<'a> Walk<'a> {
    fn new(
        session: &'a Session,
        needed: &[bool],
        options: Options,
        log: &'a RunLog,
        sender: Sender<Report>,
    ) -> Walk<'a> {
        let count = session.graph.nodes.len();
        let mut readers = vec![Vec::new(); count];
        let mut waiting_for = vec![0; count];
        for id in (0..count).filter(|&id| needed[id]) {
            let parents: BTreeSet<NodeId> = session.graph.parents(id).collect();
            waiting_for[id] = parents.len();
            parents.iter().for_each(|&p| readers[p].push(id));
        }
        let state = needed.iter().map(|&n| if n { State::Waiting } else { State::Unneeded }).collect();
        Walk {
            session,
            options,
            log,
            sender,
            state,
            outputs: vec![None; count],
            waiting_for,
            readers,
            pending: BTreeMap::new(),
            running: BTreeMap::new(),
            lost: BTreeSet::new(),
            passed_gate: BTreeSet::new(),
            tried: BTreeMap::new(),
            tally: Tally::default(),
            stopping: false,
        }
    }

    fn tally(mut self) -> Tally {
        self.tally.outputs = self.outputs;
        self.tally
    }

    fn run<'scope>(&mut self, scope: &'scope Scope<'scope, 'a>, receiver: &Receiver<Report>)
    where
        'a: 'scope,
    {
        for id in 0..self.state.len() {
            if self.state[id] == State::Waiting && self.waiting_for[id] == 0 {
                self.look_up(id);
            }
        }
        loop {
            self.stopping |= self.options.cancel.is_cancelled();
            if !self.stopping {
                self.start_ready(scope);
            }
            if self.running.is_empty() {
                break;
            }
            match receiver.recv_timeout(Duration::from_millis(50)) {
                Ok(report) => self.take(report),
                Err(RecvTimeoutError::Timeout) => self.watch_clock(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.skip_the_rest();
    }

    /// Looks a node up, all of whose inputs are settled.
    fn look_up(&mut self, id: NodeId) {
        if let Some(culprit) = self.missing_parent(id) {
            let title = self.session.graph.nodes[culprit].title();
            return self.skip(id, &format!("`{title}` did not finish"));
        }
        let looked = match lookup::look_up(self.session, id, self) {
            Ok(looked) => looked,
            Err(error) => return self.fail(id, String::new(), Vec::new(), error, 0),
        };
        let forced = self.options.forced.contains(&id) && !self.tried.contains_key(&id);
        let lost = self.lost.contains(&id);
        match &looked.hit {
            Some(result) if !forced && !lost => {
                let (outputs, wall) = (result.outputs.clone(), Provenance::of(result).map_or(0, |p| p.wall_ms));
                self.tally.hit += 1;
                self.settle(id, &looked, outputs, "hit", Vec::new(), wall);
            }
            _ => {
                let node = &self.session.graph.nodes[id];
                let reasons = match (forced, lost) {
                    (true, _) => vec![reason::forced(node)],
                    (_, true) => vec![reason::output_missing(node)],
                    _ => lookup::reasons(self.session, id, &looked),
                };
                self.state[id] = State::Ready;
                self.pending.insert(id, Pending { looked, reasons });
            }
        }
    }

    fn missing_parent(&self, id: NodeId) -> Option<NodeId> {
        let broken = |input: &NodeInput| match input.from {
            crate::graph::From::Node { node, .. } if self.outputs[node].is_none() && !input.may_be_missing => {
                Some(node)
            }
            _ => None,
        };
        self.session.graph.nodes[id].inputs.iter().find_map(broken)
    }

    /// Starts what is ready and has room, light stages first so that gates see all their inputs.
    fn start_ready<'scope>(&mut self, scope: &'scope Scope<'scope, 'a>)
    where
        'a: 'scope,
    {
        let home = |walk: &Self, id: NodeId| walk.session.graph.nodes[id].stage.kind.home;
        let ready: Vec<NodeId> = self.pending.keys().copied().collect();
        let (heavy, light): (Vec<NodeId>, Vec<NodeId>) =
            ready.into_iter().partition(|&id| home(self, id) == Home::Torch);
        light.into_iter().for_each(|id| self.start(scope, id));
        if self.light_work_left() {
            return;
        }
        heavy.iter().for_each(|&id| self.pass_gate(id));
        heavy.into_iter().for_each(|id| self.start(scope, id));
    }

    /// Says whether stages before the first heavy ones still run or wait: every preview shall be seen before GPU time is spent.
    fn light_work_left(&self) -> bool {
        let nodes = &self.session.graph.nodes;
        let mut below_heavy = vec![false; nodes.len()];
        for id in 0..nodes.len() {
            let heavy = nodes[id].stage.kind.home == Home::Torch && self.state[id] != State::Done;
            below_heavy[id] = heavy || self.session.graph.parents(id).any(|p| below_heavy[p]);
            let open = matches!(self.state[id], State::Waiting | State::Ready | State::Running);
            if open && !below_heavy[id] {
                return true;
            }
        }
        false
    }

    /// Tells a heavy stage's preview and fails it on lints that forbid it to start.
    fn pass_gate(&mut self, id: NodeId) {
        if !self.passed_gate.insert(id) {
            return;
        }
        let node = &self.session.graph.nodes[id];
        let inputs = preview_inputs(self.session, id, self);
        let Ok(preview) = (node.stage.kind.preview)(&node.stage.params, &inputs) else { return };
        let facts: Vec<String> = preview.facts.iter().map(|(k, v)| format!("{k} {}", reason::shown(v))).collect();
        if !facts.is_empty() {
            self.tell(id, "info", format!("preview: {}", facts.join(", ")));
        }
        for lint in preview.lints.iter().filter(|l| l.severity == Severity::Warn) {
            self.tell(id, "warn", format!("[{}] {}", lint.code, lint.message));
        }
        let fatal: Vec<String> = preview
            .lints
            .iter()
            .filter(|l| l.severity == Severity::Fail)
            .map(|l| format!("[{}] {}", l.code, l.message))
            .collect();
        if fatal.is_empty() {
            return;
        }
        if let Some(pending) = self.pending.remove(&id) {
            let error = StageError::Failed(fatal.join("\n"));
            self.fail(id, pending.looked.key.hex(), pending.reasons, error, 0);
        }
    }

    fn tell(&self, id: NodeId, level: &str, text: String) {
        let node = &self.session.graph.nodes[id];
        let (stage, case) = (node.stage.name.clone(), node.case().map(str::to_string));
        self.log.emit(Event::Log { stage, case, level: level.into(), text });
    }

    fn start<'scope>(&mut self, scope: &'scope Scope<'scope, 'a>, id: NodeId)
    where
        'a: 'scope,
    {
        let stage = &self.session.graph.nodes[id].stage;
        if self.stopping || !self.pending.contains_key(&id) {
            return;
        }
        let lease = match self.options.slots.lease(stage) {
            Ok(Some(lease)) => lease,
            Ok(None) => return,
            Err(error) => {
                let Some(pending) = self.pending.remove(&id) else { return };
                return self.fail(id, pending.looked.key.hex(), pending.reasons, error, 0);
            }
        };
        let Some(pending) = self.pending.remove(&id) else { return };
        self.state[id] = State::Running;
        *self.tried.entry(id).or_default() += 1;
        let (case, cases) = self.case_of(id);
        let (stage_name, key, reasons) = (stage.name.clone(), pending.looked.key.hex(), pending.reasons.clone());
        self.log.emit(Event::StageStarted { stage: stage_name, case, cases, key, reasons });
        let cancel = Cancel::default();
        let deadline = stage.run.timeout_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
        let (looked, thread_lease, thread_cancel) = (pending.looked, lease.clone(), cancel.clone());
        let running = Running { lease, cancel, deadline, timed_out: false, reasons: pending.reasons };
        self.running.insert(id, running);
        let (session, log, sender) = (self.session, self.log, self.sender.clone());
        let (offline, patience) = (self.options.offline, self.options.patience);
        let forced = (self.options.forced.contains(&id) && self.tried[&id] == 1) || self.lost.contains(&id);
        scope.spawn(move || {
            let (lease, cancel) = (&thread_lease, thread_cancel);
            let action = Action { session, node: id, looked: &looked, lease, log, cancel, offline, patience, forced };
            let result = action.run();
            // The walk outlives its threads, so the channel is open.
            let _ = sender.send((id, looked, result));
        });
    }

    fn take(&mut self, (id, looked, result): Report) {
        let Some(running) = self.running.remove(&id) else { return };
        self.options.slots.free(running.lease.clone());
        match result {
            Ok(finished) => self.succeed(id, &looked, finished, running),
            Err(Ended::LostInput(parent)) => self.run_again(id, parent),
            Err(Ended::Failed(StageError::Cancelled)) if running.timed_out => {
                let text = "the time limit of `run.timeout` was reached; run again to go on".into();
                self.fail(id, String::new(), running.reasons, StageError::TimedOut(text), 0);
            }
            Err(Ended::Failed(StageError::Retry(text))) if self.may_retry(id) => {
                self.tell(id, "warn", format!("{text}; trying again"));
                self.state[id] = State::Waiting;
                self.look_up(id);
            }
            Err(Ended::Failed(StageError::Cancelled)) => self.state[id] = State::Waiting,
            Err(Ended::Failed(error)) => self.fail(id, String::new(), running.reasons, error, 0),
        }
    }

    fn may_retry(&self, id: NodeId) -> bool {
        self.tried[&id] <= self.session.graph.nodes[id].stage.run.retries && !self.stopping
    }

    fn succeed(&mut self, id: NodeId, looked: &Looked, finished: Finished, running: Running) {
        self.lost.remove(&id);
        let outputs = finished.result.outputs;
        if finished.executed {
            self.tally.ran += 1;
            self.settle(id, looked, outputs, "ran", running.reasons, finished.wall_ms);
        } else {
            self.tally.hit += 1;
            self.settle(id, looked, outputs, "hit", Vec::new(), finished.wall_ms);
        }
    }

    /// A blob was lost: its writer runs again, then the reader.
    fn run_again(&mut self, reader: NodeId, writer: NodeId) {
        if self.tried[&reader] > 3 {
            let error = StageError::Failed("an input keeps being damaged in the store; check the disk".into());
            return self.fail(reader, String::new(), Vec::new(), error, 0);
        }
        self.state[reader] = State::Waiting;
        self.waiting_for[reader] = 1;
        if self.state[writer] == State::Done {
            for other in self.readers[writer].clone().into_iter().filter(|&r| r != reader) {
                self.waiting_for[other] += usize::from(self.state[other] == State::Waiting);
            }
            self.outputs[writer] = None;
            self.tally.hit = self.tally.hit.saturating_sub(1);
            self.lost.insert(writer);
            self.look_up(writer);
        }
    }

    fn settle(
        &mut self,
        id: NodeId,
        looked: &Looked,
        outputs: BTreeMap<String, Stored>,
        outcome: &str,
        reasons: Vec<Reason>,
        wall_ms: u64,
    ) {
        let node = &self.session.graph.nodes[id];
        let mut history = self.session.history.lock().expect("no thread panics while it holds this lock");
        history.remember(&self.session.study.name, node, looked.key);
        drop(history);
        self.outputs[id] = Some(outputs);
        self.state[id] = State::Done;
        self.finish(id, outcome, looked.key.hex(), reasons, wall_ms, None);
        self.wake_readers(id);
    }

    fn fail(&mut self, id: NodeId, key: String, reasons: Vec<Reason>, error: StageError, wall_ms: u64) {
        self.state[id] = State::Failed;
        self.finish(id, "failed", key, reasons, wall_ms, Some(error.to_string()));
        self.tally.failed.push((id, error));
        self.stopping |= !self.options.keep_going;
        self.wake_readers(id);
    }

    fn skip(&mut self, id: NodeId, why: &str) {
        self.state[id] = State::Skipped;
        self.tally.skipped += 1;
        self.finish(id, "skipped", String::new(), Vec::new(), 0, Some(why.to_string()));
        self.wake_readers(id);
    }

    fn wake_readers(&mut self, id: NodeId) {
        for reader in self.readers[id].clone() {
            self.waiting_for[reader] = self.waiting_for[reader].saturating_sub(1);
            if self.waiting_for[reader] == 0 && self.state[reader] == State::Waiting && !self.stopping {
                self.look_up(reader);
            }
        }
    }

    fn finish(
        &self,
        id: NodeId,
        outcome: &str,
        key: String,
        reasons: Vec<Reason>,
        wall_ms: u64,
        error: Option<String>,
    ) {
        let (case, cases) = self.case_of(id);
        let stage = self.session.graph.nodes[id].stage.name.clone();
        let outcome = outcome.to_string();
        self.log.emit(Event::StageFinished { stage, case, cases, outcome, key, reasons, wall_ms, error });
    }

    fn case_of(&self, id: NodeId) -> (Option<String>, Vec<String>) {
        let node = &self.session.graph.nodes[id];
        (node.case().map(str::to_string), node.cases.clone())
    }

    fn watch_clock(&mut self) {
        let now = Instant::now();
        for running in self.running.values_mut() {
            running.timed_out |= running.deadline.is_some_and(|d| now >= d);
            if self.options.cancel.is_cancelled() || running.timed_out {
                running.cancel.cancel();
            }
        }
    }

    fn skip_the_rest(&mut self) {
        for id in 0..self.state.len() {
            if matches!(self.state[id], State::Waiting | State::Ready) {
                self.skip(id, "the run ended before");
            }
        }
    }
}
