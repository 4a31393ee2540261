//! Stages that wait for each other, across cases.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::code;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::language::case::Edge;
use crate::node::Span;
use crate::study::CaseRef;

/// A case that inputs may name: its sweep and its name.
pub type CaseName = Option<(String, String)>;

/// A stage of a case.
type Vertex<'a> = (&'a CaseName, &'a str);

/// Reports each cycle once, at the input that closes it.
pub fn find(cases: &[(CaseName, Vec<Edge>)], faults: &mut Diagnostics) {
    let mut graph: HashMap<Vertex<'_>, Vec<(Vertex<'_>, Span)>> = HashMap::new();
    let names: BTreeMap<(&str, &str), &CaseName> = cases
        .iter()
        .filter_map(|(name, _)| name.as_ref().map(|(sweep, case)| ((sweep.as_str(), case.as_str()), name)))
        .collect();
    let mut starts = Vec::new();
    for (name, edges) in cases {
        for edge in edges {
            let target = match &edge.case {
                CaseRef::Same | CaseRef::All => Some(name),
                CaseRef::Named { sweep, case } => names.get(&(sweep.as_str(), case.as_str())).copied(),
            };
            let from = (name, edge.from.as_str());
            starts.push(from);
            graph.entry(from).or_default().extend(target.map(|case| ((case, edge.to.as_str()), edge.span)));
        }
    }
    let mut done = HashSet::new();
    for start in starts {
        walk(start, &graph, &mut done, faults);
    }
}

/// Walks depth first without recursion, since chains may be thousands of stages long.
fn walk<'a>(
    start: Vertex<'a>,
    graph: &HashMap<Vertex<'a>, Vec<(Vertex<'a>, Span)>>,
    done: &mut HashSet<Vertex<'a>>,
    faults: &mut Diagnostics,
) {
    if done.contains(&start) {
        return;
    }
    let mut path: Vec<(Vertex<'a>, usize)> = vec![(start, 0)];
    let mut on_path = HashSet::from([start]);
    while let Some((vertex, next)) = path.last_mut() {
        let Some((target, span)) = graph.get(vertex).and_then(|edges| edges.get(*next)) else {
            on_path.remove(vertex);
            done.insert(*vertex);
            path.pop();
            continue;
        };
        *next += 1;
        if on_path.contains(target) {
            let from = path.iter().position(|(v, _)| v == target).unwrap_or(0);
            // The path goes from reader to source; the message follows the bytes.
            let names: Vec<&str> =
                std::iter::once(target.1).chain(path[from..].iter().rev().map(|((_, stage), _)| *stage)).collect();
            let message = format!("stages wait for each other: {}", names.join(" -> "));
            let fault = Diagnostic::at(code::CYCLE, *span, message);
            faults.push(fault.help("remove one of these inputs, so that the stages have an order"));
        } else if !done.contains(target) {
            on_path.insert(*target);
            path.push((*target, 0));
        }
    }
}
