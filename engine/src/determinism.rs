//! `--check-determinism`: executes actions twice from nothing and compares what they leave, byte by byte.
//!
//! "From nothing" is a private folder each, without checkpoint, memo or record. The store keeps what it has: nothing is
//! published. Only data outputs are compared, for only they promise to hold no clock, host or path.

use std::time::Duration;

use watershed_cache::{Digest, Tree};

use crate::cancel::Cancel;
use crate::difference::{self, Difference};
use crate::event::Event;
use crate::execute::{Action, Aids, Ended, Produced};
use crate::fault::StageError;
use crate::graph::{Node, NodeId};
use crate::job::{JobEvent, Sink};
use crate::lookup::{self, Looked, Outputs};
use crate::port::Class;
use crate::runlog::RunLog;
use crate::session::{Session, store_error};
use crate::slots::{Lease, Slots};

/// What a check works with.
pub struct Bench<'a> {
    /// The session.
    pub session: &'a Session,
    /// Outputs of the nodes above those that are checked.
    pub outputs: &'a dyn Outputs,
    /// What an execution may use.
    pub slots: Slots,
    /// No network.
    pub offline: bool,
    /// Raised when the check shall end.
    pub cancel: Cancel,
    /// Where it tells what it finds.
    pub log: &'a RunLog,
}

/// What a check found.
struct Finding {
    outcome: &'static str,
    key: Option<Digest>,
    as_stored: Option<bool>,
    difference: Option<Difference>,
    wall: Duration,
    error: Option<StageError>,
}

impl Finding {
    fn without(outcome: &'static str, error: StageError) -> Finding {
        Finding { outcome, key: None, as_stored: None, difference: None, wall: Duration::ZERO, error: Some(error) }
    }
}

impl Bench<'_> {
    /// Checks nodes one after the other. Returns those that differ or failed, with an error that says so.
    pub fn check(&self, nodes: &[NodeId]) -> Vec<(NodeId, StageError)> {
        let mut failed = Vec::new();
        for &id in nodes {
            if self.cancel.is_cancelled() {
                break;
            }
            let finding = self.finding(id);
            self.tell(id, &finding);
            failed.extend(verdict(finding).map(|error| (id, error)));
        }
        failed
    }

    /// Tells that nodes were left out, and why.
    pub fn skip(&self, nodes: &[NodeId], why: &str) {
        nodes.iter().for_each(|&id| self.tell(id, &Finding::without("skipped", StageError::failed(why))));
    }

    fn finding(&self, id: NodeId) -> Finding {
        let parents = self.session.graph.parents(id);
        if let Some(missing) = parents.into_iter().find(|&parent| self.outputs.of(parent).is_none()) {
            let title = self.session.graph.nodes[missing].title();
            return Finding::without("skipped", StageError::Failed(format!("`{title}` did not finish")));
        }
        let looked = match lookup::look_up(self.session, id, self.outputs) {
            Ok(looked) => looked,
            Err(error) => return Finding::without("failed", error),
        };
        let finding = self.compare(id, &looked).unwrap_or_else(|error| Finding::without("failed", error));
        Finding { key: Some(looked.key), ..finding }
    }

    fn compare(&self, id: NodeId, looked: &Looked) -> Result<Finding, StageError> {
        let node = &self.session.graph.nodes[id];
        // Nothing else runs, so whatever the machine can offer is free.
        let lease = self.slots.clone().lease(&node.stage)?;
        let lease = lease.ok_or_else(|| StageError::Environment("no place on this machine is free".into()))?;
        let (one, two) = (self.produce(id, looked, &lease)?, self.produce(id, looked, &lease)?);
        let difference = first_difference(node, &one, &two)?;
        let outcome = if difference.is_some() { "differs" } else { "equal" };
        let (as_stored, wall) = (as_stored(node, looked, &one)?, one.wall + two.wall);
        Ok(Finding { outcome, key: None, as_stored, difference, wall, error: None })
    }

    fn produce(&self, node: NodeId, looked: &Looked, lease: &Lease) -> Result<Produced, StageError> {
        let limit = self.session.graph.nodes[node].stage.run.timeout_ms.map(Duration::from_millis);
        let cancel = self.cancel.within(limit);
        let action = Action {
            session: self.session,
            node,
            looked,
            lease,
            log: self.log,
            cancel: cancel.clone(),
            offline: self.offline,
            patience: Duration::ZERO,
            forced: true,
            fresh: true,
        };
        action.produce(Aids::default(), &Quiet).map_err(|ended| match ended {
            Ended::Failed(StageError::Cancelled) if cancel.is_late() => StageError::out_of_time(),
            Ended::Failed(StageError::Cancelled) if !cancel.is_cancelled() => StageError::ended_from_outside(),
            Ended::Failed(error) => error,
            Ended::LostInput(parent) => {
                let title = self.session.graph.nodes[parent].title();
                StageError::Failed(format!(
                    "an output of `{title}` was damaged in the store; check again, it is made anew"
                ))
            }
        })
    }

    fn tell(&self, id: NodeId, finding: &Finding) {
        let node = &self.session.graph.nodes[id];
        self.log.emit(Event::DeterminismChecked {
            stage: node.stage.name.clone(),
            case: node.case().map(str::to_string),
            cases: node.cases.clone(),
            outcome: finding.outcome.into(),
            key: finding.key.map(|key| key.hex()).unwrap_or_default(),
            reproducible: node.stage.kind.reproducible,
            as_stored: finding.as_stored,
            difference: finding.difference.clone(),
            wall_ms: finding.wall.as_millis() as u64,
            error: finding.error.as_ref().map(StageError::to_string),
        });
    }
}

/// Two executions' worth of metrics and log lines would read as one execution's.
struct Quiet;

impl Sink for Quiet {
    fn emit(&self, _event: JobEvent) {}
}

fn verdict(finding: Finding) -> Option<StageError> {
    match (finding.error, finding.difference) {
        (error, _) if finding.outcome == "failed" => error,
        (_, Some(difference)) => Some(StageError::Failed(format!("not deterministic: {difference}"))),
        _ => None,
    }
}

fn first_difference(node: &Node, one: &Produced, two: &Produced) -> Result<Option<Difference>, StageError> {
    for port in data_ports(node) {
        let (one, two) = (written(one, port)?, written(two, port)?);
        if let Some(difference) = difference::find(port, one, two).map_err(StageError::Failed)? {
            return Ok(Some(difference));
        }
    }
    Ok(None)
}

/// Says whether an execution gave the bytes that the store holds; `None` where it holds no result.
fn as_stored(node: &Node, looked: &Looked, produced: &Produced) -> Result<Option<bool>, StageError> {
    let Some(hit) = &looked.hit else { return Ok(None) };
    for port in data_ports(node) {
        if hit.outputs.get(port).map(|stored| stored.artifact.digest) != Some(digest(written(produced, port)?)?) {
            return Ok(Some(false));
        }
    }
    Ok(Some(true))
}

fn data_ports(node: &Node) -> impl Iterator<Item = &str> {
    node.stage.ports.outputs.iter().filter(|port| port.class == Class::Data).map(|port| port.name.as_ref())
}

fn written<'p>(produced: &'p Produced, port: &str) -> Result<&'p std::path::Path, StageError> {
    let path = produced.outputs.get(port).filter(|path| path.symlink_metadata().is_ok());
    path.map(|path| path.as_path())
        .ok_or_else(|| StageError::Failed(format!("the stage ended without writing its output `{port}`")))
}

fn digest(path: &std::path::Path) -> Result<Digest, StageError> {
    if path.is_dir() {
        return Tree::scan(path, None, &|_| true).map(|tree| tree.artifact().digest).map_err(store_error);
    }
    Digest::of_file(path).map(|(digest, _)| digest).map_err(store_error)
}
