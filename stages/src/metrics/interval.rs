//! Intervals of 95 %: Wilson's for shares, the bootstrap over customers for means.
//!
//! The customer is what a study draws, so customers are resampled, never answers or items. Each resample has its own stream
//! of random numbers, which makes the bounds independent of the number of threads.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::seeded::SplitMix;

/// The 0.975 quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// How means are resampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Bootstrap {
    /// Number of resamples; 0 leaves the intervals of means out.
    #[schemars(range(max = 1_000_000))]
    pub n: usize,
    /// Seed of the resamples.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Bootstrap {
        Bootstrap { n: 10_000, seed: 0 }
    }
}

/// Lower and upper bound.
pub type Bounds = (f64, f64);

/// Returns the score interval of `hits` among `n` (Wilson 1927); `None` for `n = 0`.
pub fn wilson(hits: f64, n: usize) -> Option<Bounds> {
    if n == 0 {
        return None;
    }
    let n = n as f64;
    let share = hits / n;
    let scale = 1.0 + Z * Z / n;
    let centre = share + Z * Z / (2.0 * n);
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    Some((((centre - half) / scale).max(0.0), ((centre + half) / scale).min(1.0)))
}

/// Returns the bounds of each column's mean, by resampling rows; NaN marks a value that is not there.
///
/// All columns share the resamples. A resample is held as how often each row was drawn, so that columns are read in order:
/// 10 000 customers and resamples take about a second on one core.
pub fn bootstrap(rows: &[Vec<f64>], how: &Bootstrap) -> Vec<Option<Bounds>> {
    let columns = columns(rows);
    let resample = |number: usize| {
        let mut random = SplitMix::new(how.seed, &format!("bootstrap {number}"));
        let drawn = (0..rows.len()).map(|_| random.below(rows.len() as u64) as usize);
        means(&columns, &times_drawn(rows.len(), drawn))
    };
    let drawn: Vec<Vec<f64>> = (0..how.n).into_par_iter().map(resample).collect();
    (0..columns.len()).map(|column| percentile_bounds(drawn.iter().map(|means| means[column]).collect())).collect()
}

/// The values of one metric, 0 where there is none, and which rows have one; `None` when all have.
struct Column {
    values: Vec<f64>,
    present: Option<Vec<f64>>,
}

fn columns(rows: &[Vec<f64>]) -> Vec<Column> {
    let width = rows.first().map_or(0, Vec::len);
    let column = |at: usize| {
        let values = rows.iter().map(|row| if row[at].is_nan() { 0.0 } else { row[at] }).collect();
        let some_missing = rows.iter().any(|row| row[at].is_nan());
        let present = || rows.iter().map(|row| f64::from(!row[at].is_nan())).collect();
        Column { values, present: some_missing.then(present) }
    };
    (0..width).map(column).collect()
}

fn times_drawn(rows: usize, indexes: impl Iterator<Item = usize>) -> Vec<f64> {
    let mut times = vec![0.0; rows];
    indexes.for_each(|index| times[index] += 1.0);
    times
}

/// Returns the mean of each column over the drawn rows; NaN where no drawn row has a value.
fn means(columns: &[Column], times: &[f64]) -> Vec<f64> {
    let count = |column: &Column| column.present.as_ref().map_or(times.len() as f64, |present| dot(present, times));
    columns.iter().map(|column| dot(&column.values, times) / count(column)).collect()
}

/// Returns the inner product; four sums side by side keep the processor's adders busy, in an order that is always the same.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 4];
    let (a, b) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a.zip(b) {
        for lane in 0..4 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// Returns the 2.5 and 97.5 percentiles, interpolated linearly (numpy's default); `None` without a value.
fn percentile_bounds(mut values: Vec<f64>) -> Option<Bounds> {
    values.retain(|value| !value.is_nan());
    values.sort_by(f64::total_cmp);
    Some((quantile(&values, 0.025)?, quantile(&values, 0.975)?))
}

/// Returns a quantile of sorted values, interpolated linearly; `None` without a value.
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * sorted.len().checked_sub(1)? as f64;
    let below = sorted[place.floor() as usize];
    let above = sorted[place.ceil() as usize];
    Some(below + (above - below) * place.fract())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::metrics::reference;

    fn column(stats: &Value, name: &str) -> Vec<f64> {
        reference::list(stats, name).iter().map(|v| v.as_f64().unwrap()).collect()
    }

    fn assert_bounds(ours: Bounds, theirs: &Value, tolerance: f64, what: &str) {
        reference::assert_close(Some(ours.0), &theirs[0], tolerance, what);
        reference::assert_close(Some(ours.1), &theirs[1], tolerance, what);
    }

    #[test]
    fn wilson_equals_the_reference() {
        assert_eq!(wilson(0.0, 0), None);
        let Some(all) = reference::load() else { return };
        let case = &all["stats"]["wilson"];
        let (Some(k), Some(n)) = (case["k"].as_f64(), case["n"].as_u64()) else { return };
        assert_bounds(wilson(k, n as usize).unwrap(), &case["ci95"], reference::tolerance(&all, "fractions"), "wilson");
    }

    #[test]
    fn bounds_of_given_resamples_equal_numpy() {
        let Some(all) = reference::load() else { return };
        let stats = &all["stats"];
        let (a, b) = (column(stats, "/a"), column(stats, "/b"));
        let rows: Vec<Vec<f64>> = a.iter().zip(&b).map(|(a, b)| vec![*a, b - a]).collect();
        let given = &stats["bootstrap_given_indexes"];
        let drawn: Vec<Vec<f64>> = reference::list(given, "/indexes")
            .iter()
            .map(|sample| {
                let indexes = sample.as_array().unwrap().iter().map(|i| i.as_u64().unwrap() as usize);
                means(&columns(&rows), &times_drawn(rows.len(), indexes))
            })
            .collect();
        if rows.is_empty() || drawn.is_empty() {
            return;
        }
        let bounds = |at: usize| percentile_bounds(drawn.iter().map(|means| means[at]).collect()).unwrap();
        let tolerance = reference::tolerance(&all, "fractions");
        assert_bounds(bounds(0), &given["ci95_mean_a"], tolerance, "mean of a");
        assert_bounds(bounds(1), &given["ci95_diff_b_minus_a"], tolerance, "difference");
    }

    #[test]
    fn our_own_resamples_come_close_to_scipy() {
        let Some(all) = reference::load() else { return };
        let rows: Vec<Vec<f64>> = column(&all, "/stats/a").into_iter().map(|v| vec![v]).collect();
        if rows.is_empty() {
            return;
        }
        let ours = bootstrap(&rows, &Bootstrap { n: 20_000, seed: 0 })[0].unwrap();
        let tolerance = reference::tolerance(&all, "bootstrap_random");
        assert_bounds(ours, &all["stats"]["bootstrap_percentile_20000"], tolerance, "20 000 resamples");
    }

    #[test]
    fn bounds_do_not_depend_on_threads() {
        let rows: Vec<Vec<f64>> = (0..50).map(|i| vec![f64::from(i), f64::NAN]).collect();
        let how = Bootstrap { n: 500, seed: 3 };
        let with = |threads| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| bootstrap(&rows, &how))
        };
        assert_eq!(with(1), with(3));
        assert_eq!(with(1)[1], None);
    }
}
