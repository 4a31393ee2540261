//! `graph`: the pipeline as a drawing, for Graphviz or Mermaid; of named stages, what they need.

use serde_json::json;

use super::{Choice, Common, Format, open, out};
use crate::graph::{From, Graph, NodeId};
use crate::session::Session;
use crate::stage::Kind;

pub fn graph(choice: &Choice, common: &Common, kinds: fn() -> Vec<Kind>) -> i32 {
    let opened = open::session(choice, common, kinds);
    let (mut session, targets) = match opened.and_then(|s| open::targets(&s, choice, common).map(|t| (s, t))) {
        Ok(opened) => opened,
        Err(code) => return code,
    };
    if !targets.is_empty() {
        keep_needed(&mut session.graph, &targets);
    }
    match common.format {
        Format::Dot => out::say(dot(&session)),
        Format::Svg => out::raw(crate::report::dag::of_session(&session)),
        Format::Json => {
            let nodes: Vec<_> =
                session.graph.nodes.iter().map(|n| json!({"stage": n.title(), "kind": n.stage.kind.name})).collect();
            out::json(&json!({"nodes": nodes, "edges": edges(&session)}));
        }
        _ => out::say(mermaid(&session)),
    }
    0
}

/// Leaves the nodes that `targets` need, themselves included: enough to be drawn, not to be looked up in.
fn keep_needed(graph: &mut Graph, targets: &[NodeId]) {
    let needed = graph.needed(targets);
    let mut places = vec![0; needed.len()];
    for id in 1..needed.len() {
        places[id] = places[id - 1] + usize::from(needed[id - 1]);
    }
    let all = std::mem::take(&mut graph.nodes).into_iter().zip(needed);
    graph.nodes = all.filter(|(_, needed)| *needed).map(|(node, _)| node).collect();
    for input in graph.nodes.iter_mut().flat_map(|node| &mut node.inputs) {
        if let From::Node { node, .. } = &mut input.from {
            *node = places[*node];
        }
    }
}

fn edges(session: &Session) -> Vec<(usize, usize)> {
    let mut edges: Vec<(usize, usize)> =
        (0..session.graph.nodes.len()).flat_map(|id| session.graph.parents(id).map(move |p| (p, id))).collect();
    edges.sort_unstable();
    edges.dedup();
    edges
}

fn dot(session: &Session) -> String {
    let mut text = String::from("digraph pipeline {\n  rankdir=LR;\n  node [shape=box];\n");
    for (id, node) in session.graph.nodes.iter().enumerate() {
        text.push_str(&format!("  n{id} [label=\"{}\\n{}\"];\n", node.title(), node.stage.kind.name));
    }
    for (from, to) in edges(session) {
        text.push_str(&format!("  n{from} -> n{to};\n"));
    }
    text + "}"
}

fn mermaid(session: &Session) -> String {
    let mut text = String::from("flowchart LR\n");
    for (id, node) in session.graph.nodes.iter().enumerate() {
        text.push_str(&format!("  n{id}[\"{}<br/>{}\"]\n", node.title(), node.stage.kind.name));
    }
    for (from, to) in edges(session) {
        text.push_str(&format!("  n{from} --> n{to}\n"));
    }
    text.trim_end().to_string()
}
