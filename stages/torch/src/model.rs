//! A LLaMA model on a device.

use tch::{Device, Kind, Tensor};
use watershed_weights::{LlamaConfig, ModelFiles};

use crate::attention::{Attention, Causal};
use crate::block::{Block, Pass, rms_norm};
use crate::lora::Active;
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
    /// [`Error::Weights`] when a tensor cannot be read.
    pub fn load(files: &ModelFiles, compute: Compute, device: Device) -> Result<Model> {
        let place = Placement { device, kind: compute.kind() };
        Model::of(&Stored { files, place }, place)
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
        let _guard = tch::no_grad_guard();
        self.check(ids, "the sequence")?;
        let (ids, length) = (self.index(ids.iter().map(|id| i64::from(*id))), ids.len() as i64);
        let positions = Tensor::arange(length, (Kind::Int64, self.device()));
        let mut attention = Causal { lengths: vec![length] };
        let hidden = self.hidden(&ids, &positions, &mut attention, lora.map(Active::still), &positions);
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
mod tests {
    use super::*;
    use crate::fixture::{Fixture, largest_difference};
    use crate::naive::{Naive, shapes};

    fn assert_logits(name: &str, wanted: &str) {
        let Some(fixture) = Fixture::open() else { return };
        let logits = fixture.model(name).logits(None, &fixture.ids("plain.input_ids")).unwrap();
        let off = largest_difference(&logits, &fixture.floats(wanted));
        assert!(off < 1e-4, "{name}: logits are off by {off}");
    }

    #[test]
    fn logits_are_those_of_transformers() {
        assert_logits("model", "plain.logits");
    }

    #[test]
    fn logits_are_those_of_the_papers_for_every_set_of_tensors() {
        for (name, keys) in shapes() {
            let naive = Naive::new(&keys, Kind::Float);
            let model = Model::of(&naive, Placement { device: Device::Cpu, kind: Kind::Float }).unwrap();
            let ids = [1, 7, 23, 42, 7, 60, 5];
            let logits = model.logits(None, &ids).unwrap();
            let off = (logits.to_kind(Kind::Double) - naive.logits(&ids)).abs().max().double_value(&[]);
            assert!(off < 1e-4, "{name}: logits are off by {off}");
        }
    }

    #[test]
    fn gguf_logits_are_those_of_transformers() {
        assert_logits("model.q8_0.gguf", "gguf.q8_0.logits");
        assert_logits("model.q4_1.gguf", "gguf.q4_1.logits");
    }

    #[test]
    fn gguf_logits_are_as_far_from_the_originals_as_the_reference_says() {
        let Some(fixture) = Fixture::open() else { return };
        let model = fixture.model("model").logits(None, &fixture.ids("plain.input_ids")).unwrap();
        let distances = fixture.reference["gguf"].as_object().unwrap();
        assert!(!distances.is_empty());
        for (name, wanted) in distances {
            let off = largest_difference(&model, &fixture.floats(name)) - wanted.as_f64().unwrap();
            assert!(off.abs() < 1e-4, "{name}: off by {off}");
        }
    }

    #[test]
    fn hidden_states_after_each_block_are_those_of_transformers() {
        let Some(fixture) = Fixture::open() else { return };
        let (model, ids) = (fixture.model("model"), fixture.ids("plain.input_ids"));
        let length = ids.len() as i64;
        let positions = Tensor::arange(length, (Kind::Int64, Device::Cpu));
        let mut attention = Causal { lengths: vec![length] };
        let angles = model.rope.angles(&positions, model.kind());
        let mut pass = Pass { angles, attention: &mut attention, active: None };
        let mut x = model.embedding.index_select(0, &model.index(ids.iter().map(|id| i64::from(*id))));
        let mut states = vec![x.shallow_clone()];
        for block in &model.blocks {
            x = block.forward(&x, &mut pass, None);
            states.push(x.shallow_clone());
        }
        // transformers' last state is after the final norm
        *states.last_mut().unwrap() = rms_norm(&x, &model.norm, model.config.rms_eps);
        for (at, state) in states.iter().enumerate() {
            let off = largest_difference(state, &fixture.floats(&format!("plain.hidden.{at}")));
            assert!(off < 1e-4, "state {at} is off by {off}");
        }
    }

    #[test]
    fn packed_rows_do_not_see_each_other() {
        let Some(fixture) = Fixture::open() else { return };
        let model = fixture.model("model");
        let (ids, mask) = (fixture.ids("batch.input_ids_right"), fixture.ids("batch.mask_right"));
        let wanted = fixture.floats("batch.last_logits");
        let vocab = model.config().vocab;
        let rows = wanted.len() / vocab;
        let columns = ids.len() / rows;
        let real = |row: usize| (row * columns..(row + 1) * columns).filter(|at| mask[*at] == 1);
        let lengths: Vec<i64> = (0..rows).map(|row| real(row).count() as i64).collect();
        let packed = model.index((0..rows).flat_map(real).map(|at| i64::from(ids[at])));
        let positions = model.index(lengths.iter().flat_map(|length| 0..*length));
        let last = model.index((1..=rows).map(|row| lengths[..row].iter().sum::<i64>() - 1));
        let hidden = model.hidden(&packed, &positions, &mut Causal { lengths }, None, &last);
        assert!(largest_difference(&model.project(&hidden), &wanted) < 1e-4);
    }

    #[test]
    fn impossible_ids_are_refused() {
        let Some(fixture) = Fixture::open() else { return };
        let model = fixture.model("model");
        assert!(model.logits(None, &[]).unwrap_err().to_string().contains("no tokens"));
        assert!(model.logits(None, &[1, 512_000]).unwrap_err().to_string().contains("token 512000"));
        assert!(model.logits(None, &vec![1; 1_000_000]).unwrap_err().to_string().contains("at most"));
    }

    #[test]
    fn bf16_is_near_f32() {
        let Some(fixture) = Fixture::open() else { return };
        let files = ModelFiles::open(&fixture.path("model")).unwrap();
        let model = Model::load(&files, Compute::Bf16, Device::Cpu).unwrap();
        let logits = model.logits(None, &fixture.ids("plain.input_ids")).unwrap();
        let wanted = fixture.floats("plain.logits");
        let largest = wanted.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        // bfloat16 keeps 8 bits; four layers add up a few of its roundings.
        assert!(largest_difference(&logits, &wanted) < f64::from(largest) * 0.03);
    }
}
