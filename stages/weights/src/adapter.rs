//! Adapters as PEFT writes them: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Keys and fields are those of PEFT 0.21 (`docs/developer_guides/checkpoint.md`, `save_and_load.py`). Which projections are
//! adapted, and at which rank, is what the tensors say; the configuration gives the scale.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use serde_json::{Value, json};

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
    /// Names what is missing, extra, of another shape or not supported; pickles are never opened.
    pub fn open(folder: &Path, model: &LlamaConfig) -> Result<Adapter> {
        let path = folder.join(CONFIG);
        let config = read_json(&path)?;
        check_supported(&config).map_err(|why| Error::unsupported(&path, why))?;
        let path = folder.join(WEIGHTS);
        if !path.exists() && folder.join("adapter_model.bin").exists() {
            let what = "`adapter_model.bin` is a pickle and is never unpickled: save it as safetensors";
            return Err(Error::unsupported(folder, what));
        }
        let file = Shard::open(&path)?;
        let pairs = read_pairs(&file, &config, model).map_err(|why| Error::damaged(&path, why))?;
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

fn check_supported(json: &Value) -> std::result::Result<(), String> {
    let kind = json["peft_type"].as_str().unwrap_or("nothing");
    if kind != "LORA" {
        return Err(format!("`peft_type` is `{kind}`: only LORA is supported"));
    }
    if json["use_dora"].as_bool() == Some(true) {
        return Err("DoRA adapters (`use_dora`) are not supported: merge it into its base with PEFT".to_owned());
    }
    let is_set = |key: &&str| !matches!(&json[*key], Value::Null | Value::Bool(false)) && json[*key] != json!([]);
    match ["modules_to_save", "lora_bias", "fan_in_fan_out"].iter().find(|key| is_set(key)) {
        Some(key) => Err(format!("`{key}` is set, which is not supported")),
        None if json["r"].as_u64().is_some_and(|r| r > 0) && json["lora_alpha"].is_number() => Ok(()),
        None => Err("`r` or `lora_alpha` is missing".to_owned()),
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
/// `(.*\.)?key$` does for plain names.
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
        numbers.extend(file.tensor(&name)?.to_f32());
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelFiles;
    use crate::fixture::{copy, tiny_llama};

    #[test]
    fn merging_adds_the_product_and_leaves_others_alone() {
        let pair = Pair { module: "m".into(), layer: 0, projection: 0, shape: [2, 3], r: 2, alpha: 4.0 };
        let numbers = vec![1.0, 2.0, 3.0, 0.0, 1.0, 0.0, 1.0, 0.0, 2.0, -1.0];
        let adapter = Adapter { config: json!({}), pairs: vec![pair], numbers };
        let mut weights = vec![1.0; 6];
        adapter.merge("other", &mut weights);
        assert_eq!(weights, [1.0; 6]);
        adapter.merge("m", &mut weights);
        assert_eq!(weights, [3.0, 5.0, 7.0, 5.0, 7.0, 13.0]);
        let rslora = Adapter { config: json!({"use_rslora": true}), ..adapter };
        assert_eq!(rslora.scale(&rslora.pairs[0]), 4.0 / 2f64.sqrt());
    }

    #[test]
    fn adapters_that_do_not_fit_are_refused_by_name() {
        let (Some(model), Some(dora)) = (tiny_llama("model"), tiny_llama("adapter_c_dora")) else { return };
        let config = ModelFiles::open(&model).unwrap().config().clone();
        let refusal = |folder: &Path, config: &LlamaConfig| Adapter::open(folder, config).unwrap_err().to_string();
        assert!(refusal(&dora, &config).contains("use_dora"));
        let sound = tiny_llama("adapter_a_qv_token_mean").unwrap();
        let wider = LlamaConfig { hidden: 2 * config.hidden, ..config.clone() };
        assert!(refusal(&sound, &wider).contains("is it another model's adapter?"));
        let shallow = LlamaConfig { layers: 1, ..config.clone() };
        assert!(refusal(&sound, &shallow).contains("the base has no projection `model.layers."));
        let folder = tempfile::tempdir().unwrap();
        copy(&sound, folder.path());
        let weights = std::fs::read(sound.join(WEIGHTS)).unwrap();
        std::fs::write(folder.path().join(WEIGHTS), &weights[..weights.len() - 4]).unwrap();
        assert!(refusal(folder.path(), &config).contains(WEIGHTS));
    }
}
