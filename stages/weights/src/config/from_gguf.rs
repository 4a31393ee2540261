//! GGUF metadata as llama.cpp writes it.

use super::LlamaConfig;
use crate::gguf::{END_KEYS, Value};
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
    if gguf.text("general.type") == Some("adapter") {
        return Err(Error::unsupported(
            gguf.path(),
            "it is an adapter alone: give a model, or export with `format: gguf`",
        ));
    }
    match scaling(gguf, arch) {
        Some(scaling) => Err(Error::unsupported(
            gguf.path(),
            format!("rotary scaling {scaling} is not supported: none and llama3 are; give another base"),
        )),
        None => Ok(arch),
    }
}

/// Names the scaling of rotary frequencies that the metadata asks for. Without a type a factor is a linear one, and a factor of
/// 0 is none (llama.cpp, `load_hparams`); type `none` overrules any factor.
fn scaling(gguf: &Gguf, arch: &str) -> Option<String> {
    let kind = gguf.text(&format!("{arch}.rope.scaling.type")).unwrap_or("linear");
    if kind != "linear" {
        return (kind != "none").then(|| format!("`{kind}`"));
    }
    // the second is the first's old name
    let keys = ["rope.scaling.factor", "rope.scale_linear"].map(|key| format!("{arch}.{key}"));
    let (key, factor) = keys.iter().find_map(|key| Some((key, gguf.get(key)?.as_f64()?)))?;
    (factor != 0.0 && factor != 1.0).then(|| format!("`linear` (`{key}` is {})", as_written(factor)))
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
    let mut ids: Vec<u32> = END_KEYS.iter().filter_map(|key| id(gguf, &format!("tokenizer.ggml.{key}"))).collect();
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

    /// Opens a file of metadata alone.
    fn with(metadata: &[(&str, Value)]) -> (tempfile::TempDir, Gguf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gguf");
        let metadata: Vec<_> = metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        crate::gguf::write::write(&path, &metadata, &[], |_| Ok(Vec::new())).unwrap();
        let gguf = Gguf::open(&path).unwrap();
        (folder, gguf)
    }

    #[test]
    fn a_rotary_factor_is_refused_whether_its_type_is_named_or_not() {
        let (text, number) = (|text: &str| Value::Text(text.into()), Value::Float);
        let kind = "llama.rope.scaling.type";
        let (factor, old) = ("llama.rope.scaling.factor", "llama.rope.scale_linear");
        for (metadata, word) in [
            (vec![(factor, number(4.0))], "`linear` (`llama.rope.scaling.factor` is 4)"),
            (vec![(kind, text("linear")), (factor, number(4.0))], "`linear` (`llama.rope.scaling.factor` is 4)"),
            (vec![(old, number(0.5))], "`linear` (`llama.rope.scale_linear` is 0.5)"),
            (vec![(kind, text("yarn"))], "`yarn`"),
            (vec![(factor, number(1.0))], ""),
            (vec![(factor, number(0.0)), (old, number(4.0))], ""),
            (vec![(kind, text("linear"))], ""),
            (vec![(kind, text("none")), (factor, number(4.0))], ""),
        ] {
            let whole = [&[("general.architecture", text("llama"))], metadata.as_slice()].concat();
            let (_folder, gguf) = with(&whole);
            match check_supported(&gguf) {
                Ok(_) => assert_eq!(word, "", "{metadata:?}"),
                Err(error) => assert!(!word.is_empty() && error.to_string().contains(word), "{metadata:?}: {error}"),
            }
        }
    }

    #[test]
    fn every_end_of_the_metadata_is_one_of_the_configuration() {
        let ids = [("eos", 9), ("eot", 7), ("eom", 8)];
        let keys = ids.map(|(name, id)| (format!("tokenizer.ggml.{name}_token_id"), Value::Unsigned(id)));
        let (_folder, gguf) = with(&keys.each_ref().map(|(key, id)| (key.as_str(), id.clone())));
        assert_eq!(end_ids(&gguf), [7, 8, 9]);
    }
}
