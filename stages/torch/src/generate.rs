//! Writing answers: batches of prompts through a key-value cache.

use std::ops::ControlFlow;

use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::beam;
use crate::draw::Draws;
use crate::lora::Active;
use crate::pick::{Mode, pick};
use crate::reader::Reader;
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

/// Writes an answer for each prompt, longest prompts first. For speed give a [`Model::merged`] and no adapter.
///
/// # Errors
/// [`Error::Input`] for a prompt that with its answer is longer than the model takes, and for settings out of range.
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
    let reader = Reader::new(model, lora.map(Active::still), &ids);
    for batch in batches(prompts, config) {
        let flow = match config.mode {
            Mode::Beam { beams } => beam::write_batch(&reader, prompts, &batch, beams, config, watch),
            Mode::Greedy | Mode::Sample { .. } => {
                let rows = batch.into_iter().map(|index| Writing::new(index, &prompts[index], config.seed)).collect();
                write_batch(&reader, rows, config, watch)
            }
        };
        if flow.is_break() {
            break;
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

/// Returns the prompts' indices in batches, longest first, each as large as `batch_tokens` allows and at least one.
fn batches(prompts: &[Prompt], config: &GenerateConfig) -> Vec<Vec<usize>> {
    let width = if let Mode::Beam { beams } = config.mode { beams } else { 1 };
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(prompts[*index].ids.len()));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for index in order {
        match batches.last_mut() {
            Some(batch)
                if (batch.len() + 1) * width * (prompts[batch[0]].ids.len() + config.max_new_tokens)
                    <= config.batch_tokens =>
            {
                batch.push(index);
            }
            _ => batches.push(vec![index]),
        }
    }
    batches
}

fn write_batch(
    reader: &Reader<'_>,
    mut rows: Vec<Writing<'_>>,
    config: &GenerateConfig,
    watch: &mut dyn Watch,
) -> ControlFlow<()> {
    let ids: Vec<&[u32]> = rows.iter().map(|row| &row.prompt.ids[..]).collect();
    let (mut cache, mut hidden) = reader.read(&ids, config.max_new_tokens);
    loop {
        let choices = choose(reader.model, &hidden, &mut rows, config);
        for (row, (token, logprob)) in rows.iter_mut().zip(choices) {
            row.written.push(token);
            row.logprob += logprob;
        }
        // From the back, so that the row that takes a finished one's place has been looked at.
        for at in (0..rows.len()).rev() {
            if let Some(finish) = finish(rows[at].prompt, rows[at].ids(), config, watch) {
                cache.swap_remove(at);
                watch.done(rows.swap_remove(at).answer(finish))?;
            }
        }
        if rows.is_empty() {
            return ControlFlow::Continue(());
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

fn choose(model: &Model, hidden: &Tensor, rows: &mut [Writing<'_>], config: &GenerateConfig) -> Choices {
    let logits = model.project(hidden);
    let log_sums = to_f32(&logits.logsumexp([-1], false));
    let is_plain = config.mode == Mode::Greedy
        && config.repetition_penalty == 1.0
        && config.no_repeat_ngram == 0
        && config.input_no_repeat_ngram == 0;
    if is_plain {
        // Only one token and one number a row leave the device.
        let (best, at) = logits.max_dim(-1, false);
        let tokens = Vec::<i64>::try_from(at.to_device(Device::Cpu)).expect("a list of whole numbers");
        let best = to_f32(&best).into_iter().zip(log_sums).map(|(logit, sum)| f64::from(logit - sum));
        return tokens.into_iter().map(|token| token as u32).zip(best).collect();
    }
    let mut logits = to_f32(&logits);
    let by_row = logits.par_chunks_mut(model.config().vocab).zip(rows).zip(log_sums);
    by_row.map(|((logits, row), log_sum)| row.choose(logits, log_sum, config)).collect()
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::fixture::Fixture;

    /// Collects answers.
    #[derive(Default)]
    struct Collect(Vec<Answer>);

    impl Watch for Collect {
        fn done(&mut self, answer: Answer) -> ControlFlow<()> {
            self.0.push(answer);
            ControlFlow::Continue(())
        }
    }

    fn greedy(fixture: &Fixture, answers: &Value) -> GenerateConfig {
        let ids = answers.as_array().unwrap().iter().flat_map(|row| row.as_object().unwrap().values());
        let longest = ids.filter_map(Value::as_array).map(Vec::len).max();
        GenerateConfig {
            max_new_tokens: longest.unwrap(),
            mode: Mode::Greedy,
            repetition_penalty: 1.0,
            no_repeat_ngram: 0,
            input_no_repeat_ngram: 0,
            stop_ids: vec![fixture.reference["eos_id"].as_u64().unwrap() as u32],
            seed: 0,
            batch_tokens: 10_000,
        }
    }

    fn prompts(fixture: &Fixture, answers: &Value) -> Vec<Prompt> {
        let prompt = |(index, row): (usize, &Value)| {
            let ids = fixture.encode(row["prompt"].as_str().unwrap());
            Prompt { id: index.to_string(), sample: 0, input: ids.clone(), ids }
        };
        answers.as_array().unwrap().iter().enumerate().map(prompt).collect()
    }

    fn written(model: &Model, lora: Option<&Lora>, prompts: &[Prompt], config: &GenerateConfig) -> Vec<Answer> {
        let mut collected = Collect::default();
        generate(model, lora, prompts, config, &mut collected).unwrap();
        collected.0.sort_by_key(|answer| answer.index);
        collected.0
    }

    fn assert_answers(answers: &[Answer], wanted: &Value, key: &str) {
        for (answer, wanted) in answers.iter().zip(wanted.as_array().unwrap()) {
            let wanted: Vec<u32> = serde_json::from_value(wanted[key].clone()).unwrap();
            assert_eq!(answer.ids, wanted, "{key} of prompt {}", answer.index);
        }
    }

    /// Checks every decoding that the reference holds.
    fn assert_like_transformers(fixture: &Fixture, model: &Model, lora: Option<&Lora>, wanted: &Value) {
        let (prompts, plain) = (prompts(fixture, wanted), greedy(fixture, wanted));
        assert_answers(&written(model, lora, &prompts, &plain), wanted, "greedy");
        let alone = GenerateConfig { batch_tokens: 1, ..plain.clone() };
        assert_answers(&written(model, lora, &prompts, &alone), wanted, "greedy");
        for key in wanted[0].as_object().unwrap().keys() {
            if let Some(penalty) = key.strip_prefix("repetition_penalty_") {
                let config = GenerateConfig { repetition_penalty: penalty.parse().unwrap(), ..plain.clone() };
                assert_answers(&written(model, lora, &prompts, &config), wanted, key);
            } else if let Some(n) = key.strip_prefix("no_repeat_ngram_") {
                let config = GenerateConfig { no_repeat_ngram: n.parse().unwrap(), ..plain.clone() };
                assert_answers(&written(model, lora, &prompts, &config), wanted, key);
            } else if let Some(beams) = key.strip_prefix("beam") {
                let config = GenerateConfig { mode: Mode::Beam { beams: beams.parse().unwrap() }, ..plain.clone() };
                assert_answers(&written(model, lora, &prompts, &config), wanted, key);
            }
        }
    }

    #[test]
    fn base_writes_what_transformers_writes() {
        let Some(fixture) = Fixture::open() else { return };
        assert_like_transformers(&fixture, &fixture.model("model"), None, &fixture.reference["generate_base"]);
    }

    #[test]
    fn tuned_writes_what_peft_writes_applied_or_merged() {
        let Some(fixture) = Fixture::open() else { return };
        let (model, run) = (fixture.model("model"), fixture.run("a_qv_token_mean"));
        let lora = Lora::load(&fixture.path("adapter_a_qv_token_mean"), &model).unwrap();
        assert_like_transformers(&fixture, &model, Some(&lora), &run.json["generate"]);
        assert_like_transformers(&fixture, &model.merged(&lora), None, &run.json["generate"]);
    }

    #[test]
    fn draws_do_not_depend_on_the_batch() {
        let Some(fixture) = Fixture::open() else { return };
        let (model, wanted) = (fixture.model("model"), &fixture.reference["generate_base"]);
        let mut prompts = prompts(&fixture, wanted);
        let mode = Mode::Sample { temperature: 1.0, top_k: 50, top_p: 0.95, min_p: 0.01 };
        let config = GenerateConfig { mode, max_new_tokens: 12, ..greedy(&fixture, wanted) };
        let together = written(&model, None, &prompts, &config);
        let alone = written(&model, None, &prompts, &GenerateConfig { batch_tokens: 1, ..config.clone() });
        assert!(together.iter().zip(&alone).all(|(a, b)| a.ids == b.ids));
        let reseeded = written(&model, None, &prompts, &GenerateConfig { seed: 1, ..config.clone() });
        assert!(together.iter().zip(&reseeded).any(|(a, b)| a.ids != b.ids));
        prompts.iter_mut().for_each(|prompt| prompt.sample = 1);
        let second = written(&model, None, &prompts, &config);
        assert!(together.iter().zip(&second).any(|(a, b)| a.ids != b.ids));
    }

    #[test]
    fn banned_input_is_not_copied() {
        let Some(fixture) = Fixture::open() else { return };
        let (model, wanted) = (fixture.model("model"), &fixture.reference["generate_base"]);
        let prompts = prompts(&fixture, wanted);
        let copies = |config: &GenerateConfig| -> usize {
            let answers = written(&model, None, &prompts, config);
            let copied = |answer: &Answer| {
                let input = &prompts[answer.index].input;
                answer.ids.windows(4).filter(|gram| input.windows(4).any(|window| window == *gram)).count()
            };
            answers.iter().map(copied).sum()
        };
        // The base was trained to parrot, so there is something to ban.
        assert!(copies(&greedy(&fixture, wanted)) > 0);
        assert_eq!(copies(&GenerateConfig { input_no_repeat_ngram: 4, ..greedy(&fixture, wanted) }), 0);
    }

    #[test]
    fn logprob_is_that_of_the_forward_pass() {
        let Some(fixture) = Fixture::open() else { return };
        let (model, wanted) = (fixture.model("model"), &fixture.reference["generate_base"]);
        let prompts = prompts(&fixture, wanted);
        let answer = &written(&model, None, &prompts, &greedy(&fixture, wanted))[0];
        let ids = [prompts[0].ids.as_slice(), &answer.ids].concat();
        let labels = (0..ids.len()).map(|at| at >= prompts[0].ids.len()).collect();
        let row = crate::Row { ids, labels, response_start: 0 };
        let nll = crate::evaluate(&model, None, &[row], 1000).unwrap().sum_nll;
        assert!((nll + answer.logprob).abs() < 1e-3, "{nll} {}", answer.logprob);
    }

    /// Stops at a token by text, and the whole call after some answers.
    struct StopAt(u32, usize);

    impl Watch for StopAt {
        fn is_stop(&mut self, _prompt: &Prompt, answer: &[u32]) -> bool {
            answer.last() == Some(&self.0)
        }

        fn done(&mut self, answer: Answer) -> ControlFlow<()> {
            assert!(answer.finish != Finish::StopText || answer.ids.last() == Some(&self.0));
            self.1 -= 1;
            if self.1 == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }

    #[test]
    fn watch_ends_an_answer_or_the_call() {
        let Some(fixture) = Fixture::open() else { return };
        let (model, wanted) = (fixture.model("model"), &fixture.reference["generate_base"]);
        let third = wanted[0]["greedy"][2].as_u64().unwrap() as u32;
        let mut watch = StopAt(third, 1);
        generate(&model, None, &prompts(&fixture, wanted), &greedy(&fixture, wanted), &mut watch).unwrap();
        assert_eq!(watch.1, 0);
    }

    #[test]
    fn answers_that_cannot_fit_are_refused() {
        let Some(fixture) = Fixture::open() else { return };
        let (model, wanted) = (fixture.model("model"), &fixture.reference["generate_base"]);
        let config = GenerateConfig { max_new_tokens: model.config().max_positions, ..greedy(&fixture, wanted) };
        let error = generate(&model, None, &prompts(&fixture, wanted), &config, &mut Collect::default()).unwrap_err();
        assert!(error.to_string().contains("max_new_tokens"));
    }
}
