//! `lora-train`: parameters, ports, checks and preview of LoRA training; the work is in `watershed-torch`.
//!
//! Defaults are what we would choose; preset `alpaca-lora` is what tloen/alpaca-lora's `finetune.py` did, warts included, so
//! that the paper's runs can be done again and the warts measured.

pub mod audit;
mod card;
mod choices;
mod context;
mod cost;
mod dataset;
mod lints;
pub mod memory;
mod origin;
mod overlap;
mod peek;
mod preview;
pub mod rates;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use watershed_engine::fault::ParamFault;
use watershed_engine::peek::{Peek, PeekRow};
use watershed_engine::port::{Ports, RecordType};
use watershed_engine::preview::{Preview, PreviewInputs};
use watershed_engine::stage::{Home, Reproducible};
use watershed_engine::{Job, Stage, StageError};

use crate::text::TemplateChoice;
use crate::text::batch::{LossNorm, Tail};
use crate::text::labels::{Overflow, TrainOn};
use crate::text::order::Order;
use crate::text::schedule::Shape;

pub use audit::Audit;
pub use card::{CARD, Card};
pub use choices::{Checkpointing, Checks, Dtype, Every, Init, Level, Lora, MicroBatch, Select, Target, Variant, Word};
pub use cost::has_fast_bf16;
pub use dataset::{CHECKED_ROWS, Dataset, Files, SAMPLE_TOKENS, Sampled, plan, schedule};
pub(crate) use lints::SYSTEM_IS_IDLE;
pub use origin::Origin;

/// Trains a low-rank adapter for a LLaMA model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LoraTrain {
    /// How a row becomes text: `alpaca`, `alpaca_short`, `chatml`, `chat` (the tokenizer's own) or `{prompt, response}`.
    pub template: TemplateChoice,
    /// System prompt of rows that have none.
    pub system: Option<String>,
    /// Longest row in tokens.
    #[schemars(range(min = 8, max = 1_048_576))]
    pub max_len: u32,
    /// What happens to longer rows: `error`, `drop`, `truncate_input` (cut the middle of the input) or `truncate` (cut on the
    /// right, the answer first, as alpaca-lora did).
    pub overflow: Overflow,
    /// Which tokens are learned: `response` or `all`.
    pub train_on: TrainOn,
    /// The adapter. With an input `adapter` its own settings hold; a key written here must agree with them.
    pub lora: Lora,
    /// Passes over the rows.
    #[schemars(range(min = 1, max = 100_000))]
    pub epochs: u32,
    /// Number of updates; replaces `epochs`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_steps: Option<u32>,
    /// Rows per update.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub batch_size: u32,
    /// Rows per micro-batch; required under `loss_norm: micro_mean`, where the result depends on it, and without effect under
    /// `token`.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub micro_batch_size: Option<u32>,
    /// Highest learning rate, above 0.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub lr: f64,
    /// Shape of the learning rate after warm-up: `linear`, `cosine`, `constant` or `wsd`.
    pub schedule: Shape,
    /// Warm-up: a share of the updates below 1, else a number of updates.
    #[schemars(range(min = 0.0))]
    pub warmup: f64,
    /// Decoupled weight decay on the adapter.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub weight_decay: f64,
    /// Largest global norm of the gradient; 0 is no clipping.
    #[schemars(range(min = 0.0))]
    pub max_grad_norm: f64,
    /// AdamW's decay of the first and second moment.
    pub betas: [f64; 2],
    /// AdamW's epsilon.
    pub eps: f64,
    /// How an update's loss is averaged: over `token`s, or as mean of micro-batch means (`micro_mean`).
    pub loss_norm: LossNorm,
    /// The last incomplete group of an epoch: `step` or `carry` into the next epoch.
    pub tail: Tail,
    /// Order of rows: `shuffled`, `bucketed` by length, or `given`.
    pub order: Order,
    /// Type that the base computes in: `f32` or `bf16`; adapter and optimizer are f32.
    pub dtype: Dtype,
    /// When to evaluate: `epoch`, or every so many updates; always also before the first update and at the end.
    pub eval_every: Every,
    /// Which adapter `adapter` holds: `best` by validation loss on answers, or `last`; when not given, `best` with `val` and
    /// `last` without. An adapter that training goes on from is one to choose from.
    pub select: Option<Select>,
    /// Evaluations of `val` without a better loss after which training ends.
    #[schemars(range(min = 1))]
    pub early_stop: Option<u32>,
    /// What a failed check means, by name: `fail`, `warn` or `off`.
    pub checks: Checks,
    /// Seed of the row order, the adapter's start and dropout.
    pub seed: u64,
}

impl Default for LoraTrain {
    fn default() -> LoraTrain {
        LoraTrain {
            template: TemplateChoice::default(),
            system: None,
            max_len: 1024,
            overflow: Overflow::TruncateInput,
            train_on: TrainOn::Response,
            lora: Lora::default(),
            epochs: 3,
            max_steps: None,
            batch_size: 16,
            micro_batch_size: None,
            lr: 2.0e-4,
            schedule: Shape::Linear,
            warmup: 0.05,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            betas: [0.9, 0.999],
            eps: 1e-8,
            loss_norm: LossNorm::Token,
            tail: Tail::Step,
            order: Order::Shuffled,
            dtype: Dtype::F32,
            eval_every: Every::Word(Word::Epoch),
            select: None,
            early_stop: None,
            checks: Checks::default(),
            seed: 0,
        }
    }
}

/// Keys of `run:` for `lora-train`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LoraTrainRun {
    /// Rows that go through the model at once: a number, or `auto`, which is as many as make 1024 tokens on a processor and 8192
    /// on a GPU. Either is halved each time that memory does not suffice. Ignored under `loss_norm: micro_mean`.
    pub micro_batch: MicroBatch,
    /// Whether each block is computed again in the backward pass instead of kept, which gives the same numbers in less memory
    /// for a third more work: `on`, `off`, or `auto`, which is on once an allocation has failed, before micro-batches are halved,
    /// and on a processor from the start where the estimate is more than the memory that is free, or than `memory` allows.
    pub checkpointing: Checkpointing,
}

impl Stage for LoraTrain {
    const KIND: &'static str = "lora-train";
    const VERSION: u32 = 6;
    const JUDGES: &'static [&'static str] = &["checks"];
    const REPRODUCIBLE: Reproducible = Reproducible::SameDevice;
    const HOME: Home = Home::Torch;
    type Run = LoraTrainRun;

    fn ports(&self) -> Ports {
        Ports::new()
            .reads("train", RecordType::Examples)
            .may_read("val", RecordType::Examples)
            .may_read("test", RecordType::Examples)
            .reads("base", RecordType::Model)
            .may_read("adapter", RecordType::Adapter)
            .writes("adapter", RecordType::Adapter)
            .writes("last", RecordType::Adapter)
            .writes("curves", RecordType::Curves)
            .reports("receipt")
            .reports("timing")
            .reports("samples")
    }

    fn presets() -> Vec<(&'static str, Value)> {
        vec![("alpaca-lora", alpaca_lora()), ("repaired", json!({"lora": papers_adapter()}))]
    }

    fn settle(written: &Value, is_bound: &dyn Fn(&str) -> bool) -> Option<Value> {
        let keys = written["lora"].as_object().filter(|_| is_bound("adapter"))?;
        let mut keys: Vec<&String> = keys.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key).collect();
        keys.sort();
        (!keys.is_empty()).then(|| json!({"lora": {"written": keys}}))
    }

    fn check(&self) -> Vec<ParamFault> {
        choices::faults(self)
    }

    fn preview(&self, inputs: &PreviewInputs) -> Result<Preview, StageError> {
        preview::preview(self, inputs)
    }

    fn peek(&self, inputs: &PreviewInputs, row: PeekRow) -> Result<Option<Peek>, StageError> {
        peek::peek(self, inputs, row).map(Some)
    }

    fn run(&self, _run: &LoraTrainRun, _job: &Job) -> Result<(), StageError> {
        Err(StageError::Environment("`lora-train` runs in `watershed-torch`, which `make demo` builds".into()))
    }
}

impl LoraTrain {
    /// Says whether the adapter with the lowest validation loss is chosen, where there is one.
    pub fn selects_best(&self) -> bool {
        self.select.unwrap_or_default() == Select::Best
    }
}

/// The paper's adapter, which is alpaca-lora's default.
fn papers_adapter() -> Value {
    json!({"r": 8, "alpha": 16, "dropout": 0.05, "targets": ["q_proj", "v_proj"]})
}

/// tloen/alpaca-lora `finetune.py`: defaults and hard-coded arguments of its Trainer.
fn alpaca_lora() -> Value {
    json!({
        "template": "alpaca", "max_len": 256, "overflow": "truncate", "train_on": "all",
        "lora": papers_adapter(), "micro_batch_size": 4, "schedule": "linear", "warmup": 100,
        "weight_decay": 0.0, "max_grad_norm": 1.0, "loss_norm": "micro_mean", "tail": "carry", "order": "shuffled",
        "dtype": "bf16", "eval_every": "epoch", "seed": 42,
        "checks": {"truncation": "warn", "eos": "warn", "warmup": "warn", "kl": "warn"},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preset(name: &str) -> LoraTrain {
        let (_, value) = LoraTrain::presets().into_iter().find(|(n, _)| *n == name).unwrap();
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn presets_decode_and_pass_their_own_checks() {
        for name in ["alpaca-lora", "repaired"] {
            assert_eq!(preset(name).check(), []);
        }
        assert_eq!(preset("alpaca-lora").checks.overlap, Level::Fail);
        assert_eq!(preset("repaired").max_len, 1024);
    }

    #[test]
    fn parameters_survive_the_way_to_the_worker() {
        let params = preset("alpaca-lora");
        let there = serde_json::to_value(&params).unwrap();
        assert_eq!(serde_json::from_value::<LoraTrain>(there).unwrap(), params);
    }

    #[test]
    fn written_keys_are_remembered_only_beside_an_adapter() {
        let written = json!({"lr": 1, "lora": {"r": 8, "alpha": null, "dropout": 0.0}});
        assert_eq!(LoraTrain::settle(&written, &|_| false), None);
        assert_eq!(LoraTrain::settle(&json!({"lr": 1}), &|_| true), None);
        let settled = LoraTrain::settle(&written, &|port| port == "adapter");
        assert_eq!(settled, Some(json!({"lora": {"written": ["dropout", "r"]}})));
    }

    #[test]
    fn rate_and_scale_at_which_nothing_is_learned_are_faults() {
        let lora = Lora { alpha: Some(0.0), ..Lora::default() };
        let faults = LoraTrain { lr: 0.0, lora, ..LoraTrain::default() }.check();
        assert_eq!(faults.iter().map(|fault| fault.path.as_str()).collect::<Vec<_>>(), ["lr", "lora.alpha"]);
    }

    #[test]
    fn micro_mean_without_its_size_is_a_fault() {
        let faults = LoraTrain { loss_norm: LossNorm::MicroMean, ..LoraTrain::default() }.check();
        assert_eq!(faults[0].path, "micro_batch_size");
    }
}
