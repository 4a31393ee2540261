//! Small kinds with every form of parameter and port, for tests of the language.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use watershed_engine::fault::ParamFault;
use watershed_engine::language::Kinds;
use watershed_engine::port::RecordType::{self, *};
use watershed_engine::stage::NoRunKeys;
use watershed_engine::{Job, Kind, Ports, Stage, StageError};

/// Returns the kinds.
pub fn kinds() -> Kinds {
    let list =
        [Kind::of::<Reviews>(), Kind::of::<Split>(), Kind::of::<Train>(), Kind::of::<Answer>(), Kind::of::<Score>()];
    Kinds::new(list.into_iter().chain([Kind::of::<Shell>()]).collect())
}

fn nothing() -> Result<(), StageError> {
    Err(StageError::failed("these kinds are for checks only"))
}

/// Reads nothing and writes several types.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Reviews {
    /// Seed of the draw.
    seed: u64,
    /// Share of bad rows, for example `1%`.
    max_bad: Option<String>,
}

impl Stage for Reviews {
    const KIND: &'static str = "reviews";
    const VERSION: u32 = 1;
    type Run = NoRunKeys;

    fn ports(&self) -> Ports {
        Ports::new()
            .may_read("file", Bytes)
            .writes("interactions", Interactions)
            .writes("items", Items)
            .reports("report")
    }

    fn run(&self, _run: &NoRunKeys, _job: &Job) -> Result<(), StageError> {
        nothing()
    }
}

/// Two outputs of one type.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Split {
    /// Rows for validation: a count or a percentage.
    val: Amount,
    /// Seed of the split.
    seed: u64,
}

/// A count, or a share as text.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Amount {
    /// Rows.
    Count(u64),
    /// For example `10%`.
    Share(String),
    /// By source.
    BySource(BTreeMap<String, u64>),
}

impl Default for Amount {
    fn default() -> Amount {
        Amount::Count(0)
    }
}

impl Stage for Split {
    const KIND: &'static str = "split";
    const VERSION: u32 = 1;
    type Run = NoRunKeys;

    fn ports(&self) -> Ports {
        Ports::new().reads("examples", Examples).writes("train", Examples).writes("val", Examples)
    }

    fn run(&self, _run: &NoRunKeys, _job: &Job) -> Result<(), StageError> {
        nothing()
    }
}

/// Many parameters, presets, a check of its own and a run key of its own.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// Adapter.
    lora: Lora,
    /// Highest learning rate.
    #[schemars(range(min = 0.0, max = 1.0))]
    lr: f64,
    /// Rows of one update.
    #[schemars(range(min = 1))]
    batch_size: u32,
    /// Passes over the rows; not together with `max_steps`.
    epochs: Option<f64>,
    /// Updates.
    max_steps: Option<u32>,
    /// Updates or share of updates.
    warmup: f64,
    /// What follows the warmup.
    schedule: Schedule,
    /// Momenta.
    betas: [f64; 2],
    /// Seed of the order.
    seed: u64,
}

/// Low-rank adapter.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Lora {
    /// Rank.
    #[schemars(range(min = 1, max = 1024))]
    r: u32,
    /// Scale times rank; twice the rank by default.
    alpha: Option<f64>,
    /// Layers.
    targets: Vec<String>,
}

/// Learning rate over time.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Falls in a line.
    #[default]
    Linear,
    /// Falls as a cosine.
    Cosine,
    /// Stays.
    Constant,
}

impl Default for Lora {
    fn default() -> Lora {
        Lora { r: 8, alpha: None, targets: vec!["q_proj".into()] }
    }
}

impl Default for Train {
    fn default() -> Train {
        Train {
            lora: Lora::default(),
            lr: 2e-4,
            batch_size: 16,
            epochs: None,
            max_steps: None,
            warmup: 0.05,
            schedule: Schedule::Linear,
            betas: [0.9, 0.999],
            seed: 0,
        }
    }
}

/// Run keys of `train`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainRun {
    /// Rows at once.
    micro_batch: Option<u32>,
}

impl Stage for Train {
    const KIND: &'static str = "train";
    const VERSION: u32 = 1;
    type Run = TrainRun;

    fn ports(&self) -> Ports {
        Ports::new()
            .reads("train", Examples)
            .may_read("val", Examples)
            .reads("base", Model)
            .writes("adapter", Adapter)
            .writes("last", Adapter)
            .writes("curves", Curves)
            .reports("receipt")
    }

    fn presets() -> Vec<(&'static str, Value)> {
        vec![("paper", json!({"lora": {"r": 16, "alpha": 16}, "warmup": 100})), ("careful", json!({"lr": 1e-5}))]
    }

    fn check(&self) -> Vec<ParamFault> {
        let both = self.epochs.is_some() && self.max_steps.is_some();
        let fault = ParamFault::new("max_steps", "`epochs` is given too", "leave one of them out");
        both.then_some(fault).into_iter().collect()
    }

    fn run(&self, _run: &TrainRun, _job: &Job) -> Result<(), StageError> {
        nothing()
    }
}

/// Reads prompts, which examples satisfy.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Answer {
    /// Longest answer.
    max_new_tokens: Option<u32>,
}

impl Stage for Answer {
    const KIND: &'static str = "answer";
    const VERSION: u32 = 1;
    type Run = NoRunKeys;

    fn ports(&self) -> Ports {
        Ports::new().reads("prompts", Prompts).may_read("adapter", Adapter).writes("answers", Answers)
    }

    fn run(&self, _run: &NoRunKeys, _job: &Job) -> Result<(), StageError> {
        nothing()
    }
}

/// Reads maps of inputs.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Score {
    /// Cut-offs.
    k: Vec<u32>,
}

impl Stage for Score {
    const KIND: &'static str = "score";
    const VERSION: u32 = 1;
    type Run = NoRunKeys;

    fn ports(&self) -> Ports {
        Ports::new()
            .reads_many("answers", &[Answers])
            .may_read_many("curves", &[Curves])
            .may_read("truth", Interactions)
            .writes("metrics", Metrics)
            .reports("report")
    }

    fn run(&self, _run: &NoRunKeys, _job: &Job) -> Result<(), StageError> {
        nothing()
    }
}

/// Inputs of any name, outputs by parameter.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Shell {
    /// Text for sh -c.
    shell: Option<String>,
    /// Program and arguments.
    argv: Option<Vec<String>>,
    /// Outputs: name to type.
    out: BTreeMap<String, String>,
}

impl Default for Shell {
    fn default() -> Shell {
        Shell { shell: None, argv: None, out: BTreeMap::from([("out".into(), "bytes".into())]) }
    }
}

impl Stage for Shell {
    const KIND: &'static str = "shell";
    const VERSION: u32 = 1;
    type Run = NoRunKeys;

    fn ports(&self) -> Ports {
        let declared = self.out.iter().map(|(name, record)| (name.clone(), RecordType::parse(record).unwrap_or(Bytes)));
        declared.fold(Ports::new().with_open_inputs(), |ports, (name, record)| ports.writes(name, record))
    }

    fn check(&self) -> Vec<ParamFault> {
        let neither = self.shell.is_none() && self.argv.is_none();
        neither
            .then(|| ParamFault::new("", "neither `shell` nor `argv` is given", "write `shell: TEXT`"))
            .into_iter()
            .collect()
    }

    fn run(&self, _run: &NoRunKeys, _job: &Job) -> Result<(), StageError> {
        nothing()
    }
}
