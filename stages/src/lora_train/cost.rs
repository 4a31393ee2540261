//! How long a training will take, on one core: how many it gets, or whether a GPU, is not known to a preview.

use watershed_weights::LlamaConfig;

use super::{CHECKED_ROWS, Dataset, Dtype, Every, LoraTrain, SAMPLE_TOKENS, Word, plan};
use crate::text::labels::Row;

/// Floating-point operations that one core does in a second of the base's matrix products in f32 with libtorch 2.11. This and
/// [`BLOCK`] give what was measured: 132 tokens of SmolLM2-135M per CPU-second, at 4 operations a weight.
const F32: f64 = 7.9e10;
/// The same in bf16 on a processor with AVX-512: 289 tokens per CPU-second.
const FAST_BF16: f64 = 19.8e10;
/// The same where there is no AVX-512: libtorch's own loops take dozens of times as long as f32.
const SLOW_BF16: f64 = F32 / 30.0;

/// Seconds that a trained token takes in a block beside the base's products - norms, attention, thin products of adapters -
/// which is nearly all of a tiny model's time. Four blocks, 64 wide, took 100 microseconds a token with adapters on q and v and 190
/// with all seven (`throughput tests/fixtures/tiny-llama/model f32 train 16 125 40`, with `ALL=1` for all seven).
const BLOCK: f64 = 25e-6;
/// The share of it that a pass without gradients takes.
const FORWARD: f64 = 1.0 / 3.0;

/// Estimates the seconds of work on one core: 4 operations a weight and trained token (no gradients of the base), 2 an evaluated
/// one. A training that `early_stop` ends takes less.
pub fn seconds(params: &LoraTrain, data: &Dataset, config: &LlamaConfig) -> f64 {
    let trained = tokens(&data.train.rows) * passes(params, data);
    let evaluated = evaluated(data) * evaluations(params, data) as f64;
    // the base, and the chosen adapter on it
    let read = evaluated + 2.0 * tokens(&data.test.rows) + checked(data);
    let products = config.matmul_parameters() as f64 * (4.0 * trained + 2.0 * read);
    let blocks = config.layers as f64 * BLOCK * (trained + FORWARD * read);
    (products / operations_per_second(params.dtype) + blocks).ceil()
}

/// Returns the tokens of one evaluation: the validation rows, and the sampled prompts with their answers.
fn evaluated(data: &Dataset) -> f64 {
    let sampled: usize = data.sampled.iter().map(|prompt| prompt.ids.len() + SAMPLE_TOKENS).sum();
    tokens(&data.val.rows) + sampled as f64
}

/// Returns the tokens that the checks after a training read: a few rows, with the adapter in memory and read back, twice with the
/// chosen one, and with the base.
fn checked(data: &Dataset) -> f64 {
    let rows = data.val.rows.iter().chain(&data.train.rows).take(CHECKED_ROWS);
    5.0 * rows.map(|row| row.ids.len() as f64).sum::<f64>()
}

fn tokens(rows: &[Row]) -> f64 {
    rows.iter().map(|row| row.ids.len() as f64).sum()
}

/// Returns the passes over the training rows.
fn passes(params: &LoraTrain, data: &Dataset) -> f64 {
    let (plan, rows) = (plan(params), data.train.rows.len());
    plan.updates(rows) as f64 / plan.updates_per_epoch(rows).max(1) as f64
}

/// Returns how often the validation rows are evaluated: before the first update, when `eval_every` is due, and at the end.
fn evaluations(params: &LoraTrain, data: &Dataset) -> u64 {
    let (plan, rows) = (plan(params), data.train.rows.len());
    let every = match params.eval_every {
        Every::Word(Word::Epoch) => plan.updates_per_epoch(rows) as u64,
        Every::Updates(count) => u64::from(count),
    };
    1 + plan.updates(rows).div_ceil(every.max(1))
}

fn operations_per_second(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => F32,
        Dtype::Bf16 if has_fast_bf16() => FAST_BF16,
        Dtype::Bf16 => SLOW_BF16,
    }
}

/// Says whether libtorch multiplies bf16 matrices with oneDNN on this processor, which asks for AVX-512 on x86.
pub fn has_fast_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512bw");
    #[cfg(not(target_arch = "x86_64"))]
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lora_train::Files;
    use crate::text::fixture::tiny_llama;

    #[test]
    fn each_evaluation_is_counted_as_often_as_it_is_due() {
        let (Some(rows), Some(base)) = (tiny_llama("dataset.json"), tiny_llama("model")) else { return };
        let files = Files { train: &rows, val: Some(&rows), test: None };
        let data = Dataset::open(&LoraTrain::default(), files, &base).unwrap();
        let count = |eval_every, max_steps| {
            evaluations(&LoraTrain { eval_every, max_steps: Some(max_steps), ..LoraTrain::default() }, &data)
        };
        assert_eq!(count(Every::Updates(1), 10), 11);
        assert_eq!(count(Every::Updates(4), 10), 4);
        assert_eq!(count(Every::Updates(5), 10), 3);
        let epoch = plan(&LoraTrain::default()).updates_per_epoch(data.train.rows.len()) as u32;
        assert_eq!(count(Every::Word(Word::Epoch), 2 * epoch + 1), 4);
    }

    #[test]
    fn estimate_grows_with_evaluations_and_asks_for_no_core_but_one() {
        let (Some(rows), Some(base)) = (tiny_llama("dataset.json"), tiny_llama("model")) else { return };
        let files = Files { train: &rows, val: Some(&rows), test: None };
        let config = crate::base::Base::open(&base).unwrap().config;
        // a model of a size that takes seconds
        let large = LlamaConfig { hidden: 64 * config.hidden, mlp: 64 * config.mlp, layers: 32, ..config };
        let estimate = |params: &LoraTrain| seconds(params, &Dataset::open(params, files, &base).unwrap(), &large);
        let every = |eval_every| LoraTrain { eval_every, max_steps: Some(100), ..LoraTrain::default() };
        let (often, seldom) = (estimate(&every(Every::Updates(1))), estimate(&every(Every::Updates(100))));
        let read = evaluated(&Dataset::open(&LoraTrain::default(), files, &base).unwrap());
        let a_token = 2.0 * large.matmul_parameters() as f64 / F32 + 32.0 * BLOCK * FORWARD;
        let wanted = 99.0 * read * a_token;
        assert!((often - seldom - wanted).abs() <= 1.0, "{often} {seldom} {wanted}");
    }
}
