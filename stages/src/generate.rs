//! `generate`: parameters, ports and checks of writing answers; the work is in `watershed-torch`.

mod peek;
mod preview;
pub(crate) mod speech;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_engine::fault::ParamFault;
use watershed_engine::peek::{Peek, PeekRow};
use watershed_engine::port::{Ports, RecordType};
use watershed_engine::preview::{Preview, PreviewInputs};
use watershed_engine::stage::{Home, Reproducible};
use watershed_engine::{Job, Stage, StageError};

use crate::lora_train::Dtype;
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
    /// Sampling keeps the likeliest tokens that together reach this probability, which is above 0; 1 keeps all.
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
    /// Forbids copying any run of so many tokens out of the row's input, of a conversation out of the user's last turn; 0 is
    /// off.
    pub input_no_repeat_ngram: u32,
    /// Texts that end an answer and are cut off it; one that is a token of its own ends it as such.
    pub stop: Vec<String>,
    /// What copied answers mean: `report`, `retry` (at most twice, with copying and repeating forbidden) or `fail`.
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
    /// They are written again with runs of 8 tokens of the prompt or of themselves forbidden and a stronger repetition penalty,
    /// those that still parrot once more with runs of 4.
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
    const VERSION: u32 = 5;
    const JUDGES: &'static [&'static str] = &["parrot_guard"];
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
        if self.top_p <= 0.0 {
            fault("top_p", "`top_p` is above 0", "the default is 0.9, and 1 keeps all tokens");
        }
        faults.extend(self.template.iter().flat_map(|template| template.faults("template")));
        faults
    }

    fn preview(&self, inputs: &PreviewInputs) -> Result<Preview, StageError> {
        preview::preview(self, inputs)
    }

    fn peek(&self, inputs: &PreviewInputs, row: PeekRow) -> Result<Option<Peek>, StageError> {
        peek::peek(self, inputs, row).map(Some)
    }

    fn run(&self, _run: &GenerateRun, _job: &Job) -> Result<(), StageError> {
        Err(StageError::Environment("`generate` runs in `watershed-torch`, which `make demo` builds".into()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn several_samples_need_draws() {
        for (mode, faults) in [(Mode::Greedy, 1), (Mode::Beam, 1), (Mode::Sample, 0)] {
            assert_eq!(Generate { mode, samples: 2, ..Generate::default() }.check().len(), faults);
            assert_eq!(Generate { mode, ..Generate::default() }.check(), []);
        }
    }

    #[test]
    fn a_share_of_no_tokens_and_a_misspelt_variable_are_faults() {
        let inline = json!({"prompt": "{{ instructon }}", "response": "{{ output }}"});
        let params: Generate = serde_json::from_value(json!({"top_p": 0, "template": inline})).unwrap();
        let paths: Vec<String> = params.check().into_iter().map(|fault| fault.path).collect();
        assert_eq!(paths, ["top_p", "template.prompt"]);
        assert_eq!(Generate { top_p: 1.0, ..Generate::default() }.check(), []);
    }
}
