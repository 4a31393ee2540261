//! A few prompts answered at each evaluation: what the numbers sound like, and whether answers copy their input.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use watershed_engine::StageError;
use watershed_stages::lora_train::Dataset;
use watershed_stages::metrics::parroting::{Thresholds, parroting};
use watershed_torch::{Answer, Error, GenerateConfig, Lora, Mode, Model, Prompt, Watch, generate};

use super::failed;

/// Tokens of each answer: some twenty words, enough for a copied run of 16, and few beside the tokens of an epoch.
const TOKENS: usize = 32;

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

/// Gathers answers.
pub struct Collect(pub Vec<Answer>);

impl Watch for Collect {
    fn done(&mut self, answer: Answer) -> ControlFlow<()> {
        self.0.push(answer);
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
/// When the model cannot take them.
pub fn sample(model: &Model, lora: &Lora, data: &Dataset, step: u64) -> Result<Vec<Sample>, StageError> {
    let room = model.config().max_positions.saturating_sub(TOKENS);
    let (mut prompts, mut inputs) = (Vec::new(), Vec::new());
    for row in &data.sampled {
        let ids = data.template.prompt_ids(row, &data.tokenizer).map_err(StageError::Failed)?;
        if ids.len() <= room {
            inputs.push(row.material());
            prompts.push(Prompt { id: row.id.clone(), sample: 0, ids, input: Vec::new() });
        }
    }
    let config = GenerateConfig {
        max_new_tokens: TOKENS,
        mode: Mode::Greedy,
        repetition_penalty: 1.0,
        no_repeat_ngram: 0,
        input_no_repeat_ngram: 0,
        stop_ids: data.template.stops(&data.tokenizer),
        seed: 0,
        batch_tokens: prompts.iter().map(|prompt| prompt.ids.len() + TOKENS).max().unwrap_or(0) * prompts.len(),
    };
    let mut answers = Collect(Vec::new());
    generate(model, Some(lora), &prompts, &config, &mut answers).map_err(|error| blamed(error, step))?;
    answers.0.sort_by_key(|answer| answer.index);
    let judged = |answer: &Answer| {
        let text = data.tokenizer.decode(&answer.ids);
        let parrots = parroting(inputs[answer.index], &text).is_parrot(&Thresholds::default());
        Sample { step, id: prompts[answer.index].id.clone(), text, parrots }
    };
    Ok(answers.0.iter().map(judged).collect())
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
