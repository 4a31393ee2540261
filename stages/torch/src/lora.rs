//! Low-rank adapters (Hu et al. 2021, section 4.1).

use std::path::Path;

use tch::Device;
use watershed_weights::LlamaConfig;

use crate::{Error, Result};

/// A projection that an adapter may attach to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// `q_proj`
    Q,
    /// `k_proj`
    K,
    /// `v_proj`
    V,
    /// `o_proj`
    O,
    /// `gate_proj`
    Gate,
    /// `up_proj`
    Up,
    /// `down_proj`
    Down,
}

/// How an adapter's output is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scaling {
    /// alpha / r (Hu et al. 2021).
    Lora,
    /// alpha / sqrt(r) (Kalajdzievski 2023).
    Rslora,
}

/// How `A` starts; `B` always starts at zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// Uniform in `+-1/sqrt(in)`, PEFT's default (`kaiming_uniform(a = sqrt 5)`).
    Kaiming,
    /// Normal with deviation 1/r, PEFT's `gaussian`.
    Gaussian,
}

/// The shape of an adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// Rank.
    pub r: usize,
    /// Numerator of the scale.
    pub alpha: f64,
    /// Dropout on the adapter's input, in training only; recorded in the adapter's configuration.
    pub dropout: f64,
    /// Projections with an adapter, in every layer.
    pub targets: Vec<Target>,
    /// How the scale is made.
    pub scaling: Scaling,
    /// How `A` starts.
    pub init: Init,
}

/// An adapter: `A [r, in]` and `B [out, r]` of every adapted projection, in one flat f32 buffer.
pub struct Lora {
    config: LoraConfig,
}

impl Target {
    /// All seven linear projections of a block.
    pub const ALL: [Target; 7] = [Target::Q, Target::K, Target::V, Target::O, Target::Gate, Target::Up, Target::Down];

    /// Returns the target of this Hugging Face module name (`q_proj`).
    pub fn parse(name: &str) -> Option<Target> {
        Target::ALL.into_iter().find(|target| target.name() == name)
    }

    /// Returns the Hugging Face module name.
    pub fn name(self) -> &'static str {
        match self {
            Target::Q => "q_proj",
            Target::K => "k_proj",
            Target::V => "v_proj",
            Target::O => "o_proj",
            Target::Gate => "gate_proj",
            Target::Up => "up_proj",
            Target::Down => "down_proj",
        }
    }
}

impl Lora {
    /// Returns a fresh adapter. `A` depends on `seed` and the projection's name alone, not on torch's generator.
    pub fn new(model: &LlamaConfig, config: &LoraConfig, seed: u64, device: Device) -> Result<Lora> {
        let _ = (model, seed, device);
        Ok(Lora { config: config.clone() })
    }

    /// Reads a PEFT adapter folder (`adapter_config.json`, `adapter_model.safetensors`).
    ///
    /// # Errors
    /// [`Error::File`] naming the key when tensors are missing, extra or of other shapes, and for DoRA or `.bin` files.
    pub fn load(folder: &Path, model: &LlamaConfig, device: Device) -> Result<Lora> {
        let _ = (model, device);
        Err(Error::read(folder, "not read yet"))
    }

    /// Writes a PEFT adapter folder; `base` becomes `base_model_name_or_path`.
    pub fn save(&self, folder: &Path, base: &str) -> Result<()> {
        let _ = base;
        Err(Error::write(folder, "not written yet"))
    }

    /// Returns the adapter's shape.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// Returns the number of trainable parameters.
    pub fn parameters(&self) -> usize {
        0
    }

    /// Returns the Frobenius norm of every `B` by module path; a trained adapter has none at zero.
    pub fn b_norms(&self) -> Vec<(String, f64)> {
        Vec::new()
    }
}
