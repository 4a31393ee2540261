//! A LLaMA's config.json: what it must say and what follows from it.
//!
//! `watershed-weights` decides what a config means and which shapes are possible; here only what a user forgot is said in
//! the user's own terms, before any file is read.

use std::path::Path;

use serde_json::{Map, Value, json};
use watershed_engine::StageError;
use watershed_engine::fault::ParamFault;
use watershed_weights::LlamaConfig;

use super::tokenizer::Vocabulary;
use super::weights::Dtype;

const NEEDED: [&str; 4] = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"];

/// Largest size of any dimension; beyond it a typing error is likelier than a wish.
const LARGEST: u64 = 1 << 20;

/// Most parameters of a model; LLaMA 2's largest has half as many. Beyond it a typing error is likelier than a wish.
const MOST_PARAMETERS: u64 = 1 << 37;

/// Returns what is wrong with a config before any file is read.
pub fn faults(config: &Map<String, Value>) -> Vec<ParamFault> {
    let fault = |name: &str, message: String, help: &str| ParamFault::new(format!("config.{name}"), message, help);
    let mut faults: Vec<ParamFault> = NEEDED
        .into_iter()
        .filter(|name| !config.contains_key(*name))
        .map(|name| fault(name, format!("`config` has no `{name}`"), "a LLaMA's config.json has it"))
        .collect();
    let sizes = NEEDED.into_iter().chain(["num_key_value_heads", "head_dim", "vocab_size"]);
    for name in sizes
        .filter(|name| config.get(*name).is_some_and(|size| !size.as_u64().is_some_and(|n| (1..=LARGEST).contains(&n))))
    {
        faults.push(fault(
            name,
            format!("expected a whole number in 1..={LARGEST}, found {}", config[name]),
            "correct the size",
        ));
    }
    if config.get("initializer_range").is_some_and(|std| !std.as_f64().is_some_and(|std| (0.0..=10.0).contains(&std))) {
        faults.push(fault(
            "initializer_range",
            format!("expected a number in 0..=10, found {}", config["initializer_range"]),
            "0.02 is usual",
        ));
    }
    if faults.is_empty() {
        faults.extend(impossible(config))
    }
    faults
}

/// Returns the fault of sizes that are numbers but fit no model.
fn impossible(config: &Map<String, Value>) -> Option<ParamFault> {
    let size = |name: &str| config.get(name).and_then(Value::as_u64);
    let (hidden, heads) = (size("hidden_size")?, size("num_attention_heads")?);
    if !config.contains_key("head_dim") && hidden % heads != 0 {
        let message = format!("{hidden} is no multiple of {heads} heads");
        return Some(ParamFault::new("config.hidden_size", message, "choose a multiple, or give `head_dim`"));
    }
    let vocabulary = Vocabulary { size: 1, special: Vec::new() };
    let full = complete(config, &vocabulary, Dtype::F32).ok()?;
    parse(&full).err().map(|e| ParamFault::new("config", e.to_string(), "see the config.json of a LLaMA"))
}

/// Fields that readers take for real numbers; a number of any other is a whole one where it can be.
const REAL: [&str; 7] = [
    "rope_theta",
    "rms_norm_eps",
    "initializer_range",
    "attention_dropout",
    "factor",
    "low_freq_factor",
    "high_freq_factor",
];

/// Writes numbers of equal value alike, `10000` and `10000.0`: they make the same key, so they must make the same bytes.
fn settle(name: &str, value: &mut Value) {
    match value {
        Value::Object(map) => map.iter_mut().for_each(|(name, value)| settle(name, value)),
        Value::Array(items) => items.iter_mut().for_each(|item| settle(name, item)),
        Value::Number(number) => {
            let Some(float) = number.as_f64().filter(|float| float.abs() <= (1u64 << 53) as f64) else { return };
            if REAL.contains(&name) {
                *value = json!(float + 0.0); // -0 is 0
            } else if float.fract() == 0.0 {
                *value = json!(float as i64);
            }
        }
        _ => {}
    }
}

/// Reads a completed config as the model loader will.
///
/// # Errors
/// What the loader would refuse: another architecture, impossible sizes. More parameters than [`MOST_PARAMETERS`].
pub fn parse(config: &Map<String, Value>) -> Result<LlamaConfig, StageError> {
    let shape = LlamaConfig::of_json(Path::new("config"), &Value::Object(config.clone()))
        .map_err(|e| StageError::failed(e.to_string()))?;
    match shape.parameters() {
        0..=MOST_PARAMETERS => Ok(shape),
        count => Err(StageError::failed(format!(
            "the model would have {count} parameters: expected at most {MOST_PARAMETERS}; correct the sizes"
        ))),
    }
}

/// Fills in what follows from the tokenizer and from Hugging Face's defaults for LLaMA.
///
/// # Errors
/// When the vocabulary is smaller than the tokenizer's.
pub fn complete(
    config: &Map<String, Value>,
    vocabulary: &Vocabulary,
    dtype: Dtype,
) -> Result<Map<String, Value>, StageError> {
    let mut full = config.clone();
    let size = |name: &str| config.get(name).and_then(Value::as_u64).unwrap_or(0);
    let heads = size("num_attention_heads");
    let mut default = |name: &str, value: Value| {
        full.entry(name).or_insert(value);
    };
    default("architectures", json!(["LlamaForCausalLM"]));
    default("model_type", json!("llama"));
    default("num_key_value_heads", json!(heads));
    default("head_dim", json!(size("hidden_size") / heads.max(1)));
    default("vocab_size", json!(vocabulary.size));
    default("hidden_act", json!("silu"));
    default("max_position_embeddings", json!(2048));
    default("initializer_range", json!(0.02));
    default("rms_norm_eps", json!(1e-5));
    default("rope_theta", json!(10000.0));
    default("tie_word_embeddings", json!(false));
    default("attention_bias", json!(false));
    default("mlp_bias", json!(false));
    for (name, id) in &vocabulary.special {
        default(name, json!(id));
    }
    full.iter_mut().for_each(|(name, value)| settle(name, value));
    full.insert("torch_dtype".into(), json!(dtype.torch_name()));
    full.shift_remove("dtype");
    // The order in which a user writes the keys is in no key, so it must be in no byte either.
    full.values_mut().for_each(Value::sort_all_objects);
    full.sort_keys();
    let vocab = full.get("vocab_size").and_then(Value::as_u64).unwrap_or(0) as usize;
    if vocab < vocabulary.size {
        let last = vocabulary.size - 1;
        return Err(StageError::failed(format!(
            "`vocab_size` is {vocab}, but the tokenizer has ids up to {last}: leave it out or raise it"
        )));
    }
    Ok(full)
}
