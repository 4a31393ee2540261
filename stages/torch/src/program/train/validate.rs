//! An evaluation in the middle of a training: what answers sound like, the validation loss, and whether it is the lowest so far.

use watershed_engine::StageError;
use watershed_torch::Error;

use super::Training;
use crate::program::room::Room;
use crate::program::sampler::{Sample, parrot_rate, sample};
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
        self.warn_of_parrots(&samples);
        if !self.validation.is_empty() {
            self.validate(step, epoch)?;
        }
        rate.into_iter().for_each(|rate| self.job.metric(step, epoch, &[("parrot_rate", rate)]));
        self.progress.samples.extend(samples);
        self.progress.evaluated = Some(step);
        Ok(())
    }

    /// Warns once, when the answers of a tuned model first parrot far more than those of the rows do.
    fn warn_of_parrots(&self, samples: &[Sample]) {
        let by_step = self.progress.samples.chunk_by(|a, b| a.step == b.step);
        let (own, step) = (self.data.own_parrot_rate(), self.progress.step);
        let is_bad = |samples: &[Sample]| samples[0].step > 0 && parrot_rate(samples) > Some(own + TOLERATED);
        if step == 0 || samples.is_empty() || !is_bad(samples) || by_step.into_iter().any(is_bad) {
            return;
        }
        let parrots = samples.iter().filter(|sample| sample.parrots).count();
        self.job.warn(format!(
            "after update {step}, {parrots} of {} answers to fixed prompts copy their input or themselves ({:.0} % of the rows' own \
             answers do); output `samples` holds them",
            samples.len(),
            own * 100.0
        ));
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
