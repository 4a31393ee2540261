//! A few validation prompts answered at each evaluation: what the numbers sound like.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use watershed_engine::StageError;
use watershed_stages::lora_train::Dataset;
use watershed_torch::{Answer, GenerateConfig, Lora, Mode, Model, Prompt, Watch, generate};

use super::failed;

/// Prompts that are answered; two show whether answers differ at all.
const PROMPTS: usize = 2;
/// Tokens of each answer.
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
}

/// Gathers answers.
pub struct Collect(pub Vec<Answer>);

impl Watch for Collect {
    fn done(&mut self, answer: Answer) -> ControlFlow<()> {
        self.0.push(answer);
        ControlFlow::Continue(())
    }
}

/// Answers the first validation prompts that leave room for an answer.
///
/// # Errors
/// When the model cannot take them.
pub fn sample(model: &Model, lora: &Lora, data: &Dataset, step: u64) -> Result<Vec<Sample>, StageError> {
    let room = model.config().max_positions.saturating_sub(TOKENS);
    let mut prompts = Vec::new();
    for row in data.val_examples.iter().take(PROMPTS) {
        let ids = data.template.prompt_ids(row, &data.tokenizer).map_err(StageError::Failed)?;
        if ids.len() <= room {
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
        batch_tokens: PROMPTS * (room + TOKENS),
    };
    let mut answers = Collect(Vec::new());
    generate(model, Some(lora), &prompts, &config, &mut answers).map_err(failed)?;
    answers.0.sort_by_key(|answer| answer.index);
    let text = |answer: &Answer| data.tokenizer.decode(&answer.ids);
    Ok(answers.0.iter().map(|a| Sample { step, id: prompts[a.index].id.clone(), text: text(a) }).collect())
}
