//! From f32 to how a file stores numbers: halves and GGML's Q8_0.
//!
//! Rounding is to the nearest, once. Q8_0 follows llama.cpp `ggml-quants.c` (`quantize_row_q8_0_ref`).

use half::{bf16, f16};
use rayon::prelude::*;

use crate::Dtype;

/// Numbers handed to one thread at a time; a multiple of every block.
const CHUNK: usize = 1 << 16;

/// Returns the stored bytes of `numbers`; none when the type cannot be written here, or they are no whole number of blocks.
pub fn store(dtype: Dtype, numbers: &[f32]) -> Option<Vec<u8>> {
    let one = writer(dtype).filter(|_| numbers.len().is_multiple_of(dtype.block_len()))?;
    let parts: Vec<Vec<u8>> = numbers
        .par_chunks(CHUNK)
        .map(|part| {
            let mut bytes = Vec::with_capacity(part.len() / dtype.block_len() * dtype.block_bytes());
            part.chunks(dtype.block_len()).for_each(|block| one(block, &mut bytes));
            bytes
        })
        .collect();
    Some(parts.concat())
}

/// Says whether one of `numbers` is too large for f16, which would store infinity.
pub fn is_beyond(dtype: Dtype, numbers: &[f32]) -> bool {
    dtype == Dtype::F16 && numbers.iter().any(|x| f16::from_f32(*x).is_infinite())
}

/// Stores one block.
type Writer = fn(&[f32], &mut Vec<u8>);

fn writer(dtype: Dtype) -> Option<Writer> {
    match dtype {
        Dtype::F32 => Some(|block, out| out.extend(block[0].to_le_bytes())),
        Dtype::F16 => Some(|block, out| out.extend(f16::from_f32(block[0]).to_le_bytes())),
        Dtype::Bf16 => Some(|block, out| out.extend(bf16::from_f32(block[0]).to_le_bytes())),
        Dtype::Q8_0 => Some(q8_0),
        _ => None,
    }
}

/// A scale that takes the largest number to 127, then every number by it, halves away from zero.
fn q8_0(block: &[f32], out: &mut Vec<u8>) {
    let largest = block.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let scale = largest / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    out.extend(f16::from_f32(scale).to_le_bytes());
    out.extend(block.iter().map(|x| ((x * inverse).round() as i8).cast_unsigned()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dequant;
    use crate::fixture::tiny_llama;
    use crate::folder::Shard;

    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 % 1000) as f32 - 500.0) / 300.0).collect()
    }

    #[test]
    fn stored_numbers_read_back_within_their_types_rounding() {
        let numbers = numbers(3 * CHUNK + 64);
        for (dtype, off) in [(Dtype::F32, 0.0), (Dtype::F16, 5e-4), (Dtype::Bf16, 4e-3), (Dtype::Q8_0, 8e-3)] {
            let bytes = store(dtype, &numbers).unwrap();
            let mut again = vec![0.0; numbers.len()];
            dequant::expand(dtype, &bytes, &mut again);
            let largest = numbers.iter().zip(&again).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(largest <= off, "{}: {largest}", dtype.name());
        }
    }

    #[test]
    fn what_cannot_be_written_is_none() {
        assert!(store(Dtype::Q4_K, &numbers(256)).is_none() && store(Dtype::Q8_0, &numbers(33)).is_none());
        assert!(store(Dtype::Q8_0, &[0.0; 32]).unwrap().iter().all(|byte| *byte == 0));
    }

    #[test]
    fn blocks_that_gguf_py_expanded_are_written_as_they_were() {
        let Some(path) = tiny_llama("gguf_blocks.safetensors") else { return };
        let shard = Shard::open(&path).unwrap();
        for dtype in [Dtype::F16, Dtype::Bf16] {
            let expanded = shard.tensor(&format!("{}.f32", dtype.name())).unwrap().to_f32();
            assert_eq!(store(dtype, &expanded).unwrap(), shard.raw(&format!("{}.bytes", dtype.name())).unwrap());
        }
    }
}
