//! Whether two systems differ on the same customers: McNemar, sign flip, Wilcoxon, and Holm over several comparisons.

use rayon::prelude::*;

use crate::seeded::SplitMix;

/// Most pairs for which every sign pattern is tried.
const EXACT_PAIRS: usize = 16;

/// Sign patterns drawn beyond that.
const DRAWN_PATTERNS: usize = 100_000;

/// Returns the exact two-sided p of McNemar's test for `n01` and `n10` discordant pairs (McNemar 1947).
pub fn mcnemar(n01: usize, n10: usize) -> f64 {
    let n = n01 + n10;
    // Logarithms, because 2^-n is 0 as a number from 1075 pairs on.
    let mut term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for i in 0..=n01.min(n10) {
        tail += term.exp();
        term += ((n - i) as f64 / (i + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

/// Returns the two-sided p of the sign-flip permutation test that the differences have mean 0.
///
/// Exact up to 16 pairs, else by 100 000 drawn patterns with the observed one counted in.
pub fn sign_flip(differences: &[f64], seed: u64) -> f64 {
    // Pairs without a difference change no sum, whatever their sign.
    let differences: &[f64] = &differences.iter().copied().filter(|d| *d != 0.0).collect::<Vec<f64>>();
    let observed = differences.iter().sum::<f64>().abs();
    // Sums in another order differ in the last bits; patterns as extreme as the observed one must still count.
    let bar = observed - 1e-12 * differences.iter().map(|d| d.abs()).sum::<f64>();
    if differences.len() <= EXACT_PAIRS {
        let patterns = 1u64 << differences.len();
        let extreme = (0..patterns).filter(|&signs| flipped(differences, |i| signs >> i & 1 == 1) >= bar).count();
        return extreme as f64 / patterns as f64;
    }
    let extreme = (0..DRAWN_PATTERNS).into_par_iter().filter(|number| drawn(differences, seed, *number) >= bar).count();
    (extreme + 1) as f64 / (DRAWN_PATTERNS + 1) as f64
}

/// Returns the sum under one drawn pattern; each has its own stream, so that threads change nothing.
fn drawn(differences: &[f64], seed: u64, number: usize) -> f64 {
    let mut random = SplitMix::new(seed, &format!("sign flip {number}"));
    let mut bits = 0;
    flipped(differences, |i| {
        if i % 64 == 0 {
            bits = random.next_u64();
        }
        bits >> (i % 64) & 1 == 1
    })
}

fn flipped(differences: &[f64], mut negative: impl FnMut(usize) -> bool) -> f64 {
    differences.iter().enumerate().map(|(i, d)| if negative(i) { -d } else { *d }).sum::<f64>().abs()
}

/// Returns the two-sided p of Wilcoxon's signed ranks by the normal approximation, zeros dropped, ties corrected.
pub fn wilcoxon(differences: &[f64]) -> f64 {
    let mut nonzero: Vec<f64> = differences.iter().copied().filter(|d| *d != 0.0).collect();
    nonzero.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let n = nonzero.len() as f64;
    let (mut positive, mut tied) = (0.0, 0.0);
    let mut before = 0;
    for group in nonzero.chunk_by(|a, b| a.abs() == b.abs()) {
        let size = group.len() as f64;
        let rank = before as f64 + (size + 1.0) / 2.0;
        positive += rank * group.iter().filter(|d| **d > 0.0).count() as f64;
        tied += size * (size * size - 1.0);
        before += group.len();
    }
    let variance = n * (n + 1.0) * (2.0 * n + 1.0) / 24.0 - tied / 48.0;
    if variance <= 0.0 {
        return 1.0;
    }
    let z = (positive - n * (n + 1.0) / 4.0).abs() / variance.sqrt();
    normal_tails(z)
}

/// Returns the probability that a standard normal draw is at least `z` from 0, `z >= 0`.
///
/// `erfc(z / sqrt 2)` by the series of the middle and the continued fraction of the tail (Abramowitz and Stegun 7.1.6 and
/// 7.1.14); the error is below 1e-12.
fn normal_tails(z: f64) -> f64 {
    let x = z / std::f64::consts::SQRT_2;
    let scale = (-x * x).exp() / std::f64::consts::PI.sqrt();
    if x < 2.5 {
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term > 1e-17 * sum {
            n += 1.0;
            term *= 2.0 * x * x / (2.0 * n + 1.0);
            sum += term;
        }
        return 1.0 - 2.0 * scale * sum;
    }
    let fraction = (1..=60).rev().fold(x, |below, i| x + f64::from(i) / 2.0 / below);
    scale / fraction
}

/// Returns Holm's adjusted p values (Holm 1979), in the order given.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut highest = 0.0f64;
    for (place, &index) in order.iter().enumerate() {
        highest = highest.max(p[index] * (p.len() - place) as f64).min(1.0);
        adjusted[index] = highest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::metrics::reference;

    fn column(value: &Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    }

    fn differences(block: &Value) -> Vec<f64> {
        column(&block["a"]).iter().zip(column(&block["b"])).map(|(a, b)| b - a).collect()
    }

    #[test]
    fn p_values_equal_scipy() {
        let Some(all) = reference::load() else { return };
        let (stats, tolerance) = (&all["stats"], reference::tolerance(&all, "p_values"));
        let close =
            |ours: f64, theirs: &Value, what: &str| reference::assert_close(Some(ours), theirs, tolerance, what);
        if let (Some(n01), Some(n10)) = (stats["mcnemar_exact"]["n01"].as_u64(), stats["mcnemar_exact"]["n10"].as_u64())
        {
            close(mcnemar(n01 as usize, n10 as usize), &stats["mcnemar_exact"]["p"], "mcnemar");
        }
        if stats["sign_flip_exact"].is_object() {
            let ours = sign_flip(&differences(&stats["sign_flip_exact"]), 0);
            close(ours, &stats["sign_flip_exact"]["p_two_sided"], "sign flip");
        }
        if stats["wilcoxon_approx"].is_object() {
            close(wilcoxon(&differences(stats)), &stats["wilcoxon_approx"]["p"], "wilcoxon");
        }
        if stats["holm"].is_object() {
            let theirs = column(&stats["holm"]["adjusted"]);
            for (ours, theirs) in holm(&column(&stats["holm"]["p"])).iter().zip(theirs) {
                assert!((ours - theirs).abs() <= tolerance, "holm: {ours} {theirs}");
            }
        }
    }

    #[test]
    fn drawn_sign_flips_come_close_to_the_exact_test() {
        let small = [0.3, -0.1, 0.4, 0.2, 0.25, -0.05, 0.1, 0.3];
        let exact = sign_flip(&small, 0);
        let bar = small.iter().sum::<f64>() - 1e-9;
        let extreme = (0..20_000).filter(|number| drawn(&small, 0, *number) >= bar).count();
        assert!((exact - extreme as f64 / 20_000.0).abs() < 0.01);
        let padded: Vec<f64> = small.iter().copied().chain([0.0; 10]).collect();
        assert_eq!(exact, sign_flip(&padded, 0));
    }

    #[test]
    fn no_difference_is_never_significant() {
        assert_eq!(mcnemar(0, 0), 1.0);
        assert_eq!(sign_flip(&[], 0), 1.0);
        assert_eq!(wilcoxon(&[0.0, 0.0]), 1.0);
        assert_eq!(mcnemar(700, 700), 1.0);
    }

    #[test]
    fn tails_of_the_normal_are_continuous_and_right() {
        assert!((normal_tails(1.959_963_984_540_054) - 0.05).abs() < 1e-12);
        assert!((normal_tails(5.0) - 5.733_031_437_583_892e-7).abs() < 1e-15);
    }
}
