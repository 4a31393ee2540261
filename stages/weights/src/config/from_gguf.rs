//! GGUF metadata as llama.cpp writes it.

use super::LlamaConfig;
use crate::gguf::Value;
use crate::{Error, Gguf, Result};

/// Returns the configuration of a GGUF file.
///
/// # Errors
/// As [`super::from_json`].
pub(crate) fn from_gguf(gguf: &Gguf) -> Result<LlamaConfig> {
    let arch = check_supported(gguf)?;
    let size = |key: &str| size(gguf, &format!("{arch}.{key}"));
    let (hidden, heads) = (size("embedding_length")?, size("attention.head_count")?);
    let head_dim = size("attention.key_length").unwrap_or(hidden / heads.max(1));
    let number = |key: &str| gguf.get(&format!("{arch}.{key}")).and_then(Value::as_f64).map(as_written);
    let config = LlamaConfig {
        hidden,
        heads,
        head_dim,
        layers: size("block_count")?,
        kv_heads: size("attention.head_count_kv").unwrap_or(heads),
        mlp: size("feed_forward_length")?,
        vocab: vocabulary(gguf)?,
        tied: gguf.tensor("output.weight").is_none(),
        rope_theta: number("rope.freq_base").unwrap_or(10_000.0),
        rope_factors: rope_factors(gguf),
        rms_eps: number("attention.layer_norm_rms_epsilon").unwrap_or(1e-5),
        max_positions: positions(size("context_length").ok(), size("attention.sliding_window").ok()),
        qkv_bias: gguf.tensor("blk.0.attn_q.bias").is_some(),
        o_bias: gguf.tensor("blk.0.attn_output.bias").is_some(),
        mlp_bias: gguf.tensor("blk.0.ffn_gate.bias").is_some(),
        bos: id(gguf, "tokenizer.ggml.bos_token_id"),
        eos: end_ids(gguf),
    };
    let rotated = size("rope.dimension_count").unwrap_or(head_dim);
    if rotated != head_dim {
        return Err(Error::unsupported(gguf.path(), format!("it rotates {rotated} of {head_dim} numbers of a head")));
    }
    config.fault().map_or(Ok(config), |fault| Err(Error::damaged(gguf.path(), fault)))
}

fn check_supported(gguf: &Gguf) -> Result<&str> {
    let arch = gguf.text("general.architecture").unwrap_or("nothing");
    if !["llama", "qwen2"].contains(&arch) {
        return Err(Error::unsupported(
            gguf.path(),
            format!("`general.architecture` is `{arch}`: llama and qwen2 are supported"),
        ));
    }
    if gguf.unsigned(&format!("{arch}.expert_count")).is_some_and(|count| count > 0) {
        return Err(Error::unsupported(gguf.path(), "mixtures of experts are not supported: give a dense model"));
    }
    let scaling = gguf.text(&format!("{arch}.rope.scaling.type")).unwrap_or("none");
    if scaling != "none" {
        return Err(Error::unsupported(
            gguf.path(),
            format!("rotary scaling `{scaling}` is not supported: none and llama3 are"),
        ));
    }
    Ok(arch)
}

/// Longer sequences than a sliding window would need another mask, so the window is the limit; 0 switches it off.
fn positions(context: Option<usize>, window: Option<usize>) -> usize {
    let longest = context.unwrap_or(2048);
    window.filter(|window| *window > 0).map_or(longest, |window| window.min(longest))
}

fn size(gguf: &Gguf, key: &str) -> Result<usize> {
    let number = gguf.unsigned(key).and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| Error::damaged(gguf.path(), format!("metadata `{key}` is missing or no whole number")))
}

/// GGUF keeps 1e-5 as the single next to it; a `config.json` of the same model says 1e-5.
fn as_written(number: f64) -> f64 {
    (number as f32).to_string().parse().unwrap_or(number)
}

fn vocabulary(gguf: &Gguf) -> Result<usize> {
    let embedding = gguf.tensor("token_embd.weight").and_then(|tensor| tensor.shape().first().copied());
    embedding.ok_or_else(|| Error::Missing { path: gguf.path().to_owned(), tensor: "token_embd.weight".to_owned() })
}

/// Llama 3's scaling is written as a tensor of divisors.
fn rope_factors(gguf: &Gguf) -> Option<Vec<f64>> {
    Some(gguf.tensor("rope_freqs.weight")?.to_f32().into_iter().map(f64::from).collect())
}

fn id(gguf: &Gguf, key: &str) -> Option<u32> {
    gguf.unsigned(key).and_then(|id| u32::try_from(id).ok())
}

fn end_ids(gguf: &Gguf) -> Vec<u32> {
    let keys = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"];
    let mut ids: Vec<u32> = keys.iter().filter_map(|key| id(gguf, key)).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sliding_window_is_the_longest_sequence() {
        assert_eq!(positions(Some(32_768), Some(4096)), 4096);
        assert_eq!(positions(Some(32_768), Some(0)), 32_768);
        assert_eq!(positions(None, None), 2048);
    }
}
