//! What a sweep may not do unasked: pay for one stage several times over.

use std::collections::BTreeMap;

use super::{Common, Format, out, plan};
use crate::graph::NodeId;
use crate::plan::{Planned, State};
use crate::session::Session;
use crate::stage::Reproducible;

/// Exit code of a command line that lacks a word.
const USAGE: i32 = 2;

/// Tells the calls and the price of a sweep whose cases each pay for the same stage; returns the exit code, or `None` where no
/// stage is paid for twice.
pub fn refuse(session: &Session, targets: &[NodeId], common: &Common) -> Option<i32> {
    let sweep = session.study.sweep.as_ref()?;
    let mut nodes: BTreeMap<&str, usize> = BTreeMap::new();
    for node in session.graph.nodes.iter().filter(|node| node.stage.kind.reproducible == Reproducible::No) {
        *nodes.entry(&node.stage.name).or_default() += 1;
    }
    nodes.values().any(|count| *count > 1).then_some(())?;
    let lines = crate::plan::plan(session, targets, &[]);
    let (stage, times) = multiplied(session, &lines)?;
    if common.format == Format::Human {
        out::say(plan::text(session, &lines));
    }
    out::complain(format!(
        "error: the cases of sweep `{sweep}` pay for stage `{stage}` {times} times; `watershed plan --sweep {sweep}` tells calls and \
         price. Let the cases share it, or add `--yes`"
    ));
    Some(USAGE)
}

/// Returns the stage that is paid for most often, if that is more than once.
fn multiplied<'a>(session: &'a Session, lines: &[Planned]) -> Option<(&'a str, usize)> {
    let mut paid: BTreeMap<&str, usize> = BTreeMap::new();
    for line in lines.iter().filter(|line| !matches!(line.state, State::Hit(..)) && is_paid(line)) {
        *paid.entry(&session.graph.nodes[line.node].stage.name).or_default() += 1;
    }
    paid.into_iter().max_by_key(|(_, times)| *times).filter(|(_, times)| *times > 1)
}

/// Says whether a stage would make paid calls, also where their number is not known yet.
fn is_paid(line: &Planned) -> bool {
    line.preview.as_ref().is_some_and(|preview| {
        preview.cost.calls.is_some_and(|calls| calls > 0) || preview.unknown.iter().any(|(fact, _)| fact == "calls")
    })
}
