//! The parrot guard: answers that copy their input are counted, written again, or refused.

use std::ops::ControlFlow;

use watershed_engine::{Job, StageError};
use watershed_stages::generate::ParrotGuard;
use watershed_stages::metrics::parroting::{Thresholds, parroting};
use watershed_stages::record::answer::Answer;
use watershed_stages::record::example::Example;
use watershed_stages::text::Tokenizer;
use watershed_torch::{self as torch, GenerateConfig, Model, Prompt, Watch};

use super::super::failed;
use super::record;

/// Runs of so many input tokens are forbidden when an answer is written again: long enough for product names.
const FORBIDDEN_RUN: usize = 8;

/// Deals with parrots as `choice` says and returns the ids of those that remain.
///
/// # Errors
/// Under `fail`, when there is any.
#[expect(clippy::too_many_arguments, reason = "one call, from the one place that has them all")]
pub fn guard(
    choice: ParrotGuard,
    model: &Model,
    prompts: &[Prompt],
    config: &GenerateConfig,
    rows: &[Example],
    answers: &mut [Answer],
    tokenizer: &Tokenizer,
    job: &Job,
) -> Result<Vec<String>, StageError> {
    let mut parrots = find(rows, answers);
    if choice == ParrotGuard::Retry && !parrots.is_empty() {
        let again: Vec<Prompt> = parrots.iter().map(|&i| prompts[i].clone()).collect();
        let stricter = GenerateConfig {
            input_no_repeat_ngram: FORBIDDEN_RUN,
            seed: config.seed.wrapping_add(1),
            ..config.clone()
        };
        let mut collect = Collect(Vec::new());
        torch::generate(model, None, &again, &stricter, &mut collect).map_err(failed)?;
        for answer in collect.0 {
            let place = parrots[answer.index];
            answers[place] = record(&answer, &prompts[place], &answers[place].group.clone(), tokenizer, &[]);
        }
        job.log(format!("{} answers copied their input and were written again", parrots.len()));
        parrots = find(rows, answers);
    }
    if choice == ParrotGuard::Fail && !parrots.is_empty() {
        return Err(StageError::failed(format!(
            "{} of {} answers copy their input, the first is `{}`; set `parrot_guard: report` to see them",
            parrots.len(),
            answers.len(),
            answers[parrots[0]].id
        )));
    }
    Ok(parrots.into_iter().map(|i| answers[i].id.clone()).collect())
}

struct Collect(Vec<torch::Answer>);

impl Watch for Collect {
    fn done(&mut self, answer: torch::Answer) -> ControlFlow<()> {
        self.0.push(answer);
        ControlFlow::Continue(())
    }
}

/// Returns the places of the answers that parrot.
fn find(rows: &[Example], answers: &[Answer]) -> Vec<usize> {
    let samples = (answers.len() / rows.len().max(1)).max(1);
    let is_parrot = |(i, answer): (usize, &Answer)| {
        parroting(&rows[i / samples].input, &answer.text).is_parrot(&Thresholds::default())
    };
    answers.iter().enumerate().filter(|(i, answer)| is_parrot((*i, answer))).map(|(i, _)| i).collect()
}
