//! Ranking metrics of one customer: hit, NDCG and reciprocal rank among the first `k`.
//!
//! A customer without a list, or whose target is not in it, scores 0 and stays in the denominator: leaving them out is how
//! some packages turn 0.133 into 0.154. Gains are linear and ties go by ascending item, as trec_eval does not but ranx does.

use std::collections::{BTreeMap, HashSet};

/// The gains of one customer's list beside the best possible ones.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judged {
    gains: Vec<f64>,
    ideal: Vec<f64>,
}

impl Judged {
    /// Judges a list, best first, by the gain of each target; a repeated item counts where it stands first.
    pub fn of<'a>(list: impl IntoIterator<Item = &'a str>, targets: &BTreeMap<&str, f64>) -> Judged {
        let mut seen = HashSet::new();
        let kept = list.into_iter().filter(|item| seen.insert(*item));
        let gains = kept.map(|item| targets.get(item).copied().unwrap_or(0.0)).collect();
        Judged::from_gains(gains, targets.values().copied().collect())
    }

    /// Judges a list whose gains are known by position.
    pub fn from_gains(gains: Vec<f64>, mut ideal: Vec<f64>) -> Judged {
        ideal.sort_by(|a, b| b.total_cmp(a));
        Judged { gains, ideal }
    }

    /// Returns the place of the first target, from 1.
    pub fn rank(&self) -> Option<usize> {
        self.gains.iter().position(|&gain| gain > 0.0).map(|at| at + 1)
    }

    /// Returns 1 when a target is among the first `k`, else 0; its mean is hit rate@k (HR@k, success@k).
    pub fn hit(&self, k: usize) -> f64 {
        f64::from(self.rank().is_some_and(|rank| rank <= k))
    }

    /// Returns the reciprocal rank of the first target among the first `k`, else 0; its mean is MRR@k.
    pub fn reciprocal_rank(&self, k: usize) -> f64 {
        self.rank().filter(|&rank| rank <= k).map_or(0.0, |rank| 1.0 / rank as f64)
    }

    /// Returns the discounted gain of the first `k` over the best possible (Jarvelin and Kekalainen 2002, linear gain).
    pub fn ndcg(&self, k: usize) -> f64 {
        let best = discounted(&self.ideal, k);
        if best > 0.0 { discounted(&self.gains, k) / best } else { 0.0 }
    }
}

fn discounted(gains: &[f64], k: usize) -> f64 {
    gains.iter().take(k).enumerate().map(|(at, gain)| gain / (at as f64 + 2.0).log2()).sum()
}

/// Orders scored items: score descending, ties by ascending item; a score that is no number comes last.
pub fn order(mut scored: Vec<(String, f64)>) -> Vec<String> {
    let value = |score: f64| if score.is_nan() { f64::NEG_INFINITY } else { score };
    scored.sort_by(|a, b| value(b.1).total_cmp(&value(a.1)).then_with(|| a.0.cmp(&b.0)));
    scored.into_iter().map(|(item, _)| item).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::*;
    use crate::metrics::reference;

    fn judge(block: &Value, user: &str) -> Judged {
        let empty = Map::new();
        let numbers = |v: &Value| v.as_object().unwrap_or(&empty).clone();
        let qrels = numbers(&block["qrels"][user]);
        let targets: BTreeMap<&str, f64> = qrels.iter().map(|(i, g)| (i.as_str(), g.as_f64().unwrap())).collect();
        let list = order(numbers(&block["run"][user]).into_iter().map(|(i, s)| (i, s.as_f64().unwrap())).collect());
        Judged::of(list.iter().map(String::as_str), &targets)
    }

    fn measure(judged: &Judged, name: &str) -> Option<f64> {
        let (metric, k) = name.split_once('@').map_or((name, usize::MAX), |(m, k)| (m, k.parse().unwrap()));
        match metric {
            "ndcg" | "nDCG" => Some(judged.ndcg(k)),
            "mrr" | "RR" => Some(judged.reciprocal_rank(k)),
            "hit_rate" | "Success" => Some(judged.hit(k)),
            _ => None,
        }
    }

    #[test]
    fn means_over_all_users_equal_ranx_and_ir_measures_missing_users_included() {
        let Some(all) = reference::load() else { return };
        let tolerance = reference::tolerance(&all, "fractions");
        let blocks = all["rankings"].as_object().into_iter().flatten().filter(|(_, b)| b["ranx"].is_object());
        for (name, block) in blocks {
            let users: Vec<&String> = block["qrels"].as_object().unwrap().keys().collect();
            for package in ["ranx", "ir_measures"] {
                for (metric, theirs) in block[package].as_object().unwrap() {
                    let ours: Option<f64> = users.iter().map(|u| measure(&judge(block, u), metric)).sum();
                    let Some(ours) = ours else { continue };
                    reference::assert_close(
                        Some(ours / users.len() as f64),
                        theirs,
                        tolerance,
                        &format!("{name} {metric} of {package}"),
                    );
                }
            }
        }
    }

    #[test]
    fn ties_go_by_ascending_item() {
        let scored = ["c", "a", "b"].map(|item| (item.to_string(), 1.0)).to_vec();
        assert_eq!(order(scored), ["a", "b", "c"]);
        let Some(all) = reference::load() else { return };
        if all["rankings"]["ties"].is_object() {
            assert_eq!(judge(&all["rankings"]["ties"], "t").rank(), Some(1));
        }
    }

    #[test]
    fn a_repeated_item_takes_one_place() {
        let judged = Judged::of(["a", "a", "b"], &BTreeMap::from([("b", 1.0)]));
        assert_eq!(judged.rank(), Some(2));
    }
}
