//! The shape of a LLaMA model, in one spelling for `config.json` and for GGUF metadata.

mod from_gguf;
mod from_json;

use std::path::Path;

use serde_json::Value;

use crate::Result;

pub(crate) use from_gguf::from_gguf;
pub(crate) use from_json::from_json;

/// Layers of a model at most; the largest known have fewer than 200. Names are made for each before any weight is looked at.
const MOST_LAYERS: usize = 4096;

/// Everything that decides how a LLaMA model computes.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaConfig {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Number of transformer blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; fewer than `heads` under grouped-query attention.
    pub kv_heads: usize,
    /// Width of one head; not always `hidden / heads`.
    pub head_dim: usize,
    /// Width of the gated MLP.
    pub mlp: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// True when the output projection is the embedding itself.
    pub tied: bool,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Divisors of the `head_dim / 2` rotary frequencies, where the model scales them (Llama 3.1).
    pub rope_factors: Option<Vec<f64>>,
    /// Epsilon of RMSNorm.
    pub rms_eps: f64,
    /// Longest sequence the model was made for, in tokens.
    pub max_positions: usize,
    /// True when q, k and v have a bias (Qwen2, or `attention_bias`).
    pub qkv_bias: bool,
    /// True when the attention's output projection has a bias.
    pub o_bias: bool,
    /// True when the MLP's projections have a bias.
    pub mlp_bias: bool,
    /// Beginning-of-sequence id, where the model names one.
    pub bos: Option<u32>,
    /// End-of-sequence ids, sorted; `generation_config.json` may name several.
    pub eos: Vec<u32>,
}

impl LlamaConfig {
    /// Returns the configuration in a `config.json`; `path` is what errors call it.
    ///
    /// # Errors
    /// As for a model's folder: an architecture that is not supported, missing or impossible numbers.
    pub fn of_json(path: &Path, json: &Value) -> Result<LlamaConfig> {
        from_json(path, json, None)
    }

    /// Returns the Hugging Face name and shape of every tensor that the model needs, in file order.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut all = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocab, self.hidden])];
        for layer in 0..self.layers {
            self.push_block(&format!("model.layers.{layer}."), &mut all);
        }
        all.push(("model.norm.weight".to_owned(), vec![self.hidden]));
        if !self.tied {
            all.push(("lm_head.weight".to_owned(), vec![self.vocab, self.hidden]));
        }
        all
    }

    /// Returns name, `[out, in]` and bias of a block's seven projections, named as below `model.layers.N.`.
    pub fn projections(&self) -> [(&'static str, [usize; 2], bool); 7] {
        let (query, key) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        [
            ("self_attn.q_proj", [query, self.hidden], self.qkv_bias),
            ("self_attn.k_proj", [key, self.hidden], self.qkv_bias),
            ("self_attn.v_proj", [key, self.hidden], self.qkv_bias),
            ("self_attn.o_proj", [self.hidden, query], self.o_bias),
            ("mlp.gate_proj", [self.mlp, self.hidden], self.mlp_bias),
            ("mlp.up_proj", [self.mlp, self.hidden], self.mlp_bias),
            ("mlp.down_proj", [self.hidden, self.mlp], self.mlp_bias),
        ]
    }

    /// Returns the number of parameters, the output projection counted once when tied; the largest number there is where they
    /// are more, as sizes that no file holds can be.
    pub fn parameters(&self) -> u64 {
        let count = |shape: &[usize]| shape.iter().fold(1, |count: u64, size| count.saturating_mul(*size as u64));
        self.tensors().iter().fold(0, |sum: u64, (_, shape)| sum.saturating_add(count(shape)))
    }

    /// Returns the number of weights that one token multiplies with in a forward pass: every matrix of every block and
    /// the output projection. A forward pass costs two operations for each, a LoRA step four.
    pub fn matmul_parameters(&self) -> u64 {
        let block: usize = self.projections().iter().map(|(_, [rows, columns], _)| rows * columns).sum();
        (self.layers * block + self.vocab * self.hidden) as u64
    }

    /// Returns the trainable parameters of an adapter of rank `r` on these projections (`q_proj`).
    pub fn lora_parameters(&self, r: usize, targets: &[&str]) -> u64 {
        let is_target = |name: &str| targets.iter().any(|target| name.ends_with(target));
        let pairs = self.projections().into_iter().filter(|(name, _, _)| is_target(name));
        (self.layers * r * pairs.map(|(_, [rows, columns], _)| rows + columns).sum::<usize>()) as u64
    }

    fn push_block(&self, prefix: &str, all: &mut Vec<(String, Vec<usize>)>) {
        all.push((format!("{prefix}input_layernorm.weight"), vec![self.hidden]));
        for (name, shape, has_bias) in self.projections() {
            all.push((format!("{prefix}{name}.weight"), shape.to_vec()));
            if has_bias {
                all.push((format!("{prefix}{name}.bias"), vec![shape[0]]));
            }
        }
        all.push((format!("{prefix}post_attention_layernorm.weight"), vec![self.hidden]));
    }

    /// Returns what is impossible about the sizes and numbers, none when nothing is.
    pub(crate) fn fault(&self) -> Option<String> {
        let sizes = [self.hidden, self.layers, self.heads, self.kv_heads, self.head_dim, self.mlp, self.vocab];
        if sizes.iter().any(|size| *size == 0 || *size > 1 << 24) {
            return Some(format!(
                "its sizes are impossible: hidden, layers, heads, kv heads, head size, mlp, vocabulary are {sizes:?}"
            ));
        }
        if self.layers > MOST_LAYERS {
            return Some(format!("it has {} layers, at most {MOST_LAYERS} are possible", self.layers));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Some(format!("{} heads cannot share {} key-value heads", self.heads, self.kv_heads));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Some(format!("a head of {} cannot be rotated: it must be even", self.head_dim));
        }
        let factors = self.rope_factors.as_ref().is_some_and(|factors| factors.len() != self.head_dim / 2);
        let uneven = factors.then(|| "its rotary factors are not one for each pair of a head".to_owned());
        uneven.or_else(|| self.number_fault())
    }

    /// Numbers out of range give no error anywhere else: they make every answer nonsense.
    fn number_fault(&self) -> Option<String> {
        let is_above_zero = |number: &f64| *number > 0.0 && number.is_finite();
        if !is_above_zero(&self.rope_theta) {
            return Some(format!("its `rope_theta` is {}: expected a number above 0", self.rope_theta));
        }
        if !(self.rms_eps >= 0.0 && self.rms_eps.is_finite()) {
            return Some(format!("its `rms_norm_eps` is {}: expected 0 or a small number above", self.rms_eps));
        }
        let factor = self.rope_factors.iter().flatten().find(|factor| !is_above_zero(factor));
        factor.map(|factor| format!("one of its rotary factors is {factor}: expected numbers above 0"))
    }
}
