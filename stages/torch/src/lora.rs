//! Low-rank adapters (Hu et al. 2021, section 4.1).
//!
//! A frozen `W: [out, in]` gains `B A * scale` with `A: [rank, in]`, `B: [out, rank]`. All pairs lie in one flat f32
//! buffer, every `A` before every `B`: the optimiser is then a handful of operations on one tensor, a checkpoint is a
//! copy of it, and LoRA+ is a split in the middle. Names follow PEFT, so that adapters load in both.

use std::path::Path;

use tch::{Device, Kind, Tensor};
use watershed_weights::LlamaConfig;

use crate::draw::Draws;
use crate::{Error, Model, Result, peft};

/// A projection that an adapter may attach to, in the order of [`LlamaConfig::projections`].
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
    /// Dropout on the adapter's input, in training only, drawn anew for each projection; below 1.
    pub dropout: f64,
    /// Projections with an adapter, in every layer.
    pub targets: Vec<Target>,
    /// How the scale is made.
    pub scaling: Scaling,
    /// How `A` starts.
    pub init: Init,
}

/// An adapter on a device.
pub struct Lora {
    config: LoraConfig,
    pairs: Vec<Pair>,
    /// Index in `pairs` by layer and target.
    places: Vec<[Option<usize>; 7]>,
    /// `[parameters]` in f32: what is trained, saved and resumed.
    flat: Tensor,
    /// The same in the model's type; `flat` itself under f32.
    cast: Tensor,
    /// `A` then `B` of each pair: views into `cast`, cut off from its graph.
    views: Vec<(Tensor, Tensor)>,
    /// The same into `flat`: what is folded into a matrix must not be rounded before.
    masters: Vec<(Tensor, Tensor)>,
}

/// One adapted projection.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pair {
    /// Module path in the model (`model.layers.0.self_attn.q_proj`).
    pub(crate) module: String,
    pub(crate) layer: usize,
    pub(crate) target: Target,
    /// `[out, in]` of the projection.
    pub(crate) shape: [usize; 2],
    pub(crate) r: usize,
    pub(crate) alpha: f64,
}

/// An adapter in use, and its dropout.
#[derive(Clone, Copy)]
pub(crate) struct Active<'a> {
    lora: &'a Lora,
    dropout: f64,
    /// Seeds the dropout of each block, with the block's number.
    seed: u64,
    learns: bool,
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
    ///
    /// # Errors
    /// [`Error::Input`] for a rank of 0, a dropout outside [0, 1) or no targets.
    pub fn new(model: &Model, config: &LoraConfig, seed: u64) -> Result<Lora> {
        if config.r == 0 || config.targets.is_empty() || !(0.0..1.0).contains(&config.dropout) {
            let (r, dropout) = (config.r, config.dropout);
            return Err(Error::Input(format!(
                "an adapter needs targets, a rank above 0 and a dropout in [0, 1), not {r} and {dropout}"
            )));
        }
        let mut targets = config.targets.clone();
        targets.sort_unstable();
        targets.dedup();
        let config = LoraConfig { targets, ..config.clone() };
        let pairs = pairs(model.config(), &config);
        let starts = pairs.iter().flat_map(|pair| pair.start(config.init, seed));
        let mut numbers: Vec<f32> = starts.collect();
        numbers.resize(numbers.len() + pairs.iter().map(Pair::b_len).sum::<usize>(), 0.0);
        Ok(Lora::of(model, config, pairs, &numbers))
    }

    /// Reads a PEFT adapter folder (`adapter_config.json`, `adapter_model.safetensors`).
    ///
    /// # Errors
    /// [`Error::File`] naming the key when tensors are missing, extra or of other shapes, and for DoRA or `.bin` files.
    pub fn load(folder: &Path, model: &Model) -> Result<Lora> {
        let (config, pairs, numbers) = peft::load(folder, model.config())?;
        Ok(Lora::of(model, config, pairs, &numbers))
    }

    /// Writes a PEFT adapter folder; `base` becomes `base_model_name_or_path`.
    pub fn save(&self, folder: &Path, base: &str) -> Result<()> {
        peft::save(folder, base, &self.config, &self.pairs, &self.numbers())
    }

    /// Returns the adapter's shape.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// Returns the number of trainable parameters.
    pub fn parameters(&self) -> usize {
        self.flat.numel()
    }

    /// Returns the Frobenius norm of every `B` by module path; a trained adapter has none at zero.
    pub fn b_norms(&self) -> Vec<(String, f64)> {
        let norm = |(pair, (_, b)): (&Pair, &(Tensor, Tensor))| (pair.module.clone(), b.norm().double_value(&[]));
        self.pairs.iter().zip(&self.masters).map(norm).collect()
    }

    /// Returns all numbers in f32, every `A` before every `B`.
    pub fn numbers(&self) -> Vec<f32> {
        let mut numbers = vec![0.0; self.parameters()];
        self.flat.to_device(Device::Cpu).copy_data(&mut numbers, self.parameters());
        numbers
    }

    fn of(model: &Model, config: LoraConfig, pairs: Vec<Pair>, numbers: &[f32]) -> Lora {
        let flat = Tensor::from_slice(numbers).to_device(model.device());
        let cast = if model.kind() == Kind::Float { flat.shallow_clone() } else { flat.to_kind(model.kind()) };
        let (views, masters) = (views(&cast, &pairs), views(&flat, &pairs));
        let mut places = vec![[None; 7]; model.config().layers];
        for (index, pair) in pairs.iter().enumerate() {
            places[pair.layer][pair.target as usize] = Some(index);
        }
        Lora { config, pairs, places, flat, cast, views, masters }
    }

    /// Returns the flat buffer, and where its `B`s begin.
    pub(crate) fn flat(&self) -> (&Tensor, i64) {
        (&self.flat, self.pairs.iter().map(Pair::a_len).sum::<usize>() as i64)
    }

    /// Carries a changed flat buffer over to what the forward pass reads.
    pub(crate) fn refresh(&mut self) {
        if self.cast.kind() != Kind::Float {
            self.cast.copy_(&self.flat);
        }
    }

    /// Returns the tensors to differentiate by, in the order of the flat buffer.
    pub(crate) fn leaves(&self) -> Vec<Tensor> {
        let a = self.views.iter().map(|(a, _)| a);
        a.chain(self.views.iter().map(|(_, b)| b)).map(|view| view.set_requires_grad(true)).collect()
    }

    /// Returns the lowest layer with an adapter.
    pub(crate) fn lowest_layer(&self) -> usize {
        self.pairs.iter().map(|pair| pair.layer).min().unwrap_or(0)
    }

    /// Returns the places of a layer's tensors in [`Lora::leaves`].
    pub(crate) fn leaves_of(&self, layer: usize) -> Vec<usize> {
        let a = self.pairs.iter().enumerate().filter(|(_, pair)| pair.layer == layer).map(|(index, _)| index);
        a.clone().chain(a.map(|index| self.pairs.len() + index)).collect()
    }

    /// Returns `B A * scale` of the f32 numbers in f32, none when the projection has no adapter.
    pub(crate) fn delta(&self, layer: usize, target: Target) -> Option<Tensor> {
        let index = self.places[layer][target as usize]?;
        let (a, b) = &self.masters[index];
        Some(b.matmul(a) * self.pairs[index].scale(self.config.scaling))
    }
}

impl<'a> Active<'a> {
    /// The adapter as it answers: without dropout.
    pub(crate) fn still(lora: &'a Lora) -> Active<'a> {
        Active { lora, dropout: 0.0, seed: 0, learns: false }
    }

    /// The adapter as it learns.
    pub(crate) fn learning(lora: &'a Lora, seed: u64) -> Active<'a> {
        Active { lora, dropout: lora.config.dropout, seed, learns: true }
    }

    /// Says whether gradients will be asked for, now or when the pass is computed again.
    pub(crate) fn learns(self) -> bool {
        self.learns
    }

    /// Returns the adapter.
    pub(crate) fn lora(self) -> &'a Lora {
        self.lora
    }

    /// Begins block `layer`: its dropout depends on nothing drawn before, so that it can be computed again.
    pub(crate) fn enter(self, layer: usize) {
        if self.dropout > 0.0 {
            let bits = Draws::named(self.seed, &[b"block", &(layer as u64).to_le_bytes()]).bits();
            tch::manual_seed(bits.cast_signed());
        }
    }

    /// Returns `y + scale * dropout(x) A' B'`, or `y` when the projection has no adapter.
    pub(crate) fn add(self, layer: usize, target: Target, x: &Tensor, y: Tensor) -> Tensor {
        let Some(index) = self.lora.places[layer][target as usize] else { return y };
        let (a, b) = &self.lora.views[index];
        let low = if self.dropout > 0.0 { x.dropout(self.dropout, true).matmul(&a.tr()) } else { x.matmul(&a.tr()) };
        // The scale goes on the narrow side, rank numbers a token.
        y.addmm(&(low * self.lora.pairs[index].scale(self.lora.config.scaling)), &b.tr())
    }
}

impl Pair {
    pub(crate) fn a_len(&self) -> usize {
        self.r * self.shape[1]
    }

    pub(crate) fn b_len(&self) -> usize {
        self.shape[0] * self.r
    }

    fn scale(&self, scaling: Scaling) -> f64 {
        match scaling {
            Scaling::Lora => self.alpha / self.r as f64,
            Scaling::Rslora => self.alpha / (self.r as f64).sqrt(),
        }
    }

    fn start(&self, init: Init, seed: u64) -> Vec<f32> {
        let mut draws = Draws::named(seed, &[self.module.as_bytes()]);
        let bound = 1.0 / (self.shape[1] as f64).sqrt();
        let one = || match init {
            Init::Kaiming => ((2.0 * draws.uniform() - 1.0) * bound) as f32,
            Init::Gaussian => (draws.normal() / self.r as f64) as f32,
        };
        std::iter::repeat_with(one).take(self.a_len()).collect()
    }
}

fn pairs(model: &LlamaConfig, config: &LoraConfig) -> Vec<Pair> {
    let projections = model.projections();
    let layers = (0..model.layers).flat_map(|layer| config.targets.iter().map(move |target| (layer, *target)));
    let pair = |(layer, target): (usize, Target)| {
        let (name, shape, _) = projections[target as usize];
        let module = format!("model.layers.{layer}.{name}");
        Pair { module, layer, target, shape, r: config.r, alpha: config.alpha }
    };
    layers.map(pair).collect()
}

fn views(buffer: &Tensor, pairs: &[Pair]) -> Vec<(Tensor, Tensor)> {
    let mut a_start = 0;
    let mut b_start: usize = pairs.iter().map(Pair::a_len).sum();
    let cut = |start: &mut usize, rows: usize, columns: usize| {
        let flat = buffer.narrow(0, *start as i64, (rows * columns) as i64);
        *start += rows * columns;
        flat.view([rows as i64, columns as i64]).detach()
    };
    let both = |pair: &Pair| (cut(&mut a_start, pair.r, pair.shape[1]), cut(&mut b_start, pair.shape[0], pair.r));
    pairs.iter().map(both).collect()
}

#[cfg(test)]
mod tests;
