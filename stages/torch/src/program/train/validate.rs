//! An evaluation in the middle of a training: what answers sound like, the validation loss, and whether it is the lowest so far.

use watershed_engine::StageError;
use watershed_torch::Error;

use super::Training;
use crate::program::room::Room;
use crate::program::sampler::{parrot_rate, sample};
use crate::program::{adapter, failed};

/// How much more often than the rows' own answers a model's may parrot, as a share: names of products are copied with reason.
const TOLERATED: f64 = 0.25;

impl Training<'_> {
    /// Evaluates where that is due and not done: a training that was cancelled in the middle of an evaluation owes it.
    pub(super) fn evaluate_if_due(&mut self) -> Result<(), StageError> {
        let (step, updates) = (self.progress.step, self.updates.len() as u64);
        let is_due = step == 0 || step == updates || self.params.eval_every.is_due(step, self.ends_epoch());
        if is_due && self.progress.evaluated != Some(step) { self.evaluate() } else { Ok(()) }
    }

    /// Answers the sampled prompts and measures the validation rows.
    fn evaluate(&mut self) -> Result<(), StageError> {
        let (step, epoch) = (self.progress.step, self.epoch());
        self.job.progress(step, self.updates.len() as u64, "updates", "evaluates");
        let samples = sample(self.trainer.model(), self.trainer.lora(), self.data, step, self.job)?;
        let rate = parrot_rate(&samples);
        if !self.validation.is_empty() {
            self.validate(step, epoch)?;
        }
        rate.into_iter().for_each(|rate| self.job.metric(step, epoch, &[("parrot_rate", rate)]));
        self.progress.samples.extend(samples);
        self.progress.evaluated = Some(step);
        Ok(())
    }

    /// Returns the share of the sampled answers after update `step` that parrot; none where there are none.
    pub(super) fn parrot_rate(&self, step: Option<u64>) -> Option<f64> {
        let by_step = self.progress.samples.chunk_by(|a, b| a.step == b.step);
        by_step.into_iter().find(|samples| Some(samples[0].step) == step).and_then(parrot_rate)
    }

    /// Warns where the answers of the adapter that is kept, of update `chosen`, parrot far more than the rows' own.
    pub(super) fn warn_of_parrots(&self, chosen: u64) {
        let [before, after] = [0, chosen].map(|step| self.parrot_rate(Some(step)).unwrap_or_default());
        let own = self.data.own_parrot_rate();
        if after > own + TOLERATED {
            let [before, after, own] = [before, after, own].map(|rate| format!("{:.0} %", rate * 100.0));
            self.job.warn(format!(
                "{after} of the answers to fixed prompts copy their input or themselves after update {chosen}, {before} before \
                 the first, {own} of the rows' own; output `samples` holds them"
            ));
        }
    }

    fn validate(&mut self, step: u64, epoch: f64) -> Result<(), StageError> {
        let (validation, model, lora, job) = (&self.validation, self.trainer.model(), self.trainer.lora(), self.job);
        let attempt = |room: &Room| validation.measure(model, Some(lora), room.budget(), (step, epoch), job);
        let line = self.reading.fit(attempt, |text| job.warn(text))?;
        if !line.score().is_finite() {
            return Err(failed(Error::Diverged { what: "validation loss", step, value: line.score() }));
        }
        let by_source: Vec<(String, f64)> =
            line.sources.iter().map(|(s, loss)| (format!("val_loss.{s}"), *loss)).collect();
        let mut values = vec![("val_loss", line.loss)];
        values.extend(line.response_loss.map(|loss| ("val_response_loss", loss)));
        values.extend(by_source.iter().map(|(name, loss)| (name.as_str(), *loss)));
        self.job.metric(step, line.epoch, &values);
        // before the first update a fresh adapter is the base, which is nobody's best; one to go on from may be the best there is
        if step > 0 || self.job.optional_input("adapter").is_some() {
            self.keep_if_best(line.score())?;
        }
        self.progress.curves.evals.push(line);
        Ok(())
    }

    fn keep_if_best(&mut self, score: f64) -> Result<(), StageError> {
        if !is_better(score, self.progress.best) {
            self.progress.since_best += 1;
            return Ok(());
        }
        self.progress.best = Some((score, self.progress.step));
        self.progress.since_best = 0;
        if self.params.selects_best() {
            adapter::write(self.job.output("adapter"), self.trainer.lora(), &self.card)?;
        }
        Ok(())
    }
}

/// Says whether a score beats the best so far; one that is no number never does.
fn is_better(score: f64, best: Option<(f64, u64)>) -> bool {
    !score.is_nan() && best.is_none_or(|(best, _)| score < best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lower_number_is_better() {
        assert!(is_better(2.0, None) && is_better(1.5, Some((2.0, 1))));
        assert!(!is_better(2.0, Some((2.0, 1))) && !is_better(f64::NAN, Some((2.0, 1))) && !is_better(f64::NAN, None));
    }
}
