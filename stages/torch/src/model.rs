//! A LLaMA model on a device.

use tch::{Device, Kind, Tensor};
use watershed_weights::{LlamaConfig, ModelFiles};

use crate::attention::{Attention, Causal};
use crate::block::{Block, Pass, rms_norm};
use crate::lora::Active;
use crate::memory::caught;
use crate::rope::Rope;
use crate::source::{Random, Source, Stored};
use crate::{Error, Lora, Result, narrow};

/// The type that matrices are kept and multiplied in; softmax, loss, gradients and optimiser are always f32.
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
    place: Placement,
    /// `[vocab, hidden]`.
    embedding: Tensor,
    blocks: Vec<Block>,
    norm: Tensor,
    /// `[vocab, hidden]`; the embedding itself when tied.
    head: Tensor,
    rope: Rope,
}

/// Where weights go, and as what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placement {
    pub(crate) device: Device,
    pub(crate) kind: Kind,
}

impl Model {
    /// Loads the weights onto `device`, converted to `compute` (quantised blocks are expanded once, here).
    ///
    /// # Errors
    /// [`Error::Weights`] when a tensor cannot be read, [`Error::OutOfMemory`] when the model does not fit.
    pub fn load(files: &ModelFiles, compute: Compute, device: Device) -> Result<Model> {
        let place = Placement { device, kind: compute.kind() };
        caught(|| Model::of(&Stored { files, place }, place))
    }

    /// Returns a model of this shape with random weights, drawn on `device`: for measurements of models that are not there.
    ///
    /// # Errors
    /// [`Error::Torch`] when the device has no room for it.
    pub fn random(config: &LlamaConfig, compute: Compute, device: Device) -> Result<Model> {
        let place = Placement { device, kind: compute.kind() };
        Model::of(&Random::new(config, place), place)
    }

    pub(crate) fn of(source: &dyn Source, place: Placement) -> Result<Model> {
        let _guard = tch::no_grad_guard();
        let config = source.config().clone();
        let embedding = source.tensor("model.embed_tokens.weight")?;
        let head = if config.tied { embedding.shallow_clone() } else { source.tensor("lm_head.weight")? };
        Ok(Model {
            blocks: (0..config.layers).map(|layer| Block::load(source, layer)).collect::<Result<_>>()?,
            norm: source.tensor("model.norm.weight")?,
            rope: Rope::new(&config, place.device),
            config,
            place,
            embedding,
            head,
        })
    }

    /// Returns the model's shape.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Returns the device that holds the weights.
    pub fn device(&self) -> Device {
        self.place.device
    }

    /// Returns the type of the weights.
    pub fn kind(&self) -> Kind {
        self.place.kind
    }

    /// Returns the model with `lora` folded into its matrices: shares every tensor that the adapter leaves alone. Folding
    /// is done in f32 and rounded once.
    pub fn merged(&self, lora: &Lora) -> Model {
        let _guard = tch::no_grad_guard();
        Model {
            config: self.config.clone(),
            place: self.place,
            embedding: self.embedding.shallow_clone(),
            blocks: self.blocks.iter().map(|block| block.merged(lora)).collect(),
            norm: self.norm.shallow_clone(),
            head: self.head.shallow_clone(),
            rope: Rope::new(&self.config, self.place.device),
        }
    }

    /// Returns the logits `[ids, vocab]` in f32 of one sequence.
    ///
    /// # Errors
    /// [`Error::Input`] when it is empty, too long, or holds an id beyond the vocabulary.
    pub fn logits(&self, lora: Option<&Lora>, ids: &[u32]) -> Result<Tensor> {
        self.logits_from(lora, ids, 0)
    }

    /// Returns the logits `[vocab]` in f32 of the token after a sequence; no others are made.
    ///
    /// # Errors
    /// Those of [`Model::logits`], and [`Error::OutOfMemory`] when the sequence does not fit.
    pub fn next_logits(&self, lora: Option<&Lora>, ids: &[u32]) -> Result<Tensor> {
        caught(|| Ok(self.logits_from(lora, ids, ids.len().saturating_sub(1))?.get(0)))
    }

    /// Returns the logits at the tokens of a sequence from `first` on.
    fn logits_from(&self, lora: Option<&Lora>, ids: &[u32], first: usize) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        self.check(ids, "the sequence")?;
        let (ids, length) = (self.index(ids.iter().map(|id| i64::from(*id))), ids.len() as i64);
        let positions = Tensor::arange(length, (Kind::Int64, self.device()));
        let keep = positions.narrow(0, first as i64, length - first as i64);
        let mut attention = Causal { lengths: vec![length] };
        let hidden = self.hidden(&ids, &positions, &mut attention, lora.map(Active::still), &keep);
        Ok(self.project(&hidden))
    }

    /// Returns the normed hidden state `[keep, hidden]` at the tokens `keep` of packed rows: `ids` and `positions` are
    /// `[tokens]`, and `attention` knows which tokens belong together.
    pub(crate) fn hidden(
        &self,
        ids: &Tensor,
        positions: &Tensor,
        attention: &mut dyn Attention,
        active: Option<Active<'_>>,
        keep: &Tensor,
    ) -> Tensor {
        let mut pass = self.pass(positions, attention, active);
        let mut x = self.embed(ids);
        for layer in 0..self.blocks.len() {
            x = self.block(layer, &x, &mut pass, keep);
        }
        self.normed(&x)
    }

    /// Returns what all blocks share for tokens at these positions.
    pub(crate) fn pass<'a>(
        &self,
        positions: &Tensor,
        attention: &'a mut dyn Attention,
        active: Option<Active<'a>>,
    ) -> Pass<'a> {
        Pass { angles: self.rope.angles(positions, self.kind()), attention, active }
    }

    /// Returns what goes into the first block, `[ids, hidden]`.
    pub(crate) fn embed(&self, ids: &Tensor) -> Tensor {
        self.embedding.index_select(0, ids)
    }

    /// Returns what comes out of one block; out of the last, of the tokens `keep` alone.
    pub(crate) fn block(&self, layer: usize, x: &Tensor, pass: &mut Pass<'_>, keep: &Tensor) -> Tensor {
        let is_last = layer + 1 == self.blocks.len();
        self.blocks[layer].forward(x, pass, is_last.then_some(keep))
    }

    /// Returns the hidden state that goes into the output projection.
    pub(crate) fn normed(&self, x: &Tensor) -> Tensor {
        rms_norm(x, &self.norm, self.config.rms_eps)
    }

    /// Returns the logits `[tokens, vocab]` in f32 of hidden states.
    pub(crate) fn project(&self, hidden: &Tensor) -> Tensor {
        narrow::linear(hidden, &self.head, None).to_kind(Kind::Float)
    }

    /// Returns the output projection `[vocab, hidden]`.
    pub(crate) fn head(&self) -> &Tensor {
        &self.head
    }

    /// Returns a list of indices as a tensor on the model's device.
    pub(crate) fn index(&self, numbers: impl Iterator<Item = i64>) -> Tensor {
        Tensor::from_slice(&numbers.collect::<Vec<_>>()).to_device(self.device())
    }

    /// Checks that a sequence can be fed to the model; `what` names it in the error.
    pub(crate) fn check(&self, ids: &[u32], what: &str) -> Result<()> {
        if ids.is_empty() {
            return Err(Error::Input(format!("{what} has no tokens")));
        }
        if ids.len() > self.config.max_positions {
            let longest = self.config.max_positions;
            return Err(Error::Input(format!("{what} has {} tokens, the model takes at most {longest}", ids.len())));
        }
        match ids.iter().find(|id| **id as usize >= self.config.vocab) {
            Some(id) => Err(Error::Input(format!(
                "{what} holds token {id}, the model knows {}: is the tokenizer another model's?",
                self.config.vocab
            ))),
            None => Ok(()),
        }
    }
}

impl Compute {
    fn kind(self) -> Kind {
        match self {
            Compute::F32 => Kind::Float,
            Compute::Bf16 => Kind::BFloat16,
        }
    }
}

#[cfg(test)]
mod tests;
