//! How far predicted ratings are from given ones.

use std::collections::BTreeMap;

/// A rating given and the rating predicted, of one customer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair<'a> {
    /// Customer.
    pub user: &'a str,
    /// Rating given.
    pub given: f64,
    /// Rating predicted.
    pub predicted: f64,
}

/// Returns the root of the mean squared error; `NaN` without pairs.
pub fn rmse(pairs: &[Pair]) -> f64 {
    (pairs.iter().map(|p| (p.given - p.predicted).powi(2)).sum::<f64>() / pairs.len() as f64).sqrt()
}

/// Returns the mean absolute error; `NaN` without pairs.
pub fn mae(pairs: &[Pair]) -> f64 {
    pairs.iter().map(|p| (p.given - p.predicted).abs()).sum::<f64>() / pairs.len() as f64
}

/// Returns the fraction of concordant pairs (Koren and Sill 2013, section 5.2), counted as Surprise's `accuracy.fcp` counts.
///
/// Surprise averages concordant pairs over customers that have one and discordant pairs over customers that have one, and
/// calls a tie of predictions discordant. `None` where no customer rated two items differently. O(ratings^2) per customer.
pub fn fcp(pairs: &[Pair]) -> Option<f64> {
    let mut by_user: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for pair in pairs {
        by_user.entry(pair.user).or_default().push((pair.given, pair.predicted));
    }
    let counts: Vec<(u64, u64)> = by_user.values().map(|rows| concordance(rows)).collect();
    let concordant = mean_of_positive(counts.iter().map(|c| c.0));
    let discordant = mean_of_positive(counts.iter().map(|c| c.1));
    (concordant + discordant > 0.0).then(|| concordant / (concordant + discordant))
}

fn concordance(rows: &[(f64, f64)]) -> (u64, u64) {
    let (mut concordant, mut discordant) = (0, 0);
    for (given, predicted) in rows {
        for (other_given, other_predicted) in rows {
            concordant += u64::from(predicted > other_predicted && given > other_given);
            discordant += u64::from(predicted >= other_predicted && given < other_given);
        }
    }
    (concordant, discordant)
}

fn mean_of_positive(counts: impl Iterator<Item = u64>) -> f64 {
    let (sum, n) = counts.filter(|&c| c > 0).fold((0, 0), |(sum, n), c| (sum + c, n + 1));
    if n == 0 { 0.0 } else { sum as f64 / n as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(user: &str, given: f64, predicted: f64) -> Pair<'_> {
        Pair { user, given, predicted }
    }

    #[test]
    fn errors_and_concordance_of_four_ratings() {
        let pairs = [pair("a", 5.0, 4.0), pair("a", 3.0, 4.0), pair("b", 1.0, 2.0), pair("b", 2.0, 4.0)];
        assert_eq!(rmse(&pairs), (7.0f64 / 4.0).sqrt());
        assert_eq!(mae(&pairs), 1.25);
        // a: predictions tie, so its pair is discordant; b: concordant.
        assert_eq!(fcp(&pairs), Some(0.5));
        assert_eq!(fcp(&pairs[..1]), None);
    }
}
