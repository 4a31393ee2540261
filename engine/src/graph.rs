//! The graph of a study: one node for each distinct piece of work, its inputs wired to other nodes.
//!
//! A sweep is expanded case by case; then, among the cases of one stage, nodes of equal structure (kind, parameters, inputs,
//! recursively) are merged. Two *stages* of equal structure stay two nodes: the second is a hit.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use petgraph::Direction::Incoming;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::cases;
use crate::port::RecordType;
use crate::study::{Binding, Case, CaseRef, Source, StageDef, Study};

/// Number of a node, in the order of execution.
pub type NodeId = usize;

/// One distinct piece of work.
pub struct Node {
    /// The stage; of the first case where several were merged.
    pub stage: Arc<StageDef>,
    /// Cases it belongs to; empty outside sweeps.
    pub cases: Vec<String>,
    /// Its inputs, in the order of port and label.
    pub inputs: Vec<NodeInput>,
}

impl Node {
    /// Returns the case's name if the node belongs to exactly one.
    pub fn case(&self) -> Option<&str> {
        match self.cases.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Returns `stage`, `stage@case`, or for a merged node of some cases `stage@first+2`.
    pub fn title(&self) -> String {
        title(&self.stage.name, &self.cases)
    }
}

/// Returns how a node of these cases is called in tables and messages.
pub fn title(stage: &str, cases: &[String]) -> String {
    match cases {
        [] => stage.to_string(),
        [only] => format!("{stage}@{only}"),
        [first, rest @ ..] => format!("{stage}@{first}+{}", rest.len()),
    }
}

/// One input of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeInput {
    /// Port.
    pub port: String,
    /// Label within the port.
    pub label: String,
    /// Type promised.
    pub record: RecordType,
    /// Where it comes from.
    pub from: From,
    /// One of the entries, one a case, that a reader of `S@*` gets.
    pub gathered: bool,
    /// Left out when its source failed (`allow_missing: true` on a reader of `S@*`).
    pub may_be_missing: bool,
}

/// The source of an input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum From {
    /// An output of another node.
    Node {
        /// The node.
        node: NodeId,
        /// Its port.
        port: String,
        /// A file inside a folder output.
        inside: Option<String>,
    },
    /// A file or folder of the user's.
    Path {
        /// Absolute path.
        path: PathBuf,
        /// As written.
        text: String,
    },
    /// `cases.json`, which tells a reader of `S@*` of the cases.
    Cases,
}

impl From {
    /// Returns the node that writes the input; `None` for the user's own files.
    pub fn node(&self) -> Option<NodeId> {
        match self {
            From::Node { node, .. } => Some(*node),
            From::Path { .. } | From::Cases => None,
        }
    }
}

/// How many nodes cases have in common.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sharing {
    /// Nodes.
    pub nodes: usize,
    /// Nodes of several cases.
    pub shared: usize,
    /// Nodes that there would be if each case had its own.
    pub without: usize,
}

/// Nodes in an order in which each comes after what it reads.
#[derive(Default)]
pub struct Graph {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Number of each case that has a label.
    cases: HashMap<String, usize>,
    /// Number of the case without one.
    plain: Option<usize>,
    /// The nodes of each stage by the case's number.
    by_stage: HashMap<String, Vec<Option<NodeId>>>,
}

/// A case being placed.
#[derive(Clone, Copy)]
struct Place<'a> {
    number: usize,
    label: Option<&'a str>,
}

impl Graph {
    /// Builds the graph of a study. The language has ruled out cycles and unknown names.
    pub fn build(study: &Study) -> Graph {
        let cases = labelled_cases(study);
        let distinct = distinct(&cases);
        let order = stage_order(&distinct);
        let gathering = if study.sweep.is_some() { gathering(study, &order) } else { HashSet::new() };
        let positions = positions(&cases);
        let mut graph = Graph { plain: cases.iter().position(|(label, _)| label.is_none()), ..Graph::default() };
        let labelled = cases.iter().enumerate().filter_map(|(number, (label, _))| Some((label.clone()?, number)));
        graph.cases = labelled.collect();
        for name in order {
            let mut merged = Merged { once: gathering.contains(name), ..Merged::default() };
            let mut nodes = vec![None; cases.len()];
            for (number, ((label, stages), positions)) in cases.iter().zip(&positions).enumerate() {
                if let Some(&at) = positions.get(name) {
                    let place = Place { number, label: label.as_deref() };
                    nodes[number] = Some(graph.place(study, place, stages[at], &mut merged));
                }
            }
            graph.by_stage.insert(name.to_string(), nodes);
        }
        graph
    }

    fn place(&mut self, study: &Study, place: Place<'_>, stage: &Arc<StageDef>, merged: &mut Merged) -> NodeId {
        if let Some(only) = merged.only() {
            return only;
        }
        let (seen, before) = ((Arc::as_ptr(stage), self.parents_in(place, stage)), self.nodes.len());
        let id = match merged.wired.get(&seen) {
            Some(known) => *known,
            None => {
                let alike = merged.alike.entry((likeness(stage), seen.1.clone())).or_default();
                let id = self.add(self.wire(study, place, stage), stage, alike);
                merged.wired.insert(seen, id);
                id
            }
        };
        // A node of the plain pipeline stays without cases, also when a case of a named sweep is the same work.
        let plain = id < before && self.nodes[id].cases.is_empty();
        if let (Some(label), false, false) = (place.label, merged.once, plain) {
            self.nodes[id].cases.push(label.to_string());
        }
        id
    }

    /// Returns the node of a stage in a case.
    pub fn find(&self, stage: &str, case: Option<&str>) -> Option<NodeId> {
        let number = case.map_or(self.plain, |case| self.cases.get(case).copied())?;
        self.at(stage, number)
    }

    fn at(&self, stage: &str, number: usize) -> Option<NodeId> {
        self.by_stage.get(stage)?[number]
    }

    /// Returns all nodes of a stage.
    pub fn nodes_of(&self, stage: &str) -> Vec<NodeId> {
        (0..self.nodes.len()).filter(|&id| self.nodes[id].stage.name == stage).collect()
    }

    /// Returns what merging the equal nodes of cases saves among these nodes.
    pub fn sharing(&self, nodes: impl Iterator<Item = NodeId>) -> Sharing {
        nodes.fold(Sharing::default(), |sum, id| {
            let cases = self.nodes[id].cases.len();
            Sharing {
                nodes: sum.nodes + 1,
                shared: sum.shared + usize::from(cases > 1),
                without: sum.without + cases.max(1),
            }
        })
    }

    /// Returns the nodes that `targets` need, themselves included; all nodes for no targets.
    pub fn needed(&self, targets: &[NodeId]) -> Vec<bool> {
        let mut needed = vec![targets.is_empty(); self.nodes.len()];
        targets.iter().for_each(|&t| needed[t] = true);
        for id in (0..self.nodes.len()).rev().filter(|_| !targets.is_empty()) {
            if needed[id] {
                self.parents(id).for_each(|p| needed[p] = true);
            }
        }
        needed
    }

    /// Says of each node whether one of these reads it, at once or through others.
    pub fn above(&self, nodes: &[NodeId]) -> Vec<bool> {
        let parents: Vec<NodeId> = nodes.iter().flat_map(|&id| self.parents(id)).collect();
        if parents.is_empty() { vec![false; self.nodes.len()] } else { self.needed(&parents) }
    }

    /// Returns the nodes that a node reads; one may come several times.
    pub fn parents(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes[id].inputs.iter().filter_map(|input| input.from.node())
    }

    /// Adds a node, unless one of those alike is of equal structure.
    fn add(&mut self, inputs: Vec<NodeInput>, stage: &Arc<StageDef>, alike: &mut Vec<NodeId>) -> NodeId {
        if let Some(equal) = alike.iter().find(|&&id| is_equal(&self.nodes[id], stage, &inputs)) {
            return *equal;
        }
        self.nodes.push(Node { stage: stage.clone(), cases: Vec::new(), inputs });
        alike.push(self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    /// Returns, of what a stage reads in its own case, the nodes: all of its inputs that may differ from case to case.
    fn parents_in(&self, place: Place<'_>, stage: &StageDef) -> Vec<Option<NodeId>> {
        let own = stage.inputs.iter().filter_map(|binding| match &binding.source {
            Source::Output { stage, case: CaseRef::Same, .. } => Some(self.at(stage, place.number)),
            _ => None,
        });
        own.collect()
    }

    fn wire(&self, study: &Study, place: Place<'_>, stage: &StageDef) -> Vec<NodeInput> {
        let mut inputs: Vec<NodeInput> =
            stage.inputs.iter().flat_map(|binding| self.sources(study, place, binding, stage.allow_missing)).collect();
        if stage.ports.told_cases && inputs.iter().any(|input| input.gathered) {
            inputs.push(told_of_cases());
        }
        inputs.sort_by(|a, b| (&a.port, &a.label).cmp(&(&b.port, &b.label)));
        inputs
    }

    fn sources(&self, study: &Study, place: Place<'_>, binding: &Binding, allow_missing: bool) -> Vec<NodeInput> {
        let gathers = matches!(binding.source, Source::Output { case: CaseRef::All, .. });
        let input = |label: &str, from: From| NodeInput {
            port: binding.port.clone(),
            label: label.to_string(),
            record: binding.record,
            from,
            gathered: gathers,
            may_be_missing: gathers && allow_missing,
        };
        let Source::Output { stage, port, inside, case: wanted } = &binding.source else {
            let Source::Path { path, text } = &binding.source else { return Vec::new() };
            return vec![input(&binding.label, From::Path { path: path.clone(), text: text.clone() })];
        };
        let from = |node| From::Node { node, port: port.clone(), inside: inside.clone() };
        let find = |case: Option<&str>| self.find(stage, case);
        match wanted {
            CaseRef::Same => self.at(stage, place.number).map(|n| input(&binding.label, from(n))).into_iter().collect(),
            CaseRef::Named { sweep, case } => {
                let node = find(Some(&format!("{sweep}/{case}"))).or_else(|| find(Some(case)));
                node.map(|n| input(&binding.label, from(n))).into_iter().collect()
            }
            CaseRef::All => study
                .cases
                .iter()
                .filter_map(|c| Some((c.label(), find(c.name.as_deref())?)))
                .map(|(label, n)| input(label, from(n)))
                .collect(),
        }
    }
}

fn told_of_cases() -> NodeInput {
    let (port, label) = (cases::PORT.to_string(), cases::PORT.to_string());
    NodeInput { port, label, record: RecordType::Bytes, from: From::Cases, gathered: false, may_be_missing: false }
}

/// Returns the stages of the study's cases with their labels, then those that `S@SWEEP/CASE` reaches in sweeps not run.
fn labelled_cases(study: &Study) -> Vec<(Option<String>, Vec<&Arc<StageDef>>)> {
    let own = study.cases.iter().map(|c| (c.name.clone(), c.stages.iter().collect()));
    let running = |sweep: &String| study.sweep.as_ref() == Some(sweep);
    let elsewhere = study
        .named
        .iter()
        .filter(|((sweep, case), _)| !running(sweep) || !study.cases.iter().any(|c| c.name.as_ref() == Some(case)));
    let named =
        elsewhere.map(|((sweep, name), case)| (Some(format!("{sweep}/{name}")), reached(study, sweep, name, case)));
    own.chain(named).collect()
}

/// Returns the stages of a named case that `S@SWEEP/CASE` asks for, and those that they read.
fn reached<'a>(study: &'a Study, sweep: &str, name: &str, case: &'a Case) -> Vec<&'a Arc<StageDef>> {
    let everywhere = study.cases.iter().chain(study.named.values()).flat_map(|c| &c.stages).flat_map(|s| &s.inputs);
    let mut open: Vec<&str> = everywhere.filter_map(|b| asked(&b.source, sweep, name)).collect();
    let all: Vec<&Arc<StageDef>> = case.stages.iter().collect();
    let stages = by_name(&all);
    let mut found: HashSet<&str> = HashSet::new();
    while let Some(stage) = open.pop() {
        if let (true, Some(stage)) = (found.insert(stage), stages.get(stage)) {
            open.extend(sources_of(stage));
        }
    }
    all.into_iter().filter(|s| found.contains(s.name.as_str())).collect()
}

/// Returns the stage that a source takes from this case.
fn asked<'a>(source: &'a Source, wanted_sweep: &str, wanted_case: &str) -> Option<&'a str> {
    match source {
        Source::Output { stage, case: CaseRef::Named { sweep, case }, .. } => {
            (sweep == wanted_sweep && case == wanted_case).then_some(stage.as_str())
        }
        _ => None,
    }
}

/// Returns, for each case, where its stages stand. Most cases have them where the one before has them, and share its answer.
fn positions<'a>(cases: &[(Option<String>, Vec<&'a Arc<StageDef>>)]) -> Vec<Rc<HashMap<&'a str, usize>>> {
    let mut all: Vec<Rc<HashMap<&str, usize>>> = Vec::with_capacity(cases.len());
    for (number, (_, stages)) in cases.iter().enumerate() {
        let names = stages.iter().map(|stage| stage.name.as_str());
        let before = all.last().filter(|_| cases[number - 1].1.iter().map(|s| s.name.as_str()).eq(names.clone()));
        all.push(before.cloned().unwrap_or_else(|| Rc::new(names.enumerate().map(|(at, name)| (name, at)).collect())));
    }
    all
}

fn by_name<'a>(stages: &[&'a Arc<StageDef>]) -> HashMap<&'a str, &'a Arc<StageDef>> {
    stages.iter().map(|s| (s.name.as_str(), *s)).collect()
}

/// The nodes of one stage so far; `once` merges them all.
#[derive(Default)]
struct Merged {
    /// By what makes two cases' nodes equal at a glance: the stage they share, and what it reads.
    wired: HashMap<(*const StageDef, Vec<Option<NodeId>>), NodeId>,
    /// By what equal nodes have in common, which some others may have too.
    alike: HashMap<(u64, Vec<Option<NodeId>>), Vec<NodeId>>,
    once: bool,
}

impl Merged {
    /// Returns the node of a stage that exists once, if it exists.
    fn only(&self) -> Option<NodeId> {
        self.wired.values().next().copied().filter(|_| self.once)
    }
}

/// Returns a number that stages of equal parameters have in common.
fn likeness(stage: &StageDef) -> u64 {
    let mut hasher = DefaultHasher::new();
    stage.differing.iter().for_each(|(path, value)| (path, value).hash(&mut hasher));
    hasher.finish()
}

/// Says whether two nodes of a stage are the same work.
fn is_equal(node: &Node, stage: &StageDef, inputs: &[NodeInput]) -> bool {
    let own = &node.stage;
    own.kind.id == stage.kind.id && own.differing == stage.differing && own.env == stage.env && node.inputs == inputs
}

/// Returns the stages of all cases, those that cases share once.
fn distinct<'a>(cases: &[(Option<String>, Vec<&'a Arc<StageDef>>)]) -> Vec<&'a Arc<StageDef>> {
    let mut seen = HashSet::new();
    let all = cases.iter().flat_map(|(_, stages)| stages);
    all.filter(|stage| seen.insert(Arc::as_ptr(stage))).copied().collect()
}

/// Returns the names of all stages, each after what it reads in any case; file order where that leaves a choice.
fn stage_order<'a>(stages: &[&'a Arc<StageDef>]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    let mut index: HashMap<&str, NodeIndex> = HashMap::new();
    let mut graph = DiGraph::<(), ()>::new();
    for stage in stages {
        index.entry(&stage.name).or_insert_with(|| {
            names.push(&stage.name);
            graph.add_node(())
        });
    }
    for stage in stages {
        for from in sources_of(stage).filter_map(|s| index.get(s)) {
            graph.update_edge(*from, index[stage.name.as_str()], ());
        }
    }
    in_file_order(&graph).into_iter().map(|n| names[n.index()]).collect()
}

/// Kahn's algorithm with the ready node of the lowest number first.
fn in_file_order(graph: &DiGraph<(), ()>) -> Vec<NodeIndex> {
    let mut waiting: Vec<usize> = graph.node_indices().map(|n| graph.edges_directed(n, Incoming).count()).collect();
    let mut ready: BinaryHeap<Reverse<NodeIndex>> =
        graph.node_indices().filter(|n| waiting[n.index()] == 0).map(Reverse).collect();
    let mut order = Vec::new();
    while let Some(Reverse(node)) = ready.pop() {
        order.push(node);
        for next in graph.neighbors(node) {
            waiting[next.index()] -= 1;
            if waiting[next.index()] == 0 {
                ready.push(Reverse(next));
            }
        }
    }
    order
}

fn sources_of(stage: &StageDef) -> impl Iterator<Item = &str> {
    stage.inputs.iter().filter_map(|b| match &b.source {
        Source::Output { stage, .. } => Some(stage.as_str()),
        Source::Path { .. } => None,
    })
}

/// Returns the stages that read `S@*`, themselves or through another stage: such a stage exists once per sweep.
fn gathering<'a>(study: &'a Study, order: &[&'a str]) -> HashSet<&'a str> {
    let mut found: HashSet<&str> = HashSet::new();
    for name in order {
        let stages = study.cases.iter().flat_map(|c| &c.stages).filter(|s| s.name == *name);
        let gathers = stages.flat_map(|s| &s.inputs).any(|b| match &b.source {
            Source::Output { case: CaseRef::All, .. } => true,
            Source::Output { stage, .. } => found.contains(stage.as_str()),
            Source::Path { .. } => false,
        });
        if gathers {
            found.insert(name);
        }
    }
    found
}
