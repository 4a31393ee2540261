//! `rank`: parameters, ports and checks of ranking items by the likelihood of their titles; the work is in `watershed-torch`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_engine::fault::ParamFault;
use watershed_engine::port::{Ports, RecordType};
use watershed_engine::preview::{Preview, PreviewInputs};
use watershed_engine::stage::{Home, NoRunKeys, Reproducible};
use watershed_engine::{Job, Stage, StageError};

use crate::base::Base;
use crate::lora_train::Dtype;

/// Ranks items for each prompt by how likely a base model, or an adapter on it, is to answer with their titles.
///
/// A row with `candidates` ranks these, another row all items; items without a title are left out. Template and system prompt
/// are the adapter's own, `alpaca` without an adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rank {
    /// Text that the answer begins with before the title, for example `I recommend `.
    pub prefix: String,
    /// Power of the title's number of tokens that its log-likelihood is divided by: 1 is the mean of a token, 0 the sum, which
    /// favours short titles.
    #[schemars(range(min = 0.0, max = 4.0))]
    pub length_norm: f64,
    /// What is taken off the log-likelihood before it is divided: `none`, or `pmi`, the log-likelihood of the same title after
    /// the same prompt with an empty input, so that titles that are likely anyway do not come first.
    pub calibrate: Calibrate,
    /// Longest ranking.
    #[schemars(range(min = 1))]
    pub k: u32,
    /// Type that the model computes in: `f32` or `bf16`.
    pub dtype: Dtype,
}

impl Default for Rank {
    fn default() -> Rank {
        Rank { prefix: String::new(), length_norm: 1.0, calibrate: Calibrate::None, k: 100, dtype: Dtype::F32 }
    }
}

/// What a title's log-likelihood is compared with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Calibrate {
    /// Nothing.
    #[default]
    None,
    /// Its likelihood without the customer's text: pointwise mutual information (Holtzman et al. 2021).
    Pmi,
}

impl Stage for Rank {
    const KIND: &'static str = "rank";
    const VERSION: u32 = 1;
    const REPRODUCIBLE: Reproducible = Reproducible::SameDevice;
    const HOME: Home = Home::Torch;
    type Run = NoRunKeys;

    fn ports(&self) -> Ports {
        Ports::new()
            .reads("prompts", RecordType::Prompts)
            .reads("items", RecordType::Items)
            .reads("base", RecordType::Model)
            .may_read("adapter", RecordType::Adapter)
            .writes("ranking", RecordType::Ranking)
    }

    fn check(&self) -> Vec<ParamFault> {
        if self.length_norm.is_finite() {
            return Vec::new();
        }
        vec![ParamFault::new("length_norm", "not a number", "1 is the mean of a token, 0 the sum")]
    }

    fn preview(&self, inputs: &PreviewInputs) -> Result<Preview, StageError> {
        inputs.get("base").map(Base::open).transpose()?;
        Ok(Preview::default())
    }

    fn run(&self, _run: &NoRunKeys, _job: &Job) -> Result<(), StageError> {
        Err(StageError::Environment("`rank` runs in `watershed-torch`, which `make demo` builds".into()))
    }
}
