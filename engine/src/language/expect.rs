//! `expect:`: thresholds on metrics, compared after a run and in no key.

use crate::code;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::language::input::Writer;
use crate::language::nearest::{did_you_mean, listed};
use crate::node::{Data, Key, Node};
use crate::port::RecordType;
use crate::study::Expectation;

const OPERATORS: [&str; 5] = ["<=", ">=", "==", "<", ">"];

/// Reads `expect:` against the stages there are.
pub fn read(node: &Node, stages: &[Writer], faults: &mut Diagnostics) -> Vec<Expectation> {
    let entries = node.as_map().unwrap_or_default();
    entries.iter().filter_map(|(key, value)| one(key, value, stages, faults)).collect()
}

fn one(key: &Key, value: &Node, stages: &[Writer], faults: &mut Diagnostics) -> Option<Expectation> {
    let (stage, metric) = key.text.split_once('.').unwrap_or((&key.text, ""));
    let names = || stages.iter().map(|s| s.name.as_str());
    let Some(writer) = stages.iter().find(|s| s.name == stage).filter(|_| !metric.is_empty()) else {
        let message = format!("`{}` names no number of a stage", key.text);
        let near = did_you_mean(stage, names().filter(|name| *name != stage));
        let help = format!("write `STAGE.METRIC`; {}", listed("stages", names()));
        faults.push(Diagnostic::at(code::BAD_EXPECTATION, key.span, message).label(near).help(help));
        return None;
    };
    let has_metrics =
        |w: &Writer| w.ports.as_ref().is_none_or(|p| p.outputs.iter().any(|o| o.record == RecordType::Metrics));
    if !has_metrics(writer) {
        let message = format!("stage `{stage}` writes no `metrics`");
        let help = listed("stages that do", stages.iter().filter(|w| has_metrics(w)).map(|w| w.name.as_str()));
        faults.push(Diagnostic::at(code::BAD_EXPECTATION, key.span, message).help(help));
        return None;
    }
    let Some((operator, bound)) = threshold(value) else {
        let message = format!("`{}`: expected a threshold, found {}", key.text, value.describe());
        faults.push(Diagnostic::at(code::BAD_EXPECTATION, value.span, message).help("write for example `\"<= 0.05\"`"));
        return None;
    };
    Some(Expectation {
        path: key.text.clone(),
        stage: stage.into(),
        metric: metric.into(),
        operator: operator.into(),
        bound,
    })
}

fn threshold(node: &Node) -> Option<(&'static str, f64)> {
    let Data::Text(text) = &node.data else { return None };
    let operator = OPERATORS.into_iter().find(|op| text.trim_start().starts_with(op))?;
    let bound: f64 = text.trim_start()[operator.len()..].trim().parse().ok()?;
    bound.is_finite().then_some((operator, bound))
}
