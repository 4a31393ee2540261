//! `generate`: parameters, ports and checks of writing answers; the work is in `watershed-torch`.

mod peek;

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_engine::fault::ParamFault;
use watershed_engine::peek::{Peek, PeekRow};
use watershed_engine::port::{Ports, RecordType};
use watershed_engine::preview::{Preview, PreviewInputs};
use watershed_engine::stage::{Home, Reproducible};
use watershed_engine::{Job, Stage, StageError};

use crate::base::Base;
use crate::lora_train::Dtype;
use crate::record::example::Example;
use crate::text::TemplateChoice;

/// Writes answers to prompts with a base model, or with an adapter on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Generate {
    /// How a prompt becomes text; the adapter's own when not given, `alpaca` without an adapter.
    pub template: Option<TemplateChoice>,
    /// System prompt of rows that have none; the adapter's own when not given.
    pub system: Option<String>,
    /// Longest answer in tokens.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub max_new_tokens: u32,
    /// How tokens are chosen: `greedy`, `sample` or `beam`.
    pub mode: Mode,
    /// Sharpness of sampling: below 1 sharper.
    #[schemars(range(min = 0.01, max = 100.0))]
    pub temperature: f64,
    /// Sampling keeps the likeliest tokens that together reach this probability.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub top_p: f64,
    /// Sampling keeps so many of the likeliest tokens; 0 keeps all.
    pub top_k: u32,
    /// Sampling drops tokens less likely than this times the likeliest.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_p: f64,
    /// Sequences that `mode: beam` goes on with at each step; the answer is the one with the best mean log-probability.
    #[schemars(range(min = 1, max = 64))]
    pub beams: u32,
    /// Answers per prompt.
    #[schemars(range(min = 1, max = 1000))]
    pub samples: u32,
    /// Makes tokens seen before less likely; 1 is off.
    #[schemars(range(min = 0.01, max = 100.0))]
    pub repetition_penalty: f64,
    /// Forbids repeating any run of so many tokens; 0 is off.
    pub no_repeat_ngram: u32,
    /// Forbids copying any run of so many tokens out of the row's input; 0 is off.
    pub input_no_repeat_ngram: u32,
    /// Texts that end an answer and are cut off it.
    pub stop: Vec<String>,
    /// What copied answers mean: `report`, `retry` (once, with copying forbidden) or `fail`.
    pub parrot_guard: ParrotGuard,
    /// Type that the model computes in: `f32` or `bf16`.
    pub dtype: Dtype,
    /// Seed of sampling; each row and sample draws on its own.
    pub seed: u64,
}

impl Default for Generate {
    fn default() -> Generate {
        Generate {
            template: None,
            system: None,
            max_new_tokens: 128,
            mode: Mode::Greedy,
            temperature: 0.7,
            top_p: 0.9,
            top_k: 0,
            min_p: 0.0,
            beams: 4,
            samples: 1,
            repetition_penalty: 1.0,
            no_repeat_ngram: 0,
            input_no_repeat_ngram: 0,
            stop: Vec::new(),
            parrot_guard: ParrotGuard::Report,
            dtype: Dtype::F32,
            seed: 0,
        }
    }
}

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The likeliest.
    #[default]
    Greedy,
    /// A draw.
    Sample,
    /// The likeliest sequence that a beam finds.
    Beam,
}

/// What copied answers mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParrotGuard {
    /// They are counted.
    #[default]
    Report,
    /// They are written again, once, with copying of long runs forbidden.
    Retry,
    /// The stage fails.
    Fail,
}

/// Keys of `run:` for `generate`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GenerateRun {
    /// Tokens of prompts and answers in flight at once; chosen from the machine when not given.
    #[schemars(range(min = 1))]
    pub batch_tokens: Option<u32>,
}

impl Stage for Generate {
    const KIND: &'static str = "generate";
    const VERSION: u32 = 2;
    const REPRODUCIBLE: Reproducible = Reproducible::SameDevice;
    const HOME: Home = Home::Torch;
    type Run = GenerateRun;

    fn ports(&self) -> Ports {
        Ports::new()
            .reads("prompts", RecordType::Prompts)
            .reads("base", RecordType::Model)
            .may_read("adapter", RecordType::Adapter)
            .writes("answers", RecordType::Answers)
            .reports("report")
    }

    fn check(&self) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        let mut fault = |path: &str, message: &str, help: &str| faults.push(ParamFault::new(path, message, help));
        if self.samples > 1 && self.mode != Mode::Sample {
            let message = "only drawn answers to one prompt differ";
            fault("samples", message, "set `mode: sample`, or `samples: 1`");
        }
        if self.stop.iter().any(String::is_empty) {
            fault("stop", "an empty text would end every answer at once", "remove it");
        }
        faults
    }

    fn preview(&self, inputs: &PreviewInputs) -> Result<Preview, StageError> {
        let Some(base) = inputs.get("base") else { return Ok(Preview::default()) };
        let base = Base::open(base)?;
        check_context(self, &base, inputs.get("prompts"))?;
        Ok(Preview::default())
    }

    fn peek(&self, inputs: &PreviewInputs, row: PeekRow) -> Result<Option<Peek>, StageError> {
        peek::peek(self, inputs, row).map(Some)
    }

    fn run(&self, _run: &GenerateRun, _job: &Job) -> Result<(), StageError> {
        Err(StageError::Environment("`generate` runs in `watershed-torch`, which `make demo` builds".into()))
    }
}

/// Checks that answers have room behind their prompts. Which template a prompt goes into may not be known yet, so its own text
/// is counted, which is less.
///
/// # Errors
/// When an answer of `max_new_tokens` would pass the end of the base's context.
fn check_context(params: &Generate, base: &Base, prompts: Option<&Path>) -> Result<(), StageError> {
    let (context, answer) = (base.config.max_positions, params.max_new_tokens as usize);
    let room = context.checked_sub(answer).filter(|room| *room > 0).ok_or_else(|| {
        StageError::failed(format!(
            "`max_new_tokens: {answer}` leaves no room for a prompt: the base was made for {context} tokens; lower it"
        ))
    })?;
    let rows = prompts.map_or(Ok(Vec::new()), crate::formats::read)?;
    let text = |row: &Example| {
        let turns = row.messages.iter().flatten().map(|turn| turn.content.as_str());
        [row.instruction.as_str(), &row.input].into_iter().chain(turns).collect::<Vec<_>>().join(" ")
    };
    // a token is a byte at least, so only texts of more bytes can be too long
    for (id, text) in rows.iter().map(|row| (&row.id, text(row))).filter(|(_, text)| text.len() > room) {
        let tokens = base.tokenizer.more(&text)?.len();
        if tokens > room {
            return Err(StageError::failed(format!(
                "prompt `{id}` has {tokens} tokens and more with its template, and `max_new_tokens: {answer}` leaves room for \
                 {room}: the base was made for {context}; lower `max_new_tokens`, or shorten the prompts"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_beyond_the_bases_context_are_told_before_any_is_written() {
        use crate::text::fixture::tiny_llama;
        let (Some(rows), Some(model)) = (tiny_llama("dataset.json"), tiny_llama("model")) else { return };
        let context = Base::open(&model).unwrap().config.max_positions as u32;
        let mut inputs = PreviewInputs::default();
        inputs.ports.insert("base".into(), vec![("base".into(), model)]);
        let told = |max_new_tokens: u32, inputs: &PreviewInputs| {
            let params = Generate { max_new_tokens, ..Generate::default() };
            params.preview(inputs).map(|_| ()).map_err(|e| e.to_string())
        };
        assert!(told(context, &inputs).unwrap_err().contains("leaves no room for a prompt"));
        assert_eq!(told(context - 20, &inputs), Ok(()));
        inputs.ports.insert("prompts".into(), vec![("prompts".into(), rows)]);
        assert!(told(context - 20, &inputs).unwrap_err().contains("leaves room for 20"));
        assert_eq!(told(16, &inputs), Ok(()));
    }

    #[test]
    fn several_samples_need_draws() {
        for (mode, faults) in [(Mode::Greedy, 1), (Mode::Beam, 1), (Mode::Sample, 0)] {
            assert_eq!(Generate { mode, samples: 2, ..Generate::default() }.check().len(), faults);
            assert_eq!(Generate { mode, ..Generate::default() }.check(), []);
        }
    }
}
