//! The walk: looks every node up as soon as its inputs are known, and executes the misses, several at once.
//!
//! One thread owns all state and decides; each execution has a thread of its own and reports back through a channel. No
//! async runtime: a walk waits for few, long things, and a run with nothing to do should not start one. `gate` holds back
//! what is expensive until every preview was seen, `running` starts executions and takes their reports, `resting` keeps
//! those that will be tried again.

mod gate;
mod resting;
mod running;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Scope;
use std::time::Duration;

use watershed_cache::{Digest, Stored};

use crate::backoff::Backoff;
use crate::cancel::Cancel;
use crate::event::{Event, Reason};
use crate::fault::StageError;
use crate::graph::{NodeId, NodeInput};
use crate::lookup::{self, Looked, Outputs};
use crate::reason;
use crate::record::Provenance;
use crate::runlog::RunLog;
use crate::session::Session;
use crate::slots::Slots;
use resting::Resting;
use running::{Report, Running};

/// How often the walk looks up from waiting: for a signal, and for stages that have rested.
const TICK: Duration = Duration::from_millis(50);

/// Nodes that are done without being walked, and their outputs.
pub type Given = BTreeMap<NodeId, BTreeMap<String, Stored>>;

/// How to walk.
pub struct Options {
    /// What may run at once.
    pub slots: Slots,
    /// Whether a failed stage leaves unrelated ones running.
    pub keep_going: bool,
    /// Nodes that run whatever the store holds, once.
    pub forced: Vec<NodeId>,
    /// Outputs of nodes that are done without being walked.
    pub given: Given,
    /// No network.
    pub offline: bool,
    /// How long to wait for another process that executes the same action.
    pub patience: Duration,
    /// How long a stage rests before it is tried again.
    pub backoff: Backoff,
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
    /// Keys of the nodes that are done.
    pub keys: Vec<Option<Digest>>,
    /// Their outputs.
    pub outputs: Vec<Option<BTreeMap<String, Stored>>>,
}

impl Outputs for Tally {
    fn of(&self, node: NodeId) -> Option<&BTreeMap<String, Stored>> {
        self.outputs[node].as_ref()
    }
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

/// How a node ended, as the log tells it.
#[derive(Default)]
struct Ending {
    outcome: &'static str,
    key: Option<Digest>,
    reasons: Vec<Reason>,
    wall_ms: u64,
    error: Option<String>,
    fault: Option<&'static str>,
}

impl Ending {
    /// The end of a node that was keyed: what ran, or would have.
    fn of(outcome: &'static str, looked: &Looked, reasons: Vec<Reason>, wall_ms: u64) -> Ending {
        Ending { outcome, key: Some(looked.key), reasons, wall_ms, error: None, fault: None }
    }
}

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
    resting: BTreeMap<NodeId, Resting>,
    failures: BTreeMap<NodeId, u32>,
    lost: BTreeSet<NodeId>,
    passed_gate: BTreeSet<NodeId>,
    looked_ahead: BTreeSet<NodeId>,
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
            let parents: BTreeSet<NodeId> =
                session.graph.parents(id).filter(|parent| !options.given.contains_key(parent)).collect();
            waiting_for[id] = parents.len();
            parents.iter().for_each(|&p| readers[p].push(id));
        }
        let mut state: Vec<State> = needed.iter().map(|&n| if n { State::Waiting } else { State::Unneeded }).collect();
        let mut outputs = vec![None; count];
        for (&id, known) in &options.given {
            state[id] = State::Done;
            outputs[id] = Some(known.clone());
        }
        Walk {
            session,
            options,
            log,
            sender,
            state,
            outputs,
            waiting_for,
            readers,
            pending: BTreeMap::new(),
            running: BTreeMap::new(),
            resting: BTreeMap::new(),
            failures: BTreeMap::new(),
            lost: BTreeSet::new(),
            passed_gate: BTreeSet::new(),
            looked_ahead: BTreeSet::new(),
            tried: BTreeMap::new(),
            tally: Tally { keys: vec![None; count], ..Tally::default() },
            stopping: false,
        }
    }

    fn tally(self) -> Tally {
        Tally { outputs: self.outputs, ..self.tally }
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
                self.wake_rested();
                self.start_ready(scope);
            }
            if self.running.is_empty() && (self.stopping || self.resting.is_empty()) {
                break;
            }
            match receiver.recv_timeout(TICK) {
                Ok(report) => self.take(report),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.fail_resting();
        self.skip_the_rest();
    }

    /// Looks a node up, all of whose inputs are settled.
    fn look_up(&mut self, id: NodeId) {
        if let Some(culprit) = self.missing_parent(id) {
            let title = self.session.graph.nodes[culprit].title();
            return self.skip(id, Ending::default(), format!("`{title}` did not finish"));
        }
        let looked = match lookup::look_up(self.session, id, self) {
            Ok(looked) => looked,
            Err(error) => return self.fail(id, Ending::default(), error),
        };
        match (&looked.hit, self.demand(id)) {
            (Some(result), None) => {
                let (outputs, wall) = (result.outputs.clone(), Provenance::of(result).map_or(0, |p| p.wall_ms));
                self.tally.hit += 1;
                self.settle(id, outputs, Ending::of("hit", &looked, Vec::new(), wall));
            }
            (_, demand) => {
                let reasons = demand.map_or_else(|| lookup::reasons(self.session, id, &looked), |reason| vec![reason]);
                self.state[id] = State::Ready;
                self.pending.insert(id, Pending { looked, reasons });
            }
        }
    }

    /// Returns why a node runs whatever the store holds.
    fn demand(&self, id: NodeId) -> Option<Reason> {
        let node = &self.session.graph.nodes[id];
        if self.lost.contains(&id) {
            return Some(reason::output_missing(node));
        }
        // Until it has run: a try that met a passing fault or a damaged input leaves the wish standing.
        self.options.forced.contains(&id).then(|| reason::forced(node))
    }

    /// Returns a parent that did not finish and without which a node cannot run. Of `S@*` with `allow_missing` one case is enough.
    fn missing_parent(&self, id: NodeId) -> Option<NodeId> {
        let inputs = &self.session.graph.nodes[id].inputs;
        let lost = |input: &NodeInput| input.from.node().filter(|&parent| self.outputs[parent].is_none());
        let one_is_there = |port: &str| inputs.iter().any(|other| other.port == port && lost(other).is_none());
        let broken = |input: &NodeInput| lost(input).filter(|_| !input.may_be_missing || !one_is_there(&input.port));
        inputs.iter().find_map(broken)
    }

    fn tell(&self, id: NodeId, level: &str, text: String) {
        let node = &self.session.graph.nodes[id];
        let (stage, case) = (node.stage.name.clone(), node.case().map(str::to_string));
        self.log.emit(Event::Log { stage, case, level: level.into(), text });
    }

    /// A blob was lost: its writer runs again, then the reader.
    fn run_again(&mut self, reader: NodeId, writer: NodeId) {
        if self.tried[&reader] > 3 || self.options.given.contains_key(&writer) {
            let error = StageError::Failed("an input keeps being damaged in the store; check the disk".into());
            return self.fail(reader, Ending::default(), error);
        }
        self.state[reader] = State::Waiting;
        let was_done = self.state[writer] == State::Done;
        if was_done {
            for other in self.readers[writer].clone().into_iter().filter(|&r| r != reader) {
                self.waiting_for[other] += usize::from(self.state[other] == State::Waiting);
            }
            self.outputs[writer] = None;
            self.state[writer] = State::Waiting;
            self.tally.hit = self.tally.hit.saturating_sub(1);
            self.lost.insert(writer);
        }
        // Another input may be on its way to be made again too.
        self.waiting_for[reader] = self.unsettled_parents(reader);
        if was_done {
            self.look_up(writer);
        }
    }

    fn unsettled_parents(&self, id: NodeId) -> usize {
        let parents: BTreeSet<NodeId> = self.session.graph.parents(id).collect();
        let is_open = |&parent: &NodeId| matches!(self.state[parent], State::Waiting | State::Ready | State::Running);
        parents.into_iter().filter(is_open).count()
    }

    fn settle(&mut self, id: NodeId, outputs: BTreeMap<String, Stored>, ending: Ending) {
        let node = &self.session.graph.nodes[id];
        if let Some(key) = ending.key {
            let mut history = self.session.history.lock().expect("no thread panics while it holds this lock");
            history.remember(&self.session.study.name, node, key);
            self.tally.keys[id] = Some(key);
        }
        self.outputs[id] = Some(outputs);
        self.state[id] = State::Done;
        self.tell_end(id, ending);
        self.wake_readers(id);
    }

    fn fail(&mut self, id: NodeId, ending: Ending, error: StageError) {
        self.state[id] = State::Failed;
        let fault = matches!(error, StageError::Diverged(_)).then(|| error.class());
        self.tell_end(id, Ending { outcome: "failed", error: Some(error.to_string()), fault, ..ending });
        self.tally.failed.push((id, error));
        self.stopping |= !self.options.keep_going;
        self.wake_readers(id);
    }

    pub(super) fn skip(&mut self, id: NodeId, ending: Ending, why: String) {
        self.state[id] = State::Skipped;
        self.tally.skipped += 1;
        self.tell_end(id, Ending { outcome: "skipped", error: Some(why), ..ending });
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

    fn tell_end(&self, id: NodeId, ending: Ending) {
        let (case, cases) = self.case_of(id);
        let stage = self.session.graph.nodes[id].stage.name.clone();
        let Ending { outcome, key, reasons, wall_ms, error, fault } = ending;
        let key = key.map(|k| k.hex()).unwrap_or_default();
        self.log.emit(Event::StageFinished {
            stage,
            case,
            cases,
            outcome: outcome.into(),
            key,
            reasons,
            wall_ms,
            error,
            fault: fault.map(str::to_string),
        });
    }

    fn case_of(&self, id: NodeId) -> (Option<String>, Vec<String>) {
        let node = &self.session.graph.nodes[id];
        (node.case().map(str::to_string), node.cases.clone())
    }

    fn skip_the_rest(&mut self) {
        for id in 0..self.state.len() {
            if matches!(self.state[id], State::Waiting | State::Ready) {
                self.skip(id, Ending::default(), "the run ended before".into());
            }
        }
    }
}
