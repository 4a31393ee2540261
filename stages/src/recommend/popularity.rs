//! Popularity: the items bought most often, the same for everybody. The honest floor of every comparison.

use super::model::{Ranking, Tensor};
use super::ratings::Ratings;

struct Popularity {
    counts: Vec<f64>,
}

/// Counts the training interactions of each item.
pub fn fit(train: &Ratings) -> impl Ranking {
    Popularity { counts: train.by_item.iter().map(|buyers| buyers.len() as f64).collect() }
}

impl Ranking for Popularity {
    fn scores(&self, _user: Option<usize>) -> Option<Vec<f64>> {
        Some(self.counts.clone())
    }

    fn tensors(&self) -> Vec<Tensor> {
        vec![Tensor::f64("counts", vec![self.counts.len()], &self.counts)]
    }
}
