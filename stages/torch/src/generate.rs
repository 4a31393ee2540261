//! Writing answers: batches of prompts through a key-value cache.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::ControlFlow;

use crate::lora::Active;
use crate::memory::caught;
use crate::pick::Mode;
use crate::reader::Reader;
use crate::{Error, Lora, Model, Result, beam, writing};

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
    /// [`Watch::is_stop`] said so.
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

impl Answer {
    /// Returns what was written before the stop id.
    pub fn before_stop(&self) -> &[u32] {
        match (self.finish, self.ids.split_last()) {
            (Finish::Stop, Some((_, before))) => before,
            _ => &self.ids,
        }
    }
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

    /// Says whether the answers to these prompts, which would be written together, are known from before; then they are not
    /// written again.
    fn is_known(&mut self, batch: &[usize]) -> bool {
        let _ = batch;
        false
    }

    /// Hears that all answers of these prompts, which were written together, are done.
    fn batch_done(&mut self, batch: &[usize]) {
        let _ = batch;
    }

    /// Hears that memory did not suffice, and how generation goes on.
    fn gave_way(&mut self, how: String) {
        let _ = how;
    }
}

/// Passes on what is watched, and remembers which prompts are answered.
struct Ledger<'a> {
    watch: &'a mut dyn Watch,
    is_answered: Vec<bool>,
}

/// Writes an answer for each prompt, longest prompts first. For speed give a [`Model::merged`] and no adapter. Where memory
/// does not suffice, the prompts that are left are tried again in batches half as large.
///
/// # Errors
/// [`Error::Input`] for a prompt that with its answer is longer than the model takes, and for settings out of range;
/// [`Error::NotFinite`] when the model's logits are no numbers; [`Error::OutOfMemory`] where one prompt alone does not fit.
pub fn generate(
    model: &Model,
    lora: Option<&Lora>,
    prompts: &[Prompt],
    config: &GenerateConfig,
    watch: &mut dyn Watch,
) -> Result<()> {
    let _guard = tch::no_grad_guard();
    check(model, prompts, config)?;
    let ids: Vec<&[u32]> = prompts.iter().map(|prompt| &prompt.ids[..]).collect();
    let reader = caught(|| Ok(Reader::new(model, lora.map(Active::still), &ids))).map_err(with_mend)?;
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(prompts[*index].ids.len()));
    let mut queue = batches(order, prompts, config, config.batch_tokens);
    let mut ledger = Ledger { watch, is_answered: vec![false; prompts.len()] };
    while let Some(batch) = queue.pop_front() {
        if ledger.is_known(&batch) {
            continue;
        }
        let written = caught(|| write_batch(&reader, prompts, &batch, config, &mut ledger));
        if let Err(Error::OutOfMemory(why)) = &written
            && batch.len() > 1
        {
            let tokens = batch_tokens(&batch, prompts, config);
            ledger.watch.gave_way(gave_way(tokens, why));
            let left = batch.into_iter().chain(queue.into_iter().flatten());
            queue = batches(left.filter(|index| !ledger.is_answered[*index]), prompts, config, tokens / 2);
        } else if written.map_err(with_mend)?.is_break() {
            break;
        } else {
            ledger.batch_done(&batch);
        }
    }
    Ok(())
}

fn check(model: &Model, prompts: &[Prompt], config: &GenerateConfig) -> Result<()> {
    config.mode.check()?;
    if config.max_new_tokens == 0 || !(config.repetition_penalty > 0.0 && config.repetition_penalty.is_finite()) {
        return Err(Error::Input("`max_new_tokens` and `repetition_penalty` must be above 0".to_owned()));
    }
    for prompt in prompts {
        model.check(&prompt.ids, &format!("the prompt of `{}`", prompt.id))?;
        let longest = model.config().max_positions;
        if prompt.ids.len() + config.max_new_tokens > longest {
            return Err(Error::Input(format!(
                "the prompt of `{}` has {} tokens: with `max_new_tokens: {}` that is more than the {longest} that the model takes",
                prompt.id,
                prompt.ids.len(),
                config.max_new_tokens
            )));
        }
    }
    Ok(())
}

/// Cuts prompts, in their order, into batches, each as large as `room` tokens allow and at least one prompt.
fn batches(
    order: impl IntoIterator<Item = usize>,
    prompts: &[Prompt],
    config: &GenerateConfig,
    room: usize,
) -> VecDeque<Vec<usize>> {
    let mut batches: VecDeque<Vec<usize>> = VecDeque::new();
    for index in order {
        match batches.back_mut() {
            Some(batch) if (batch.len() + 1) * row_tokens(batch, prompts, config) <= room => batch.push(index),
            _ => batches.push_back(vec![index]),
        }
    }
    batches
}

/// Returns the cached tokens of a batch, longest prompt first.
fn batch_tokens(batch: &[usize], prompts: &[Prompt], config: &GenerateConfig) -> usize {
    batch.len() * row_tokens(batch, prompts, config)
}

fn row_tokens(batch: &[usize], prompts: &[Prompt], config: &GenerateConfig) -> usize {
    let width = if let Mode::Beam { beams } = config.mode { beams } else { 1 };
    width * (prompts[batch[0]].ids.len() + config.max_new_tokens)
}

fn write_batch(
    reader: &Reader<'_>,
    prompts: &[Prompt],
    batch: &[usize],
    config: &GenerateConfig,
    watch: &mut dyn Watch,
) -> Result<ControlFlow<()>> {
    match config.mode {
        Mode::Beam { beams } => beam::write_batch(reader, prompts, batch, beams, config, watch),
        Mode::Greedy | Mode::Sample { .. } => writing::write_batch(reader, prompts, batch, config, watch),
    }
}

fn gave_way(tokens: usize, why: &str) -> String {
    format!("out of memory with `batch_tokens: {tokens}`: {why}; goes on with {}", tokens / 2)
}

/// Says how to need less where one prompt alone does not fit.
fn with_mend(error: Error) -> Error {
    match error {
        Error::OutOfMemory(why) => Error::OutOfMemory(format!(
            "{why}, with one prompt at once; shorter prompts, shorter answers and `dtype: bf16` need less"
        )),
        other => other,
    }
}

impl Watch for Ledger<'_> {
    fn is_stop(&mut self, prompt: &Prompt, answer: &[u32]) -> bool {
        self.watch.is_stop(prompt, answer)
    }

    fn done(&mut self, answer: Answer) -> ControlFlow<()> {
        self.is_answered[answer.index] = true;
        self.watch.done(answer)
    }

    fn is_known(&mut self, batch: &[usize]) -> bool {
        let is_known = self.watch.is_known(batch);
        batch.iter().for_each(|index| self.is_answered[*index] |= is_known);
        is_known
    }

    fn batch_done(&mut self, batch: &[usize]) {
        self.watch.batch_done(batch);
    }
}
