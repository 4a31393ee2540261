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
            answers[*place] = Answer { retries: attempt, ..answer };
        }
        let before = parrots.len();
        parrots = find(desk, answers);
        desk.job.note(told(before, parrots.len(), *run));
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

/// Says that so many parrots were written again without runs of `run` tokens, and how many of them are `left`.
fn told(parrots: usize, left: usize, run: usize) -> String {
    let again = format!("written again without runs of {run} tokens");
    match (parrots, left) {
        (1, 0) => format!("1 answer that parrots was {again} and no longer does"),
        (1, _) => format!("1 answer that parrots was {again} and still does"),
        (_, 0) => format!("{parrots} answers that parrot were {again}, none of them still does"),
        (_, 1) => format!("{parrots} answers that parrot were {again}, 1 of them still does"),
        _ => format!("{parrots} answers that parrot were {again}, {left} of them still do"),
    }
}

fn refusal(parrots: &[usize], answers: &[Answer]) -> StageError {
    let (count, all, id) = (parrots.len(), answers.len(), &answers[parrots[0]].id);
    let way = "set `parrot_guard: report` to see";
    StageError::Failed(match count {
        1 => format!("1 of {all} answers copies its input or itself, that of `{id}`; {way} it"),
        _ => format!("{count} of {all} answers copy their input or themselves, the first is `{id}`; {way} them"),
    })
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
    fn one_parrot_is_told_as_one() {
        let again = "written again without runs of 8 tokens";
        assert_eq!(told(1, 1, 8), format!("1 answer that parrots was {again} and still does"));
        assert_eq!(told(1, 0, 8), format!("1 answer that parrots was {again} and no longer does"));
        assert_eq!(told(9, 1, 8), format!("9 answers that parrot were {again}, 1 of them still does"));
        assert_eq!(told(9, 2, 8), format!("9 answers that parrot were {again}, 2 of them still do"));
        let answers = ["a", "b"].map(|id| Answer { id: id.into(), ..Answer::default() });
        let wanted = "1 of 2 answers copies its input or itself, that of `b`; set `parrot_guard: report` to see it";
        assert_eq!(refusal(&[1], &answers).to_string(), wanted);
    }

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
