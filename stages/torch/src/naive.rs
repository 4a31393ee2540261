//! LLaMA as its papers write it, one head at a time and in f64, for tests: what the model that is fast must equal.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use watershed_weights::LlamaConfig;

use crate::draw::Draws;
use crate::source::Source;
use crate::{Error, Result};

/// A small model's weights, drawn by a seed.
pub(crate) struct Naive {
    config: LlamaConfig,
    tensors: HashMap<String, Tensor>,
}

/// Configurations that differ in what a tensor more or less means: by name, and the keys that make them.
pub(crate) fn shapes() -> [(&'static str, Value); 4] {
    [
        ("one key a query, output of its own", json!({"num_key_value_heads": 4, "tie_word_embeddings": false})),
        ("grouped keys, tied output", json!({"num_key_value_heads": 2, "tie_word_embeddings": true})),
        ("Qwen2", json!({"model_type": "qwen2", "num_key_value_heads": 2, "tie_word_embeddings": true})),
        (
            "biases everywhere",
            json!({"attention_bias": true, "mlp_bias": true, "num_key_value_heads": 1, "tie_word_embeddings": false}),
        ),
    ]
}

impl Naive {
    /// Draws a model of two blocks with these keys in its `config.json`, its numbers of type `kind`.
    pub(crate) fn new(keys: &Value, kind: Kind) -> Naive {
        let mut json = json!({
            "model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "vocab_size": 61, "rms_norm_eps": 1e-5, "rope_theta": 1000.0, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2
        });
        json.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let config = LlamaConfig::of_json(Path::new("config.json"), &json).unwrap();
        // torch's generator is the process's: drawing from it would disturb the dropout of tests beside this one
        let draw = |(name, shape): (String, Vec<usize>)| {
            let mut draws = Draws::named(17, &[name.as_bytes()]);
            let numbers: Vec<f32> = (0..shape.iter().product()).map(|_| (draws.normal() * 0.3) as f32).collect();
            let shape: Vec<i64> = shape.iter().map(|size| *size as i64).collect();
            (name, Tensor::from_slice(&numbers).view(shape.as_slice()).to_kind(kind))
        };
        let tensors = config.tensors().into_iter().map(draw).collect();
        Naive { config, tensors }
    }

    /// Returns the logits `[ids, vocab]` in f64.
    pub(crate) fn logits(&self, ids: &[u32]) -> Tensor {
        let ids = Tensor::from_slice(&ids.iter().map(|id| i64::from(*id)).collect::<Vec<_>>());
        let mut x = self.get("model.embed_tokens.weight").index_select(0, &ids);
        for layer in 0..self.config.layers {
            let part = |name: &str| format!("model.layers.{layer}.{name}");
            let attended = self.attend(layer, &self.norm(&x, &part("input_layernorm.weight")));
            x += self.linear(&attended, &part("self_attn.o_proj"));
            let normed = self.norm(&x, &part("post_attention_layernorm.weight"));
            let gate = self.linear(&normed, &part("mlp.gate_proj"));
            let gated = &gate * gate.sigmoid() * self.linear(&normed, &part("mlp.up_proj"));
            x += self.linear(&gated, &part("mlp.down_proj"));
        }
        let head = if self.config.tied { "model.embed_tokens.weight" } else { "lm_head.weight" };
        self.norm(&x, "model.norm.weight").matmul(&self.get(head).tr())
    }

    fn attend(&self, layer: usize, x: &Tensor) -> Tensor {
        let (width, tokens) = (self.config.head_dim as i64, x.size()[0]);
        let [q, k, v] = ["q", "k", "v"].map(|p| self.linear(x, &format!("model.layers.{layer}.self_attn.{p}_proj")));
        let later = Tensor::ones([tokens, tokens], (Kind::Bool, Device::Cpu)).triu(1);
        let head = |head: i64| {
            let group = head * self.config.kv_heads as i64 / self.config.heads as i64;
            let of = |x: &Tensor, head: i64| x.narrow(1, head * width, width);
            let scores = self.rotate(&of(&q, head)).matmul(&self.rotate(&of(&k, group)).tr()) / (width as f64).sqrt();
            scores.masked_fill(&later, f64::NEG_INFINITY).softmax(-1, Kind::Double).matmul(&of(&v, group))
        };
        Tensor::cat(&(0..self.config.heads as i64).map(head).collect::<Vec<_>>(), 1)
    }

    /// Turns each pair `(i, i + width / 2)` of a head by `position * theta^(-2 i / width)`.
    fn rotate(&self, x: &Tensor) -> Tensor {
        let (tokens, half) = (x.size()[0], self.config.head_dim / 2);
        let turn = |i: usize| self.config.rope_theta.powf(-(i as f64) / half as f64);
        let turns = Tensor::from_slice(&(0..half).map(turn).collect::<Vec<f64>>());
        let angles = Tensor::arange(tokens, (Kind::Double, Device::Cpu)).outer(&turns);
        let halves = x.chunk(2, 1);
        let low = &halves[0] * angles.cos() - &halves[1] * angles.sin();
        Tensor::cat(&[low, &halves[1] * angles.cos() + &halves[0] * angles.sin()], 1)
    }

    fn norm(&self, x: &Tensor, name: &str) -> Tensor {
        let square = (x * x).mean_dim(-1, true, Kind::Double);
        x / (square + self.config.rms_eps).sqrt() * self.get(name)
    }

    fn linear(&self, x: &Tensor, module: &str) -> Tensor {
        let y = x.matmul(&self.get(&format!("{module}.weight")).tr());
        let bias = format!("{module}.bias");
        if self.tensors.contains_key(&bias) { y + self.get(&bias) } else { y }
    }

    fn get(&self, name: &str) -> Tensor {
        self.tensors[name].to_kind(Kind::Double)
    }
}

impl Source for Naive {
    fn config(&self) -> &LlamaConfig {
        &self.config
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        let found = self.tensors.get(name).map(Tensor::copy);
        found.ok_or_else(|| Error::Input(format!("a model has no tensor `{name}`")))
    }
}
