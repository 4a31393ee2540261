//! Answers in the making: one token a step for every row of a batch.

use std::ops::ControlFlow;

use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::draw::Draws;
use crate::pick::{Mode, pick};
use crate::reader::Reader;
use crate::{Answer, Error, Finish, GenerateConfig, Model, Prompt, Result, Watch, loss};

/// An answer in the making.
struct Writing<'a> {
    index: usize,
    prompt: &'a Prompt,
    /// Prompt, then answer.
    written: Vec<u32>,
    logprob: f64,
    draws: Draws,
}

/// The next token of each row and its log-probability.
type Choices = Vec<(u32, f64)>;

/// Answers the prompts at the places `batch`, longest first.
pub(crate) fn write_batch(
    reader: &Reader<'_>,
    prompts: &[Prompt],
    batch: &[usize],
    config: &GenerateConfig,
    watch: &mut dyn Watch,
) -> Result<ControlFlow<()>> {
    let mut rows: Vec<Writing<'_>> =
        batch.iter().map(|index| Writing::new(*index, &prompts[*index], config.seed)).collect();
    let ids: Vec<&[u32]> = rows.iter().map(|row| &row.prompt.ids[..]).collect();
    let (mut cache, mut hidden) = reader.read(&ids, config.max_new_tokens);
    loop {
        let choices = choose(reader.model, &hidden, &mut rows, config)?;
        for (row, (token, logprob)) in rows.iter_mut().zip(choices) {
            row.written.push(token);
            row.logprob += logprob;
        }
        // From the back, so that the row that takes a finished one's place has been looked at.
        for at in (0..rows.len()).rev() {
            if let Some(finish) = finish(rows[at].prompt, rows[at].ids(), config, watch) {
                cache.swap_remove(at);
                let flow = watch.done(rows.swap_remove(at).answer(finish));
                if flow.is_break() {
                    return Ok(flow);
                }
            }
        }
        if rows.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        hidden = reader.step(rows.iter().map(|row| row.written[row.written.len() - 1]), &mut cache);
    }
}

/// Returns why these answer tokens end an answer, none when it goes on.
pub(crate) fn finish(
    prompt: &Prompt,
    answer: &[u32],
    config: &GenerateConfig,
    watch: &mut dyn Watch,
) -> Option<Finish> {
    if answer.last().is_some_and(|id| config.stop_ids.contains(id)) {
        Some(Finish::Stop)
    } else if watch.is_stop(prompt, answer) {
        Some(Finish::StopText)
    } else {
        (answer.len() >= config.max_new_tokens).then_some(Finish::Length)
    }
}

/// Returns what each row, whose last token has the state `hidden` `[rows, hidden]`, goes on with; a few rows at a time where
/// the vocabulary is so large that the logits of all are more than the model.
fn choose(model: &Model, hidden: &Tensor, rows: &mut [Writing<'_>], config: &GenerateConfig) -> Result<Choices> {
    let at_once = loss::at_once(model);
    let parts = rows.chunks_mut(at_once as usize).enumerate();
    let parts = parts.map(|(part, rows)| {
        let hidden = hidden.narrow(0, part as i64 * at_once, rows.len() as i64);
        choose_some(&model.project(&hidden), rows, config)
    });
    Ok(parts.collect::<Result<Vec<Choices>>>()?.concat())
}

fn choose_some(logits: &Tensor, rows: &mut [Writing<'_>], config: &GenerateConfig) -> Result<Choices> {
    let log_sums = to_f32(&logits.logsumexp([-1], false));
    if let Some(row) = log_sums.iter().position(|sum| !sum.is_finite()) {
        return Err(Error::not_finite(&rows[row].prompt.id));
    }
    let is_plain = config.mode == Mode::Greedy
        && config.repetition_penalty == 1.0
        && config.no_repeat_ngram == 0
        && config.input_no_repeat_ngram == 0;
    if is_plain {
        // Only one token and one number a row leave the device.
        let (best, at) = logits.max_dim(-1, false);
        let tokens = Vec::<i64>::try_from(at.to_device(Device::Cpu)).expect("a list of whole numbers");
        let best = to_f32(&best).into_iter().zip(log_sums).map(|(logit, sum)| f64::from(logit - sum));
        return Ok(tokens.into_iter().map(|token| token as u32).zip(best).collect());
    }
    let vocab = logits.size()[1] as usize;
    let mut logits = to_f32(logits);
    let by_row = logits.par_chunks_mut(vocab).zip(rows).zip(log_sums);
    Ok(by_row.map(|((logits, row), log_sum)| row.choose(logits, log_sum, config)).collect())
}

/// Returns a tensor's numbers on the processor.
pub(crate) fn to_f32(tensor: &Tensor) -> Vec<f32> {
    let mut numbers = vec![0.0; tensor.numel()];
    tensor.to_device(Device::Cpu).to_kind(Kind::Float).contiguous().copy_data(&mut numbers, tensor.numel());
    numbers
}

impl<'a> Writing<'a> {
    fn new(index: usize, prompt: &'a Prompt, seed: u64) -> Writing<'a> {
        let draws = Draws::named(seed, &[b"answer", prompt.id.as_bytes(), &prompt.sample.to_le_bytes()]);
        Writing { index, prompt, written: prompt.ids.clone(), logprob: 0.0, draws }
    }

    fn choose(&mut self, logits: &mut [f32], log_sum: f32, config: &GenerateConfig) -> (u32, f64) {
        let before = logits.to_vec();
        let token = pick(logits, &self.written, self.prompt, config, &mut self.draws);
        (token, f64::from(before[token as usize] - log_sum))
    }

    fn ids(&self) -> &[u32] {
        &self.written[self.prompt.ids.len()..]
    }

    fn answer(self, finish: Finish) -> Answer {
        Answer { index: self.index, ids: self.ids().to_vec(), finish, logprob: self.logprob }
    }
}
