//! `generate`: prompts in, answers out, in the order of the prompts.

mod guard;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use serde_json::json;
use watershed_engine::{Job, StageError};
use watershed_stages::formats;
use watershed_stages::generate::{Generate, GenerateRun, Mode as Choice, ParrotGuard};
use watershed_stages::record::answer;
use watershed_stages::record::example::Example;
use watershed_stages::record::lines;
use watershed_stages::text::Tokenizer;
use watershed_torch::{Answer, Finish, GenerateConfig, Mode, Model, Prompt, Watch, generate as write};

use super::adapter::Card;
use super::failed;
use super::kept::Kept;
use super::receipt::write_json;
use super::speech::Speech;

/// Cached tokens in flight by default, on a processor and on a CUDA device.
const BATCH_TOKENS: [usize; 2] = [4096, 32_768];

/// Answers the prompts.
///
/// # Errors
/// When the prompts or the model cannot be used; [`StageError::Cancelled`] when the run is.
pub fn generate(params: &Generate, run: &GenerateRun, job: &Job) -> Result<(), StageError> {
    let speech = Speech::open(params.template.as_ref(), params.system.as_deref(), job)?;
    let rows = formats::prompts(job.input("prompts")?)?;
    let prompts = prompts(params, &rows, &speech)?;
    let model = speech.model(params.dtype, prompts.first().map_or(&[], |prompt| prompt.ids.as_slice()), job)?;
    let config = config(params, run, speech.stops(&params.stop), job);
    let ends = Ends { given: &params.stop, own: speech.stop_text() };
    let desk = Desk { job, model: &model, tokenizer: &speech.tokenizer, ends, rows: &rows, prompts: &prompts };
    let mut answers = desk.write(&(0..prompts.len()).collect::<Vec<_>>(), &config, "answers")?;
    let parrots = guard::guard(params.parrot_guard, &desk, &config, &mut answers)?;
    report(params, &answers, &parrots, speech.card.as_ref(), &prompts, job)?;
    lines::write(job.output("answers"), &answers)
}

fn prompts(params: &Generate, rows: &[Example], speech: &Speech) -> Result<Vec<Prompt>, StageError> {
    let mut prompts = Vec::with_capacity(rows.len() * params.samples as usize);
    for row in rows {
        let (ids, input) = (speech.prompt(row)?, speech.tokenizer.more(row.material())?);
        prompts.extend((0..params.samples).map(|sample| Prompt {
            id: row.id.clone(),
            sample,
            ids: ids.clone(),
            input: input.clone(),
        }));
    }
    Ok(prompts)
}

fn config(params: &Generate, run: &GenerateRun, stop_ids: Vec<u32>, job: &Job) -> GenerateConfig {
    let mode = match params.mode {
        Choice::Greedy => Mode::Greedy,
        Choice::Sample => Mode::Sample {
            temperature: params.temperature,
            top_k: params.top_k as usize,
            top_p: params.top_p,
            min_p: params.min_p,
        },
        Choice::Beam => Mode::Beam { beams: params.beams as usize },
    };
    let budget = BATCH_TOKENS[usize::from(job.spec().limits.device == "cuda")];
    GenerateConfig {
        max_new_tokens: params.max_new_tokens as usize,
        mode,
        repetition_penalty: params.repetition_penalty,
        no_repeat_ngram: params.no_repeat_ngram as usize,
        input_no_repeat_ngram: params.input_no_repeat_ngram as usize,
        stop_ids,
        seed: params.seed,
        batch_tokens: run.batch_tokens.map_or(budget, |tokens| tokens as usize),
    }
}

/// Texts that end an answer.
struct Ends<'a> {
    given: &'a [String],
    /// What the template writes after an answer where the tokenizer has no token for it.
    own: Option<&'a str>,
}

impl Ends<'_> {
    fn is_empty(&self) -> bool {
        self.given.is_empty() && self.own.is_none()
    }

    /// Returns where the first of them begins, and whether it is the template's own.
    fn first(&self, text: &str) -> Option<(usize, bool)> {
        let given = self.given.iter().map(|end| (end.as_str(), false));
        let found = given.chain(self.own.map(|end| (end, true)));
        found.filter_map(|(end, is_own)| Some((text.find(end)?, is_own))).min()
    }
}

/// Prompts, and what they are answered with.
struct Desk<'a> {
    job: &'a Job<'a>,
    model: &'a Model,
    tokenizer: &'a Tokenizer,
    ends: Ends<'a>,
    rows: &'a [Example],
    prompts: &'a [Prompt],
}

/// Takes answers as they end, and keeps those of each batch that is whole.
struct Writer<'a> {
    desk: &'a Desk<'a>,
    /// Places of the prompts.
    places: &'a [usize],
    answers: Vec<Option<answer::Answer>>,
    kept: Kept,
    /// How many answers were kept from before.
    known: usize,
}

impl Desk<'_> {
    /// Answers the prompts at `places`, in that order; what a run before was cut off at in this `step` is not written again.
    fn write(&self, places: &[usize], config: &GenerateConfig, step: &str) -> Result<Vec<answer::Answer>, StageError> {
        let prompts: Vec<Prompt> = places.iter().map(|place| self.prompts[*place].clone()).collect();
        let kept = Kept::open(self.job, step);
        let mut writer = Writer { desk: self, places, answers: vec![None; prompts.len()], kept, known: 0 };
        write(self.model, None, &prompts, config, &mut writer).map_err(failed)?;
        self.job.check_cancelled()?;
        Kept::tell(self.job, writer.known, prompts.len(), "answers");
        let missing = || StageError::failed("a prompt was left without an answer");
        writer.answers.into_iter().map(|answer| answer.ok_or_else(missing)).collect()
    }

    /// Returns the row that the prompt at `place` comes from.
    fn row(&self, place: usize) -> &Example {
        let samples = self.prompts.len() / self.rows.len().max(1);
        &self.rows[place / samples.max(1)]
    }

    fn record(&self, answer: &Answer, place: usize) -> answer::Answer {
        let text = self.tokenizer.decode(answer.before_stop());
        let (end, is_own) = self.ends.first(&text).unwrap_or((text.len(), false));
        let reason = match answer.finish {
            _ if is_own => "stop",
            Finish::Stop => "stop",
            Finish::StopText => "stop_string",
            Finish::Length => "length",
        };
        answer::Answer {
            id: self.prompts[place].id.clone(),
            group: self.row(place).group.clone(),
            sample: self.prompts[place].sample,
            text: text[..end].to_string(),
            tokens: answer.ids.len() as u32,
            token_ids: answer.ids.clone(),
            finish_reason: reason.to_string(),
            retries: 0,
        }
    }
}

impl Writer<'_> {
    /// Returns where a batch's prompts stand among all: of those that are written again, another run may have others.
    fn places_of(&self, batch: &[usize]) -> Vec<usize> {
        batch.iter().map(|index| self.places[*index]).collect()
    }

    fn tell(&self) {
        let done = self.answers.iter().flatten().count() as u64;
        self.desk.job.progress(done, self.answers.len() as u64, "answers", "");
    }
}

impl Watch for Writer<'_> {
    fn is_stop(&mut self, _prompt: &Prompt, answer: &[u32]) -> bool {
        let Desk { job, tokenizer, ends, .. } = self.desk;
        // a cancelled run ends the answers in the making at their next token
        job.is_cancelled() || (!ends.is_empty() && ends.first(&tokenizer.decode(answer)).is_some())
    }

    fn done(&mut self, answer: Answer) -> ControlFlow<()> {
        self.answers[answer.index] = Some(self.desk.record(&answer, self.places[answer.index]));
        self.tell();
        if self.desk.job.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn is_known(&mut self, batch: &[usize]) -> bool {
        let Some(answers) = self.kept.get::<Vec<_>>(&self.places_of(batch)) else { return false };
        batch.iter().zip(answers).for_each(|(index, answer)| self.answers[*index] = Some(answer));
        self.known += batch.len();
        self.tell();
        true
    }

    fn batch_done(&mut self, batch: &[usize]) {
        let answers: Vec<_> = batch.iter().map(|index| &self.answers[*index]).collect();
        self.kept.put(&self.places_of(batch), &answers);
    }

    fn gave_way(&mut self, how: String) {
        self.desk.job.warn(how);
    }
}

fn report(
    params: &Generate,
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
    let mut report = json!({
        "answers": answers.len(), "tokens": tokens,
        "ended": {"stop": ended("stop"), "length": ended("length"), "stop_string": ended("stop_string")},
        "parrot_rate": rate, "parrots": parrots, "prompts_longer_than_training": longer,
    });
    if params.parrot_guard == ParrotGuard::Retry {
        let rewritten = answers.iter().filter(|answer| answer.retries > 0).count();
        job.count("rewritten", rewritten as f64);
        report["rewritten"] = rewritten.into();
    }
    write_json(job.output("report"), &report)
}
