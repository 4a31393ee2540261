//! The gate before the first training: every preview is seen, and what forbids a start is told, before a GPU-hour is spent.

use super::{Ending, State, Walk};
use crate::fault::StageError;
use crate::graph::NodeId;
use crate::plan::preview_of;
use crate::preview::{Preview, Severity};
use crate::reason;
use crate::stage::Home;

impl Walk<'_> {
    /// Says whether stages before the first heavy ones still run or wait.
    pub(super) fn light_work_left(&self) -> bool {
        let is_open = |state: &State| matches!(state, State::Waiting | State::Ready | State::Running);
        self.heavy_or_below().iter().zip(&self.state).any(|(heavy_or_below, state)| !heavy_or_below && is_open(state))
    }

    /// Returns which stages are heavy and not done, or below one that is.
    fn heavy_or_below(&self) -> Vec<bool> {
        let graph = &self.session.graph;
        let mut found = vec![false; graph.nodes.len()];
        for id in 0..found.len() {
            let is_heavy = graph.nodes[id].stage.kind.home == Home::Torch && self.state[id] != State::Done;
            found[id] = is_heavy || graph.parents(id).any(|parent| found[parent]);
        }
        found
    }

    /// Fails stages that still wait for heavy ones, or are heavy, but can be seen already to be unable to run: nothing is
    /// trained for them.
    pub(super) fn look_ahead(&mut self) {
        let concerned = self.heavy_or_below();
        let waits = |&id: &NodeId| concerned[id] && self.state[id] == State::Waiting;
        let waiting: Vec<NodeId> =
            (0..concerned.len()).filter(waits).filter(|id| !self.looked_ahead.contains(id)).collect();
        for id in waiting {
            self.looked_ahead.insert(id);
            if let Err(error) = preview_of(self.session, id, self) {
                self.fail(id, Ending::default(), error);
            }
        }
    }

    /// Tells a heavy stage's preview, and fails the stage where the preview does or a lint forbids it to start.
    pub(super) fn pass_gate(&mut self, id: NodeId) {
        if !self.passed_gate.insert(id) {
            return;
        }
        let refusal = match preview_of(self.session, id, self) {
            Ok(preview) => {
                self.tell_preview(id, &preview);
                refusal(&preview)
            }
            Err(error) => Some(error),
        };
        if let Some(error) = refusal
            && let Some(pending) = self.pending.remove(&id)
        {
            self.fail(id, Ending::of("failed", &pending.looked, pending.reasons, 0), error);
        }
    }

    fn tell_preview(&self, id: NodeId, preview: &Preview) {
        let facts: Vec<String> = preview.facts.iter().map(|(k, v)| format!("{k} {}", reason::shown(v))).collect();
        if !facts.is_empty() {
            self.tell(id, "info", format!("preview: {}", facts.join(", ")));
        }
        for lint in preview.lints.iter().filter(|l| l.severity == Severity::Warn) {
            self.tell(id, "warn", format!("[{}] {}", lint.code, lint.message));
        }
    }
}

fn refusal(preview: &Preview) -> Option<StageError> {
    let fatal = preview.lints.iter().filter(|l| l.severity == Severity::Fail);
    let texts: Vec<String> = fatal.map(|l| format!("[{}] {}", l.code, l.message)).collect();
    (!texts.is_empty()).then(|| StageError::Failed(texts.join("\n")))
}
