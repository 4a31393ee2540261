//! `graph`: the pipeline as a drawing, for Graphviz or Mermaid.

use serde_json::json;

use super::{Choice, Common, Format, open, out};
use crate::session::Session;
use crate::stage::Kind;

pub fn graph(choice: &Choice, common: &Common, kinds: fn() -> Vec<Kind>) -> i32 {
    let session = match open::session(choice, common, kinds) {
        Ok(session) => session,
        Err(code) => return code,
    };
    match common.format {
        Format::Dot => out::say(dot(&session)),
        Format::Svg => out::say(crate::report::dag::of_session(&session)),
        Format::Json => {
            let nodes: Vec<_> =
                session.graph.nodes.iter().map(|n| json!({"stage": n.title(), "kind": n.stage.kind.name})).collect();
            out::json(&json!({"nodes": nodes, "edges": edges(&session)}));
        }
        _ => out::say(mermaid(&session)),
    }
    0
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
