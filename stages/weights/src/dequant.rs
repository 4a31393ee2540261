//! Expands GGML's blocks to f32.
//!
//! The layouts are those of llama.cpp `ggml-quants.c` (`dequantize_row_*`); `tests` compare every type bit for bit with
//! what gguf-py makes of the same bytes. Blocks are independent, so large tensors are expanded in parallel.

use half::{bf16, f16};
use rayon::prelude::*;

use crate::Dtype;

/// Blocks handed to one thread at a time.
const CHUNK: usize = 4096;

/// Writes the numbers in `bytes` to `out`.
///
/// # Panics
/// When `bytes` and `out` are not the same whole number of blocks; tensors are checked when their file is opened.
pub fn expand(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    let (len, size) = (dtype.block_len(), dtype.block_bytes());
    assert_eq!(bytes.len() / size, out.len() / len, "blocks of {} differ in number", dtype.name());
    let one = expander(dtype);
    out.par_chunks_mut(len * CHUNK).zip(bytes.par_chunks(size * CHUNK)).for_each(|(out, bytes)| {
        for (out, block) in out.chunks_exact_mut(len).zip(bytes.chunks_exact(size)) {
            one(block, out);
        }
    });
}

fn expander(dtype: Dtype) -> fn(&[u8], &mut [f32]) {
    match dtype {
        Dtype::F32 => |b, out| out[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
        Dtype::F16 => |b, out| out[0] = half_at(b, 0),
        Dtype::Bf16 => |b, out| out[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32(),
        Dtype::Q4_0 => q4_0,
        Dtype::Q4_1 => q4_1,
        Dtype::Q5_0 => q5_0,
        Dtype::Q5_1 => q5_1,
        Dtype::Q8_0 => q8_0,
        Dtype::Q2_K => q2_k,
        Dtype::Q3_K => q3_k,
        Dtype::Q4_K => q4_k,
        Dtype::Q5_K => q5_k,
        Dtype::Q6_K => q6_k,
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn q4_0(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    for (j, q) in block[2..18].iter().enumerate() {
        out[j] = (f32::from(q & 15) - 8.0) * d;
        out[j + 16] = (f32::from(q >> 4) - 8.0) * d;
    }
}

fn q4_1(block: &[u8], out: &mut [f32]) {
    let (d, min) = (half_at(block, 0), half_at(block, 2));
    for (j, q) in block[4..20].iter().enumerate() {
        out[j] = f32::from(q & 15) * d + min;
        out[j + 16] = f32::from(q >> 4) * d + min;
    }
}

/// Returns the two 5-bit numbers whose low bits lie in `q` and whose fifth bits lie in `high` at `j` and `j + 16`.
fn five_bits(q: u8, high: u32, j: usize) -> (f32, f32) {
    let low_high = ((high >> j) & 1) << 4;
    let high_high = ((high >> (j + 16)) & 1) << 4;
    ((u32::from(q & 15) | low_high) as f32, (u32::from(q >> 4) | high_high) as f32)
}

fn q5_0(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    for (j, q) in block[6..22].iter().enumerate() {
        let (low, up) = five_bits(*q, high, j);
        out[j] = (low - 16.0) * d;
        out[j + 16] = (up - 16.0) * d;
    }
}

fn q5_1(block: &[u8], out: &mut [f32]) {
    let (d, min) = (half_at(block, 0), half_at(block, 2));
    let high = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    for (j, q) in block[8..24].iter().enumerate() {
        let (low, up) = five_bits(*q, high, j);
        out[j] = low * d + min;
        out[j + 16] = up * d + min;
    }
}

fn q8_0(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    for (out, q) in out.iter_mut().zip(&block[2..34]) {
        *out = f32::from(q.cast_signed()) * d;
    }
}

fn q2_k(block: &[u8], out: &mut [f32]) {
    let (scales, quants) = (&block[..16], &block[16..80]);
    let (d, min) = (half_at(block, 80), half_at(block, 82));
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let (half, shift, side) = (group / 8, (group / 2 % 4) * 2, group % 2);
        let (scale, low) = (d * f32::from(scales[group] & 15), min * f32::from(scales[group] >> 4));
        let quants = &quants[half * 32 + side * 16..][..16];
        for (out, q) in out.iter_mut().zip(quants) {
            *out = scale * f32::from((q >> shift) & 3) - low;
        }
    }
}

fn q3_k(block: &[u8], out: &mut [f32]) {
    let (mask, quants, packed) = (&block[..32], &block[32..96], &block[96..108]);
    let d = half_at(block, 108);
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let (half, plane, side) = (group / 8, group / 2 % 4, group % 2);
        let scale = d * (f32::from(six_bit_scale(packed, group)) - 32.0);
        for (l, out) in out.iter_mut().enumerate() {
            let q = (quants[half * 32 + side * 16 + l] >> (plane * 2)) & 3;
            let is_high = (mask[side * 16 + l] >> (half * 4 + plane)) & 1 == 1;
            *out = scale * (f32::from(q) - if is_high { 0.0 } else { 4.0 });
        }
    }
}

/// Returns scale `group` of 16 of Q3_K: four low bits in bytes 0 to 7, two high bits in bytes 8 to 11.
fn six_bit_scale(packed: &[u8], group: usize) -> u8 {
    let low = if group < 8 { packed[group] & 15 } else { packed[group - 8] >> 4 };
    let high = (packed[8 + group % 4] >> (2 * (group / 4))) & 3;
    low | (high << 4)
}

/// Returns scale and minimum `j` of 8 of Q4_K and Q5_K (`get_scale_min_k4`).
fn scale_and_min(packed: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        ((packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4), (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4))
    };
    (f32::from(scale), f32::from(min))
}

fn q4_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_and_min(&block[4..16], group);
        let quants = &block[16 + group / 2 * 32..][..32];
        for (out, q) in out.iter_mut().zip(quants) {
            *out = d * scale * f32::from((q >> (group % 2 * 4)) & 15) - dmin * min;
        }
    }
}

fn q5_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let high = &block[16..48];
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_and_min(&block[4..16], group);
        let quants = &block[48 + group / 2 * 32..][..32];
        for ((out, q), high) in out.iter_mut().zip(quants).zip(high) {
            let q = ((q >> (group % 2 * 4)) & 15) | (((high >> group) & 1) << 4);
            *out = d * scale * f32::from(q) - dmin * min;
        }
    }
}

fn q6_k(block: &[u8], out: &mut [f32]) {
    let (low, high, scales, d) = (&block[..128], &block[128..192], &block[192..208], half_at(block, 208));
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (half, plane) = (group / 4, group % 4);
        for (l, out) in out.iter_mut().enumerate() {
            let four = (low[half * 64 + plane % 2 * 32 + l] >> (plane / 2 * 4)) & 15;
            let two = (high[half * 32 + l] >> (plane * 2)) & 3;
            let scale = f32::from(scales[half * 8 + plane * 2 + l / 16].cast_signed());
            *out = d * scale * (f32::from(four | (two << 4)) - 32.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Shard;

    #[test]
    fn every_block_type_expands_as_gguf_py_does() {
        let Some(path) = crate::fixture::tiny_llama("gguf_blocks.safetensors") else { return };
        let shard = Shard::open(&path).unwrap();
        let mut seen = 0;
        for name in shard.names().filter_map(|name| name.strip_suffix(".bytes")) {
            let bytes = shard.raw(&format!("{name}.bytes")).unwrap();
            let wanted = shard.raw(&format!("{name}.f32")).unwrap();
            let mut out = vec![0.0; wanted.len() / 4];
            expand(Dtype::parse(name).unwrap(), bytes, &mut out);
            let wanted: Vec<f32> = wanted.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
            assert_eq!(out, wanted, "{name}");
            seen += 1;
        }
        assert!(seen >= 8, "the fixture holds {seen} block types");
    }
}
