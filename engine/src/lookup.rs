//! From a node whose inputs are known to its key, and from the key to its record.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use watershed_cache::{ActionResult, Artifact, Digest, Stored};

use crate::cases;
use crate::event::Reason;
use crate::fault::StageError;
use crate::graph::{From, Node, NodeId, NodeInput};
use crate::history::{History, Question};
use crate::key::{InputDigest, Manifest};
use crate::reason;
use crate::record::Provenance;
use crate::session::Session;
use crate::suffix;

/// Outputs of the nodes that are done; `None` for failed ones whose readers may go on without them.
pub trait Outputs {
    /// Returns the outputs of a node.
    fn of(&self, node: NodeId) -> Option<&BTreeMap<String, Stored>>;
}

/// An input whose contents are known.
#[derive(Debug, Clone)]
pub struct KnownInput {
    /// The input.
    pub input: NodeInput,
    /// Its contents: for a file inside a folder output, that file.
    pub artifact: Artifact,
}

/// What looking up a node gave.
pub struct Looked {
    /// The action key.
    pub key: Digest,
    /// What it was made from.
    pub manifest: Manifest,
    /// The inputs behind it.
    pub inputs: Vec<KnownInput>,
    /// The record, if it can be relied on.
    pub hit: Option<ActionResult>,
}

impl Looked {
    /// Returns the digest of the work, which is the key but for parameters that only judge it.
    pub fn work(&self, node: &Node) -> Digest {
        match node.stage.kind.judges {
            [] => self.key,
            judges => self.manifest.work(judges),
        }
    }
}

/// Looks a node up. All nodes that it reads must be done.
///
/// # Errors
/// When an input of the user's cannot be read, or a folder output lacks the file that the node names.
pub fn look_up(session: &Session, id: NodeId, outputs: &dyn Outputs) -> Result<Looked, StageError> {
    let node = &session.graph.nodes[id];
    let inputs = known_inputs(session, node, outputs)?;
    let manifest = manifest_of(session, node, &inputs)?;
    let key = manifest.key();
    let hit = session.store.look_up(&key).filter(|result| has_ports(node, result));
    Ok(Looked { key, manifest, inputs, hit })
}

/// Returns why a node that was looked up in vain has to run.
pub fn reasons(session: &Session, id: NodeId, looked: &Looked) -> Vec<Reason> {
    let node = &session.graph.nodes[id];
    if session.store.peek(&looked.key).is_some() {
        return vec![reason::output_missing(node)];
    }
    let history = session.history.lock().expect("no thread panics while it holds this lock");
    let question = Question { pipeline: &session.study.name, graph: &session.graph, node, manifest: &looked.manifest };
    let mut reasons = history.reasons(&question, &session.store);
    for reason in reasons.iter_mut().filter(|reason| reason.beside.is_none()) {
        if let Some(input) = node.inputs.iter().find(|input| reason::is_about(reason, node, input))
            && was_rebuilt(session, &history, input, &reason.old)
        {
            *reason = reason::rebuilt(node, input, reason);
        }
    }
    reasons
}

/// Says whether an input's former bytes are ones that its writer gave under a key that has other bytes now.
fn was_rebuilt(session: &Session, history: &History, input: &NodeInput, old: &Value) -> bool {
    let From::Node { node: writer, port, inside: None } = &input.from else { return false };
    let keys = history.keys(&session.study.name, &session.graph.nodes[*writer]);
    let replaced = keys.iter().filter_map(|key| Some(Provenance::of(&session.store.peek(key)?)?.replaced)).flatten();
    replaced.filter_map(|outputs| outputs.get(port).map(Digest::hex)).any(|digest| *old == digest)
}

fn known_inputs(session: &Session, node: &Node, outputs: &dyn Outputs) -> Result<Vec<KnownInput>, StageError> {
    let mut known = Vec::new();
    for input in &node.inputs {
        let artifact = match &input.from {
            // Tells of the other inputs, so it comes last.
            From::Cases => continue,
            From::Path { path, .. } => session.identify(path, input.record)?,
            From::Node { node: parent, port, inside } => {
                let Some(outputs) = outputs.of(*parent) else { continue };
                let Some(stored) = outputs.get(port) else {
                    return Err(StageError::Failed(format!(
                        "{} left no output `{port}`",
                        session.graph.nodes[*parent].title()
                    )));
                };
                match inside {
                    None => stored.artifact.clone(),
                    Some(path) => file_inside(session, &stored.artifact, path)?,
                }
            }
        };
        known.push(KnownInput { input: input.clone(), artifact });
    }
    if let Some(input) = node.inputs.iter().find(|input| input.from == From::Cases) {
        let text = cases_json(session, &known);
        let artifact = Artifact { digest: Digest::of(text.as_bytes()), size: text.len() as u64, folder: false };
        known.push(KnownInput { input: input.clone(), artifact });
    }
    Ok(known)
}

/// Returns the text of `cases.json` for a reader that gets these inputs.
pub fn cases_json(session: &Session, inputs: &[KnownInput]) -> String {
    let gathered = inputs.iter().map(|known| &known.input).filter(|input| input.gathered);
    cases::text(&session.study, gathered.map(|input| (input.port.as_str(), input.label.as_str())))
}

/// Finds a file of a folder output.
///
/// # Errors
/// When the folder lacks it.
pub fn file_inside(session: &Session, folder: &Artifact, path: &str) -> Result<Artifact, StageError> {
    let tree = session.store.tree(&folder.digest).map_err(crate::session::store_error)?;
    let Some(entry) = tree.entries.iter().find(|e| e.path == path) else {
        let names: Vec<&str> = tree.entries.iter().map(|e| e.path.as_str()).take(20).collect();
        return Err(StageError::Failed(format!("the folder holds no `{path}`; it holds {}", names.join(", "))));
    };
    Ok(Artifact { digest: entry.digest, size: entry.size, folder: false })
}

fn manifest_of(session: &Session, node: &Node, inputs: &[KnownInput]) -> Result<Manifest, StageError> {
    let stage = &node.stage;
    let probes = (stage.kind.probes)(&stage.params, &stage.run.own, &session.study.folder());
    let tools = probes.into_iter().map(|probe| Ok((probe.tool.clone(), session.ask(probe)?)));
    let tools = tools.collect::<Result<_, StageError>>()?;
    let build = if stage.kind.version == 0 { Some(executable_digest(session)?) } else { None };
    Ok(manifest(node, inputs, Answers { build, tools }))
}

/// What a manifest holds of the machine that makes it.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// Digest of the executable, for kinds in development.
    pub build: Option<Digest>,
    /// What the machine answers to the stage's probes.
    pub tools: BTreeMap<String, String>,
}

/// Returns what decides a node's result. Reads nothing: whoever made `inputs` and `answers` did.
pub fn manifest(node: &Node, inputs: &[KnownInput], answers: Answers) -> Manifest {
    let stage = &node.stage;
    let mut digests: Vec<InputDigest> = inputs.iter().map(|known| input_digest(node, known)).collect();
    digests.sort();
    Manifest {
        kind: stage.kind.id.clone(),
        version: stage.kind.version,
        build: answers.build,
        params: stage.differing.clone(),
        inputs: digests,
        env: stage.env.clone(),
        tools: answers.tools,
        outputs: stage.ports.outputs.iter().map(|o| (o.name.to_string(), o.record.name().to_string())).collect(),
    }
}

/// Labels count only where a port takes several. An open port counts what its reader will see: the suffixes of one input,
/// the labels too of several and of `S@*`, which it finds in a folder.
fn input_digest(node: &Node, known: &KnownInput) -> InputDigest {
    let input = &known.input;
    let label = match node.stage.ports.find_input(&input.port) {
        Some(port) if port.arity.is_many() => input.label.clone(),
        Some(_) => String::new(),
        None if input.gathered || node.inputs.iter().filter(|other| other.port == input.port).nth(1).is_some() => {
            format!("{}{}", input.label, suffixes(&input.from))
        }
        None => suffixes(&input.from),
    };
    InputDigest { port: input.port.clone(), label, digest: known.artifact.digest }
}

fn suffixes(from: &From) -> String {
    match from {
        From::Path { path, .. } => suffix::suffixes(path),
        From::Node { inside: Some(path), .. } => suffix::suffixes(Path::new(path)),
        From::Node { .. } | From::Cases => String::new(),
    }
}

fn executable_digest(session: &Session) -> Result<Digest, StageError> {
    let path =
        std::env::current_exe().map_err(|e| StageError::Environment(format!("cannot find this program: {e}")))?;
    Ok(session.identify(&path, crate::port::RecordType::Bytes)?.digest)
}

/// Says whether a record holds every data output of a node: one that does not is no hit.
pub fn has_ports(node: &Node, result: &ActionResult) -> bool {
    let data = node.stage.ports.outputs.iter().filter(|o| o.class == crate::port::Class::Data);
    data.map(|o| o.name.as_ref()).all(|name| result.outputs.contains_key(name))
}
