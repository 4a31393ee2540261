//! `generate`: prompts in, answers out, in the order of the prompts.

mod guard;

use std::ops::ControlFlow;

use serde_json::json;
use watershed_engine::{Job, StageError};
use watershed_stages::generate::{Generate, GenerateRun, Mode as Choice};
use watershed_stages::record::answer;
use watershed_stages::record::example::Example;
use watershed_stages::record::lines;
use watershed_stages::text::{Template, Tokenizer};
use watershed_torch::{Answer, Finish, GenerateConfig, Lora, Mode, Model, Prompt, Watch, generate as write};

use super::adapter::Card;
use super::receipt::write_json;
use super::{base, failed};

/// Cached tokens in flight by default, on a processor and on a CUDA device.
const BATCH_TOKENS: [usize; 2] = [4096, 32_768];

/// Answers the prompts.
///
/// # Errors
/// When the prompts or the model cannot be used; [`StageError::Cancelled`] when the run is.
pub fn generate(params: &Generate, run: &GenerateRun, job: &Job) -> Result<(), StageError> {
    let tokenizer = Tokenizer::open(job.input("base")?)?;
    let card = job.optional_input("adapter").map(Card::read).transpose()?.flatten();
    warn_of_mismatch(card.as_ref(), &tokenizer, job);
    let template = template(params, card.as_ref(), &tokenizer)?;
    let rows: Vec<Example> = lines::read(job.input("prompts")?)?;
    let prompts = prompts(params, &rows, &template, &tokenizer)?;
    let model = model(params, job)?;
    tokenizer.check_fits(model.config().vocab)?;
    let config = config(params, run, template.stops(&tokenizer), job)?;
    let mut writer = Writer { job, tokenizer: &tokenizer, stop: &params.stop, answers: vec![None; prompts.len()] };
    write(&model, None, &prompts, &config, &mut writer).map_err(failed)?;
    job.check_cancelled()?;
    let mut answers = writer.finished(&rows, &prompts)?;
    let parrots = guard::guard(params.parrot_guard, &model, &prompts, &config, &rows, &mut answers, &tokenizer, job)?;
    report(&answers, &parrots, card.as_ref(), &prompts, job)?;
    lines::write(job.output("answers"), &answers)
}

/// Loads the base, with the adapter folded in.
fn model(params: &Generate, job: &Job) -> Result<Model, StageError> {
    let model = base::load(job, params.dtype)?;
    job.numerics(base::numerics(job, &[("dtype", json!(params.dtype))]));
    match job.optional_input("adapter") {
        Some(folder) => Ok(model.merged(&Lora::load(folder, &model).map_err(failed)?)),
        None => Ok(model),
    }
}

/// Returns the template: what is written, else the adapter's, else `alpaca`.
fn template(params: &Generate, card: Option<&Card>, tokenizer: &Tokenizer) -> Result<Template, StageError> {
    let choice = params.template.clone().or_else(|| card.map(|card| card.template.clone())).unwrap_or_default();
    let system = params.system.clone().or_else(|| card.and_then(|card| card.system.clone()));
    Template::new(&choice, system.as_deref(), tokenizer.chat().cloned()).map_err(StageError::Failed)
}

fn warn_of_mismatch(card: Option<&Card>, tokenizer: &Tokenizer, job: &Job) {
    let Some(card) = card else { return };
    if card.base != base::name(job) {
        job.warn("the adapter was trained on another base; its answers may be worse than the base's own");
    }
    if card.tokenizer != format!("blake3:{}", tokenizer.digest()) {
        job.warn("the adapter was trained with another tokenizer");
    }
}

fn prompts(
    params: &Generate,
    rows: &[Example],
    template: &Template,
    tokenizer: &Tokenizer,
) -> Result<Vec<Prompt>, StageError> {
    let mut prompts = Vec::with_capacity(rows.len() * params.samples as usize);
    for row in rows {
        let ids = template.prompt_ids(row, tokenizer);
        let ids = ids.map_err(|why| StageError::failed(format!("prompt `{}`: {why}", row.id)))?;
        let input = tokenizer.more(&row.input)?;
        prompts.extend((0..params.samples).map(|sample| Prompt {
            id: row.id.clone(),
            sample,
            ids: ids.clone(),
            input: input.clone(),
        }));
    }
    Ok(prompts)
}

fn config(params: &Generate, run: &GenerateRun, stop_ids: Vec<u32>, job: &Job) -> Result<GenerateConfig, StageError> {
    let mode = match params.mode {
        Choice::Greedy => Mode::Greedy,
        Choice::Sample => Mode::Sample {
            temperature: params.temperature,
            top_k: params.top_k as usize,
            top_p: params.top_p,
            min_p: params.min_p,
        },
        Choice::Beam => return Err(StageError::failed("`mode: beam` is not there yet; use `greedy` or `sample`")),
    };
    let budget = BATCH_TOKENS[usize::from(job.spec().limits.device == "cuda")];
    Ok(GenerateConfig {
        max_new_tokens: params.max_new_tokens as usize,
        mode,
        repetition_penalty: params.repetition_penalty,
        no_repeat_ngram: params.no_repeat_ngram as usize,
        input_no_repeat_ngram: params.input_no_repeat_ngram as usize,
        stop_ids,
        seed: params.seed,
        batch_tokens: run.batch_tokens.map_or(budget, |tokens| tokens as usize),
    })
}

/// Takes answers as they end.
struct Writer<'a> {
    job: &'a Job<'a>,
    tokenizer: &'a Tokenizer,
    stop: &'a [String],
    answers: Vec<Option<Answer>>,
}

impl Watch for Writer<'_> {
    fn is_stop(&mut self, _prompt: &Prompt, answer: &[u32]) -> bool {
        if self.stop.is_empty() {
            // a cancelled run ends the answers in the making at their next token
            return self.job.is_cancelled();
        }
        let text = self.tokenizer.decode(answer);
        self.job.is_cancelled() || self.stop.iter().any(|stop| text.contains(stop))
    }

    fn done(&mut self, answer: Answer) -> ControlFlow<()> {
        let index = answer.index;
        self.answers[index] = Some(answer);
        let done = self.answers.iter().flatten().count() as u64;
        self.job.progress(done, self.answers.len() as u64, "answers", "");
        if self.job.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Writer<'_> {
    /// Returns the answers in the order of the prompts.
    fn finished(self, rows: &[Example], prompts: &[Prompt]) -> Result<Vec<answer::Answer>, StageError> {
        let samples = prompts.len() / rows.len().max(1);
        let missing = || StageError::failed("a prompt was left without an answer");
        let answers = self.answers.into_iter().zip(prompts).enumerate();
        answers
            .map(|(i, (answer, prompt))| {
                let answer = answer.ok_or_else(missing)?;
                Ok(record(&answer, prompt, &rows[i / samples.max(1)].group, self.tokenizer, self.stop))
            })
            .collect()
    }
}

fn record(answer: &Answer, prompt: &Prompt, group: &str, tokenizer: &Tokenizer, stop: &[String]) -> answer::Answer {
    let text = tokenizer.decode(&answer.ids);
    let end = stop.iter().filter_map(|stop| text.find(stop)).min().unwrap_or(text.len());
    let reason = match answer.finish {
        Finish::Stop => "stop",
        Finish::StopText => "stop_string",
        Finish::Length => "length",
    };
    answer::Answer {
        id: prompt.id.clone(),
        group: group.to_string(),
        sample: prompt.sample,
        text: text[..end].to_string(),
        tokens: answer.ids.len() as u32,
        token_ids: answer.ids.clone(),
        finish_reason: reason.to_string(),
    }
}

fn report(
    answers: &[answer::Answer],
    parrots: &[String],
    card: Option<&Card>,
    prompts: &[Prompt],
    job: &Job,
) -> Result<(), StageError> {
    let tokens: u64 = answers.iter().map(|answer| u64::from(answer.tokens)).sum();
    let ended = |reason: &str| answers.iter().filter(|answer| answer.finish_reason == reason).count();
    let rate = parrots.len() as f64 / answers.len().max(1) as f64;
    let longer = card.map(|card| prompts.iter().filter(|prompt| prompt.ids.len() > card.max_len as usize).count());
    job.count("answers", answers.len() as f64);
    job.count("tokens", tokens as f64);
    job.count("parrot_rate", rate);
    write_json(
        job.output("report"),
        &json!({
            "answers": answers.len(), "tokens": tokens,
            "ended": {"stop": ended("stop"), "length": ended("length"), "stop_string": ended("stop_string")},
            "parrot_rate": rate, "parrots": parrots, "prompts_longer_than_training": longer,
        }),
    )
}
