//! The walk that executes nothing: what each stage would do, and why.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use watershed_cache::{ActionResult, Digest, Stored};

use crate::checkpoint::Header;
use crate::event::Reason;
use crate::fault::StageError;
use crate::graph::{From, Node, NodeId, NodeInput};
use crate::lookup::{self, Looked, Outputs};
use crate::preview::{Preview, PreviewInputs};
use crate::session::Session;
use crate::slots;
use crate::worker::BUILD;

/// What a node would do.
pub enum State {
    /// Served from the store.
    Hit(Digest, Box<ActionResult>),
    /// Executed, for these reasons.
    Run(Digest, Vec<Reason>),
    /// Known only when these nodes have run.
    Depends(Vec<NodeId>),
    /// Cannot be known: an input cannot be read.
    Broken(StageError),
}

/// One line of a plan.
pub struct Planned {
    /// The node.
    pub node: NodeId,
    /// What it would do.
    pub state: State,
    /// Whether it would go on from a checkpoint.
    pub goes_on: bool,
    /// What it can tell beforehand, for kinds that can.
    pub preview: Option<Preview>,
}

struct Known(Vec<Option<BTreeMap<String, Stored>>>);

impl Outputs for Known {
    fn of(&self, node: NodeId) -> Option<&BTreeMap<String, Stored>> {
        self.0[node].as_ref()
    }
}

/// Plans the nodes that `targets` need (all for none); `forced` nodes run whatever the store holds.
pub fn plan(session: &Session, targets: &[NodeId], forced: &[NodeId]) -> Vec<Planned> {
    let needed = session.graph.needed(targets);
    let mut known = Known(vec![None; session.graph.nodes.len()]);
    let mut lines = Vec::new();
    for node in (0..session.graph.nodes.len()).filter(|&id| needed[id]) {
        let (state, goes_on) = state_of(session, node, &known, forced.contains(&node));
        if let State::Hit(_, result) = &state {
            known.0[node] = Some(result.outputs.clone());
        }
        let (state, preview) = previewed(session, node, &known, state);
        lines.push(Planned { node, state, goes_on, preview });
    }
    lines
}

/// Returns what a node would do, and whether it would go on from a checkpoint.
fn state_of(session: &Session, id: NodeId, known: &Known, forced: bool) -> (State, bool) {
    let node = &session.graph.nodes[id];
    let mut unknown: Vec<NodeId> = session.graph.parents(id).filter(|&p| known.of(p).is_none()).collect();
    unknown.dedup();
    if !unknown.is_empty() {
        return (State::Depends(unknown), false);
    }
    match lookup::look_up(session, id, known) {
        Err(error) => (State::Broken(error), false),
        Ok(looked) if forced => (State::Run(looked.key, vec![crate::reason::forced(node)]), false),
        Ok(looked) => match looked.hit {
            Some(ref result) => (State::Hit(looked.key, Box::new(result.clone())), false),
            None => {
                let goes_on = has_checkpoint(session, node, &looked);
                (State::Run(looked.key, lookup::reasons(session, id, &looked)), goes_on)
            }
        },
    }
}

/// Says whether an action would find a checkpoint of its work to go on from: its own, or one that it would take over.
fn has_checkpoint(session: &Session, node: &Node, looked: &Looked) -> bool {
    let kind = &node.stage.kind;
    let (work, own) = (looked.work(node).hex(), session.store.partial(&looked.key));
    let header = Header { work, kind: kind.name.into(), version: kind.version, build: BUILD.into() };
    if own.exists() || kind.judges.is_empty() {
        return header.finds(&own);
    }
    let others = own.parent().and_then(|folder| fs::read_dir(folder).ok());
    others.into_iter().flatten().flatten().any(|other| header.finds(&other.path()))
}

/// Adds what the kind can tell beforehand. A preview that fails is a stage that would fail.
fn previewed(session: &Session, node: NodeId, known: &dyn Outputs, state: State) -> (State, Option<Preview>) {
    if matches!(state, State::Hit(..) | State::Broken(_)) {
        return (state, None);
    }
    match preview_of(session, node, known) {
        Ok(preview) => (state, (preview != Preview::default()).then_some(preview)),
        Err(error) => (State::Broken(error), None),
    }
}

/// Returns the preview of a node. Where it fails over an input whose stored bytes are damaged, there is nothing to tell: the
/// run finds the damage and makes the input again.
///
/// # Errors
/// When the stage would fail.
pub fn preview_of(session: &Session, id: NodeId, known: &dyn Outputs) -> Result<Preview, StageError> {
    let stage = &session.graph.nodes[id].stage;
    let preview = (stage.kind.preview)(&stage.params, &preview_inputs(session, id, known));
    preview.or_else(|error| if has_damaged_input(session, id, known) { Ok(Preview::default()) } else { Err(error) })
}

fn has_damaged_input(session: &Session, id: NodeId, known: &dyn Outputs) -> bool {
    let stored = |input: &NodeInput| match &input.from {
        From::Node { node, port, .. } => known.of(*node)?.get(port),
        From::Path { .. } | From::Cases => None,
    };
    let inputs = &session.graph.nodes[id].inputs;
    inputs.iter().filter_map(stored).any(|stored| session.store.verify(&stored.artifact).is_err())
}

/// Returns the inputs of a node that are there already.
fn preview_inputs(session: &Session, id: NodeId, known: &dyn Outputs) -> PreviewInputs {
    let node = &session.graph.nodes[id];
    let (run, device) = (node.stage.run.own.clone(), slots::device_of(&node.stage.run));
    let mut inputs = PreviewInputs { run, device, shared: session.previewed.clone(), ..PreviewInputs::default() };
    let is_bound = |name: &str| node.inputs.iter().any(|input| input.port == name);
    let unbound = node.stage.ports.inputs.iter().filter(|port| !is_bound(&port.name));
    inputs.ports.extend(unbound.map(|port| (port.name.to_string(), Vec::new())));
    for input in &node.inputs {
        let Some((path, digest)) = there(session, input, known) else { continue };
        inputs.ports.entry(input.port.clone()).or_default().push((input.label.clone(), path));
        inputs.digests.extend(digest.map(|digest| (input.port.clone(), digest.hex())));
    }
    inputs
}

/// Returns where an input lies, and its digest if that needs no reading.
fn there(session: &Session, input: &NodeInput, known: &dyn Outputs) -> Option<(PathBuf, Option<Digest>)> {
    let artifact = match &input.from {
        From::Cases => return None,
        From::Path { path, .. } => {
            return Some((path.clone(), session.identified(path, input.record).map(|artifact| artifact.digest)));
        }
        From::Node { node, port, inside: None } => known.of(*node)?.get(port)?.artifact.clone(),
        From::Node { node, port, inside: Some(inside) } => {
            lookup::file_inside(session, &known.of(*node)?.get(port)?.artifact, inside).ok()?
        }
    };
    let path = match artifact.folder {
        true => session.shelf.folder(&session.store, &artifact.digest).ok()?,
        false => session.store.blob(&artifact.digest),
    };
    Some((path, Some(artifact.digest)))
}

/// Returns the inputs of a node that are in the store or the user's own.
///
/// # Errors
/// Names a stage that has to run first.
pub fn inputs_of(session: &Session, id: NodeId) -> Result<PreviewInputs, StageError> {
    let needed = session.graph.needed(&[id]);
    let mut known = Known(vec![None; session.graph.nodes.len()]);
    for node in (0..session.graph.nodes.len()).filter(|&node| needed[node] && node != id) {
        if let State::Hit(_, result) = state_of(session, node, &known, false).0 {
            known.0[node] = Some(result.outputs);
        }
    }
    for input in &session.graph.nodes[id].inputs {
        let From::Node { node, port, .. } = &input.from else { continue };
        let writer = session.graph.nodes[*node].title();
        let first = || StageError::failed(format!("`{writer}` has to run first: `watershed run {writer}`"));
        let stored = known.of(*node).and_then(|outputs| outputs.get(port)).ok_or_else(first)?;
        session.store.verify(&stored.artifact).map_err(crate::session::store_error)?;
    }
    Ok(preview_inputs(session, id, &known))
}
