//! Greedy answers, as every measurement and comparison asks for them.

use watershed_torch::{GenerateConfig, Mode};

/// Returns greedy answers of `new` tokens, with no stop.
pub fn greedy(new: usize) -> GenerateConfig {
    GenerateConfig {
        max_new_tokens: new,
        mode: Mode::Greedy,
        repetition_penalty: 1.0,
        no_repeat_ngram: 0,
        input_no_repeat_ngram: 0,
        stop_ids: vec![],
        seed: 0,
        batch_tokens: 1 << 20,
    }
}
