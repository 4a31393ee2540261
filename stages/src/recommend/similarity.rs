//! Similarities of users or of items over the ratings they have in common, as Surprise's `similarities.pyx` computes them.
//!
//! Only similarities above zero are kept: neighbours at or below zero never enter an estimate, so dropping them changes no
//! prediction and leaves memory proportional to the pairs that agree. Rows are computed in parallel, each by one thread in
//! a fixed order, so the bits do not depend on the number of threads.

use rayon::prelude::*;

use super::params::Similarity;
use super::ratings::Groups;

/// A measure with its knobs.
#[derive(Debug, Clone)]
pub struct Measure {
    /// Which.
    pub name: Similarity,
    /// Common ratings below which the similarity is 0.
    pub min_support: usize,
    /// Shrinkage of `pearson_baseline`.
    pub shrinkage: f64,
    /// What is taken off each rating first: biases by row and by the other side, the mean in the latter. Zero except for
    /// `pearson_baseline`.
    pub offset: (Vec<f64>, Vec<f64>),
}

/// Sums over the ratings that one pair has in common.
#[derive(Debug, Clone, Copy, Default)]
struct Common {
    n: f64,
    a: f64,
    b: f64,
    aa: f64,
    bb: f64,
    ab: f64,
}

/// Returns for each row the rows with a similarity above zero, ascending, itself included with 1.
pub fn rows(by_row: &Groups, by_other: &Groups, n_rows: usize, measure: &Measure) -> Vec<Vec<(u32, f64)>> {
    (0..n_rows)
        .into_par_iter()
        .map_init(|| vec![Common::default(); n_rows], |sums, row| one_row(row, by_row, by_other, measure, sums))
        .collect()
}

fn one_row(row: usize, by_row: &Groups, by_other: &Groups, measure: &Measure, sums: &mut [Common]) -> Vec<(u32, f64)> {
    sums.fill(Common::default());
    let (offset, others) = &measure.offset;
    let mut ratings = by_row.of(row).to_vec();
    ratings.sort_by_key(|&(other, _)| other);
    for (other, rating) in ratings {
        let a = f64::from(rating) - (others[other as usize] + offset[row]);
        for &(neighbour, rating) in by_other.of(other as usize) {
            sums[neighbour as usize].add(a, f64::from(rating) - (others[other as usize] + offset[neighbour as usize]));
        }
    }
    let value = |neighbour: usize, sum: &Common| if neighbour == row { 1.0 } else { sum.similarity(measure) };
    let all = sums.iter().enumerate().map(|(neighbour, sum)| (neighbour as u32, value(neighbour, sum)));
    all.filter(|&(_, similarity)| similarity > 0.0).collect()
}

impl Common {
    fn add(&mut self, a: f64, b: f64) {
        self.n += 1.0;
        self.a += a;
        self.b += b;
        self.aa += a * a;
        self.bb += b * b;
        self.ab += a * b;
    }

    fn similarity(&self, measure: &Measure) -> f64 {
        if self.n == 0.0 || self.n < measure.min_support as f64 {
            return 0.0;
        }
        let ratio = |num: f64, den: f64| if den == 0.0 { 0.0 } else { num / den };
        let n = self.n;
        match measure.name {
            Similarity::Msd => 1.0 / ((self.aa - 2.0 * self.ab + self.bb) / n + 1.0),
            Similarity::Cosine => ratio(self.ab, (self.aa * self.bb).sqrt()),
            Similarity::Pearson => ratio(
                n * self.ab - self.a * self.b,
                ((n * self.aa - self.a * self.a) * (n * self.bb - self.b * self.b)).sqrt(),
            ),
            // A single common rating correlates perfectly with anything, so two are needed.
            Similarity::PearsonBaseline if n < 2.0 => 0.0,
            Similarity::PearsonBaseline => {
                ratio(self.ab, (self.aa * self.bb).sqrt()) * ((n - 1.0) / (n - 1.0 + measure.shrinkage))
            }
        }
    }
}
