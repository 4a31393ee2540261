//! Item-based nearest neighbours on purchases (Deshpande and Karypis 2004): bought together, weighed by the cosine.
//!
//! `s_ij = |U_i n U_j| / sqrt(|U_i| |U_j|)` over distinct buyers; each candidate `i` keeps its `k` nearest items (ties by
//! ascending number) and scores `sum of s_ij over the bought j among them`. One row of counts per thread, so memory is
//! O(items k), not O(items^2).

use rayon::prelude::*;

use super::model::{Ranking, Tensor};
use super::order::best;
use super::ratings::{Ratings, distinct};

struct ItemKnn<'a> {
    train: &'a Ratings,
    /// For each bought item, ascending candidates that have it among their neighbours, with the similarity.
    candidates: Vec<Vec<(u32, f64)>>,
}

/// Keeps the `k` nearest items of each item.
pub fn fit(train: &Ratings, k: usize) -> impl Ranking + '_ {
    let buyers: Vec<Vec<u32>> = train.by_item.iter().map(distinct).collect();
    let baskets: Vec<Vec<u32>> = train.by_user.iter().map(distinct).collect();
    let ties: Vec<u32> = (0..buyers.len() as u32).collect();
    let neighbours: Vec<Vec<(u32, f64)>> = (0..buyers.len())
        .into_par_iter()
        .map_init(|| vec![0.0; buyers.len()], |counts, item| nearest(item, &buyers, &baskets, &ties, counts, k))
        .collect();
    let mut candidates = vec![Vec::new(); buyers.len()];
    for (candidate, row) in neighbours.iter().enumerate() {
        for &(item, similarity) in row {
            candidates[item as usize].push((candidate as u32, similarity));
        }
    }
    ItemKnn { train, candidates }
}

/// Returns the nearest items with a similarity above zero; `counts` is scratch.
fn nearest(
    item: usize,
    buyers: &[Vec<u32>],
    baskets: &[Vec<u32>],
    ties: &[u32],
    counts: &mut [f64],
    k: usize,
) -> Vec<(u32, f64)> {
    counts.fill(0.0);
    for &user in &buyers[item] {
        for &other in &baskets[user as usize] {
            counts[other as usize] += 1.0;
        }
    }
    let size = buyers[item].len();
    for (count, others) in counts.iter_mut().zip(buyers) {
        *count /= ((size * others.len()) as f64).sqrt();
    }
    let row = best(counts, &[item as u32], ties, k);
    row.into_iter().map(|other| (other, counts[other as usize])).filter(|&(_, s)| s > 0.0).collect()
}

impl Ranking for ItemKnn<'_> {
    fn scores(&self, user: Option<usize>) -> Option<Vec<f64>> {
        let mut scores = vec![0.0; self.candidates.len()];
        for item in self.train.bought(user?) {
            for &(candidate, similarity) in &self.candidates[item as usize] {
                scores[candidate as usize] += similarity;
            }
        }
        Some(scores)
    }

    fn tensors(&self) -> Vec<Tensor> {
        let pairs: Vec<(u32, u32, f64)> = (0u32..)
            .zip(&self.candidates)
            .flat_map(|(item, row)| row.iter().map(move |&(candidate, similarity)| (candidate, item, similarity)))
            .collect();
        let shape = vec![pairs.len()];
        vec![
            Tensor::u32("candidate", shape.clone(), pairs.iter().map(|p| p.0)),
            Tensor::u32("neighbour", shape.clone(), pairs.iter().map(|p| p.1)),
            Tensor::f64("similarity", shape, &pairs.iter().map(|p| p.2).collect::<Vec<_>>()),
        ]
    }
}
