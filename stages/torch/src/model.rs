//! A LLaMA model on a device.

use tch::{Device, Tensor};
use watershed_weights::{LlamaConfig, ModelFiles};

use crate::{Error, Lora, Result};

/// The type that matrices are kept and multiplied in; norms, softmax and loss are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compute {
    /// Single precision.
    F32,
    /// bfloat16.
    Bf16,
}

/// A LLaMA model's weights, frozen.
pub struct Model {
    config: LlamaConfig,
    device: Device,
}

impl Model {
    /// Loads the weights onto `device`, converted to `compute` (quantised blocks are expanded once, here).
    ///
    /// # Errors
    /// [`Error::Weights`] when a tensor is missing or of another shape than the configuration says.
    pub fn load(files: &ModelFiles, compute: Compute, device: Device) -> Result<Model> {
        let _ = compute;
        let _ = device;
        Err(Error::Input(format!("`{}` is not loaded yet", files.path().display())))
    }

    /// Returns the model's shape.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Returns the device that holds the weights.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Returns the model with `lora` folded into its matrices: shares every tensor that the adapter leaves alone. Folding
    /// is done in f32 and rounded once.
    pub fn merged(&self, lora: &Lora) -> Result<Model> {
        let _ = lora;
        Err(Error::Input("not merged yet".to_owned()))
    }

    /// Returns the logits `[ids, vocab]` in f32 of one sequence.
    pub fn logits(&self, lora: Option<&Lora>, ids: &[u32]) -> Result<Tensor> {
        let _ = (lora, ids);
        Err(Error::Input("not computed yet".to_owned()))
    }
}
