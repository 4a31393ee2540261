//! The shape of a LLaMA model, from `config.json` or from GGUF metadata.

/// Everything that decides how a LLaMA model computes, in one spelling.
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
    /// Llama 3's frequency scaling, where the model asks for it.
    pub rope_scaling: Option<Llama3Rope>,
    /// Epsilon of RMSNorm.
    pub rms_eps: f64,
    /// Longest sequence the model was made for, in tokens.
    pub max_positions: usize,
    /// Attention window in tokens; longer sequences are refused.
    pub sliding_window: Option<usize>,
    /// True when q, k and v have a bias (Qwen2, or `attention_bias`).
    pub qkv_bias: bool,
    /// True when the attention's output projection has a bias.
    pub o_bias: bool,
    /// True when the MLP's projections have a bias.
    pub mlp_bias: bool,
    /// Beginning-of-sequence id, where the model names one.
    pub bos: Option<u32>,
    /// End-of-sequence ids; `generation_config.json` may name several.
    pub eos: Vec<u32>,
}

/// `rope_type: llama3` (transformers `modeling_rope_utils.py`, `_compute_llama3_parameters`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Llama3Rope {
    /// Divides the low frequencies.
    pub factor: f64,
    /// Wavelengths above `original / low_freq_factor` are low.
    pub low_freq_factor: f64,
    /// Wavelengths below `original / high_freq_factor` are kept.
    pub high_freq_factor: f64,
    /// Context length before scaling.
    pub original_max_positions: f64,
}

impl LlamaConfig {
    /// Returns the number of parameters, the output projection counted once when tied.
    pub fn parameters(&self) -> u64 {
        let norms = (2 * self.layers + 1) * self.hidden;
        let embeddings = self.vocab * self.hidden * if self.tied { 1 } else { 2 };
        (self.layers * self.block_matrices() + embeddings + norms) as u64
    }

    /// Returns the number of weights that one token multiplies with in a forward pass: every matrix of every block and
    /// the output projection. A forward pass costs two operations for each, a LoRA step four.
    pub fn matmul_parameters(&self) -> u64 {
        (self.layers * self.block_matrices() + self.vocab * self.hidden) as u64
    }

    fn block_matrices(&self) -> usize {
        let attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads);
        attention + 3 * self.hidden * self.mlp
    }
}
