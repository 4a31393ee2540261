//! EASE (Steck 2019): the linear autoencoder with a zero diagonal, in closed form.
//!
//! `P = (X'X + l2 I)^-1`, `B = I - P diag(1 / diag P)`, score `x_u B` over purchases as zeros and ones. `P` comes from a
//! Cholesky factor `L L'` and its inverse: O(items^3) time, O(items^2) memory in f64, so large catalogues are refused.

use rayon::prelude::*;
use watershed_engine::StageError;

use super::model::{Ranking, Tensor, Tick, refuse_above};
use super::ratings::{Ratings, distinct};

/// Items above which the matrices are refused.
const MAX_ITEMS: usize = 20_000;

struct Ease<'a> {
    train: &'a Ratings,
    /// `[items, items]`, row `j` holds what having bought `j` adds to each item.
    weights: Vec<f64>,
}

/// Solves for the weights.
///
/// # Errors
/// When there are too many items, `l2` is too small for the matrix to be positive definite, or `tick` ends the fit.
pub fn fit<'a>(train: &'a Ratings, l2: f64, tick: Tick) -> Result<impl Ranking + use<'a>, StageError> {
    let n = train.items.len();
    refuse_above("ease", n, MAX_ITEMS, 2 * n * n * size_of::<f64>())?;
    let mut gram = gram(train, l2);
    tick(1, 4)?;
    cholesky(&mut gram, n)?;
    tick(2, 4)?;
    let inverse = transposed_inverse(&gram, n);
    tick(3, 4)?;
    let weights = weights(gram, &inverse, n);
    tick(4, 4)?;
    Ok(Ease { train, weights })
}

/// Returns `X'X + l2 I`.
fn gram(train: &Ratings, l2: f64) -> Vec<f64> {
    let n = train.items.len();
    let baskets: Vec<Vec<u32>> = train.by_user.iter().map(distinct).collect();
    let mut gram = vec![0.0; n * n];
    gram.par_chunks_mut(n.max(1)).enumerate().for_each(|(item, row)| {
        for user in distinct(train.by_item.of(item)) {
            baskets[user as usize].iter().for_each(|&other| row[other as usize] += 1.0);
        }
        row[item] += l2;
    });
    gram
}

/// Replaces the lower triangle of a symmetric matrix by its Cholesky factor, column by column.
fn cholesky(a: &mut [f64], n: usize) -> Result<(), StageError> {
    for column in 0..n {
        let (above, below) = a.split_at_mut((column + 1) * n);
        let pivot_row = &mut above[column * n..];
        let square = pivot_row[column] - dot(&pivot_row[..column], &pivot_row[..column]);
        if square.is_nan() || square <= 0.0 {
            return Err(StageError::failed("`ease` cannot invert the item matrix: choose a larger `l2`"));
        }
        pivot_row[column] = square.sqrt();
        let pivot_row = &pivot_row[..=column];
        below.par_chunks_mut(n).with_min_len(32).for_each(|row| {
            row[column] = (row[column] - dot(&row[..column], &pivot_row[..column])) / pivot_row[column];
        });
    }
    Ok(())
}

/// Returns the inverse of the lower triangle, transposed: row `j` holds column `j` of the inverse, from `j` on.
fn transposed_inverse(lower: &[f64], n: usize) -> Vec<f64> {
    let mut inverse = vec![0.0; n * n];
    inverse.par_chunks_mut(n.max(1)).enumerate().for_each(|(column, out)| {
        out[column] = 1.0 / lower[column * n + column];
        for i in column + 1..n {
            out[i] = -dot(&lower[i * n + column..i * n + i], &out[column..i]) / lower[i * n + i];
        }
    });
    inverse
}

/// Returns `B = I - P diag(1 / diag P)` with `P = L^-T L^-1`, written over `room`.
fn weights(mut room: Vec<f64>, inverse: &[f64], n: usize) -> Vec<f64> {
    let row = |i: usize| &inverse[i * n..(i + 1) * n];
    let diagonal: Vec<f64> = (0..n).map(|i| dot(&row(i)[i..], &row(i)[i..])).collect();
    room.par_chunks_mut(n.max(1)).enumerate().for_each(|(i, out)| {
        for (j, out) in out.iter_mut().enumerate() {
            let from = i.max(j);
            *out = if i == j { 0.0 } else { -dot(&row(i)[from..], &row(j)[from..]) / diagonal[j] };
        }
    });
    room
}

/// Returns the inner product, in eight partial sums so that it fills the registers.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    let (whole_a, whole_b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = whole_a.remainder().iter().zip(whole_b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in whole_a.zip(whole_b) {
        for lane in 0..8 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().sum::<f64>() + rest
}

impl Ranking for Ease<'_> {
    fn scores(&self, user: Option<usize>) -> Option<Vec<f64>> {
        let n = self.train.items.len();
        let mut scores = vec![0.0; n];
        for item in self.train.bought(user?) {
            let row = &self.weights[item as usize * n..][..n];
            scores.iter_mut().zip(row).for_each(|(score, weight)| *score += weight);
        }
        Some(scores)
    }

    fn tensors(&self) -> Vec<Tensor> {
        let n = self.train.items.len();
        vec![Tensor::f32("weights", vec![n, n], self.weights.iter().map(|&w| w as f32))]
    }
}
