//! Adapters as PEFT reads and writes them: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Keys and fields are those of PEFT 0.21 (`docs/developer_guides/checkpoint.md`, `save_and_load.py`).

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use watershed_weights::LlamaConfig;

use crate::lora::{Init, LoraConfig, Pair, Scaling, Target};
use crate::{Error, Result};

const PREFIX: &str = "base_model.model.";
const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// Writes an adapter; `numbers` are every `A`, then every `B`.
pub(crate) fn save(folder: &Path, base: &str, config: &LoraConfig, pairs: &[Pair], numbers: &[f32]) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::write(folder, e))?;
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let mut views = Vec::new();
    let mut start = 0;
    for (name, shape) in tensors(pairs) {
        let end = start + shape[0] * shape[1] * 4;
        let view = TensorView::new(Dtype::F32, shape.to_vec(), &bytes[start..end]);
        views.push((name, view.map_err(|e| Error::write(folder, e))?));
        start = end;
    }
    let metadata = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
    let path = folder.join(WEIGHTS);
    safetensors::serialize_to_file(views, Some(metadata), &path).map_err(|e| Error::write(&path, e))?;
    let path = folder.join(CONFIG);
    let text = serde_json::to_string_pretty(&config_json(base, config, pairs)).map_err(|e| Error::write(&path, e))?;
    std::fs::write(&path, text + "\n").map_err(|e| Error::write(&path, e))
}

/// Returns name and shape of every tensor, in the order of the flat buffer.
fn tensors(pairs: &[Pair]) -> impl Iterator<Item = (String, [usize; 2])> {
    let a = pairs.iter().map(|pair| (format!("{PREFIX}{}.lora_A.weight", pair.module), [pair.r, pair.shape[1]]));
    let b = pairs.iter().map(|pair| (format!("{PREFIX}{}.lora_B.weight", pair.module), [pair.shape[0], pair.r]));
    a.chain(b)
}

fn config_json(base: &str, config: &LoraConfig, pairs: &[Pair]) -> Value {
    let odd = |is_odd: &dyn Fn(&Pair) -> bool, value: &dyn Fn(&Pair) -> Value| {
        let odd = pairs.iter().filter(|pair| is_odd(pair));
        odd.map(|pair| (pair.module.clone(), value(pair))).collect::<serde_json::Map<_, _>>()
    };
    json!({
        "alpha_pattern": odd(&|pair| pair.alpha != config.alpha, &|pair| number(pair.alpha)),
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": match config.init { Init::Kaiming => json!(true), Init::Gaussian => json!("gaussian") },
        "lora_alpha": number(config.alpha),
        "lora_dropout": config.dropout,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": config.r,
        "rank_pattern": odd(&|pair| pair.r != config.r, &|pair| json!(pair.r)),
        "target_modules": config.targets.iter().map(|target| target.name()).collect::<Vec<_>>(),
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": config.scaling == Scaling::Rslora,
    })
}

/// PEFT declares alpha an integer; it is written as one whenever it is whole.
fn number(alpha: f64) -> Value {
    if alpha.fract() == 0.0 && alpha.abs() < 1e15 { json!(alpha as i64) } else { json!(alpha) }
}

/// Reads an adapter. Which projections it adapts, and at which rank, is what its tensors say; the configuration gives the
/// scale.
pub(crate) fn load(folder: &Path, model: &LlamaConfig) -> Result<(LoraConfig, Vec<Pair>, Vec<f32>)> {
    let path = folder.join(CONFIG);
    let bytes = std::fs::read(&path).map_err(|e| Error::read(&path, e))?;
    let json: Value = serde_json::from_slice(&bytes).map_err(|e| Error::read(&path, e))?;
    check_supported(&json).map_err(|why| Error::read(&path, why))?;
    let path = folder.join(WEIGHTS);
    if !path.exists() && folder.join("adapter_model.bin").exists() {
        return Err(Error::read(
            folder,
            "`adapter_model.bin` is a pickle and is never unpickled: save it as safetensors",
        ));
    }
    let bytes = std::fs::read(&path).map_err(|e| Error::read(&path, e))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| Error::read(&path, e))?;
    let pairs = read_pairs(&file, &json, model).map_err(|why| Error::read(&path, why))?;
    let numbers = read_numbers(&file, &pairs).map_err(|why| Error::read(&path, why))?;
    Ok((read_config(&json, &pairs), pairs, numbers))
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

fn read_pairs(file: &SafeTensors<'_>, json: &Value, model: &LlamaConfig) -> std::result::Result<Vec<Pair>, String> {
    let mut pairs = BTreeMap::new();
    for name in file.names() {
        let module = name.strip_prefix(PREFIX).ok_or_else(|| format!("`{name}` is no PEFT key"))?;
        let Some((module, side)) = module.strip_suffix(".weight").and_then(|rest| rest.rsplit_once(".lora_")) else {
            return Err(format!("`{name}` is not supported: only lora_A and lora_B of linear projections are"));
        };
        let (layer, target) =
            place(module, model).ok_or_else(|| format!("`{name}`: the base has no projection `{module}`"))?;
        if side != "A" {
            continue;
        }
        let shape = file.tensor(name).map_err(|e| e.to_string())?.shape().to_vec();
        let r = shape.first().copied().filter(|r| *r > 0).ok_or_else(|| format!("`{name}` is empty"))?;
        let alpha = pattern(&json["alpha_pattern"], module).or(json["lora_alpha"].as_f64()).unwrap_or(r as f64);
        let shape = model.projections()[target as usize].1;
        pairs.insert((layer, target), Pair { module: module.to_owned(), layer, target, shape, r, alpha });
    }
    if pairs.is_empty() {
        return Err("it holds no adapter weights: was it saved from a patched `state_dict`?".to_owned());
    }
    if file.len() != 2 * pairs.len() {
        return Err("some `lora_A` or `lora_B` is without its other half".to_owned());
    }
    Ok(pairs.into_values().collect())
}

fn place(module: &str, model: &LlamaConfig) -> Option<(usize, Target)> {
    let (layer, name) = module.strip_prefix("model.layers.")?.split_once('.')?;
    let layer = layer.parse().ok().filter(|layer| *layer < model.layers)?;
    let index = model.projections().iter().position(|(projection, _, _)| *projection == name)?;
    Some((layer, Target::ALL[index]))
}

/// Returns the entry of a `rank_pattern` or `alpha_pattern` that matches: the module itself or its end at a dot, as PEFT's
/// `(.*\.)?key$` does for plain names.
fn pattern(patterns: &Value, module: &str) -> Option<f64> {
    let matches = |key: &str| module == key || module.strip_suffix(key).is_some_and(|rest| rest.ends_with('.'));
    patterns.as_object()?.iter().find(|(key, _)| matches(key)).and_then(|(_, value)| value.as_f64())
}

fn read_numbers(file: &SafeTensors<'_>, pairs: &[Pair]) -> std::result::Result<Vec<f32>, String> {
    let mut numbers = Vec::new();
    for (name, shape) in tensors(pairs) {
        let tensor = file.tensor(&name).map_err(|_| format!("`{name}` is missing"))?;
        if tensor.shape() != shape {
            return Err(format!(
                "`{name}` is {:?}, the base asks for {shape:?}: is it another model's adapter?",
                tensor.shape()
            ));
        }
        let dtype = watershed_weights::Dtype::parse(&format!("{:?}", tensor.dtype()));
        let dtype = dtype.ok_or_else(|| format!("`{name}` is {:?}: give f32, f16 or bf16", tensor.dtype()))?;
        let start = numbers.len();
        numbers.resize(start + shape[0] * shape[1], 0.0);
        watershed_weights::dequant::expand(dtype, tensor.data(), &mut numbers[start..]);
    }
    Ok(numbers)
}

fn read_config(json: &Value, pairs: &[Pair]) -> LoraConfig {
    let mut targets: Vec<Target> = pairs.iter().map(|pair| pair.target).collect();
    targets.sort_unstable();
    targets.dedup();
    LoraConfig {
        r: json["r"].as_u64().map_or(pairs[0].r, |r| r as usize),
        alpha: json["lora_alpha"].as_f64().unwrap_or(pairs[0].alpha),
        dropout: json["lora_dropout"].as_f64().filter(|p| (0.0..1.0).contains(p)).unwrap_or(0.0),
        targets,
        scaling: if json["use_rslora"].as_bool() == Some(true) { Scaling::Rslora } else { Scaling::Lora },
        init: if json["init_lora_weights"] == json!("gaussian") { Init::Gaussian } else { Init::Kaiming },
    }
}
