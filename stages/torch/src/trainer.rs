//! LoRA training: gradients of micro-batches added up, one optimizer update at a time.

use std::path::Path;

use crate::{Error, Lora, Model, Result, Row};

/// What AdamW needs beyond the learning rate (Loshchilov and Hutter 2019, algorithm 2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptimizerConfig {
    /// Decay of the first and second moment.
    pub betas: (f64, f64),
    /// Added to the denominator, after bias correction.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Learning rate of `B` over that of `A` (LoRA+, Hayou et al. 2024); 1 is plain LoRA.
    pub b_lr_ratio: f64,
}

/// How the losses of an update's tokens become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossNorm {
    /// Sum over the update's labels divided by their number (transformers since October 2024).
    Token,
    /// Mean over micro-batches of their token means (alpaca-lora's day).
    MicroMean,
}

/// What one update needs from outside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepConfig {
    /// Learning rate of this update.
    pub lr: f64,
    /// Largest global gradient norm; 0 is no clipping.
    pub max_grad_norm: f64,
    /// How losses are averaged.
    pub loss_norm: LossNorm,
    /// Divisor under [`LossNorm::MicroMean`]; none is the number of micro-batches given (the 2023 Trainer always
    /// divided by the full accumulation).
    pub accumulation: Option<usize>,
    /// Seeds dropout, with the update's and the micro-batch's number, so that resuming needs no generator state.
    pub seed: u64,
}

/// What one update did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// The update's number, from 1.
    pub step: u64,
    /// The loss that was minimised, in nats a token, before the update.
    pub loss: f64,
    /// The token mean over response labels alone; equal to the token mean when only responses are trained on.
    pub response_loss: Option<f64>,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Labels in the update.
    pub label_tokens: u64,
    /// Tokens that went through the model; there is no padding.
    pub tokens: u64,
}

/// A model, an adapter and the optimizer's state.
pub struct Trainer<'a> {
    model: &'a Model,
    lora: Lora,
    optimizer: OptimizerConfig,
    step: u64,
}

impl<'a> Trainer<'a> {
    /// Returns a trainer at step 0.
    pub fn new(model: &'a Model, lora: Lora, optimizer: OptimizerConfig) -> Result<Trainer<'a>> {
        Ok(Trainer { model, lora, optimizer, step: 0 })
    }

    /// Makes one update from its micro-batches: [`Trainer::accumulate`] for each, then [`Trainer::update`].
    pub fn step(&mut self, micros: &[Vec<Row>], config: &StepConfig) -> Result<StepReport> {
        for micro in micros {
            self.accumulate(micro, config)?;
        }
        self.update(config)
    }

    /// Adds one micro-batch's gradient to the next update's; what is added and never updated is kept and saved too
    /// (`tail: carry`).
    pub fn accumulate(&mut self, micro: &[Row], config: &StepConfig) -> Result<()> {
        let _ = (micro, config, self.model, &self.optimizer);
        Err(Error::Input("not trained yet".to_owned()))
    }

    /// Updates the adapter with the gradient added up so far.
    ///
    /// # Errors
    /// [`Error::Diverged`] when the loss or the gradient norm is not finite; [`Error::Input`] without any label.
    pub fn update(&mut self, config: &StepConfig) -> Result<StepReport> {
        let _ = config;
        Err(Error::Input("not updated yet".to_owned()))
    }

    /// Returns the adapter as it stands.
    pub fn lora(&self) -> &Lora {
        &self.lora
    }

    /// Returns the number of updates made.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// Writes adapter, moments, pending gradient and step count as one safetensors file, exactly.
    pub fn save_state(&self, path: &Path) -> Result<()> {
        Err(Error::write(path, "not written yet"))
    }

    /// Restores what [`Trainer::save_state`] wrote; training then goes on bit for bit (on the processor, with as many
    /// threads).
    pub fn load_state(&mut self, path: &Path) -> Result<()> {
        Err(Error::read(path, "not read yet"))
    }
}
