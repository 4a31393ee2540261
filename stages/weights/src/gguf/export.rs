//! Models and adapters as GGUF files, named and laid out as llama.cpp's `convert_hf_to_gguf.py` and `convert_lora_to_gguf.py`
//! do: for architecture `llama` the rows of q and k are interleaved head by head, vectors stay f32.

use std::path::Path;

use super::write::{Entry, write};
use super::{Value, gguf_name};
use crate::{Adapter, Dtype, Error, LlamaConfig, Merged, Result, quantise};

/// Writes a merged model. A GGUF base's metadata is kept; another's is made from its configuration and `tokenizer`.
///
/// # Errors
/// When a tensor cannot be read or stored, or the disk refuses.
pub fn write_model(path: &Path, merged: &Merged<'_>, tokenizer: &[(String, Value)], dtype: Dtype) -> Result<()> {
    let config = merged.base.config();
    let arch = architecture(merged);
    let mut metadata = match merged.base.gguf() {
        Some(base) => kept(base.metadata()),
        None => described(config, &arch).into_iter().chain(tokenizer.iter().cloned()).collect(),
    };
    metadata.extend(stored_as(dtype));
    let tensors: Vec<(String, Entry)> =
        config.tensors().into_iter().map(|(name, shape)| placed(name, shape, dtype)).collect();
    let names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    let mut entries: Vec<Entry> = tensors.iter().map(|(_, entry)| entry.clone()).collect();
    entries.extend(config.rope_factors.as_ref().map(|factors| factors_entry(factors.len())));
    let mut at = 0;
    write(path, &metadata, &entries, |entry| {
        at += 1;
        let Some(name) = names.get(at - 1) else { return Ok(factor_bytes(config)) };
        let heads = heads_of(name, config).filter(|_| arch == "llama");
        let rows = entry.shape[0];
        merged
            .stored(name, entry.dtype)
            .map(|bytes| heads.map_or(bytes.clone(), |heads| interleaved(&bytes, rows, heads)))
    })
}

/// Writes an adapter of a model; its `B` takes up what one alpha for all cannot say.
///
/// # Errors
/// When it cannot be stored or the disk refuses.
pub fn write_adapter(path: &Path, base: &Merged<'_>, adapter: &Adapter, dtype: Dtype) -> Result<()> {
    let arch = architecture(base);
    let alpha = adapter.pairs.first().map_or(1.0, |pair| adapter.scale(pair) * pair.r as f64);
    let text = |key: &str, text: &str| (key.to_string(), Value::Text(text.to_string()));
    let mut metadata = vec![
        text("general.architecture", &arch),
        text("general.type", "adapter"),
        text("adapter.type", "lora"),
        ("adapter.lora.alpha".to_string(), Value::Float(alpha)),
    ];
    metadata.extend(stored_as(dtype));
    let mut tensors = Vec::new();
    for (place, pair) in adapter.pairs.iter().enumerate() {
        let (a, b) = adapter.matrices(place);
        // llama.cpp scales by alpha / r of the pair
        let factor = (adapter.scale(pair) * pair.r as f64 / alpha) as f32;
        let b: Vec<f32> = b.iter().map(|number| number * factor).collect();
        let heads = heads_of(&format!("{}.", pair.module), base.base.config()).filter(|_| arch == "llama");
        let name = gguf_name(&format!("{}.weight", pair.module)).unwrap_or_default();
        tensors.push((format!("{name}.lora_a"), vec![pair.r, pair.shape[1]], a.to_vec(), None));
        tensors.push((format!("{name}.lora_b"), vec![pair.shape[0], pair.r], b, heads));
    }
    let entry = |(name, shape, ..): &(String, Vec<usize>, Vec<f32>, Option<usize>)| Entry {
        name: name.clone(),
        dtype: whole_blocks(dtype, shape),
        shape: shape.clone(),
    };
    let entries: Vec<Entry> = tensors.iter().map(entry).collect();
    let mut numbers = tensors.iter();
    write(path, &metadata, &entries, |entry| {
        let (name, shape, numbers, heads) = numbers.next().expect("an entry is made of each tensor");
        let bytes = quantise::store(entry.dtype, numbers);
        let bytes = bytes.ok_or_else(|| Error::damaged(path, format!("`{name}` cannot be stored")))?;
        Ok(heads.map_or(bytes.clone(), |heads| interleaved(&bytes, shape[0], heads)))
    })
}

fn architecture(merged: &Merged<'_>) -> String {
    let config = merged.base.config();
    let own = merged.base.gguf().and_then(|base| base.text("general.architecture"));
    own.unwrap_or(if config.qkv_bias && !config.o_bias { "qwen2" } else { "llama" }).to_string()
}

/// What says how tensors are stored; it is written anew.
const STORED: [&str; 2] = ["general.file_type", "general.quantization_version"];

fn kept<'a>(metadata: impl Iterator<Item = (&'a str, &'a Value)>) -> Vec<(String, Value)> {
    let is_kept = |key: &str| !STORED.contains(&key) && !key.starts_with("split.");
    metadata.filter(|(key, _)| is_kept(key)).map(|(key, value)| (key.to_string(), value.clone())).collect()
}

/// llama.cpp's `llama_ftype`.
fn stored_as(dtype: Dtype) -> Vec<(String, Value)> {
    let number = |key: &str, number: u64| (key.to_string(), Value::Unsigned(number));
    match dtype {
        Dtype::Q8_0 => vec![number(STORED[0], 7), number(STORED[1], 2)],
        Dtype::Bf16 => vec![number(STORED[0], 32)],
        Dtype::F16 => vec![number(STORED[0], 1)],
        _ => vec![number(STORED[0], 0)],
    }
}

fn described(config: &LlamaConfig, arch: &str) -> Vec<(String, Value)> {
    let sizes = [
        ("context_length", config.max_positions),
        ("embedding_length", config.hidden),
        ("block_count", config.layers),
        ("feed_forward_length", config.mlp),
        ("attention.head_count", config.heads),
        ("attention.head_count_kv", config.kv_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("rope.dimension_count", config.head_dim),
        ("vocab_size", config.vocab),
    ];
    let numbers = [("rope.freq_base", config.rope_theta), ("attention.layer_norm_rms_epsilon", config.rms_eps)];
    let sizes = sizes.map(|(key, size)| (format!("{arch}.{key}"), Value::Unsigned(size as u64)));
    let numbers = numbers.map(|(key, number)| (format!("{arch}.{key}"), Value::Float(number)));
    let arch = [("general.architecture".to_string(), Value::Text(arch.to_string()))];
    arch.into_iter().chain(sizes).chain(numbers).collect()
}

fn placed(name: String, shape: Vec<usize>, dtype: Dtype) -> (String, Entry) {
    let gguf = gguf_name(&name).unwrap_or_else(|| name.clone());
    // llama.cpp keeps vectors in f32
    let dtype = if shape.len() == 1 { Dtype::F32 } else { whole_blocks(dtype, &shape) };
    (name, Entry { name: gguf, dtype, shape })
}

/// A row that is no whole number of blocks is stored in halves.
fn whole_blocks(dtype: Dtype, shape: &[usize]) -> Dtype {
    if dtype.size_bytes(shape).is_some() { dtype } else { Dtype::F16 }
}

fn factors_entry(count: usize) -> Entry {
    Entry { name: "rope_freqs.weight".to_owned(), dtype: Dtype::F32, shape: vec![count] }
}

fn factor_bytes(config: &LlamaConfig) -> Vec<u8> {
    config.rope_factors.iter().flatten().flat_map(|factor| (*factor as f32).to_le_bytes()).collect()
}

/// Returns the heads whose rows llama.cpp interleaves.
fn heads_of(name: &str, config: &LlamaConfig) -> Option<usize> {
    match name {
        _ if name.contains(".q_proj.") => Some(config.heads),
        _ if name.contains(".k_proj.") => Some(config.kv_heads),
        _ => None,
    }
}

/// Returns stored rows with those of each head taken from Hugging Face's halves to GGUF's interleaved order (`permute` of
/// llama.cpp's converter).
fn interleaved(bytes: &[u8], rows: usize, heads: usize) -> Vec<u8> {
    let (row_bytes, head_dim) = (bytes.len() / rows, rows / heads);
    let mut out = Vec::with_capacity(bytes.len());
    for row in 0..rows {
        let (head, i, half) = (row / head_dim, row % head_dim / 2, row % 2);
        let from = (head * head_dim + half * (head_dim / 2) + i) * row_bytes;
        out.extend_from_slice(&bytes[from..from + row_bytes]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelFiles;
    use crate::fixture::tiny_llama;

    fn largest_difference(one: &[f32], two: &[f32]) -> f32 {
        one.iter().zip(two).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()))
    }

    #[test]
    fn a_merged_folder_reads_back_from_gguf_as_it_was_stored() {
        let (Some(model), Some(tuned)) = (tiny_llama("model"), tiny_llama("adapter_b_all_linear_rslora_micro_mean"))
        else {
            return;
        };
        let base = ModelFiles::open(&model).unwrap();
        let adapter = Adapter::open(&tuned, base.config()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (dtype, off) in [(Dtype::F32, 0.0), (Dtype::F16, 5e-4), (Dtype::Bf16, 4e-3), (Dtype::Q8_0, 4.1e-3)] {
            let path = folder.path().join("model.gguf");
            let merged = Merged { base: &base, adapter: Some(&adapter) };
            write_model(&path, &merged, &[], dtype).unwrap();
            let again = ModelFiles::open(&path).unwrap();
            let shape = |files: &ModelFiles| LlamaConfig { bos: None, eos: Vec::new(), ..files.config().clone() };
            assert_eq!(shape(&base), shape(&again));
            for (name, _) in base.config().tensors() {
                let (wanted, found) = (merged.numbers(&name).unwrap(), again.tensor(&name).unwrap().to_f32());
                let largest = wanted.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                assert!(largest_difference(&wanted, &found) <= off * largest, "{name} as {}", dtype.name());
            }
            let plain = Merged { base: &base, adapter: None }.numbers("model.layers.0.mlp.up_proj.weight").unwrap();
            assert!(largest_difference(&plain, &merged.numbers("model.layers.0.mlp.up_proj.weight").unwrap()) > 1e-3);
        }
    }

    #[test]
    fn gguf_again_as_gguf_keeps_metadata_and_numbers() {
        let Some(path) = tiny_llama("model.q8_0.gguf") else { return };
        let base = ModelFiles::open(&path).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("again.gguf");
        write_model(&copy, &Merged { base: &base, adapter: None }, &[], Dtype::Q8_0).unwrap();
        let again = ModelFiles::open(&copy).unwrap();
        assert_eq!(base.config(), again.config());
        for (key, value) in base.gguf().unwrap().metadata().filter(|(key, _)| !STORED.contains(key)) {
            assert_eq!(again.gguf().unwrap().get(key), Some(value), "{key}");
        }
        for (name, _) in base.config().tensors() {
            let (wanted, found) = (base.tensor(&name).unwrap(), again.tensor(&name).unwrap());
            assert!(largest_difference(&wanted.to_f32(), &found.to_f32()) < 1e-3, "{name}");
            assert_eq!(wanted.dtype(), found.dtype(), "{name}");
        }
    }

    #[test]
    fn an_adapter_in_gguf_is_the_same_product() {
        let (Some(model), Some(tuned)) = (tiny_llama("model"), tiny_llama("adapter_b_all_linear_rslora_micro_mean"))
        else {
            return;
        };
        let base = ModelFiles::open(&model).unwrap();
        let adapter = Adapter::open(&tuned, base.config()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("adapter.gguf");
        write_adapter(&path, &Merged { base: &base, adapter: None }, &adapter, Dtype::F32).unwrap();
        let file = crate::Gguf::open(&path).unwrap();
        let alpha = file.get("adapter.lora.alpha").unwrap().as_f64().unwrap();
        for pair in
            adapter.pairs.iter().filter(|pair| pair.module.ends_with("v_proj") || pair.module.ends_with("q_proj"))
        {
            let name = gguf_name(&format!("{}.weight", pair.module)).unwrap();
            let (a, b) =
                (file.tensor(&format!("{name}.lora_a")).unwrap(), file.tensor(&format!("{name}.lora_b")).unwrap());
            let heads = heads_of(&format!("{}.", pair.module), base.config());
            let b = if let Some(heads) = heads { b.halved(heads) } else { b };
            let mut config = adapter.config.clone();
            config["use_rslora"] = false.into();
            let numbers = [a.to_f32(), b.to_f32()].concat();
            let again = Adapter { config, pairs: vec![crate::adapter::Pair { alpha, ..pair.clone() }], numbers };
            let [mut one, mut two] = [(); 2].map(|()| vec![0.0f32; pair.shape[0] * pair.shape[1]]);
            adapter.merge(&pair.module, &mut one);
            again.merge(&pair.module, &mut two);
            assert!(largest_difference(&one, &two) < 1e-6, "{}", pair.module);
        }
    }
}
