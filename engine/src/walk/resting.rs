//! Stages that met a passing fault and rest before they are tried again. They hold no place meanwhile.

use std::time::Instant;

use super::{Ending, State, Walk};
use crate::fault::StageError;
use crate::graph::NodeId;

/// One stage that rests.
pub struct Resting {
    until: Instant,
    ending: Ending,
    fault: String,
}

impl Walk<'_> {
    /// Puts a stage to rest after a passing fault, or fails it when its tries are used up.
    pub(super) fn rest_or_fail(&mut self, id: NodeId, ending: Ending, fault: String) {
        let tries = self.session.graph.nodes[id].stage.run.retries;
        let failures = self.failures.entry(id).or_default();
        *failures += 1;
        let (failures, key) = (*failures, ending.key);
        let Some(key) = key.filter(|_| failures <= tries && !self.stopping) else {
            return self.fail(id, ending, StageError::Retry(fault));
        };
        let rest = self.options.backoff.rest(&key, failures);
        let wait = rest.as_secs_f64();
        self.tell(id, "warn", format!("{fault}; trying again in {wait:.1} s (retry {failures} of {tries})"));
        self.state[id] = State::Waiting;
        self.resting.insert(id, Resting { until: Instant::now() + rest, ending, fault });
    }

    /// Looks those up again that have rested enough.
    pub(super) fn wake_rested(&mut self) {
        let now = Instant::now();
        let rested: Vec<NodeId> = self.resting.iter().filter(|(_, r)| r.until <= now).map(|(id, _)| *id).collect();
        for id in rested {
            self.resting.remove(&id);
            // One whose input is being made again meanwhile is woken by that.
            if self.state[id] == State::Waiting && self.waiting_for[id] == 0 {
                self.look_up(id);
            }
        }
    }

    /// Ends the rests of a walk that stops: what failed and will not be tried again has failed.
    pub(super) fn fail_resting(&mut self) {
        for (id, resting) in std::mem::take(&mut self.resting) {
            if self.state[id] == State::Waiting && !self.options.cancel.is_cancelled() {
                self.fail(id, resting.ending, StageError::Retry(resting.fault));
            }
        }
    }
}
