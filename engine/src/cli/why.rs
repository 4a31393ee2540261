//! `why`: the chain of reasons down to the leaf.

use serde_json::{Value, json};

use super::{Choice, Common, Format, open, out};
use crate::event::Reason;
use crate::graph::NodeId;
use crate::plan::{self, Planned, State};
use crate::session::Session;
use crate::stage::Kind;

pub fn why(choice: &Choice, common: &Common, kinds: fn() -> Vec<Kind>) -> i32 {
    let opened = open::session(choice, common, kinds);
    let (session, targets) = match opened.and_then(|s| open::targets(&s, choice, common).map(|t| (s, t))) {
        Ok(opened) => opened,
        Err(code) => return code,
    };
    let lines = plan::plan(&session, &targets, &[]);
    session.save_index();
    let asked: Vec<&Planned> = lines.iter().filter(|l| targets.is_empty() || targets.contains(&l.node)).collect();
    match common.format {
        Format::Json => {
            let chains: Vec<Value> = asked.iter().map(|l| document(&session, &lines, l)).collect();
            out::json(&json!({"stages": chains}));
        }
        _ => asked.iter().for_each(|line| explain(&session, &lines, line)),
    }
    0
}

/// One way from a stage to a leaf: the stages passed, nearest first, and the leaf's reasons.
struct Chain {
    through: Vec<String>,
    reasons: Vec<Reason>,
}

fn chains(session: &Session, lines: &[Planned], node: NodeId, through: &mut Vec<String>, found: &mut Vec<Chain>) {
    // A plan is in the order of its nodes.
    let Ok(at) = lines.binary_search_by_key(&node, |line| line.node) else { return };
    let line = &lines[at];
    through.push(session.graph.nodes[node].title());
    match &line.state {
        State::Hit(..) => {}
        State::Run(_, reasons) => found.push(Chain { through: through.clone(), reasons: reasons.clone() }),
        State::Depends(parents) => parents.iter().for_each(|&p| chains(session, lines, p, through, found)),
        State::Broken(error) => {
            let reason =
                Reason { text: error.to_string(), ..crate::reason::output_missing(&session.graph.nodes[node]) };
            found.push(Chain { through: through.clone(), reasons: vec![reason] });
        }
    }
    through.pop();
}

/// Keeps one chain a leaf: the shortest.
fn shortest(mut found: Vec<Chain>) -> Vec<Chain> {
    found.sort_by_key(|c| c.through.len());
    let mut leaves = Vec::new();
    found.retain(|c| {
        let new = !leaves.contains(&c.through.last().cloned());
        leaves.push(c.through.last().cloned());
        new
    });
    found
}

fn explain(session: &Session, lines: &[Planned], line: &Planned) {
    let title = session.graph.nodes[line.node].title();
    if let State::Hit(key, _) = &line.state {
        return out::say(format!("{title} is in the store as {}", &key.hex()[..8]));
    }
    let mut found = Vec::new();
    chains(session, lines, line.node, &mut Vec::new(), &mut found);
    for chain in shortest(found) {
        let texts: Vec<&str> = chain.reasons.iter().map(|r| r.text.as_str()).collect();
        out::say(format!("{} <- {}", chain.through.join(" <- "), texts.join(", ")));
    }
}

fn document(session: &Session, lines: &[Planned], line: &Planned) -> Value {
    let node = &session.graph.nodes[line.node];
    let mut found = Vec::new();
    chains(session, lines, line.node, &mut Vec::new(), &mut found);
    let chains: Vec<Value> =
        shortest(found).into_iter().map(|c| json!({"through": c.through, "reasons": c.reasons})).collect();
    json!({"stage": node.stage.name, "case": node.case(), "cases": node.cases, "chains": chains})
}
