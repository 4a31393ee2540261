//! Adapters as PEFT writes them: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Keys and fields are those of PEFT 0.21 (`docs/developer_guides/checkpoint.md`, `save_and_load.py`). Which projections are
//! adapted, and at which rank, is what the tensors say; the configuration gives the scale, and must agree with them.

mod supported;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use serde_json::Value;

use crate::folder::{Shard, read_json};
use crate::{Error, LlamaConfig, Result};

/// What PEFT puts before a module's path.
pub const PREFIX: &str = "base_model.model.";
/// The file of an adapter's settings.
pub const CONFIG: &str = "adapter_config.json";
/// The file of its numbers.
pub const WEIGHTS: &str = "adapter_model.safetensors";

/// A low-rank adapter, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// `adapter_config.json`.
    pub config: Value,
    /// The adapted projections, by layer and projection.
    pub pairs: Vec<Pair>,
    /// Every `A`, then every `B`, in the order of `pairs`.
    pub numbers: Vec<f32>,
}

/// One adapted projection: `W: [out, in]` gains `B A * scale` with `A: [r, in]`, `B: [out, r]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Module path in the model (`model.layers.0.self_attn.q_proj`).
    pub module: String,
    /// Layer, from 0.
    pub layer: usize,
    /// Index in [`LlamaConfig::projections`].
    pub projection: usize,
    /// `[out, in]` of the projection.
    pub shape: [usize; 2],
    /// Rank.
    pub r: usize,
    /// Numerator of the scale.
    pub alpha: f64,
}

impl Adapter {
    /// Reads an adapter of a model of this shape.
    ///
    /// # Errors
    /// Names what is missing, extra, of another shape, not finite or not supported; pickles are never opened.
    pub fn open(folder: &Path, model: &LlamaConfig) -> Result<Adapter> {
        let path = folder.join(CONFIG);
        let config = read_json(&path)?;
        supported::check(&config).map_err(|why| Error::unsupported(&path, why))?;
        let path = folder.join(WEIGHTS);
        if !path.exists() && folder.join("adapter_model.bin").exists() {
            let what = "`adapter_model.bin` is a pickle and is never unpickled: save it as safetensors";
            return Err(Error::unsupported(folder, what));
        }
        let file = Shard::open(&path)?;
        let pairs = read_pairs(&file, &config, model).map_err(|why| Error::damaged(&path, why))?;
        supported::check_agreement(&config, &pairs).map_err(|why| Error::damaged(&path, why))?;
        let numbers = read_numbers(&file, &pairs, &path)?;
        Ok(Adapter { config, pairs, numbers })
    }

    /// Says whether the scale is alpha / sqrt(r) (Kalajdzievski 2023), not alpha / r.
    pub fn is_rslora(&self) -> bool {
        self.config["use_rslora"].as_bool() == Some(true)
    }

    /// Returns the pair of a module and its place in `pairs`.
    pub fn pair(&self, module: &str) -> Option<(usize, &Pair)> {
        self.pairs.iter().enumerate().find(|(_, pair)| pair.module == module)
    }

    /// Returns what `B A` is multiplied with.
    pub fn scale(&self, pair: &Pair) -> f64 {
        let r = pair.r as f64;
        pair.alpha / if self.is_rslora() { r.sqrt() } else { r }
    }

    /// Returns `A` and `B` of a pair by its place in `pairs`.
    pub fn matrices(&self, place: usize) -> (&[f32], &[f32]) {
        let a_len = |pair: &Pair| pair.r * pair.shape[1];
        let b_len = |pair: &Pair| pair.shape[0] * pair.r;
        let pair = &self.pairs[place];
        let a: usize = self.pairs[..place].iter().map(a_len).sum();
        let b = self.pairs.iter().map(a_len).sum::<usize>() + self.pairs[..place].iter().map(b_len).sum::<usize>();
        (&self.numbers[a..a + a_len(pair)], &self.numbers[b..b + b_len(pair)])
    }

    /// Adds `B A * scale` to the weights `[out, in]` of a module; leaves others alone. Sums run in rank order within a row,
    /// so that threads change no bit.
    pub fn merge(&self, module: &str, weights: &mut [f32]) {
        let Some((place, pair)) = self.pair(module) else { return };
        let ((a, b), scale, columns) = (self.matrices(place), self.scale(pair) as f32, pair.shape[1]);
        weights.par_chunks_mut(columns).zip(b.par_chunks(pair.r)).for_each(|(row, b)| {
            let mut delta = vec![0.0f32; columns];
            for (b, a) in b.iter().zip(a.chunks(columns)) {
                delta.iter_mut().zip(a).for_each(|(delta, a)| *delta += b * a);
            }
            row.iter_mut().zip(delta).for_each(|(w, delta)| *w += delta * scale);
        });
    }
}

fn read_pairs(file: &Shard, json: &Value, model: &LlamaConfig) -> std::result::Result<Vec<Pair>, String> {
    let mut pairs = BTreeMap::new();
    for name in file.names() {
        let module = name.strip_prefix(PREFIX).ok_or_else(|| format!("`{name}` is no PEFT key"))?;
        let Some((module, side)) = module.strip_suffix(".weight").and_then(|rest| rest.rsplit_once(".lora_")) else {
            return Err(format!("`{name}` is not supported: only lora_A and lora_B of linear projections are"));
        };
        let (layer, projection) =
            place(module, model).ok_or_else(|| format!("`{name}`: the base has no projection `{module}`"))?;
        if side != "A" {
            continue;
        }
        let r = file.shape(name).and_then(|shape| shape.first().copied()).filter(|r| *r > 0);
        let r = r.ok_or_else(|| format!("`{name}` is empty"))?;
        let alpha = pattern(&json["alpha_pattern"], module).or(json["lora_alpha"].as_f64()).unwrap_or(r as f64);
        let shape = model.projections()[projection].1;
        pairs.insert((layer, projection), Pair { module: module.to_owned(), layer, projection, shape, r, alpha });
    }
    if pairs.is_empty() {
        return Err("it holds no adapter weights: was it saved from a patched `state_dict`?".to_owned());
    }
    if file.names().count() != 2 * pairs.len() {
        return Err("some `lora_A` or `lora_B` is without its other half".to_owned());
    }
    Ok(pairs.into_values().collect())
}

fn place(module: &str, model: &LlamaConfig) -> Option<(usize, usize)> {
    let (layer, name) = module.strip_prefix("model.layers.")?.split_once('.')?;
    let layer = layer.parse().ok().filter(|layer| *layer < model.layers)?;
    Some((layer, model.projections().iter().position(|(projection, _, _)| *projection == name)?))
}

/// Returns the entry of a `rank_pattern` or `alpha_pattern` that matches: the module itself or its end at a dot, as PEFT's
/// `(.*\.)?key$` does for plain names, which is all that [`supported::check`] lets through; the first that matches counts.
fn pattern(patterns: &Value, module: &str) -> Option<f64> {
    let matches = |key: &str| module == key || module.strip_suffix(key).is_some_and(|rest| rest.ends_with('.'));
    patterns.as_object()?.iter().find(|(key, _)| matches(key)).and_then(|(_, value)| value.as_f64())
}

/// Returns name and shape of every tensor of these pairs, in the order of the numbers.
pub fn tensors(pairs: &[Pair]) -> impl Iterator<Item = (String, [usize; 2])> {
    let a = pairs.iter().map(|pair| (format!("{PREFIX}{}.lora_A.weight", pair.module), [pair.r, pair.shape[1]]));
    let b = pairs.iter().map(|pair| (format!("{PREFIX}{}.lora_B.weight", pair.module), [pair.shape[0], pair.r]));
    a.chain(b)
}

fn read_numbers(file: &Shard, pairs: &[Pair], path: &Path) -> Result<Vec<f32>> {
    let mut numbers = Vec::new();
    for (name, shape) in tensors(pairs) {
        let found = file.shape(&name).ok_or_else(|| Error::damaged(path, format!("`{name}` is missing")))?;
        if found != shape {
            let what = format!("`{name}` is {found:?}, the base asks for {shape:?}: is it another model's adapter?");
            return Err(Error::damaged(path, what));
        }
        let read = file.tensor(&name)?.to_f32();
        if let Some(number) = read.iter().find(|number| !number.is_finite()) {
            let what = format!("`{name}` holds {number}: train the adapter again, or take an earlier checkpoint of it");
            return Err(Error::damaged(path, what));
        }
        numbers.extend(read);
    }
    Ok(numbers)
}
