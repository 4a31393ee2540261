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
    let (config, arch) = (merged.base.config(), architecture(merged));
    let mut metadata = match merged.base.gguf() {
        Some(base) => kept(base.metadata()),
        None => described(config, &arch).into_iter().chain(tokenizer.iter().cloned()).collect(),
    };
    metadata.extend(stored_as(dtype));
    let names = config.tensors().into_iter();
    let (names, mut entries): (Vec<String>, Vec<Entry>) = names.map(|(name, shape)| placed(name, shape, dtype)).unzip();
    entries.extend(config.rope_factors.as_ref().map(|factors| factors_entry(factors.len())));
    let mut names = names.iter();
    write(path, &metadata, &entries, |entry| {
        // what comes after the last tensor of the model is Llama 3's table
        let Some(name) = names.next() else { return Ok(factor_bytes(config)) };
        let heads = heads_of(name, config).filter(|_| arch == "llama");
        Ok(in_order(merged.stored(name, entry.dtype)?, entry.shape[0], heads))
    })
}

/// Writes an adapter of a model.
///
/// # Errors
/// When it cannot be stored or the disk refuses.
pub fn write_adapter(path: &Path, base: &Merged<'_>, adapter: &Adapter, dtype: Dtype) -> Result<()> {
    let arch = architecture(base);
    // llama.cpp scales every pair by alpha / r
    let own = adapter.pairs.first().map(|pair| adapter.scale(pair) * pair.r as f64);
    let alpha = own.filter(|alpha| *alpha != 0.0).unwrap_or(1.0);
    let text = |key: &str, text: &str| (key.to_string(), Value::Text(text.to_string()));
    let mut metadata = vec![
        text("general.architecture", &arch),
        text("general.type", "adapter"),
        text("adapter.type", "lora"),
        ("adapter.lora.alpha".to_string(), Value::Float(alpha)),
    ];
    metadata.extend(stored_as(dtype));
    let sides: Vec<Side> = (0..adapter.pairs.len()).flat_map(|place| sides(adapter, place, alpha)).collect();
    let entry = |side: &Side| Entry {
        name: side.name.clone(),
        dtype: whole_blocks(dtype, &side.shape),
        shape: side.shape.to_vec(),
    };
    let entries: Vec<Entry> = sides.iter().map(entry).collect();
    let mut sides = sides.iter();
    write(path, &metadata, &entries, |entry| {
        let side = sides.next().expect("an entry is made of each side");
        if quantise::is_beyond(entry.dtype, &side.numbers) {
            let what = format!("`{}` holds numbers beyond 65504, which f16 cannot: choose `dtype: bf16`", side.name);
            return Err(Error::damaged(path, what));
        }
        let bytes = quantise::store(entry.dtype, &side.numbers);
        let bytes = bytes.ok_or_else(|| Error::damaged(path, format!("`{}` cannot be stored", side.name)))?;
        let heads = heads_of(&side.rows_of, base.base.config()).filter(|_| arch == "llama");
        Ok(in_order(bytes, side.shape[0], heads))
    })
}

/// `A` or `B` of an adapted projection.
struct Side {
    name: String,
    shape: [usize; 2],
    numbers: Vec<f32>,
    /// The tensor whose rows are its rows, where they are the model's.
    rows_of: String,
}

/// Returns both sides of a pair; `B` takes up what one alpha for all cannot say.
fn sides(adapter: &Adapter, place: usize, alpha: f64) -> [Side; 2] {
    let pair = &adapter.pairs[place];
    let (a, b) = adapter.matrices(place);
    let factor = (adapter.scale(pair) * pair.r as f64 / alpha) as f32;
    let weight = format!("{}.weight", pair.module);
    let name = gguf_name(&weight).unwrap_or_else(|| weight.clone());
    let b: Vec<f32> = b.iter().map(|number| number * factor).collect();
    let a = Side {
        name: format!("{name}.lora_a"),
        shape: [pair.r, pair.shape[1]],
        numbers: a.to_vec(),
        rows_of: String::new(),
    };
    [a, Side { name: format!("{name}.lora_b"), shape: [pair.shape[0], pair.r], numbers: b, rows_of: weight }]
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

/// Returns stored rows as llama.cpp orders them.
fn in_order(bytes: Vec<u8>, rows: usize, heads: Option<usize>) -> Vec<u8> {
    match heads {
        Some(heads) => interleaved(&bytes, rows, heads),
        None => bytes,
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

    fn tuned() -> Option<(ModelFiles, Adapter)> {
        let (model, tuned) = (tiny_llama("model")?, tiny_llama("adapter_b_all_linear_rslora_micro_mean")?);
        let base = ModelFiles::open(&model).unwrap();
        let adapter = Adapter::open(&tuned, base.config()).unwrap();
        Some((base, adapter))
    }

    fn largest_difference(one: &[f32], two: &[f32]) -> f32 {
        one.iter().zip(two).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()))
    }

    #[test]
    fn a_merged_folder_reads_back_from_gguf_as_it_was_stored() {
        let Some((base, adapter)) = tuned() else { return };
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
        let Some((base, adapter)) = tuned() else { return };
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
