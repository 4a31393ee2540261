//! A model as a Hugging Face folder: configuration, tokenizer, one `model.safetensors`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use safetensors::SafeTensorError;
use safetensors::tensor::{self, View};
use serde_json::{Map, Value, json};
use watershed_engine::StageError;
use watershed_weights::{Error, LlamaConfig, Merged, ModelFiles};

use super::{Dtype, failed};
use crate::random_model::tokenizer::{self, Named};
use crate::text::Tokenizer;

/// Writes the folder; `files` stand beside the weights.
///
/// # Errors
/// When something cannot be read, stored or written.
pub fn write(folder: &Path, files: &[Named], merged: &Merged<'_>, dtype: Dtype) -> Result<(), StageError> {
    fs::create_dir(folder).map_err(|e| StageError::io("create", folder, &e))?;
    tokenizer::write(folder, files)?;
    weights(&folder.join("model.safetensors"), merged, dtype)
}

/// Returns the files that stand beside the weights: the base's own, or what its GGUF says in other words. Reads no weight.
///
/// # Errors
/// When a file cannot be read, the base's tokenizer has no `tokenizer.json`, or a `config.json` cannot say what the GGUF does.
pub fn files(base: &ModelFiles, dtype: Dtype) -> Result<Vec<Named>, StageError> {
    if base.path().is_dir() { of_folder(base, dtype) } else { of_gguf(base, dtype) }
}

/// Takes the base's own files, with the type of the numbers changed.
fn of_folder(files: &ModelFiles, dtype: Dtype) -> Result<Vec<Named>, StageError> {
    let base = files.path();
    let read = |name: &str| fs::read(base.join(name)).map_err(|e| StageError::io("read", &base.join(name), &e));
    let mut named = tokenizer::files(base)?;
    if base.join("generation_config.json").exists() {
        named.push(("generation_config.json", read("generation_config.json")?));
    }
    let mut config: Map<String, Value> = serde_json::from_slice(&read("config.json")?)
        .map_err(|e| StageError::failed(format!("`{}/config.json` is no configuration: {e}", base.display())))?;
    if config.contains_key("tie_word_embeddings") {
        config.insert("tie_word_embeddings".into(), files.config().tied.into());
    }
    named.push(("config.json", pretty(&stored_as(config, dtype).into())));
    Ok(named)
}

/// Writes down what a GGUF file says in other words.
fn of_gguf(files: &ModelFiles, dtype: Dtype) -> Result<Vec<Named>, StageError> {
    let (base, config) = (files.path(), files.config());
    if config.rope_factors.is_some() {
        let why = "it scales its rotary frequencies by a table, which a config.json cannot say; use `format: gguf`";
        return Err(StageError::failed(format!("`{}`: {why}", base.display())));
    }
    let tokenizer = Tokenizer::open(base)?;
    let json = tokenizer_json(&tokenizer).map_err(|why| StageError::failed(format!("`{}`: {why}", base.display())))?;
    Ok(vec![
        ("tokenizer.json", pretty(&json)),
        ("tokenizer_config.json", pretty(&tokenizer_config(&tokenizer))),
        ("config.json", pretty(&stored_as(described(config), dtype).into())),
    ])
}

fn stored_as(mut config: Map<String, Value>, dtype: Dtype) -> Map<String, Value> {
    let name = if dtype == Dtype::Bf16 { "bfloat16" } else { "float16" };
    config.insert("torch_dtype".into(), name.into());
    if config.contains_key("dtype") {
        config.insert("dtype".into(), name.into());
    }
    config
}

fn described(config: &LlamaConfig) -> Map<String, Value> {
    let is_qwen = config.qkv_bias && !config.o_bias;
    let name = if is_qwen { "Qwen2ForCausalLM" } else { "LlamaForCausalLM" };
    let json = json!({
        "architectures": [name],
        "model_type": if is_qwen { "qwen2" } else { "llama" },
        "hidden_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.mlp,
        "vocab_size": config.vocab,
        "tie_word_embeddings": config.tied,
        "rope_theta": config.rope_theta,
        "rms_norm_eps": config.rms_eps,
        "max_position_embeddings": config.max_positions,
        "attention_bias": config.o_bias,
        "mlp_bias": config.mlp_bias,
        "hidden_act": "silu",
        "bos_token_id": config.bos,
        "eos_token_id": config.eos,
    });
    json.as_object().cloned().unwrap_or_default()
}

/// A GGUF says by a flag that texts begin with a token, a `tokenizer.json` by its post-processor.
fn tokenizer_json(tokenizer: &Tokenizer) -> Result<Value, String> {
    let mut json: Value = serde_json::from_str(&tokenizer.to_json()?).map_err(|e| e.to_string())?;
    if let Some(bos) = tokenizer.special().bos.filter(|_| tokenizer.special().add_bos) {
        let text = tokenizer.text_of(bos);
        let token = json!({"SpecialToken": {"id": text, "type_id": 0}});
        let [one, two] = ["A", "B"].map(|id| json!({"Sequence": {"id": id, "type_id": 0}}));
        let mut known = Map::new();
        known.insert(text.clone(), json!({"id": text, "ids": [bos], "tokens": [text]}));
        json["post_processor"] = json!({
            "type": "TemplateProcessing", "single": [token, one], "pair": [token, one, two], "special_tokens": known,
        });
    }
    Ok(json)
}

fn tokenizer_config(tokenizer: &Tokenizer) -> Value {
    let special = tokenizer.special();
    let text = |id: Option<u32>| id.map_or(Value::Null, |id| tokenizer.text_of(id).into());
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": text(special.bos),
        "eos_token": text(special.eos),
        "add_bos_token": special.add_bos,
        "chat_template": tokenizer.chat().map(|chat| chat.source.as_str()),
    })
}

fn pretty(value: &Value) -> Vec<u8> {
    (serde_json::to_string_pretty(value).expect("JSON values always serialise") + "\n").into_bytes()
}

/// A tensor that is made when its turn to be written comes.
struct Lazy<'a> {
    merged: &'a Merged<'a>,
    name: String,
    shape: Vec<usize>,
    dtype: Dtype,
    /// The first error of any tensor: the writer has no way to pass one on.
    fault: &'a Mutex<Option<Error>>,
}

impl View for Lazy<'_> {
    fn dtype(&self) -> tensor::Dtype {
        if self.dtype == Dtype::Bf16 { tensor::Dtype::BF16 } else { tensor::Dtype::F16 }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self.merged.stored(&self.name, self.dtype.stored()) {
            Ok(bytes) => bytes.into(),
            Err(error) => {
                self.fault.lock().expect("no thread panics while it holds this lock").get_or_insert(error);
                vec![0; self.data_len()].into()
            }
        }
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * 2
    }
}

fn weights(path: &Path, merged: &Merged<'_>, dtype: Dtype) -> Result<(), StageError> {
    let fault = Mutex::new(None);
    let lazy = |(name, shape): (String, Vec<usize>)| (name.clone(), Lazy { merged, name, shape, dtype, fault: &fault });
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    let tensors: Vec<_> = merged.base.config().tensors().into_iter().map(lazy).collect();
    let written = tensor::serialize_to_file(tensors, Some(metadata), path);
    if let Some(error) = fault.into_inner().expect("no thread panics while it holds this lock") {
        return Err(failed(error));
    }
    written.map_err(|e| match e {
        SafeTensorError::IoError(e) => StageError::io("write", path, &e),
        other => StageError::failed(format!("cannot write `{}`: {other}", path.display())),
    })
}
