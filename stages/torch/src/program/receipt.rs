//! The report of a training: totals, label audit, losses as the paper's Table 2, checks, numerics; and, apart, its timing.

use std::path::Path;

use serde_json::{Value, json};
use watershed_engine::StageError;
use watershed_stages::lora_train::{Audit, Dataset, rates};
use watershed_stages::text::labels::Encoded;
use watershed_stages::text::schedule::Schedule;

use super::checkpoint::Progress;
use super::sampler::parrot_rate;

/// What the receipt is made of.
pub struct Receipt<'a> {
    /// The rows.
    pub data: &'a Dataset,
    /// The learning rates.
    pub schedule: &'a Schedule,
    /// What happened.
    pub progress: &'a Progress,
    /// Trainable parameters.
    pub parameters: usize,
    /// Parameters of the base.
    pub weights: u64,
    /// Update that `adapter` was taken from.
    pub chosen: u64,
    /// What the checks measured.
    pub checks: Value,
}

impl Receipt<'_> {
    /// Writes the receipt.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), StageError> {
        let (data, progress) = (self.data, self.progress);
        let train = Audit::of(&data.train);
        let fewest = data.train.rows.iter().map(|row| row.label_tokens()).min();
        write_json(
            path,
            &json!({
                "rows": {"train": train.rows, "val": data.val.rows.len(), "test": data.test.rows.len(),
                         "dropped": data.train.dropped, "cut": train.cut, "inputs_cut": train.inputs_cut},
                "labels": {"tokens": train.label_tokens, "fewest_in_a_row": fewest, "rows_without": train.without_label,
                           "rows_without_end": train.cut},
                "held_out": {"val": held_out(&data.val), "test": held_out(&data.test)},
                "updates": progress.step,
                "tokens": progress.tokens,
                "trainable_parameters": self.parameters,
                "trainable_share": self.parameters as f64 / self.weights as f64,
                "schedule": self.schedule(),
                "losses": {"train": self.train_losses(), "val": self.val_losses()},
                "parroting": self.parroting(),
                "parroting_of_labels": data.own_parrot_rate(),
                "adapter_from_update": self.chosen,
                "checks": self.checks,
                "numerics": progress.numerics,
            }),
        )
    }

    /// What was planned, and how far it went: `early_stop` ends a training before its last update.
    fn schedule(&self) -> Value {
        let planned = self.schedule;
        let used = self.progress.curves.updates.iter().map(|line| line.lr);
        json!({
            "updates": planned.total, "warmup": planned.warmup, "max_lr": rates::max_lr(planned), "sum_lr": rates::sum_lr(planned),
            "reached": {"updates": self.progress.step, "max_lr": used.clone().fold(0.0, f64::max), "sum_lr": used.sum::<f64>()},
        })
    }

    fn train_losses(&self) -> Value {
        summary(self.progress.curves.updates.iter().map(|line| line.loss))
    }

    /// Share of the sampled answers that parrot, by evaluation.
    fn parroting(&self) -> Value {
        let by_step = self.progress.samples.chunk_by(|a, b| a.step == b.step);
        let rates = by_step.filter_map(|samples| Some(json!({"step": samples[0].step, "rate": parrot_rate(samples)?})));
        rates.collect()
    }

    fn val_losses(&self) -> Value {
        let evals = &self.progress.curves.evals;
        let mut losses = summary(evals.iter().filter(|line| line.step > 0).map(|line| line.loss));
        losses["before"] = evals.iter().find(|line| line.step == 0).map_or(Value::Null, |line| line.loss.into());
        losses
    }
}

/// What is left of held-out rows; nothing where there are none.
fn held_out(rows: &Encoded) -> Value {
    let audit = Audit::of(rows);
    if audit.given() == 0 { Value::Null } else { json!(audit) }
}

/// Writes how long it took.
///
/// # Errors
/// When it cannot be written.
pub fn write_timing(path: &Path, progress: &Progress) -> Result<(), StageError> {
    let rate = progress.tokens as f64 / progress.seconds.max(1e-9);
    write_json(path, &json!({"wall_s": progress.seconds, "tokens": progress.tokens, "tokens_per_s": rate}))
}

/// Writes a value as indented JSON.
///
/// # Errors
/// When it cannot be written.
pub fn write_json(path: &Path, value: &Value) -> Result<(), StageError> {
    std::fs::write(path, format!("{value:#}\n")).map_err(|e| StageError::io("write", path, &e))
}

/// Average, last and lowest; the paper's Table 2 gives averages over the run.
fn summary(losses: impl Iterator<Item = f64> + Clone) -> Value {
    let count = losses.clone().count();
    let average = (count > 0).then(|| losses.clone().sum::<f64>() / count as f64);
    json!({"average": average, "last": losses.clone().last(), "best": losses.min_by(f64::total_cmp)})
}
