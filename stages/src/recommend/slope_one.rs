//! Slope One (Lemire and Maclachlan 2005), unweighted as in Surprise: the user's mean plus the mean deviation of the item
//! from the items that the user rated.
//!
//! Deviations are computed once per pair of items, O(items^2) memory, so large catalogues are refused. Surprise declares
//! ratings as C integers here and silently cuts half stars; `whole` repeats that.

use rayon::prelude::*;
use watershed_engine::StageError;

use super::model::{Rating, Tensor};
use super::ratings::{Ratings, mean};

/// Items above which the table of deviations is refused: 12 bytes a pair.
const MAX_ITEMS: usize = 20_000;

struct SlopeOne<'a> {
    train: &'a Ratings,
    /// `[items, items]`: mean of `r_ui - r_uj`; `NaN` where nobody rated both.
    deviations: Vec<f64>,
    means: Vec<f64>,
}

/// Computes the deviations.
///
/// # Errors
/// When the table of deviations would be too large.
pub fn fit(train: &Ratings, whole: bool) -> Result<impl Rating + '_, StageError> {
    let n = train.items.len();
    super::model::refuse_above("slope_one", n, MAX_ITEMS, n * n * size_of::<f64>())?;
    let value = |rating: f32| f64::from(if whole { rating.trunc() } else { rating });
    let mut deviations = vec![0.0; n * n];
    deviations.par_chunks_mut(n.max(1)).enumerate().for_each_init(
        || vec![0u32; n],
        |counts, (item, row)| {
            counts.fill(0);
            for &(user, rating) in train.by_item.of(item) {
                for &(other, other_rating) in train.by_user.of(user as usize) {
                    row[other as usize] += value(rating) - value(other_rating);
                    counts[other as usize] += 1;
                }
            }
            row.iter_mut()
                .zip(counts)
                .for_each(|(sum, n)| *sum = if *n == 0 { f64::NAN } else { *sum / f64::from(*n) });
            row[item] = 0.0;
        },
    );
    Ok(SlopeOne { train, deviations, means: train.by_user.iter().map(mean).collect() })
}

impl Rating for SlopeOne<'_> {
    fn estimate(&self, user: Option<usize>, item: Option<usize>) -> Option<f64> {
        let (user, item) = (user?, item?);
        let row = &self.deviations[item * self.train.items.len()..][..self.train.items.len()];
        let (mut sum, mut n) = (0.0, 0);
        for &(other, _) in self.train.by_user.of(user) {
            let deviation = row[other as usize];
            if !deviation.is_nan() {
                sum += deviation;
                n += 1;
            }
        }
        Some(self.means[user] + if n == 0 { 0.0 } else { sum / f64::from(n) })
    }

    fn tensors(&self) -> Vec<Tensor> {
        let n = self.train.items.len();
        vec![
            Tensor::f32("deviation", vec![n, n], self.deviations.iter().map(|&d| d as f32)),
            Tensor::f64("mean", vec![self.means.len()], &self.means),
        ]
    }
}
