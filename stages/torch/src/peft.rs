//! Adapters as PEFT reads and writes them: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Keys and fields are those of PEFT 0.21 (`docs/developer_guides/checkpoint.md`, `save_and_load.py`).

use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use watershed_weights::adapter::{self, CONFIG, PREFIX, WEIGHTS};
use watershed_weights::{Adapter, LlamaConfig};

use crate::lora::{Init, LoraConfig, Pair, Scaling, Target};
use crate::{Error, Result};

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

/// Reads an adapter.
pub(crate) fn load(folder: &Path, model: &LlamaConfig) -> Result<(LoraConfig, Vec<Pair>, Vec<f32>)> {
    let adapter = Adapter::open(folder, model)?;
    let pair = |pair: adapter::Pair| Pair {
        module: pair.module,
        layer: pair.layer,
        target: Target::ALL[pair.projection],
        shape: pair.shape,
        r: pair.r,
        alpha: pair.alpha,
    };
    let pairs: Vec<Pair> = adapter.pairs.into_iter().map(pair).collect();
    Ok((read_config(&adapter.config, &pairs), pairs, adapter.numbers))
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
