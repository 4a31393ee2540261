//! Random weights of a LLaMA under Hugging Face's names, one safetensors file.
//!
//! Matrices and the embedding are drawn from N(0, std^2), norms are one, biases zero (transformers, `_init_weights`). Each
//! tensor is a stream of its own, seeded by its name, so threads and order change no byte.

use std::collections::HashMap;
use std::path::Path;

use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::SafeTensorError;
use safetensors::tensor::{self, TensorView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_engine::{StageError, memory};

use crate::seeded::SplitMix;

/// How weights are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, IEEE half.
    F16,
    /// 16 bits, brain float.
    Bf16,
}

impl Dtype {
    /// Returns the name that a config.json uses.
    pub fn torch_name(self) -> &'static str {
        match self {
            Dtype::F32 => "float32",
            Dtype::F16 => "float16",
            Dtype::Bf16 => "bfloat16",
        }
    }

    fn stored(self) -> tensor::Dtype {
        match self {
            Dtype::F32 => tensor::Dtype::F32,
            Dtype::F16 => tensor::Dtype::F16,
            Dtype::Bf16 => tensor::Dtype::BF16,
        }
    }

    /// Returns the bytes of one number.
    fn width(self) -> usize {
        self.stored().bitsize() / 8
    }

    fn push(self, value: f32, bytes: &mut Vec<u8>) {
        match self {
            Dtype::F32 => bytes.extend(value.to_le_bytes()),
            Dtype::F16 => bytes.extend(f16::from_f32(value).to_le_bytes()),
            Dtype::Bf16 => bytes.extend(bf16::from_f32(value).to_le_bytes()),
        }
    }
}

/// Standard deviation where a config has no `initializer_range` (transformers, `LlamaConfig`).
pub const STD: f64 = 0.02;

/// How weights are drawn.
#[derive(Debug, Clone, Copy)]
pub struct Draw {
    /// Chooses the numbers.
    pub seed: u64,
    /// Standard deviation of matrices and embedding.
    pub std: f64,
    /// How they are stored.
    pub dtype: Dtype,
}

/// Writes tensors of these names and shapes. Holds the whole model in memory.
///
/// # Errors
/// When the model is larger than the memory that is free, or the file cannot be written.
pub fn write(path: &Path, tensors: &[(String, Vec<usize>)], draw: &Draw) -> Result<(), StageError> {
    check_memory(tensors, draw.dtype, memory::free())?;
    let drawn = tensors.par_iter().map(|(name, shape)| bytes(name, shape, draw));
    let data: Vec<Vec<u8>> = drawn.collect::<Result<_, _>>()?;
    let views = tensors.iter().zip(&data).map(|((name, shape), bytes)| {
        let view =
            TensorView::new(draw.dtype.stored(), shape.clone(), bytes).expect("the bytes are made for the shape");
        (name.as_str(), view)
    });
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    tensor::serialize_to_file(views, Some(metadata), path).map_err(|e| match e {
        SafeTensorError::IoError(e) => StageError::io("write", path, &e),
        other => StageError::failed(format!("cannot write `{}`: {other}", path.display())),
    })
}

/// A system that has promised more memory than it has ends the program that takes it.
fn check_memory(tensors: &[(String, Vec<usize>)], dtype: Dtype, free: u64) -> Result<(), StageError> {
    let count = |shape: &[usize]| shape.iter().fold(dtype.width() as u64, |n, size| n.saturating_mul(*size as u64));
    let needed = tensors.iter().fold(0, |sum: u64, (_, shape)| sum.saturating_add(count(shape)));
    if needed <= free {
        return Ok(());
    }
    let gb = |bytes: u64| bytes as f64 / 1e9;
    Err(StageError::Environment(format!(
        "the weights take {:.1} GB of memory and {:.1} are free: make the model smaller, or store it as `bf16`",
        gb(needed),
        gb(free)
    )))
}

fn bytes(name: &str, shape: &[usize], draw: &Draw) -> Result<Vec<u8>, StageError> {
    let mut bytes = room(name, shape, draw.dtype)?;
    let count: usize = shape.iter().product();
    let mut stream = SplitMix::new(draw.seed, name);
    for _ in 0..count {
        let value = match (shape, name) {
            (_, name) if name.ends_with(".bias") => 0.0,
            ([_], _) => 1.0,
            _ => (stream.normal() * draw.std) as f32,
        };
        draw.dtype.push(value, &mut bytes);
    }
    Ok(bytes)
}

/// Returns a buffer for a tensor; an allocation that fails elsewhere ends the whole program.
fn room(name: &str, shape: &[usize], dtype: Dtype) -> Result<Vec<u8>, StageError> {
    let size = shape.iter().try_fold(dtype.width(), |size, length| size.checked_mul(*length));
    let mut bytes = Vec::new();
    size.and_then(|size| bytes.try_reserve_exact(size).ok()).map(|()| bytes).ok_or_else(|| {
        StageError::Environment(format!(
            "there is no memory for `{name}` of {shape:?}: make the model smaller, or store it as `bf16`"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_the_wanted_spread_in_every_dtype() {
        let drawn = |dtype| bytes("w.weight", &[200, 100], &Draw { seed: 5, std: 0.02, dtype }).unwrap();
        let values: Vec<f32> =
            drawn(Dtype::F32).chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let mean = values.iter().sum::<f32>() / 20_000.0;
        let std = (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 20_000.0).sqrt();
        // 20 000 draws: the standard error of the mean is 0.00014, that of the deviation 0.0001.
        assert!(mean.abs() < 0.0006 && (std - 0.02).abs() < 0.0004, "{mean} {std}");
        let halves = drawn(Dtype::Bf16);
        let first = bf16::from_le_bytes([halves[0], halves[1]]).to_f32();
        assert!((first - values[0]).abs() <= values[0].abs() / 128.0);
        assert_eq!(drawn(Dtype::F16).len(), 40_000);
    }

    #[test]
    fn a_model_beyond_the_free_memory_is_refused_with_both_sizes() {
        let tensors = [("a".to_string(), vec![1000, 1_000_000]), ("b".to_string(), vec![500_000_000])];
        assert!(check_memory(&tensors, Dtype::Bf16, 3_000_000_000).is_ok());
        let error = check_memory(&tensors, Dtype::F32, 3_000_000_000).unwrap_err().to_string();
        assert!(error.starts_with("the weights take 6.0 GB of memory and 3.0 are free"), "{error}");
        let vast = [("a".to_string(), vec![usize::MAX; 3])];
        assert!(check_memory(&vast, Dtype::F32, u64::MAX - 1).is_err());
    }

    #[test]
    fn a_tensor_that_no_memory_holds_is_an_error_and_no_abort() {
        let draw = Draw { seed: 5, std: 0.02, dtype: Dtype::F32 };
        for shape in [[1 << 30, 1 << 30], [usize::MAX, 2]] {
            let error = bytes("w.weight", &shape, &draw).unwrap_err();
            assert!(error.to_string().starts_with("there is no memory for `w.weight`"), "{error}");
            assert_eq!(error.class(), "environment");
        }
    }
}
