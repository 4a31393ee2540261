//! What the stages of a run warned of: a hit's warnings are those of the run that executed it.

use crate::archive::{Run, RunNode};
use crate::findings::Findings;

/// A warning, and the titles of the nodes that gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Titles, in the order of the run.
    pub of: Vec<String>,
    /// What was said.
    pub text: String,
}

/// Returns each warning once, in the order of the run; `findings` are those of its nodes.
pub fn of_run(run: &Run, findings: &[Option<Findings>]) -> Vec<Warning> {
    let mut warnings: Vec<Warning> = Vec::new();
    for (node, found) in run.nodes.iter().zip(findings) {
        for text in of_node(node, found.as_ref()) {
            match warnings.iter_mut().find(|warning| warning.text == *text) {
                Some(warning) if warning.of.last() == Some(&node.title()) => {}
                Some(warning) => warning.of.push(node.title()),
                None => warnings.push(Warning { of: vec![node.title()], text: text.clone() }),
            }
        }
    }
    warnings
}

/// Returns what a node warned of: of a hit as its record says, else as the log does.
pub fn of_node<'a>(node: &'a RunNode, found: Option<&'a Findings>) -> &'a [String] {
    match (node.outcome.as_str(), found) {
        ("unneeded", _) | ("hit", None) => &[],
        ("hit", Some(found)) => &found.provenance.warnings,
        ("ran", Some(found)) if node.warnings.is_empty() => &found.provenance.warnings,
        _ => &node.warnings,
    }
}

impl Warning {
    /// Returns who gave it, `first` or `first and 2 more`.
    pub fn by(&self) -> String {
        match self.of.as_slice() {
            [first, rest @ ..] if !rest.is_empty() => format!("{first} and {} more", rest.len()),
            only => only.concat(),
        }
    }
}
