//! LoRA training: gradients of micro-batches added up, one optimizer update at a time.

use std::path::Path;

use tch::{Kind, Tensor};

use crate::adamw::AdamW;
use crate::draw::Draws;
use crate::evaluate::forward;
use crate::lora::Active;
use crate::memory::caught;
use crate::packed::Packed;
use crate::state::Pending;
use crate::{Error, Halt, Lora, Model, Result, Row, loss, recompute, state};

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
    /// Seeds dropout, with the update's, the micro-batch's and the block's number, so that resuming needs no generator state.
    pub seed: u64,
    /// Keeps each block's input alone and computes the block again in the backward pass: the same numbers for a third more
    /// work and much less memory.
    pub recompute: bool,
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
    /// Tokens of the update's rows; there is no padding.
    pub tokens: u64,
}

/// A model, an adapter and the optimizer's state.
pub struct Trainer<'a> {
    model: &'a Model,
    lora: Lora,
    optimizer: AdamW,
    /// Gradient added up for the next update, `[parameters]` in f32.
    gradient: Tensor,
    pending: Pending,
    step: u64,
}

impl<'a> Trainer<'a> {
    /// Returns a trainer at step 0.
    pub fn new(model: &'a Model, lora: Lora, optimizer: OptimizerConfig) -> Trainer<'a> {
        let flat = lora.flat().0;
        let (optimizer, gradient) = (AdamW::new(optimizer, flat), flat.zeros_like());
        Trainer { model, lora, optimizer, gradient, pending: Pending::default(), step: 0 }
    }

    /// Makes one update from its micro-batches: [`Trainer::accumulate`] for each, then [`Trainer::update`].
    ///
    /// # Errors
    /// Those of both; what was added up for the update is then forgotten, so that it can be tried again in other
    /// micro-batches, or the state of the last good update saved.
    pub fn step(&mut self, micros: &[Vec<Row>], config: &StepConfig) -> Result<StepReport> {
        self.step_unless(micros, config, &|| false)
    }

    /// Makes one update as [`Trainer::step`] does, unless `halt` says otherwise before one of its micro-batches.
    ///
    /// # Errors
    /// Those of [`Trainer::step`], and [`Error::Cancelled`].
    pub fn step_unless(&mut self, micros: &[Vec<Row>], config: &StepConfig, halt: Halt) -> Result<StepReport> {
        let added = micros
            .iter()
            .try_for_each(|micro| if halt() { Err(Error::Cancelled) } else { self.accumulate(micro, config) });
        let made = added.and_then(|()| self.update(config));
        if made.is_err() {
            self.forget();
        }
        made
    }

    /// Adds one micro-batch's gradient to the next update's. What is added and not yet updated is kept, and saved with
    /// the state (`tail: carry`). A micro-batch without labels changes nothing.
    ///
    /// # Errors
    /// [`Error::Input`] for rows that the model cannot take, [`Error::OutOfMemory`] where they do not fit at once.
    pub fn accumulate(&mut self, micro: &[Row], config: &StepConfig) -> Result<()> {
        caught(|| self.add(micro, config))
    }

    fn add(&mut self, micro: &[Row], config: &StepConfig) -> Result<()> {
        let Some(mut packed) = Packed::new(self.model, micro)? else { return Ok(()) };
        let (nll, gradients) = self.differentiate(&mut packed, config);
        let flat: Vec<Tensor> = gradients.iter().map(|gradient| gradient.flatten(0, -1)).collect();
        let weight = match config.loss_norm {
            LossNorm::Token => 1.0,
            LossNorm::MicroMean => 1.0 / packed.label_tokens as f64,
        };
        let _ = self.gradient.g_add_(&(Tensor::cat(&flat, 0).to_kind(Kind::Float) * weight));
        self.pending.add(&nll, &packed, weight);
        self.pending.tokens += micro.iter().map(|row| row.ids.len() as u64).sum::<u64>();
        Ok(())
    }

    /// Returns the losses `[labels]` and the gradient of their sum by each leaf.
    fn differentiate(&self, packed: &mut Packed, config: &StepConfig) -> (Tensor, Vec<Tensor>) {
        let active = Active::learning(&self.lora, self.dropout_seed(config.seed));
        let losses = |hidden: &Tensor, targets: &Tensor| {
            let _guard = tch::no_grad_guard();
            loss::nll_and_gradient(self.model, &hidden.detach(), targets)
        };
        if config.recompute {
            let (hidden, inputs) = recompute::forward(self.model, active, packed);
            let (nll, by_hidden) = losses(&hidden, &packed.targets);
            return (nll, recompute::gradients(self.model, active, packed, inputs, &by_hidden));
        }
        let leaves = self.lora.leaves();
        let hidden = forward(self.model, Some(active), packed);
        let (nll, by_hidden) = losses(&hidden, &packed.targets);
        // libtorch differentiates sums only: this one's gradient by `hidden` is `by_hidden`.
        let lever = (&hidden * by_hidden).sum(Kind::Float);
        (nll, Tensor::run_backward(&[lever], &leaves, false, false))
    }

    fn dropout_seed(&self, seed: u64) -> u64 {
        let parts = [self.step.to_le_bytes(), self.pending.micros.to_le_bytes()];
        Draws::named(seed, &[b"dropout", &parts[0], &parts[1]]).bits()
    }

    /// Updates the adapter with the gradient added up so far.
    ///
    /// # Errors
    /// [`Error::Diverged`] when the loss or the gradient norm is not finite; [`Error::Input`] without any label.
    pub fn update(&mut self, config: &StepConfig) -> Result<StepReport> {
        let _guard = tch::no_grad_guard();
        let step = self.step + 1;
        if self.pending.label_tokens == 0 {
            return Err(Error::Input(format!("update {step} has no label: every response of its rows was cut off")));
        }
        let divisor = match config.loss_norm {
            LossNorm::Token => self.pending.label_tokens as f64,
            LossNorm::MicroMean => config.accumulation.map_or(self.pending.micros as f64, |micros| micros as f64),
        };
        let mut gradient = &self.gradient / divisor;
        let grad_norm = gradient.norm().double_value(&[]);
        let report = self.pending.report(step, divisor, grad_norm);
        check_finite("loss", step, report.loss)?;
        check_finite("gradient norm", step, grad_norm)?;
        if config.max_grad_norm > 0.0 {
            // As torch's clip_grad_norm_: the small number keeps the quotient finite.
            gradient *= (config.max_grad_norm / (grad_norm + 1e-6)).min(1.0);
        }
        let (flat, b_start) = self.lora.flat();
        self.optimizer.update(flat, b_start, &gradient, config.lr, step);
        self.lora.refresh();
        self.step = step;
        self.forget();
        Ok(report)
    }

    /// Forgets what was added up for the next update.
    fn forget(&mut self) {
        let _guard = tch::no_grad_guard();
        self.pending = Pending::default();
        let _ = self.gradient.zero_();
    }

    /// Returns the adapter as it stands.
    pub fn lora(&self) -> &Lora {
        &self.lora
    }

    /// Returns the model that is adapted.
    pub fn model(&self) -> &'a Model {
        self.model
    }

    /// Returns the number of updates made.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// Writes adapter, moments, pending gradient and step count as one safetensors file, exactly, by a temporary file that
    /// is renamed.
    pub fn save_state(&self, path: &Path) -> Result<()> {
        let tensors = [self.lora.flat().0, &self.optimizer.m, &self.optimizer.v, &self.gradient];
        state::save(path, tensors, self.step, &self.pending)
    }

    /// Restores what [`Trainer::save_state`] wrote after update `step`; training then goes on bit for bit (on the processor, with
    /// as many threads).
    ///
    /// # Errors
    /// [`Error::File`] when the file is damaged, of another update or another adapter's; nothing is changed then.
    pub fn load_state(&mut self, path: &Path, step: u64) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let tensors = [self.lora.flat().0, &self.optimizer.m, &self.optimizer.v, &self.gradient];
        self.pending = state::load(path, step, tensors)?;
        self.step = step;
        self.lora.refresh();
        Ok(())
    }
}

fn check_finite(what: &'static str, step: u64, value: f64) -> Result<()> {
    if value.is_finite() { Ok(()) } else { Err(Error::Diverged { what, step, value }) }
}

#[cfg(test)]
mod tests;
