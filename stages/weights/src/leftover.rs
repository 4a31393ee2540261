//! Tensors that a model's file holds and its configuration does not ask for.
//!
//! Inside a block each of them changes what the model computes: a file of four layers beside `num_hidden_layers: 1`, or a bias
//! that the architecture does not read, answers nonsense and says nothing. Outside the blocks others may ride along, such as
//! the output projection that a tied model does not use.

use std::collections::HashSet;

use crate::LlamaConfig;
use crate::gguf::gguf_name;

/// Biases outside the blocks that no supported architecture has.
const OUTSIDE: [&str; 4] = ["lm_head.bias", "model.norm.bias", "output.bias", "output_norm.bias"];

/// Tables of rotary angles, which old files hold and everybody computes anew.
const ROTARY: [&str; 2] = ["rotary_emb.", "attn_rot_embd"];

/// Returns what is wrong with a tensor that is left over, none when none matters; `names` are in the format's spelling.
pub(crate) fn fault<'a>(
    mut names: impl Iterator<Item = &'a str>,
    config: &LlamaConfig,
    is_gguf: bool,
) -> Option<String> {
    let spelled = |name: String| if is_gguf { gguf_name(&name).unwrap_or(name) } else { name };
    let read: HashSet<String> = config.tensors().into_iter().map(|(name, _)| spelled(name)).collect();
    let (blocks, count) = if is_gguf { ("blk.", "block_count") } else { ("model.layers.", "num_hidden_layers") };
    let name = names.find(|name| !read.contains(*name) && matters(name, blocks))?;
    let mend = if is_gguf { "fetch the model again" } else { "give the `config.json` that belongs to it" };
    let layer = name.strip_prefix(blocks).and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
    Some(match layer {
        Some(layer) if layer >= config.layers => {
            format!("it holds `{name}`, but its `{count}` is {}: {mend}", config.layers)
        }
        _ => format!("it holds `{name}`, which a model of its configuration does not read: {mend}, or another model"),
    })
}

fn matters(name: &str, blocks: &str) -> bool {
    let is_rotary = ROTARY.iter().any(|part| name.contains(part));
    OUTSIDE.contains(&name) || name.starts_with(blocks) && !is_rotary
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::ModelFiles;
    use crate::fixture::{copy, tiny_llama};

    fn config(keys: Value) -> LlamaConfig {
        let mut json = json!({"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2,
            "num_key_value_heads": 4, "intermediate_size": 160, "vocab_size": 512, "tie_word_embeddings": true});
        json.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        LlamaConfig::of_json(Path::new("config.json"), &json).unwrap()
    }

    /// Returns the fault of a file that holds every tensor of a configuration, and `more`.
    fn with(keys: Value, is_gguf: bool, more: &str) -> Option<String> {
        let config = config(keys);
        let names = config.tensors().into_iter().map(|(name, _)| name);
        let mut names: Vec<String> = names.map(|name| if is_gguf { gguf_name(&name).unwrap() } else { name }).collect();
        names.push(more.to_owned());
        fault(names.iter().map(String::as_str), &config, is_gguf)
    }

    #[test]
    fn more_layers_than_the_configuration_counts_are_refused() {
        let Some(model) = tiny_llama("model") else { return };
        let folder = tempfile::tempdir().unwrap();
        copy(&model, folder.path());
        let path = folder.path().join("config.json");
        let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        json["num_hidden_layers"] = json!(1);
        std::fs::write(&path, json.to_string()).unwrap();
        let message = ModelFiles::open(folder.path()).err().unwrap().to_string();
        assert!(message.contains("it holds `model.layers.1."), "{message}");
        assert!(
            message.contains("but its `num_hidden_layers` is 1: give the `config.json` that belongs to it"),
            "{message}"
        );
    }

    #[test]
    fn what_a_block_does_not_read_is_refused() {
        for name in ["self_attn.q_proj.bias", "mlp.down_proj.bias", "input_layernorm.bias", "self_attn.q_norm.weight"] {
            let name = format!("model.layers.0.{name}");
            let wanted = format!(
                "it holds `{name}`, which a model of its configuration does not read: give the `config.json` that belongs to it, or another model"
            );
            assert_eq!(with(json!({}), false, &name), Some(wanted));
        }
        // Qwen2 reads the biases of q, k and v alone
        let qwen = || json!({"model_type": "qwen2"});
        assert_eq!(with(qwen(), false, "model.layers.0.self_attn.q_proj.bias"), None);
        assert!(with(qwen(), false, "model.layers.0.self_attn.o_proj.bias").is_some());
        assert!(with(json!({}), true, "blk.1.ffn_up.bias").is_some());
        assert!(with(json!({}), true, "blk.2.ffn_up.weight").unwrap().contains("but its `block_count` is 2"));
        assert!(with(json!({}), false, "lm_head.bias").is_some());
    }

    #[test]
    fn what_changes_nothing_may_stay() {
        for name in ["lm_head.weight", "model.layers.1.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"] {
            assert_eq!(with(json!({}), false, name), None, "{name}");
        }
        for name in ["blk.0.attn_rot_embd.weight", "rope_freqs.weight", "output.weight"] {
            assert_eq!(with(json!({}), true, name), None, "{name}");
        }
    }
}
