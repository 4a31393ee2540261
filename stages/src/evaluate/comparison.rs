//! Differences between two systems on the same customers, and whether they could be chance.
//!
//! Systems answer the same customers, so the pairs are compared: an interval that ignores the pairing is far too wide. With
//! several comparisons, Holm's adjusted p stands beside the plain one.

use watershed_engine::StageError;

use super::Evaluate;
use super::customer::Customers;
use super::numbers::{Numbers, mean};
use crate::metrics::interval::bootstrap;
use crate::metrics::significance::{holm, mcnemar, sign_flip, wilcoxon};

/// Sets `A_vs_B.METRIC_diff` (A - B) with its bounds and p for each pair of `compare`.
///
/// # Errors
/// When a pair names a system that is not there or has nothing in common with the other.
pub fn measure(customers: &Customers, how: &Evaluate, numbers: &mut Numbers) -> Result<(), StageError> {
    let k = if how.k.contains(&10) { 10 } else { how.k.iter().copied().max().unwrap_or(10) };
    let (hit, ndcg) = (format!("hit@{k}"), format!("ndcg@{k}"));
    let columns = [("parrot", "parrot_rate"), (hit.as_str(), hit.as_str()), (ndcg.as_str(), ndcg.as_str())];
    for pair in &how.compare {
        demand(customers, pair)?;
        if columns.iter().all(|(column, _)| customers.pairs(&pair[0], &pair[1], column).is_empty()) {
            let text = format!("`{}` and `{}` share no customer and metric to compare", pair[0], pair[1]);
            return Err(StageError::failed(text));
        }
    }
    for (column, metric) in columns {
        let found: Vec<(String, f64)> =
            how.compare.iter().filter_map(|pair| compare(customers, pair, (column, metric), how, numbers)).collect();
        if found.len() > 1 {
            let adjusted = holm(&found.iter().map(|(_, p)| *p).collect::<Vec<f64>>());
            for ((name, _), p) in found.iter().zip(adjusted) {
                numbers.put(name, &format!("{metric}_p_holm"), p);
            }
        }
    }
    Ok(())
}

fn demand(customers: &Customers, pair: &[String; 2]) -> Result<(), StageError> {
    let known = customers.systems();
    match pair.iter().find(|system| !known.contains(&system.as_str())) {
        Some(system) => Err(StageError::failed(format!(
            "`compare` names `{system}`, which has no answers and no ranking here: systems are {}",
            known.join(", ")
        ))),
        None => Ok(()),
    }
}

/// Compares one pair in one column and returns the name of the comparison with its p.
fn compare(
    customers: &Customers,
    [a, b]: &[String; 2],
    (column, metric): (&str, &str),
    how: &Evaluate,
    numbers: &mut Numbers,
) -> Option<(String, f64)> {
    let pairs = customers.pairs(a, b, column);
    let differences: Vec<f64> = pairs.iter().map(|(a, b)| a - b).collect();
    let name = format!("{a}_vs_{b}");
    numbers.put(&name, &format!("{metric}_diff"), mean(differences.iter().map(|d| Some(*d)))?);
    let rows: Vec<Vec<f64>> = differences.iter().map(|d| vec![*d]).collect();
    numbers.put_bounds(&name, &format!("{metric}_diff"), bootstrap(&rows, &how.bootstrap).into_iter().next().flatten());
    let p = if column.starts_with("ndcg") {
        numbers.put(&name, &format!("{metric}_p_wilcoxon"), wilcoxon(&differences));
        sign_flip(&differences, how.bootstrap.seed)
    } else {
        let only =
            |first: bool| pairs.iter().filter(|(a, b)| (*a >= 0.5) != (*b >= 0.5) && (*a >= 0.5) == first).count();
        mcnemar(only(false), only(true))
    };
    numbers.put(&name, &format!("{metric}_p"), p);
    Some((name, p))
}
