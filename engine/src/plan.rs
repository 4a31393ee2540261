//! The walk that executes nothing: what each stage would do, and why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use watershed_cache::{ActionResult, Digest, Stored};

use crate::event::Reason;
use crate::fault::StageError;
use crate::graph::{From, NodeId};
use crate::lookup::{self, Outputs};
use crate::preview::{Preview, PreviewInputs};
use crate::session::Session;

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
        let state = state_of(session, node, &known, forced.contains(&node));
        if let State::Hit(_, result) = &state {
            known.0[node] = Some(result.outputs.clone());
        }
        lines.push(previewed(session, node, &known, state));
    }
    lines
}

fn state_of(session: &Session, id: NodeId, known: &Known, forced: bool) -> State {
    let mut unknown: Vec<NodeId> = session.graph.parents(id).filter(|&p| known.of(p).is_none()).collect();
    unknown.dedup();
    if !unknown.is_empty() {
        return State::Depends(unknown);
    }
    match lookup::look_up(session, id, known) {
        Err(error) => State::Broken(error),
        Ok(looked) if forced => State::Run(looked.key, vec![crate::reason::forced(&session.graph.nodes[id])]),
        Ok(looked) => match looked.hit {
            Some(ref result) => State::Hit(looked.key, Box::new(result.clone())),
            None => State::Run(looked.key, lookup::reasons(session, id, &looked)),
        },
    }
}

/// Adds what the kind can tell beforehand. A preview that fails is a stage that would fail.
fn previewed(session: &Session, node: NodeId, known: &dyn Outputs, state: State) -> Planned {
    if matches!(state, State::Hit(..) | State::Broken(_)) {
        return Planned { node, state, preview: None };
    }
    let stage = &session.graph.nodes[node].stage;
    match (stage.kind.preview)(&stage.params, &preview_inputs(session, node, known)) {
        Ok(preview) => Planned { node, state, preview: (preview != Preview::default()).then_some(preview) },
        Err(error) => Planned { node, state: State::Broken(error), preview: None },
    }
}

/// Returns the inputs of a node that are there already, folder outputs left out (they lie in the store as blobs).
pub fn preview_inputs(session: &Session, id: NodeId, known: &dyn Outputs) -> PreviewInputs {
    let mut inputs = PreviewInputs { shared: session.previewed.clone(), ..PreviewInputs::default() };
    for input in &session.graph.nodes[id].inputs {
        let path = match &input.from {
            From::Cases => None,
            From::Path { path, .. } => Some(path.clone()),
            From::Node { node, port, inside: None } => known.of(*node).and_then(|o| blob(session, o.get(port)?)),
            From::Node { node, port, inside: Some(inside) } => known
                .of(*node)
                .and_then(|o| lookup::file_inside(session, &o.get(port)?.artifact, inside).ok())
                .map(|file| session.store.blob(&file.digest)),
        };
        if let Some(path) = path {
            inputs.ports.entry(input.port.clone()).or_default().push((input.label.clone(), path));
        }
    }
    inputs
}

/// Returns the inputs of a node that are in the store or the user's own; folders are laid out below `folders`.
///
/// # Errors
/// Names a stage that has to run first.
pub fn inputs_of(session: &Session, id: NodeId, folders: &Path) -> Result<PreviewInputs, StageError> {
    let needed = session.graph.needed(&[id]);
    let mut known = Known(vec![None; session.graph.nodes.len()]);
    for node in (0..session.graph.nodes.len()).filter(|&node| needed[node] && node != id) {
        if let State::Hit(_, result) = state_of(session, node, &known, false) {
            known.0[node] = Some(result.outputs);
        }
    }
    let mut inputs = preview_inputs(session, id, &known);
    for input in &session.graph.nodes[id].inputs {
        let From::Node { node, port, inside: None } = &input.from else { continue };
        let writer = session.graph.nodes[*node].title();
        let first = || StageError::failed(format!("`{writer}` has to run first: `watershed run {writer}`"));
        let stored = known.of(*node).and_then(|outputs| outputs.get(port)).ok_or_else(first)?;
        if stored.artifact.folder {
            let path = folders.join(format!("{node}.{port}"));
            session.store.copy_out(&stored.artifact, &path).map_err(crate::session::store_error)?;
            inputs.ports.entry(input.port.clone()).or_default().push((input.label.clone(), path));
        }
    }
    Ok(inputs)
}

fn blob(session: &Session, stored: &Stored) -> Option<PathBuf> {
    (!stored.artifact.folder).then(|| session.store.blob(&stored.artifact.digest))
}
