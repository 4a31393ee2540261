//! The smaller choices of `lora-train`, and what its parameters may not say together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_engine::fault::ParamFault;

use super::LoraTrain;
use crate::text::batch::LossNorm;

/// Shape of the adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Lora {
    /// Rank.
    #[schemars(range(min = 1, max = 4096))]
    pub r: u32,
    /// Numerator of the scale, above 0; 2 x r when not given.
    #[schemars(range(min = 0.0))]
    pub alpha: Option<f64>,
    /// Dropout on the adapter's input, in training only.
    #[schemars(range(min = 0.0, max = 0.99))]
    pub dropout: f64,
    /// Projections with an adapter, in every layer; all seven when not given.
    pub targets: Vec<Target>,
    /// `lora` (scale alpha / r), `rslora` (alpha / sqrt r) or `lora_plus` (B learns 16 times as fast as A). Training DoRA is not
    /// supported.
    pub variant: Variant,
    /// How A starts: `kaiming` (PEFT's default) or `gaussian`; B starts at zero.
    pub init: Init,
    /// With an `adapter` to go on from: which of these keys were written, sorted; the adapter's say the rest.
    #[schemars(skip)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub written: Vec<String>,
}

impl Default for Lora {
    fn default() -> Lora {
        let targets = Target::ALL.to_vec();
        let (variant, init) = (Variant::Lora, Init::Kaiming);
        Lora { r: 8, alpha: None, dropout: 0.05, targets, variant, init, written: Vec::new() }
    }
}

impl Lora {
    /// Returns alpha, 2 x r when not given.
    pub fn alpha(&self) -> f64 {
        self.alpha.unwrap_or(f64::from(2 * self.r))
    }

    /// Returns the names of the projections with an adapter.
    pub fn target_names(&self) -> Vec<&'static str> {
        self.targets.iter().map(|target| target.name()).collect()
    }

    /// Says whether this key must be the adapter's that training goes on from.
    pub fn is_written(&self, key: &str) -> bool {
        self.written.iter().any(|written| written == key)
    }
}

/// A linear projection of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are Hugging Face's")]
pub enum Target {
    QProj,
    KProj,
    VProj,
    OProj,
    GateProj,
    UpProj,
    DownProj,
}

impl Target {
    /// All of a block's projections.
    pub const ALL: [Target; 7] = [
        Target::QProj,
        Target::KProj,
        Target::VProj,
        Target::OProj,
        Target::GateProj,
        Target::UpProj,
        Target::DownProj,
    ];

    /// Returns the Hugging Face module name.
    pub fn name(self) -> &'static str {
        match self {
            Target::QProj => "q_proj",
            Target::KProj => "k_proj",
            Target::VProj => "v_proj",
            Target::OProj => "o_proj",
            Target::GateProj => "gate_proj",
            Target::UpProj => "up_proj",
            Target::DownProj => "down_proj",
        }
    }
}

/// How the adapter is scaled and learned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Hu et al. 2021: scale alpha / r.
    #[default]
    Lora,
    /// Kalajdzievski 2023: scale alpha / sqrt(r).
    Rslora,
    /// Hayou et al. 2024: B learns 16 times as fast as A.
    LoraPlus,
}

/// How A starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// Uniform in +-1/sqrt(in), PEFT's default.
    #[default]
    Kaiming,
    /// Normal with deviation 1/r.
    Gaussian,
}

/// Type that the base computes in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// Single precision.
    #[default]
    F32,
    /// bfloat16.
    Bf16,
}

/// Which adapter is the result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// The one with the lowest validation loss on answers.
    #[default]
    Best,
    /// The last one.
    Last,
}

/// `epoch`, or a number of updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Every {
    /// At the end of each epoch.
    Word(Word),
    /// After every so many updates.
    Updates(u32),
}

/// The word `epoch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// At the end of each epoch.
    Epoch,
}

impl Every {
    /// Says whether it is time after `step` updates, of which the last ended an epoch or did not.
    pub fn is_due(self, step: u64, ends_epoch: bool) -> bool {
        match self {
            Every::Word(Word::Epoch) => ends_epoch,
            Every::Updates(n) => n > 0 && step.is_multiple_of(u64::from(n)),
        }
    }
}

/// `auto`, or a number of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum MicroBatch {
    /// As many as make 1024 tokens on a processor and 8192 on a GPU; half as many each time that memory does not suffice.
    Auto(Auto),
    /// So many rows.
    Rows(#[schemars(range(min = 1))] u32),
}

/// The word `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auto {
    /// By tokens: 1024 at once on a processor, 8192 on a GPU.
    Auto,
}

impl Default for MicroBatch {
    fn default() -> MicroBatch {
        MicroBatch::Auto(Auto::Auto)
    }
}

/// Whether blocks are computed again in the backward pass instead of kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Checkpointing {
    /// Once an allocation has failed; on a processor where the estimate is more than there is.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// What a failed check means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The stage fails.
    #[default]
    Fail,
    /// The stage says so and goes on.
    Warn,
    /// Nothing.
    Off,
}

/// Checks before and after training. That a saved adapter reads back equal, and that no B is zero, always fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Checks {
    /// More than 1 % of the rows lose answer tokens to `max_len` (L001).
    pub truncation: Level,
    /// More than 1 % of the rows teach no end (L002); after training, the model never ends an answer.
    pub eos: Level,
    /// Warm-up takes all updates, so that `lr` is never reached (L003).
    pub warmup: Level,
    /// Rows or groups of `val` are in `train` too (L004).
    pub overlap: Level,
    /// After training, the tuned model answers as the base does.
    pub kl: Level,
}

/// Returns what the parameters may not say together.
pub fn faults(params: &LoraTrain) -> Vec<ParamFault> {
    let mut faults = Vec::new();
    let mut fault = |path: &str, message: &str, help: &str| faults.push(ParamFault::new(path, message, help));
    if params.loss_norm == LossNorm::MicroMean {
        match params.micro_batch_size {
            None => fault(
                "micro_batch_size",
                "`loss_norm: micro_mean` depends on `micro_batch_size`",
                "set it; alpaca-lora used 4",
            ),
            Some(n) if !params.batch_size.is_multiple_of(n.max(1)) => {
                fault("micro_batch_size", "`micro_batch_size` does not divide `batch_size`", "choose a divisor");
            }
            Some(_) => {}
        }
    }
    if params.warmup >= 1.0 && params.warmup.fract() != 0.0 {
        fault("warmup", "a number of updates is whole, and a share is below 1", "write for example 0.05 or 100");
    }
    if params.betas.iter().any(|beta| !(0.0..1.0).contains(beta)) {
        fault("betas", "both betas lie in [0, 1)", "the default is [0.9, 0.999]");
    }
    if params.eps.is_nan() || params.eps <= 0.0 {
        fault("eps", "`eps` is above 0", "the default is 1.0e-8");
    }
    // both would be noticed only when the training is over: a `B` that was never moved
    if params.lr <= 0.0 {
        fault("lr", "`lr` is above 0: nothing is learned at 0", "the default is 2.0e-4");
    }
    if params.lora.alpha.is_some_and(|alpha| alpha <= 0.0) {
        fault("lora.alpha", "`alpha` is above 0: it scales the adapter", "leave it out for 2 x r");
    }
    if params.lora.targets.is_empty() {
        fault("lora.targets", "an adapter needs a projection", "leave `targets` out for all seven");
    }
    if let Some(twice) = repeated(&params.lora.targets) {
        let message = format!("`{}` is in it twice", twice.name());
        fault("lora.targets", &message, "name each projection once");
    }
    if params.eval_every == Every::Updates(0) {
        fault("eval_every", "evaluations are at least one update apart", "write `epoch`, or a number from 1");
    }
    faults.extend(params.template.faults("template"));
    faults
}

/// Returns the first projection that was named before.
fn repeated(targets: &[Target]) -> Option<Target> {
    (1..targets.len())
        .map(|at| (targets[at], &targets[..at]))
        .find_map(|(one, before)| before.contains(&one).then_some(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projection_that_is_named_twice_is_a_fault() {
        let check = |targets: &[Target]| {
            let lora = Lora { targets: targets.to_vec(), ..Lora::default() };
            faults(&LoraTrain { lora, ..LoraTrain::default() })
        };
        let found = check(&[Target::QProj, Target::VProj, Target::QProj]);
        assert_eq!(found, [ParamFault::new("lora.targets", "`q_proj` is in it twice", "name each projection once")]);
        assert_eq!((check(&Target::ALL), check(&[Target::QProj])), (vec![], vec![]));
    }
}
