//! A few prompts answered at each evaluation: what the numbers sound like, and whether answers copy their input.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use watershed_engine::{Job, StageError};
use watershed_stages::lora_train::{Dataset, SAMPLE_TOKENS, Sampled};
use watershed_stages::metrics::parroting::{Thresholds, parroting};
use watershed_torch::{Answer, Error, GenerateConfig, Lora, Mode, Model, Prompt, Watch, generate};

use super::failed;

/// One answer at one evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Updates done.
    pub step: u64,
    /// Id of the row.
    pub id: String,
    /// The answer.
    pub text: String,
    /// Whether it parrots, as `evaluate` and the parrot guard say.
    pub parrots: bool,
}

/// Gathers answers, unless the job is cancelled.
struct Collect<'a> {
    job: &'a Job<'a>,
    answers: Vec<Answer>,
}

impl Watch for Collect<'_> {
    fn is_stop(&mut self, _prompt: &Prompt, _answer: &[u32]) -> bool {
        self.job.is_cancelled()
    }

    fn done(&mut self, answer: Answer) -> ControlFlow<()> {
        self.answers.push(answer);
        ControlFlow::Continue(())
    }
}

/// Returns the share of answers that parrot; none without answers.
pub fn parrot_rate(samples: &[Sample]) -> Option<f64> {
    let parrots = samples.iter().filter(|sample| sample.parrots).count();
    (!samples.is_empty()).then(|| parrots as f64 / samples.len() as f64)
}

/// Answers those of the sampled prompts that leave room for an answer.
///
/// # Errors
/// When the model cannot take them; [`StageError::Cancelled`] when the job is.
pub fn sample(model: &Model, lora: &Lora, data: &Dataset, step: u64, job: &Job) -> Result<Vec<Sample>, StageError> {
    let room = model.config().max_positions.saturating_sub(SAMPLE_TOKENS);
    let sampled: Vec<&Sampled> = data.sampled.iter().filter(|prompt| prompt.ids.len() <= room).collect();
    let prompt = |of: &&Sampled| Prompt { id: of.id.clone(), sample: 0, ids: of.ids.clone(), input: Vec::new() };
    let prompts: Vec<Prompt> = sampled.iter().map(prompt).collect();
    let config = GenerateConfig {
        max_new_tokens: SAMPLE_TOKENS,
        mode: Mode::Greedy,
        repetition_penalty: 1.0,
        no_repeat_ngram: 0,
        input_no_repeat_ngram: 0,
        stop_ids: data.template.stops(&data.tokenizer),
        seed: 0,
        batch_tokens: prompts.iter().map(|prompt| prompt.ids.len() + SAMPLE_TOKENS).max().unwrap_or(0) * prompts.len(),
    };
    let mut collect = Collect { job, answers: Vec::new() };
    generate(model, Some(lora), &prompts, &config, &mut collect).map_err(|error| blamed(error, step))?;
    job.check_cancelled()?;
    let mut answers = collect.answers;
    answers.sort_by_key(|answer| answer.index);
    let end = data.template.stop_text(&data.tokenizer);
    let judged = |answer: &Answer| {
        let (of, text) = (sampled[answer.index], data.tokenizer.decode(answer.before_stop()));
        let text = end.and_then(|end| text.split(end).next()).unwrap_or(&text).to_string();
        let parrots = parroting(&of.material, &text).is_parrot(&Thresholds::default());
        Sample { step, id: of.id.clone(), text, parrots }
    };
    Ok(answers.iter().map(judged).collect())
}

/// Logits that are no numbers are the training's fault, not a prompt's.
fn blamed(error: Error, step: u64) -> StageError {
    match error {
        Error::NotFinite { .. } => {
            failed(Error::Diverged { what: "likelihood of a sampled answer", step, value: f64::NAN })
        }
        other => failed(other),
    }
}
