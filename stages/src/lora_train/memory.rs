//! How much memory a training takes: what a preview tells, and what decides on a processor whether blocks are computed again,
//! because the system there ends a program before an allocation fails.

use watershed_weights::LlamaConfig;

use super::{Dtype, Lora, LoraTrain, MicroBatch, Target, plan};
use crate::text::batch::LossNorm;

/// Tokens that go through the model at once by default on a processor: what a laptop's memory holds for a 1B model.
pub const ON_PROCESSOR: usize = 1024;
/// The same on a GPU: what keeps an 80 GB device busy without filling it for a 7B model (4 MB of activations a token).
pub const ON_GPU: usize = 8192;

/// libtorch, tokenizer and rows, measured.
const PROGRAM: u64 = 230 << 20;
/// A slice of logits and its gradient, 64 MiB each, and what is between them.
const LOGITS: u64 = 192 << 20;
/// The adapter's numbers, their gradient twice (added up, and clipped) and two moments.
const COPIES: u64 = 5;

/// Bytes that a training takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The program, the base, the adapter with its optimizer.
    pub fixed: u64,
    /// What a micro-batch adds when all blocks are kept for the backward pass.
    pub kept: u64,
    /// What it adds when each block is computed again there.
    pub recomputed: u64,
}

impl Need {
    /// Estimates what a training takes with so many `tokens` in the model at once. SmolLM2-135M in f32, with 60
    /// labels at once, took 0.93, 1.26 and 1.74 GB at 64, 256 and 512 tokens with adapters on q and v, 1.10, 1.60 and 2.26 GB with
    /// all seven (`/usr/bin/time -f %M throughput MODEL f32 train 1 TOKENS 60`, with `ALL=1` for all seven): a tenth from this, but
    /// for the logits of 340 labels that this counts.
    pub fn of(dtype: Dtype, lora: &Lora, config: &LlamaConfig, tokens: usize) -> Need {
        let number = if dtype == Dtype::F32 { 4 } else { 2 };
        let adapter = config.lora_parameters(lora.r as usize, &lora.target_names());
        let (block, layers) = (numbers_of_block(lora, config), config.layers as u64);
        let inputs = layers * config.hidden as u64;
        // half of what is in use lies free between tensors of other sizes, as glibc's allocator was seen to do
        let of_tokens = |numbers: u64| (tokens as u64 * number * numbers) * 3 / 2;
        Need {
            fixed: PROGRAM + config.parameters() * number + adapter * 4 * COPIES,
            kept: LOGITS + of_tokens(layers * block),
            recomputed: LOGITS + of_tokens(inputs + 2 * block),
        }
    }
}

/// Returns the numbers that one block keeps of a token: what autograd needs of its norms, attention and MLP, and what the
/// adapters read.
fn numbers_of_block(lora: &Lora, config: &LlamaConfig) -> u64 {
    let (query, key) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let frozen = 2 * config.hidden + 2 * query + 2 * key + 3 * config.mlp;
    // dropout keeps its mask beside what it lets through
    let copies = if lora.dropout > 0.0 { 2 } else { 1 };
    let read = lora.targets.iter().map(|target| copies * width(*target, config));
    (frozen + read.sum::<usize>()) as u64
}

fn width(target: Target, config: &LlamaConfig) -> usize {
    let projections = config.projections();
    projections.into_iter().find(|(name, ..)| name.ends_with(target.name())).map_or(0, |(_, [_, read], _)| read)
}

/// Returns how many tokens are in the model at once, at most, for rows of these `lengths`.
pub fn tokens_at_once(params: &LoraTrain, choice: MicroBatch, budget: usize, lengths: &[usize]) -> usize {
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let rows = match (params.loss_norm, choice) {
        (LossNorm::MicroMean, _) => plan(params).micro_size,
        (LossNorm::Token, MicroBatch::Rows(count)) => count as usize,
        (LossNorm::Token, MicroBatch::Auto(_)) => return budget.min(longest * params.batch_size as usize).max(longest),
    };
    longest * rows.min(lengths.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SmolLM2-135M's shape.
    fn smollm2() -> LlamaConfig {
        let json = serde_json::json!({"model_type": "llama", "hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3,
            "num_hidden_layers": 30, "intermediate_size": 1536, "vocab_size": 49152, "tie_word_embeddings": true});
        LlamaConfig::of_json(std::path::Path::new("config.json"), &json).unwrap()
    }

    #[test]
    fn estimate_is_near_what_was_measured() {
        let few = Lora { targets: vec![Target::QProj, Target::VProj], ..Lora::default() };
        for (lora, measured) in [(few, [0.93, 1.26, 1.74]), (Lora::default(), [1.10, 1.60, 2.26])] {
            for (tokens, measured) in [64, 256, 512].into_iter().zip(measured) {
                let need = Need::of(Dtype::F32, &lora, &smollm2(), tokens);
                // measured with logits of 60 labels, a slice is of 341
                let estimate = (need.fixed + need.kept - LOGITS * 5 / 6) as f64 / 1e9;
                assert!((estimate / measured - 1.0).abs() < 0.1, "{tokens}: {estimate} for {measured}");
                assert!(need.recomputed < need.kept);
            }
        }
    }

    #[test]
    fn tokens_at_once_follow_the_longest_row_and_the_choice() {
        let lengths = [10, 30, 20];
        let token = LoraTrain { batch_size: 2, ..LoraTrain::default() };
        let at_once = |params: &LoraTrain, choice, budget| tokens_at_once(params, choice, budget, &lengths);
        assert_eq!(at_once(&token, MicroBatch::default(), 1024), 60);
        assert_eq!(at_once(&token, MicroBatch::default(), 40), 40);
        assert_eq!(at_once(&token, MicroBatch::default(), 20), 30);
        assert_eq!(at_once(&token, MicroBatch::Rows(8), 20), 90);
        let (loss_norm, micro_batch_size) = (LossNorm::MicroMean, Some(2));
        assert_eq!(at_once(&LoraTrain { loss_norm, micro_batch_size, ..token }, MicroBatch::Rows(8), 20), 60);
    }
}
