//! Matrix products of a few rows on the processor.
//!
//! A decoding step multiplies one row for each answer by every matrix of the model: memory sets the pace, and a general
//! product, which first packs the matrix into another order, moves it several times. Here each of the matrix's rows is read
//! once, in place, against all of `x`. The terms of a sum are always added in one order, so a row's numbers depend neither
//! on how many rows there are nor on the threads. Processors without AVX2, other devices, and one row alone in f32, for
//! which libtorch reads a matrix in place too, take libtorch's product.

use tch::{Device, Kind, Tensor};

/// With more rows, a general product is faster.
const MOST_ROWS: i64 = 16;

/// Returns `x` `[rows, in]` times the transposed `weight` `[out, in]` plus `bias` `[out]`: `[rows, out]` in their type, summed
/// in f32.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    #[cfg(target_arch = "x86_64")]
    if is_narrow(x, weight) && avx2::is_there() {
        let y = match weight.kind() {
            Kind::Float => avx2::product::<f32>(x, weight),
            _ => avx2::product::<avx2::Bf16>(x, weight),
        };
        return match bias {
            Some(bias) => (y + bias).to_kind(weight.kind()),
            None => y.to_kind(weight.kind()),
        };
    }
    x.linear(weight, bias)
}

/// Says whether the product is one of few rows, on the processor, that no gradient is asked of.
#[cfg(target_arch = "x86_64")]
fn is_narrow(x: &Tensor, weight: &Tensor) -> bool {
    let shape = x.size();
    let fewest = if weight.kind() == Kind::Float { 2 } else { 1 };
    shape.len() == 2
        && (fewest..=MOST_ROWS).contains(&shape[0])
        && shape[1] > 0
        && weight.size().get(1) == Some(&shape[1])
        && weight.device() == Device::Cpu
        && weight.is_contiguous()
        && matches!(weight.kind(), Kind::Float | Kind::BFloat16)
        && x.kind() == weight.kind()
        && !x.requires_grad()
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256, _mm_loadu_si128, _mm256_castsi256_ps, _mm256_cvtepu16_epi32, _mm256_fmadd_ps, _mm256_loadu_ps,
        _mm256_setzero_ps, _mm256_slli_epi32, _mm256_storeu_ps,
    };

    use rayon::prelude::*;
    use tch::{Kind, Tensor};

    /// Numbers that one instruction multiplies, and the partial sums of each product.
    const LANES: usize = 8;

    /// Rows of `x` that one row of the matrix is multiplied with at a time; their sums stay in registers.
    const TOGETHER: usize = 8;

    /// Columns of the result that a thread takes at a time.
    const BLOCK: usize = 96;

    /// A matrix's number, as it is stored.
    pub(super) trait Stored: Copy + Sync {
        /// Returns it in f32.
        fn wide(self) -> f32;

        /// Returns the first [`LANES`] numbers in f32.
        fn load(from: &[Self; LANES]) -> __m256;
    }

    /// A bfloat16: the upper half of an f32.
    #[derive(Clone, Copy)]
    #[repr(transparent)]
    pub(super) struct Bf16(u16);

    impl Stored for f32 {
        fn wide(self) -> f32 {
            self
        }

        #[inline(always)]
        fn load(from: &[f32; LANES]) -> __m256 {
            // SAFETY: reads the array; only code behind `is_there` comes here.
            unsafe { _mm256_loadu_ps(from.as_ptr()) }
        }
    }

    impl Stored for Bf16 {
        fn wide(self) -> f32 {
            f32::from_bits(u32::from(self.0) << 16)
        }

        #[inline(always)]
        fn load(from: &[Bf16; LANES]) -> __m256 {
            // SAFETY: reads the array of 16 bytes; only code behind `is_there` comes here.
            unsafe {
                let halves = _mm_loadu_si128(from.as_ptr().cast());
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
            }
        }
    }

    /// Says whether the processor has the instructions.
    pub(super) fn is_there() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }

    /// Returns the product in f32; [`is_there`](is_there) must hold, and `T` be the type of the contiguous `weight`.
    pub(super) fn product<T: Stored>(x: &Tensor, weight: &Tensor) -> Tensor {
        let (rows, inner, outs) = (x.size()[0] as usize, x.size()[1] as usize, weight.size()[0] as usize);
        let mut numbers = vec![0.0; rows * inner];
        x.to_kind(Kind::Float).contiguous().copy_data(&mut numbers, rows * inner);
        let xs: Vec<&[f32]> = numbers.chunks(inner).collect();
        // SAFETY: the tensor is contiguous, on the processor and of `T`'s type and size; nobody writes to a frozen weight, and
        // the tensor outlives the slice.
        let matrix = unsafe { std::slice::from_raw_parts(weight.data_ptr() as *const T, outs * inner) };
        // SAFETY: the caller has looked for the instructions.
        let work = |matrix: &[T]| unsafe { block(&xs, matrix, inner) };
        let blocks: Vec<Vec<f32>> = if tch::get_num_threads() > 1 {
            matrix.par_chunks(BLOCK * inner).map(work).collect()
        } else {
            matrix.chunks(BLOCK * inner).map(work).collect()
        };
        let mut result = Vec::with_capacity(rows * outs);
        for row in 0..rows {
            for block in &blocks {
                let width = block.len() / rows;
                result.extend_from_slice(&block[row * width..][..width]);
            }
        }
        Tensor::from_slice(&result).view([rows as i64, outs as i64])
    }

    /// Returns the products of all rows with some rows of the matrix, `[rows, rows of the matrix]`.
    #[target_feature(enable = "avx2,fma")]
    fn block<T: Stored>(xs: &[&[f32]], matrix: &[T], inner: usize) -> Vec<f32> {
        let width = matrix.len() / inner;
        let mut out = vec![0.0; xs.len() * width];
        for (column, w) in matrix.chunks(inner).enumerate() {
            for (at, xs) in xs.chunks(TOGETHER).enumerate() {
                let sums = dots(xs, w);
                let place = &mut out[at * TOGETHER * width + column..];
                for (row, sum) in sums[..xs.len()].iter().enumerate() {
                    place[row * width] = *sum;
                }
            }
        }
        out
    }

    /// Returns the products of up to [`TOGETHER`] vectors with `w`; the places beyond them are 0.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    fn dots<T: Stored>(xs: &[&[f32]], w: &[T]) -> [f32; TOGETHER] {
        let mut sums = [0.0; TOGETHER];
        match xs.len() {
            8 => sums.copy_from_slice(&dots_of::<T, 8>(xs, w)),
            4..8 => {
                sums[..4].copy_from_slice(&dots_of::<T, 4>(&xs[..4], w));
                one_by_one(&xs[4..], w, &mut sums[4..]);
            }
            _ => one_by_one(xs, w, &mut sums),
        }
        sums
    }

    #[target_feature(enable = "avx2,fma")]
    #[inline]
    fn one_by_one<T: Stored>(xs: &[&[f32]], w: &[T], sums: &mut [f32]) {
        for (x, sum) in xs.iter().zip(sums) {
            [*sum] = dots_of(&[x], w);
        }
    }

    // Loops and no closures: a closure is compiled with these instructions, so what calls it without them cannot inline it.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    fn dots_of<T: Stored, const N: usize>(xs: &[&[f32]], w: &[T]) -> [f32; N] {
        let (whole, rest) = w.as_chunks::<LANES>();
        let mut chunks: [&[[f32; LANES]]; N] = [&[]; N];
        for (chunks, x) in chunks.iter_mut().zip(xs) {
            *chunks = &x.as_chunks::<LANES>().0[..whole.len()];
        }
        let mut sums = [_mm256_setzero_ps(); N];
        for (at, w) in whole.iter().enumerate() {
            let w = T::load(w);
            for (x, sum) in chunks.iter().zip(&mut sums) {
                *sum = _mm256_fmadd_ps(f32::load(&x[at]), w, *sum);
            }
        }
        let mut dots = [0.0; N];
        for ((dot, sum), x) in dots.iter_mut().zip(sums).zip(xs) {
            *dot = add_up(sum);
            for (x, w) in x[w.len() - rest.len()..].iter().zip(rest) {
                *dot += x * w.wide();
            }
        }
        dots
    }

    #[target_feature(enable = "avx2,fma")]
    #[inline]
    fn add_up(sum: __m256) -> f32 {
        let mut lanes = [0.0f32; LANES];
        // SAFETY: writes the array.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sum) };
        let [a, b, c, d, e, f, g, h] = lanes;
        ((a + e) + (b + f)) + ((c + g) + (d + h))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(shape: [i64; 2], kind: Kind) -> Tensor {
        let numbers = (0..shape[0] * shape[1]).map(|at| ((at * 7919 + 13) % 1009) as f32 / 500.0 - 1.0);
        Tensor::from_slice(&numbers.collect::<Vec<_>>()).view(shape).to_kind(kind)
    }

    #[test]
    fn products_are_libtorchs() {
        for (rows, inner, outs) in [(1, 8, 1), (3, 20, 7), (4, 64, 100), (5, 33, 97), (8, 576, 200), (16, 96, 12)] {
            for (kind, tolerance) in [(Kind::Float, 1e-5), (Kind::BFloat16, 1e-2)] {
                let (x, weight) = (random([rows, inner], kind), random([outs, inner], kind));
                let (ours, theirs) = (linear(&x, &weight, None), x.linear(&weight, None::<Tensor>));
                assert_eq!((ours.size(), ours.kind()), (theirs.size(), theirs.kind()));
                let off =
                    (&ours - &theirs).abs().max().to_kind(Kind::Double) / theirs.abs().max().to_kind(Kind::Double);
                assert!(off.double_value(&[]) < tolerance, "{rows} x {inner} x {outs} {kind:?}");
            }
        }
    }

    #[test]
    fn a_row_is_the_same_in_any_company() {
        let weight = random([301, 203], Kind::Float);
        let x = random([11, 203], Kind::Float);
        let together = linear(&x, &weight, None);
        for (first, rows) in [(0, 2), (3, 5), (2, 8), (9, 2)] {
            assert!(linear(&x.narrow(0, first, rows), &weight, None).equal(&together.narrow(0, first, rows)));
        }
    }
}
