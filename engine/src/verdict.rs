//! What comparing the lines of `expect:` with the metrics of a run gave.
//!
//! A threshold never passes in silence: where its number is not there, it is missed. Only stages that the run was not asked
//! for are left out.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::graph::{self, NodeId};
use crate::language;
use crate::metrics;
use crate::session::Session;
use crate::study::Expectation;
use crate::walk::Tally;

/// A threshold beside what was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// `STAGE.METRIC`, as written.
    pub path: String,
    /// Right-hand side with its operator.
    pub bound: String,
    /// Case, if the node belongs to exactly one.
    #[serde(default)]
    pub case: Option<String>,
    /// All cases of the node.
    #[serde(default)]
    pub cases: Vec<String>,
    /// The number found.
    pub value: Option<f64>,
    /// Whether it held.
    pub held: bool,
    /// Why there is no number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Verdict {
    /// Returns `held, found 0.05` or `MISSED, found nothing: ...`.
    pub fn finding(&self) -> String {
        let word = if self.held { "held" } else { "MISSED" };
        let found = self.value.map_or("nothing".into(), |value| value.to_string());
        let why = self.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        format!("{word}, found {found}{why}")
    }

    /// Returns what was compared: `scores.rate@config-1 <= 0.05`.
    pub fn subject(&self) -> String {
        format!("{} {}", graph::title(&self.path, &self.cases), self.bound)
    }
}

/// Compares `expect:` with the numbers of the nodes that were needed.
pub fn all(session: &Session, tally: &Tally, needed: &[bool]) -> Vec<Verdict> {
    let nodes = |stage: &str| session.graph.nodes_of(stage).into_iter().filter(|&id| needed[id]);
    let expected = session.study.expect.iter();
    expected.flat_map(|line| nodes(&line.stage).map(|id| compare(session, tally, id, line))).collect()
}

fn compare(session: &Session, tally: &Tally, id: NodeId, line: &Expectation) -> Verdict {
    let found = number(session, tally, id, line);
    let node = &session.graph.nodes[id];
    Verdict {
        path: line.path.clone(),
        bound: format!("{} {}", line.operator, line.bound),
        case: node.case().map(str::to_string),
        cases: node.cases.clone(),
        value: found.as_ref().ok().copied(),
        held: found.as_ref().is_ok_and(|value| holds(line, *value)),
        why: found.err(),
    }
}

fn number(session: &Session, tally: &Tally, id: NodeId, line: &Expectation) -> Result<f64, String> {
    let stage = &line.stage;
    let key = tally.keys[id].ok_or_else(|| format!("`{stage}` did not finish"))?;
    let record = session.store.peek(&key).ok_or_else(|| format!("the record of `{stage}` is gone from the store"))?;
    let numbers = metrics::of_record(&session.store, &record);
    match numbers.get(&line.metric).map(Value::as_f64) {
        Some(Some(number)) => Ok(number),
        Some(None) => Err(format!("`{}` is no number", line.path)),
        None => {
            let names = || numbers.keys().map(String::as_str);
            let near = language::nearest(&line.metric, names()).map(|near| format!("; did you mean `{stage}.{near}`?"));
            let help = near.unwrap_or_else(|| format!("; {}", language::listed("its numbers", names())));
            Err(format!("`{stage}` has no number `{}`{help}", line.metric))
        }
    }
}

fn holds(line: &Expectation, value: f64) -> bool {
    match line.operator.as_str() {
        "<=" => value <= line.bound,
        "<" => value < line.bound,
        ">=" => value >= line.bound,
        ">" => value > line.bound,
        _ => value == line.bound,
    }
}
