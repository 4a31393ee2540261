//! The parrot guard: answers that copy their input or themselves are counted, written again, or refused.

use watershed_engine::StageError;
use watershed_stages::generate::ParrotGuard;
use watershed_stages::metrics::parroting::{Thresholds, parroting};
use watershed_stages::record::answer::Answer;
use watershed_torch::GenerateConfig;

use super::Desk;

/// Runs of so many tokens, of the prompt or of the answer itself, are forbidden when an answer is written again: at first such
/// as leave most product names whole, then shorter ones.
const FORBIDDEN_RUNS: [usize; 2] = [8, 4];
/// What each time is added to the penalty on tokens seen before.
const PENALTY: f64 = 0.1;

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
    let runs = if choice == ParrotGuard::Retry { FORBIDDEN_RUNS.as_slice() } else { &[] };
    for (attempt, run) in (1..).zip(runs) {
        if parrots.is_empty() {
            break;
        }
        let again = desk.write(&parrots, &stricter(config, attempt, *run), &format!("retry-{attempt}"))?;
        for (place, answer) in parrots.iter().zip(again) {
            answers[*place] = answer;
        }
        let before = parrots.len();
        parrots = find(desk, answers);
        let left = parrots.len();
        desk.job.note(format!(
            "{before} answers that parrot were written again without runs of {run} tokens, {left} of them still do"
        ));
    }
    if choice == ParrotGuard::Fail && !parrots.is_empty() {
        return Err(refusal(&parrots, answers));
    }
    Ok(parrots.into_iter().map(|place| answers[place].id.clone()).collect())
}

fn stricter(config: &GenerateConfig, attempt: u32, run: usize) -> GenerateConfig {
    let at_most = |own: usize| if own == 0 { run } else { own.min(run) };
    GenerateConfig {
        input_no_repeat_ngram: at_most(config.input_no_repeat_ngram),
        no_repeat_ngram: at_most(config.no_repeat_ngram),
        repetition_penalty: config.repetition_penalty.max(1.0) + PENALTY * f64::from(attempt),
        seed: config.seed.wrapping_add(u64::from(attempt)),
        ..config.clone()
    }
}

fn refusal(parrots: &[usize], answers: &[Answer]) -> StageError {
    StageError::failed(format!(
        "{} of {} answers copy their input or themselves, the first is `{}`; set `parrot_guard: report` to see them",
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

#[cfg(test)]
mod tests {
    use watershed_torch::Mode;

    use super::*;

    #[test]
    fn each_retry_forbids_shorter_runs_and_never_allows_what_was_forbidden() {
        let config = GenerateConfig {
            max_new_tokens: 8,
            mode: Mode::Greedy,
            repetition_penalty: 1.0,
            no_repeat_ngram: 0,
            input_no_repeat_ngram: 6,
            stop_ids: Vec::new(),
            seed: 7,
            batch_tokens: 64,
        };
        let tried = [(1, 8), (2, 4)].map(|(attempt, run)| stricter(&config, attempt, run));
        let runs = tried.each_ref().map(|config| (config.input_no_repeat_ngram, config.no_repeat_ngram, config.seed));
        assert_eq!(runs, [(6, 8, 8), (4, 4, 9)]);
        assert!(1.0 < tried[0].repetition_penalty && tried[0].repetition_penalty < tried[1].repetition_penalty);
    }
}
