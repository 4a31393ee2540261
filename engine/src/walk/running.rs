//! Executions in flight: started when there is room, reported back.

use std::thread::Scope;
use std::time::{Duration, Instant};

use super::{Ending, Pending, State, Walk};
use crate::cancel::Cancel;
use crate::event::{Event, Reason};
use crate::execute::{Action, Ended, Finished};
use crate::fault::StageError;
use crate::graph::NodeId;
use crate::lookup::Looked;
use crate::slots::Lease;
use crate::stage::Home;

/// One execution in flight.
pub struct Running {
    lease: Lease,
    cancel: Cancel,
    begun: Instant,
    reasons: Vec<Reason>,
}

/// What an execution's thread sends when it ends.
pub type Report = (NodeId, Looked, Result<Finished, Ended>);

impl<'a> Walk<'a> {
    /// Starts what is ready and has room, light stages first so that gates see all their inputs.
    pub(super) fn start_ready<'scope>(&mut self, scope: &'scope Scope<'scope, 'a>)
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
        self.look_ahead();
        heavy.into_iter().for_each(|id| self.start(scope, id));
    }

    fn start<'scope>(&mut self, scope: &'scope Scope<'scope, 'a>, id: NodeId)
    where
        'a: 'scope,
    {
        if self.stopping || !self.pending.contains_key(&id) {
            return;
        }
        let lease = self.options.slots.lease(&self.session.graph.nodes[id].stage);
        if matches!(lease, Ok(None)) {
            return;
        }
        let Some(pending) = self.pending.remove(&id) else { return };
        match lease {
            Ok(Some(lease)) => self.launch(scope, id, pending, lease),
            Ok(None) => {}
            Err(error) => self.fail(id, Ending::of("failed", &pending.looked, pending.reasons, 0), error),
        }
    }

    fn launch<'scope>(&mut self, scope: &'scope Scope<'scope, 'a>, id: NodeId, pending: Pending, lease: Lease)
    where
        'a: 'scope,
    {
        self.state[id] = State::Running;
        *self.tried.entry(id).or_default() += 1;
        self.tell_start(id, &pending);
        let looked = pending.looked;
        let limit = self.session.graph.nodes[id].stage.run.timeout_ms.map(Duration::from_millis);
        let cancel = self.options.cancel.within(limit);
        let (lent, watched, begun) = (lease.clone(), cancel.clone(), Instant::now());
        self.running.insert(id, Running { lease: lent, cancel: watched, begun, reasons: pending.reasons });
        let (session, log, sender) = (self.session, self.log, self.sender.clone());
        let (offline, patience) = (self.options.offline, self.options.patience);
        let is_lost = self.lost.contains(&id);
        let forced = self.options.forced.contains(&id) || is_lost;
        // A forced stage begins anew; when it is tried again, it goes on from what it has done since.
        let fresh = forced && (is_lost || self.tried[&id] == 1);
        scope.spawn(move || {
            let lease = &lease;
            let looking = &looked;
            let action =
                Action { session, node: id, looked: looking, lease, log, cancel, offline, patience, forced, fresh };
            let result = action.run();
            // The walk outlives its threads, so the channel is open.
            let _ = sender.send((id, looked, result));
        });
    }

    fn tell_start(&self, id: NodeId, pending: &Pending) {
        let (case, cases) = self.case_of(id);
        let stage = self.session.graph.nodes[id].stage.name.clone();
        let (key, reasons) = (pending.looked.key.hex(), pending.reasons.clone());
        self.log.emit(Event::StageStarted { stage, case, cases, key, reasons });
    }

    pub(super) fn take(&mut self, (id, looked, result): Report) {
        let Some(running) = self.running.remove(&id) else { return };
        self.options.slots.free(running.lease);
        let wall_ms = running.begun.elapsed().as_millis() as u64;
        let ending = Ending::of("failed", &looked, running.reasons, wall_ms);
        match result {
            Ok(finished) => self.succeed(id, finished, ending),
            Err(Ended::LostInput(parent)) => self.run_again(id, parent),
            Err(Ended::Failed(StageError::Cancelled)) if running.cancel.is_late() => {
                self.fail(id, ending, StageError::out_of_time());
            }
            Err(Ended::Failed(StageError::Cancelled)) if !running.cancel.is_cancelled() => {
                self.fail(id, ending, StageError::ended_from_outside());
            }
            Err(Ended::Failed(StageError::Retry(fault))) => self.rest_or_fail(id, ending, fault),
            Err(Ended::Failed(StageError::Cancelled)) => self.skip(id, ending, "cancelled while it ran".into()),
            Err(Ended::Failed(error)) => self.fail(id, ending, error),
        }
    }

    fn succeed(&mut self, id: NodeId, finished: Finished, ending: Ending) {
        self.lost.remove(&id);
        self.options.forced.retain(|&forced| forced != id);
        let (outcome, reasons) = if finished.executed { ("ran", ending.reasons) } else { ("hit", Vec::new()) };
        let count = if finished.executed { &mut self.tally.ran } else { &mut self.tally.hit };
        *count += 1;
        let ending = Ending { outcome, reasons, wall_ms: finished.wall_ms, ..ending };
        self.settle(id, finished.result.outputs, ending);
    }
}
