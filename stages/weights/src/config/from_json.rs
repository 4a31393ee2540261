//! `config.json` as transformers 4 and 5 write it.

use std::path::Path;

use serde_json::Value;

use super::LlamaConfig;
use crate::{Error, Result};

/// Returns the configuration in `json`; `generation` is `generation_config.json`, which may name more end tokens.
///
/// # Errors
/// [`Error::Unsupported`] naming the architecture, activation or scaling that is not supported; [`Error::Damaged`] for
/// missing or impossible numbers.
pub(crate) fn from_json(path: &Path, json: &Value, generation: Option<&Value>) -> Result<LlamaConfig> {
    let model_type = check_supported(path, json)?;
    let (hidden, heads) = (size(path, json, "hidden_size")?, size(path, json, "num_attention_heads")?);
    let head_dim = optional_size(json, "head_dim").unwrap_or(hidden / heads.max(1));
    let truth = |key: &str| json.get(key).and_then(Value::as_bool).unwrap_or(false);
    let theta = number(path, rope(json), "rope_theta")?.or(number(path, Some(json), "rope_theta")?).unwrap_or(10_000.0);
    let config = LlamaConfig {
        hidden,
        heads,
        head_dim,
        layers: size(path, json, "num_hidden_layers")?,
        kv_heads: kv_heads(json, model_type, heads),
        mlp: size(path, json, "intermediate_size")?,
        vocab: size(path, json, "vocab_size")?,
        tied: truth("tie_word_embeddings"),
        rope_theta: theta,
        rope_factors: rope_factors(path, json, head_dim, theta)?,
        rms_eps: number(path, Some(json), "rms_norm_eps")?.unwrap_or(1e-6),
        max_positions: positions(json, model_type),
        // only LLaMA's configuration has these switches; transformers passes over them elsewhere
        qkv_bias: model_type == "qwen2" || model_type == "llama" && truth("attention_bias"),
        o_bias: model_type == "llama" && truth("attention_bias"),
        mlp_bias: model_type == "llama" && truth("mlp_bias"),
        bos: json.get("bos_token_id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok()),
        eos: end_ids(json, generation),
    };
    config.fault().map_or(Ok(config), |fault| Err(Error::damaged(path, fault)))
}

fn check_supported<'a>(path: &Path, json: &'a Value) -> Result<&'a str> {
    let model_type = json.get("model_type").and_then(Value::as_str).unwrap_or("nothing");
    if !["llama", "mistral", "qwen2"].contains(&model_type) {
        return Err(Error::unsupported(
            path,
            format!("`model_type` is `{model_type}`: llama, mistral and qwen2 are supported"),
        ));
    }
    let activation = json.get("hidden_act").and_then(Value::as_str).unwrap_or("silu");
    // two names of one function in transformers
    if !["silu", "swish"].contains(&activation) {
        return Err(Error::unsupported(path, format!("`hidden_act` is `{activation}`: only silu is supported")));
    }
    let rotated = [rope(json), Some(json)].into_iter().flatten().find_map(|map| map.get("partial_rotary_factor"));
    if let Some(share) = rotated.and_then(Value::as_f64).filter(|share| *share != 1.0) {
        return Err(Error::unsupported(
            path,
            format!("`partial_rotary_factor` is {share}: only heads that are rotated whole are supported"),
        ));
    }
    if json.get("quantization_config").is_some_and(|value| !value.is_null()) {
        return Err(Error::unsupported(
            path,
            "its weights are quantised by another program (`quantization_config`): give the original weights or a GGUF file",
        ));
    }
    Ok(model_type)
}

fn size(path: &Path, json: &Value, key: &str) -> Result<usize> {
    optional_size(json, key).ok_or_else(|| Error::damaged(path, format!("`{key}` is missing or no whole number")))
}

fn optional_size(json: &Value, key: &str) -> Option<usize> {
    json.get(key).and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok())
}

/// Returns a number that may be left out or null.
fn number(path: &Path, json: Option<&Value>, key: &str) -> Result<Option<f64>> {
    match json.and_then(|json| json.get(key)).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => {
            let wrong = || Error::damaged(path, format!("`{key}` is {value}: expected a number"));
            value.as_f64().map(Some).ok_or_else(wrong)
        }
    }
}

/// Returns the key-value heads: where they are left out transformers' defaults, where they are null as many as heads.
fn kv_heads(json: &Value, model_type: &str, heads: usize) -> usize {
    let usual = match model_type {
        "mistral" => 8,
        "qwen2" => 32,
        _ => heads,
    };
    let absent = if json.get("num_key_value_heads").is_some() { heads } else { usual };
    optional_size(json, "num_key_value_heads").unwrap_or(absent)
}

/// Longer sequences than a sliding window would need another mask, so the window is the limit where it is in use
/// (Qwen2 writes one that is switched off).
fn positions(json: &Value, model_type: &str) -> usize {
    let longest = optional_size(json, "max_position_embeddings").unwrap_or(2048);
    let is_used = json.get("use_sliding_window").and_then(Value::as_bool) == Some(true);
    // Qwen2's first layers see everything, and these may be all
    let full = optional_size(json, "max_window_layers").unwrap_or(28);
    let is_whole = optional_size(json, "num_hidden_layers").is_some_and(|layers| layers <= full);
    let is_off = model_type == "qwen2" && (!is_used || is_whole);
    let window = if is_off { None } else { optional_size(json, "sliding_window") };
    window.map_or(longest, |window| window.min(longest))
}

/// Returns `rope_scaling` (transformers 4), else `rope_parameters` (5): of two that disagree transformers takes the first, whole.
fn rope(json: &Value) -> Option<&Value> {
    let sections = ["rope_scaling", "rope_parameters"].into_iter().filter_map(|section| json.get(section));
    sections.into_iter().find(|map| map.as_object().is_some_and(|map| !map.is_empty()))
}

fn rope_factors(path: &Path, json: &Value, head_dim: usize, theta: f64) -> Result<Option<Vec<f64>>> {
    let map = rope(json).unwrap_or(&Value::Null);
    let kind = map.get("rope_type").or_else(|| map.get("type")).and_then(Value::as_str).unwrap_or("default");
    match kind {
        "default" => Ok(None),
        "llama3" => llama3_factors(path, map, head_dim, theta).map(Some),
        other => {
            Err(Error::unsupported(path, format!("rotary scaling `{other}` is not supported: default and llama3 are")))
        }
    }
}

/// Returns what `rope_type: llama3` divides each frequency by (transformers `modeling_rope_utils.py`,
/// `_compute_llama3_parameters`): low frequencies by `factor`, high ones by 1, a linear ramp of the quotient between.
fn llama3_factors(path: &Path, map: &Value, head_dim: usize, theta: f64) -> Result<Vec<f64>> {
    let number = |key: &str| {
        let value = map.get(key).and_then(Value::as_f64).filter(|number| *number > 0.0);
        value.ok_or_else(|| Error::damaged(path, format!("rotary scaling llama3 needs `{key}` above 0")))
    };
    let (factor, context) = (number("factor")?, number("original_max_position_embeddings")?);
    let (low, high) = (number("low_freq_factor")?, number("high_freq_factor")?);
    let one = |pair: usize| {
        let wavelength = 2.0 * std::f64::consts::PI * theta.powf(2.0 * pair as f64 / head_dim as f64);
        if wavelength > context / low {
            factor
        } else if wavelength < context / high {
            1.0
        } else {
            let smooth = (context / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    Ok((0..head_dim / 2).map(one).collect())
}

fn end_ids(json: &Value, generation: Option<&Value>) -> Vec<u32> {
    let field = |json: &Value| match json.get("eos_token_id") {
        Some(Value::Array(ids)) => ids.iter().filter_map(Value::as_u64).collect(),
        Some(id) => id.as_u64().into_iter().collect(),
        None => Vec::new(),
    };
    let both = field(json).into_iter().chain(generation.map(field).unwrap_or_default());
    let mut ids: Vec<u32> = both.filter_map(|id| u32::try_from(id).ok()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn small() -> Value {
        json!({"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
            "num_hidden_layers": 2, "intermediate_size": 160, "vocab_size": 512, "eos_token_id": [2, 7]})
    }

    fn read(json: &Value) -> Result<LlamaConfig> {
        from_json(Path::new("config.json"), json, Some(&json!({"eos_token_id": 9})))
    }

    #[test]
    fn end_tokens_of_both_files_count() {
        assert_eq!(read(&small()).unwrap().eos, [2, 7, 9]);
    }

    #[test]
    fn theta_is_read_from_both_spellings() {
        let mut old = small();
        old["rope_theta"] = json!(500_000.0);
        let mut new = small();
        new["rope_parameters"] = json!({"rope_theta": 500_000.0, "rope_type": "default"});
        assert_eq!(read(&old).unwrap(), read(&new).unwrap());
    }

    #[test]
    fn of_two_spellings_that_disagree_the_older_counts_whole() {
        let mut both = small();
        both["rope_theta"] = json!(500_000.0);
        both["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 1e4});
        both["rope_scaling"] = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64});
        let mut old = both.clone();
        old.as_object_mut().unwrap().remove("rope_parameters");
        assert_eq!(read(&both).unwrap(), read(&old).unwrap());
        assert!(read(&both).unwrap().rope_theta == 500_000.0 && read(&both).unwrap().rope_factors.is_some());
        for empty in [json!(null), json!({})] {
            both["rope_scaling"] = empty;
            assert_eq!((read(&both).unwrap().rope_theta, read(&both).unwrap().rope_factors), (1e4, None));
        }
    }

    #[test]
    fn switches_of_another_architecture_are_passed_over() {
        let mut mistral = small();
        mistral["model_type"] = json!("mistral");
        mistral["attention_bias"] = json!(true);
        mistral["mlp_bias"] = json!(true);
        mistral["num_key_value_heads"] = json!(null);
        let config = read(&mistral).unwrap();
        assert_eq!(config.kv_heads, 4, "null is as many as heads");
        assert!(!config.qkv_bias && !config.o_bias && !config.mlp_bias);
        let mut qwen = small();
        qwen["model_type"] = json!("qwen2");
        qwen["use_sliding_window"] = json!(true);
        qwen["sliding_window"] = json!(16);
        assert_eq!(read(&qwen).unwrap().max_positions, 2048, "its first 28 layers see everything");
        qwen["max_window_layers"] = json!(1);
        assert_eq!(read(&qwen).unwrap().max_positions, 16);
    }

    #[test]
    fn llama3_scaling_divides_low_frequencies_only() {
        let mut json = small();
        json["head_dim"] = json!(128);
        json["rope_theta"] = json!(500_000.0);
        json["rope_scaling"] = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
        let factors = read(&json).unwrap().rope_factors.unwrap();
        assert_eq!((factors.len(), factors[0], factors[63]), (64, 1.0, 8.0));
        assert!(factors.is_sorted() && factors.iter().any(|f| *f > 1.0 && *f < 8.0));
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (key, value, word) in [
            ("model_type", json!("gemma"), "`gemma`"),
            ("hidden_act", json!("gelu"), "`gelu`"),
            ("rope_scaling", json!({"type": "yarn", "factor": 4.0}), "`yarn`"),
            ("partial_rotary_factor", json!(0.5), "`partial_rotary_factor` is 0.5"),
            ("rope_parameters", json!({"partial_rotary_factor": 0.25}), "`partial_rotary_factor` is 0.25"),
            ("num_key_value_heads", json!(3), "key-value"),
            ("vocab_size", json!(u64::MAX), "impossible"),
            ("num_hidden_layers", json!(1 << 20), "at most 4096"),
            ("hidden_size", json!(-4), "`hidden_size`"),
            ("rope_theta", json!(-1), "its `rope_theta` is -1: expected a number above 0"),
            ("rope_theta", json!(0), "its `rope_theta` is 0"),
            ("rope_theta", json!("1e6"), "`rope_theta` is \"1e6\": expected a number"),
            ("rms_norm_eps", json!(-1.0), "its `rms_norm_eps` is -1: expected 0 or a small number above"),
        ] {
            let mut json = small();
            json[key] = value;
            let message = read(&json).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }
}
