//! `why`: the chain of reasons down to the leaf.

use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::{Value, json};

use super::{Choice, Common, Format, open, out};
use crate::event::Reason;
use crate::graph::NodeId;
use crate::plan::{self, Planned, State};
use crate::reason;
use crate::session::Session;
use crate::stage::Kind;

pub fn why(choice: &Choice, common: &Common, kinds: fn() -> Vec<Kind>) -> i32 {
    let opened = open::session(choice, common, kinds);
    let (session, targets) = match opened.and_then(|s| open::targets(&s, choice, common).map(|t| (s, t))) {
        Ok(opened) => opened,
        Err(code) => return code,
    };
    let plan = plan::plan(&session, &targets, &[]);
    session.save_index();
    let lines = Lines::new(&session, &plan);
    let targets: HashSet<NodeId> = targets.into_iter().collect();
    let asked = plan.iter().filter(|line| targets.is_empty() || targets.contains(&line.node));
    match common.format {
        Format::Json => {
            let chains: Vec<Value> = asked.map(|line| document(&lines, line)).collect();
            out::json(&json!({"stages": chains}));
        }
        _ => asked.for_each(|line| explain(&lines, line)),
    }
    0
}

/// One way from a stage to a leaf: the stages passed, nearest first, and the leaf's reasons.
struct Chain {
    through: Vec<String>,
    reasons: Vec<Reason>,
}

/// A plan by node.
struct Lines<'a> {
    session: &'a Session,
    of: Vec<Option<&'a Planned>>,
}

impl<'a> Lines<'a> {
    fn new(session: &'a Session, lines: &'a [Planned]) -> Lines<'a> {
        let mut of = vec![None; session.graph.nodes.len()];
        lines.iter().for_each(|line| of[line.node] = Some(line));
        Lines { session, of }
    }

    /// Returns the shortest chain to each leaf above a node, the shortest first. Every node is visited once, for there can be
    /// more ways to a leaf than can be walked.
    fn chains(&self, node: NodeId) -> Vec<Chain> {
        let mut below: HashMap<NodeId, NodeId> = HashMap::new();
        let mut open = VecDeque::from([node]);
        let mut found = Vec::new();
        while let Some(id) = open.pop_front() {
            let Some(line) = self.of[id] else { continue };
            if let State::Depends(parents) = &line.state {
                for &parent in parents {
                    if parent != node && !below.contains_key(&parent) {
                        below.insert(parent, id);
                        open.push_back(parent);
                    }
                }
            } else {
                let reasons = self.reasons(line);
                found.extend(reasons.map(|reasons| Chain { through: self.way(node, id, &below), reasons }));
            }
        }
        found
    }

    /// Returns why a node runs by itself.
    fn reasons(&self, line: &Planned) -> Option<Vec<Reason>> {
        match &line.state {
            State::Run(_, reasons) => Some(reasons.clone()),
            State::Broken(error) => {
                let node = &self.session.graph.nodes[line.node];
                Some(vec![Reason { text: error.to_string(), ..reason::output_missing(node) }])
            }
            State::Hit(..) | State::Depends(_) => None,
        }
    }

    /// Returns the titles from `node` up to `leaf`.
    fn way(&self, node: NodeId, leaf: NodeId, below: &HashMap<NodeId, NodeId>) -> Vec<String> {
        let mut way = vec![leaf];
        while let Some(&next) = way.last().filter(|last| **last != node).and_then(|last| below.get(last)) {
            way.push(next);
        }
        way.iter().rev().map(|&id| self.session.graph.nodes[id].title()).collect()
    }
}

fn explain(lines: &Lines<'_>, line: &Planned) {
    let title = lines.session.graph.nodes[line.node].title();
    if let State::Hit(key, _) = &line.state {
        return out::say(format!("{title} is in the store as {}", &key.hex()[..8]));
    }
    for chain in lines.chains(line.node) {
        out::say(format!("{} <- {}", chain.through.join(" <- "), reason::told(&chain.reasons)));
    }
}

fn document(lines: &Lines<'_>, line: &Planned) -> Value {
    let node = &lines.session.graph.nodes[line.node];
    let chains = lines.chains(line.node).into_iter();
    let chains: Vec<Value> = chains.map(|c| json!({"through": c.through, "reasons": c.reasons})).collect();
    json!({"stage": node.stage.name, "case": node.case(), "cases": node.cases, "chains": chains})
}
