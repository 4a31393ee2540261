//! The parrot guard: answers that copy their input are counted, written again, or refused.

use watershed_engine::StageError;
use watershed_stages::generate::ParrotGuard;
use watershed_stages::metrics::parroting::{Thresholds, parroting};
use watershed_stages::record::answer::Answer;
use watershed_torch::GenerateConfig;

use super::Desk;

/// Runs of so many input tokens are forbidden when an answer is written again: long enough for product names.
const FORBIDDEN_RUN: usize = 8;

/// Deals with parrots as `choice` says and returns the ids of those that remain.
///
/// # Errors
/// Under `fail`, when there is any; [`StageError::Cancelled`] when the run is cancelled while answers are written again.
pub fn guard(
    choice: ParrotGuard,
    desk: &Desk<'_>,
    config: &GenerateConfig,
    answers: &mut [Answer],
) -> Result<Vec<String>, StageError> {
    let mut parrots = find(desk, answers);
    if choice == ParrotGuard::Retry && !parrots.is_empty() {
        for (place, answer) in parrots.iter().zip(desk.write(&parrots, &stricter(config))?) {
            answers[*place] = answer;
        }
        desk.job.log(format!("{} answers copied their input and were written again", parrots.len()));
        parrots = find(desk, answers);
    }
    if choice == ParrotGuard::Fail && !parrots.is_empty() {
        return Err(refusal(&parrots, answers));
    }
    Ok(parrots.into_iter().map(|place| answers[place].id.clone()).collect())
}

fn stricter(config: &GenerateConfig) -> GenerateConfig {
    let run = match config.input_no_repeat_ngram {
        0 => FORBIDDEN_RUN,
        run => run.min(FORBIDDEN_RUN),
    };
    GenerateConfig { input_no_repeat_ngram: run, seed: config.seed.wrapping_add(1), ..config.clone() }
}

fn refusal(parrots: &[usize], answers: &[Answer]) -> StageError {
    StageError::failed(format!(
        "{} of {} answers copy their input, the first is `{}`; set `parrot_guard: report` to see them",
        parrots.len(),
        answers.len(),
        answers[parrots[0]].id
    ))
}

/// Returns the places of the answers that parrot.
fn find(desk: &Desk<'_>, answers: &[Answer]) -> Vec<usize> {
    let is_parrot =
        |place: &usize| parroting(desk.row(*place).material(), &answers[*place].text).is_parrot(&Thresholds::default());
    (0..answers.len()).filter(is_parrot).collect()
}
