//! The report of a training: totals, label audit, losses as the paper's Table 2, checks, numerics; and, apart, its timing.

use std::path::Path;

use serde_json::{Value, json};
use watershed_engine::StageError;
use watershed_stages::lora_train::Dataset;
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
        let labels = data.train.rows.iter().map(|row| row.label_tokens());
        write_json(
            path,
            &json!({
                "rows": {"train": data.train.rows.len(), "val": data.val.rows.len(), "dropped": data.train.dropped, "cut": data.rows_cut()},
                "labels": {"tokens": data.label_tokens(), "fewest_in_a_row": labels.clone().min(), "rows_without": labels.filter(|n| *n == 0).count(),
                           "rows_without_end": data.rows_without_end()},
                "updates": progress.step,
                "tokens": progress.tokens,
                "trainable_parameters": self.parameters,
                "schedule": {"warmup": self.schedule.warmup, "max_lr": self.schedule.max_lr(), "sum_lr": self.schedule.sum_lr()},
                "losses": {"train": self.train_losses(), "val": self.val_losses()},
                "parroting": self.parroting(),
                "adapter_from_update": self.chosen,
                "checks": self.checks,
                "numerics": progress.numerics,
            }),
        )
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
