//! The end of a training: the adapters, the checks, the test rows and the reports.

use serde_json::{Value, json};
use watershed_engine::StageError;
use watershed_torch::Lora;

use super::Training;
use crate::program::curves::EvalLine;
use crate::program::evaluation::Validation;
use crate::program::receipt::{self, Receipt, write_timing};
use crate::program::room::Room;
use crate::program::{adapter, checks, failed};

/// Rise of the validation loss from which training is called harmful: half of the last digit that is shown.
const LEAST_RISE: f64 = 5e-5;

impl Training<'_> {
    /// Writes every output, the checks before the report that quotes them.
    pub(super) fn finish(&mut self) -> Result<(), StageError> {
        let (job, lora) = (self.job, self.trainer.lora());
        adapter::write(job.output("last"), lora, &self.card)?;
        let best = self.progress.best.filter(|_| self.params.selects_best());
        if best.is_none() {
            adapter::write(job.output("adapter"), lora, &self.card)?;
        }
        let chosen = best.map_or(self.progress.step, |(_, step)| step);
        self.tell_last_evaluation();
        let checks = checks::check(self.params, self.trainer.model(), lora, self.data, job)?;
        verdict(&self.progress.curves.evals, chosen).into_iter().for_each(|text| job.warn(text));
        self.warn_of_parrots(chosen);
        self.test(chosen)?;
        self.progress.curves.write(job.output("curves"))?;
        self.progress.seconds += self.started.elapsed().as_secs_f64();
        self.report(chosen, checks)?;
        self.count();
        Ok(())
    }

    /// Tells the last validation loss beside the lowest.
    fn tell_last_evaluation(&self) {
        let (Some(last), Some((best, of))) = (self.progress.curves.evals.last(), self.progress.best) else { return };
        let (loss, step) = (last.score(), last.step);
        self.job.note(format!("val {loss:.4} after update {step}, the best is {best:.4} after update {of}"));
    }

    /// Measures the base and the adapter of update `chosen` on rows that had no say in anything.
    fn test(&mut self, chosen: u64) -> Result<(), StageError> {
        let (rows, model) = (Validation::new(&self.data.test.rows), self.trainer.model());
        if rows.is_empty() {
            return Ok(());
        }
        self.job.progress(self.progress.step, self.updates.len() as u64, "updates", "measures the test rows");
        let lora = Lora::load(self.job.output("adapter"), model).map_err(failed)?;
        let epoch = chosen as f64 / self.updates_per_epoch();
        let (job, of) = (self.job, |lora, room: &Room, at| rows.measure(model, lora, room.budget(), at, self.job));
        let attempt = |room: &Room| Ok((of(None, room, (0, 0.0))?, of(Some(&lora), room, (chosen, epoch))?));
        let (before, after) = self.reading.fit(attempt, |text| job.warn(text))?;
        let (found, start) = (after.score(), before.score());
        self.job.note(format!("test {found:.4} with the adapter of update {chosen}, {start:.4} with the base"));
        self.job.metric(chosen, epoch, &[("test_loss", after.loss), ("test_loss_before", before.loss)]);
        self.progress.curves.tests = vec![before, after];
        Ok(())
    }

    fn report(&self, chosen: u64, checks: Value) -> Result<(), StageError> {
        let receipt = Receipt {
            data: self.data,
            schedule: &self.schedule,
            progress: &self.progress,
            parameters: self.trainer.lora().parameters(),
            weights: self.trainer.model().config().parameters(),
            chosen,
            checks,
        };
        receipt.write(self.job.output("receipt"))?;
        write_timing(self.job.output("timing"), &self.progress)?;
        receipt::write_json(self.job.output("samples"), &json!(self.progress.samples))
    }

    fn count(&self) {
        self.job.count("rows", self.rows.len() as f64);
        self.job.count("updates", self.progress.step as f64);
        self.job.count("tokens", self.progress.tokens as f64);
        self.job.count("trainable_parameters", self.trainer.lora().parameters() as f64);
    }
}

/// Says that the adapter of update `chosen` is no better than what training started from, none where it is.
fn verdict(evals: &[EvalLine], chosen: u64) -> Option<String> {
    let score = |step: u64| evals.iter().find(|line| line.step == step).map(EvalLine::score);
    let (before, after) = (score(0)?, score(chosen)?);
    if chosen == 0 {
        let last = evals.last()?.score();
        return Some(format!(
            "no update made the adapter to go on from better: validation loss {before:.4} before, {last:.4} at the end; `adapter` \
             is the one that was given; lower `lr`, or give rows that are more like those of `val`"
        ));
    }
    (after - before >= LEAST_RISE).then(|| {
        format!(
            "training made it worse: validation loss {before:.4} before, {after:.4} after update {chosen}; lower `lr`, or train for \
             fewer updates"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evals(losses: &[f64]) -> Vec<EvalLine> {
        let line = |(step, loss): (usize, &f64)| EvalLine {
            step: step as u64,
            epoch: 0.0,
            loss: *loss,
            response_loss: None,
            sources: Default::default(),
        };
        losses.iter().enumerate().map(line).collect()
    }

    #[test]
    fn adapter_that_is_worse_than_the_start_is_told_with_both_losses() {
        let told = verdict(&evals(&[2.47, 6.67, 7.0]), 1);
        let words = "training made it worse: validation loss 2.4700 before, 6.6700 after update 1; lower `lr`, or train for fewer updates";
        assert_eq!(told.as_deref(), Some(words));
        assert_eq!(verdict(&evals(&[2.47, 2.46]), 1), None);
        assert_eq!(verdict(&evals(&[2.47, 2.47001]), 1), None);
        assert_eq!(verdict(&[], 4), None);
        let given = verdict(&evals(&[2.47, 6.67]), 0).unwrap();
        assert!(given.contains("2.4700 before, 6.6700 at the end; `adapter` is the one that was given"), "{given}");
    }
}
