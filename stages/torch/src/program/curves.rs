//! Losses by update and by evaluation, as the files of record type `curves`: no clock, no throughput.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use watershed_engine::StageError;
use watershed_stages::record::lines;

/// One update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpdateLine {
    /// The update, from 1.
    pub step: u64,
    /// Epochs done after it.
    pub epoch: f64,
    /// Loss before it, nats a token.
    pub loss: f64,
    /// The same over answers alone.
    pub response_loss: Option<f64>,
    /// Global norm before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// Labels.
    pub label_tokens: u64,
}

/// One evaluation of the validation rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalLine {
    /// Updates done; 0 is before the first.
    pub step: u64,
    /// Epochs done.
    pub epoch: f64,
    /// Loss, nats a token.
    pub loss: f64,
    /// The same over answers alone.
    pub response_loss: Option<f64>,
    /// Loss by source.
    pub sources: BTreeMap<String, f64>,
}

impl EvalLine {
    /// Returns what adapters are chosen by: the loss on answers.
    pub fn score(&self) -> f64 {
        self.response_loss.unwrap_or(self.loss)
    }
}

/// All lines so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    /// By update.
    pub updates: Vec<UpdateLine>,
    /// By evaluation.
    pub evals: Vec<EvalLine>,
    /// Of the base and of the chosen adapter on the test rows; none without such rows.
    #[serde(default)]
    pub tests: Vec<EvalLine>,
}

impl Curves {
    /// Writes the folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), StageError> {
        std::fs::create_dir_all(folder).map_err(|e| StageError::io("write", folder, &e))?;
        lines::write(&folder.join("metrics.jsonl"), &self.updates)?;
        lines::write(&folder.join("eval.jsonl"), &self.evals)?;
        if self.tests.is_empty() { Ok(()) } else { lines::write(&folder.join("test.jsonl"), &self.tests) }
    }
}
