//! Surprise's four nearest-neighbour predictors (`knns.py`): the weighted mean of what the most similar users gave the item
//! (or of what the user gave the most similar items), around nothing, a mean, a z-score or a baseline.
//!
//! The top `k` are taken first, ties in training order, and those with a similarity of 0 or less count nothing after that.

use super::biases::{self, Biases, Method};
use super::model::{Rating, Tensor};
use super::params::Similarity;
use super::ratings::{Groups, Ratings, mean};
use super::similarity::{self, Measure};

/// What is taken off the neighbours' ratings and put back on the estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Center {
    /// Nothing: `knn_basic`.
    Nothing,
    /// The mean: `knn_with_means`.
    Mean,
    /// The mean, in standard deviations: `knn_with_zscore`.
    ZScore,
    /// The baseline estimate: `knn_baseline`.
    Baseline,
}

/// Knobs of the neighbourhood, in Surprise's names.
#[derive(Debug, Clone)]
pub struct Options {
    /// Neighbours that count.
    pub k: usize,
    /// Neighbours below which there is no estimate from them.
    pub min_k: usize,
    /// Users as neighbours, else items.
    pub user_based: bool,
    /// Measure.
    pub similarity: Similarity,
    /// Common ratings below which the similarity is 0.
    pub min_support: usize,
    /// Shrinkage of `pearson_baseline`.
    pub shrinkage: f64,
    /// How baselines are found.
    pub baselines: Method,
}

/// In Surprise's terms `x` is the side whose members are neighbours, `y` the other side.
struct Knn<'a> {
    options: Options,
    center: Center,
    by_y: &'a Groups,
    similar: Vec<Vec<(u32, f64)>>,
    /// Of each x: the mean (0 for `Nothing`) and the spread (1 but for `ZScore`).
    means: Vec<f64>,
    spreads: Vec<f64>,
    biases: Option<Biases>,
}

/// Computes the similarities and centres.
pub fn fit<'a>(train: &'a Ratings, center: Center, options: &Options) -> impl Rating + use<'a> {
    let (by_x, by_y, n_x, n_y) = match options.user_based {
        true => (&train.by_user, &train.by_item, train.users.len(), train.items.len()),
        false => (&train.by_item, &train.by_user, train.items.len(), train.users.len()),
    };
    let around_baseline = options.similarity == Similarity::PearsonBaseline;
    let biases = (around_baseline || center == Center::Baseline).then(|| biases::fit(train, options.baselines));
    let offset = match &biases {
        Some(biases) if around_baseline => offsets(biases, options.user_based),
        _ => (vec![0.0; n_x], vec![0.0; n_y]),
    };
    let measure =
        Measure { name: options.similarity, min_support: options.min_support, shrinkage: options.shrinkage, offset };
    Knn {
        similar: similarity::rows(by_x, by_y, n_x, &measure),
        means: match center {
            Center::Mean | Center::ZScore => by_x.iter().map(mean).collect(),
            Center::Nothing | Center::Baseline => vec![0.0; n_x],
        },
        spreads: if center == Center::ZScore { spreads(by_x, train.mean) } else { vec![1.0; n_x] },
        options: options.clone(),
        center,
        by_y,
        biases,
    }
}

fn offsets(biases: &Biases, user_based: bool) -> (Vec<f64>, Vec<f64>) {
    let (x, y) = if user_based { (&biases.user, &biases.item) } else { (&biases.item, &biases.user) };
    (x.clone(), y.iter().map(|bias| biases.mean + bias).collect())
}

/// Returns the standard deviation of each group; the overall one where it is zero.
fn spreads(by_x: &Groups, overall_mean: f64) -> Vec<f64> {
    let deviation = |squares: f64, n: usize| (squares / n as f64).sqrt();
    let squares =
        |pairs: &[(u32, f32)], mean: f64| -> f64 { pairs.iter().map(|p| (f64::from(p.1) - mean).powi(2)).sum() };
    let n: usize = by_x.iter().map(<[_]>::len).sum();
    let overall = deviation(by_x.iter().map(|pairs| squares(pairs, overall_mean)).sum(), n);
    let own = by_x.iter().map(|pairs| deviation(squares(pairs, mean(pairs)), pairs.len()));
    own.map(|spread| if spread == 0.0 { overall } else { spread }).collect()
}

impl Knn<'_> {
    /// Returns the members of `y`'s list most similar to `x`, above zero: `(x, rating, similarity)`.
    fn nearest(&self, x: usize, y: usize) -> Vec<(usize, f64, f64)> {
        let row = &self.similar[x];
        let mut near: Vec<(usize, f64, f64)> = self
            .by_y
            .of(y)
            .iter()
            .filter_map(|&(other, rating)| {
                let place = row.binary_search_by_key(&other, |&(x, _)| x).ok()?;
                Some((other as usize, f64::from(rating), row[place].1))
            })
            .collect();
        near.sort_by(|a, b| b.2.total_cmp(&a.2));
        near.truncate(self.options.k);
        near
    }

    /// Returns what a rating of `x` for `y` is compared with.
    fn center_of(&self, x: usize, y: usize) -> f64 {
        match (&self.biases, self.center) {
            (Some(biases), Center::Baseline) if self.options.user_based => {
                biases.mean + biases.user[x] + biases.item[y]
            }
            (Some(biases), Center::Baseline) => biases.mean + biases.user[y] + biases.item[x],
            _ => self.means[x],
        }
    }
}

impl Rating for Knn<'_> {
    fn estimate(&self, user: Option<usize>, item: Option<usize>) -> Option<f64> {
        let (Some(user), Some(item)) = (user, item) else {
            return self.biases.as_ref().filter(|_| self.center == Center::Baseline)?.estimate(user, item);
        };
        let (x, y) = if self.options.user_based { (user, item) } else { (item, user) };
        let near = self.nearest(x, y);
        let enough = near.len() >= self.options.min_k && !near.is_empty();
        if !enough {
            return (self.center != Center::Nothing).then(|| self.center_of(x, y));
        }
        let (mut weight, mut sum) = (0.0, 0.0);
        for (other, rating, similarity) in near {
            weight += similarity;
            sum += similarity * (rating - self.center_of(other, y)) / self.spreads[other];
        }
        Some(self.center_of(x, y) + sum / weight * self.spreads[x])
    }

    fn tensors(&self) -> Vec<Tensor> {
        let n: usize = self.similar.iter().map(Vec::len).sum();
        let counts: Vec<u32> = self.similar.iter().map(|row| row.len() as u32).collect();
        let mut tensors = vec![
            Tensor::u32("neighbours", vec![counts.len()], counts),
            Tensor::u32("neighbour", vec![n], self.similar.iter().flatten().map(|pair| pair.0)),
            Tensor::f32("similarity", vec![n], self.similar.iter().flatten().map(|pair| pair.1 as f32)),
            Tensor::f64("mean", vec![self.means.len()], &self.means),
            Tensor::f64("spread", vec![self.spreads.len()], &self.spreads),
        ];
        tensors.extend(self.biases.iter().flat_map(Rating::tensors));
        tensors
    }
}
