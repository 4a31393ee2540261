//! Writing answers: batches of prompts through a key-value cache.

use std::ops::ControlFlow;

use crate::{Error, Lora, Model, Result};

/// One answer to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The row's id; with `sample` and the seed it decides every random draw, so that batching and order do not.
    pub id: String,
    /// Which of the row's answers this is, from 0.
    pub sample: u32,
    /// The prompt's tokens.
    pub ids: Vec<u32>,
    /// The tokens that `input_no_repeat_ngram` keeps out of the answer, usually the example's input.
    pub input: Vec<u32>,
}

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// The likeliest.
    Greedy,
    /// A draw, after these cuts in this order (transformers' order).
    Sample {
        /// Divides the logits; above 0.
        temperature: f64,
        /// Keeps the k likeliest; 0 keeps all.
        top_k: usize,
        /// Keeps the likeliest that together reach this probability; 1 keeps all.
        top_p: f64,
        /// Drops what is less likely than this times the likeliest; 0 keeps all.
        min_p: f64,
    },
}

/// How answers are written.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateConfig {
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
    /// How tokens are chosen.
    pub mode: Mode,
    /// Divides positive logits of tokens seen before, multiplies negative ones; 1 is off (Keskar et al. 2019).
    pub repetition_penalty: f64,
    /// Forbids repeating any n-gram of prompt and answer; 0 is off.
    pub no_repeat_ngram: usize,
    /// Forbids writing any n-gram of [`Prompt::input`]; 0 is off.
    pub input_no_repeat_ngram: usize,
    /// Tokens that end an answer; the token is kept.
    pub stop_ids: Vec<u32>,
    /// Seeds the draws.
    pub seed: u64,
    /// Largest number of cached tokens (prompts and answers) in flight.
    pub batch_tokens: usize,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// A stop id was written.
    Stop,
    /// `stop` said so.
    StopText,
    /// `max_new_tokens` was reached.
    Length,
}

/// One finished answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Index of the prompt in the list that was given.
    pub index: usize,
    /// What was written, a stop id included.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
    /// Sum of the tokens' log-probabilities under the model, before penalties and cuts.
    pub logprob: f64,
}

/// What generation asks and tells while it runs.
pub trait Watch {
    /// Returns true when these answer tokens end with a stop text; asked after each token.
    fn is_stop(&mut self, prompt: &Prompt, answer: &[u32]) -> bool {
        let _ = (prompt, answer);
        false
    }

    /// Receives a finished answer, in order of finishing; `Break` ends the whole call.
    fn done(&mut self, answer: Answer) -> ControlFlow<()>;
}

/// Writes an answer for each prompt, longest prompts first. For speed give a [`Model::merged`] and no adapter.
pub fn generate(
    model: &Model,
    lora: Option<&Lora>,
    prompts: &[Prompt],
    config: &GenerateConfig,
    watch: &mut dyn Watch,
) -> Result<()> {
    let _ = (model, lora, prompts, config, watch);
    Err(Error::Input("not generated yet".to_owned()))
}
