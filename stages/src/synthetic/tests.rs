//! `synthetic` as a whole: shape, statistics, and the signal that is there to learn.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::json;
use watershed_engine::Kind;
use watershed_engine::job::run_alone;

use super::*;
use crate::ingest::Ingest;
use crate::record::interaction::{self, Interaction};
use crate::record::item;

fn make(params: Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    run_alone(&Kind::of::<Synthetic>(), params, &[], folder.path()).unwrap();
    folder
}

fn text(folder: &Path, port: &str) -> String {
    std::fs::read_to_string(folder.join(port)).unwrap()
}

/// Returns what `ingest` makes of the files.
fn ingested(params: Value) -> tempfile::TempDir {
    let made = make(params);
    let out = tempfile::tempdir().unwrap();
    let (reviews, items) = (made.path().join("reviews"), made.path().join("items"));
    run_alone(
        &Kind::of::<Ingest>(),
        json!({"max_bad": 0}),
        &[("reviews", "r", &reviews), ("items", "i", &items)],
        out.path(),
    )
    .unwrap();
    out
}

fn rows(params: Value) -> Vec<Interaction> {
    interaction::read(&ingested(params).path().join("interactions")).unwrap()
}

#[test]
fn the_seed_alone_decides_the_bytes() {
    let (one, same, other) = (make(json!({})), make(json!({})), make(json!({"seed": 1})));
    for port in ["reviews", "items"] {
        assert_eq!(text(one.path(), port), text(same.path(), port));
        assert_ne!(text(one.path(), port), text(other.path(), port));
    }
}

#[test]
fn the_default_is_under_one_megabyte() {
    let made = make(json!({}));
    let bytes = text(made.path(), "reviews").len() + text(made.path(), "items").len();
    assert!((300_000..1_000_000).contains(&bytes), "{bytes}");
}

#[test]
fn lines_have_the_keys_of_2018_in_their_order() {
    let made = make(json!({}));
    let first = |port: &str| text(made.path(), port).lines().next().unwrap().to_string();
    assert!(first("reviews").starts_with("{\"overall\": "), "{}", first("reviews"));
    let order = ["verified", "reviewTime", "reviewerID", "asin", "reviewText", "summary", "unixReviewTime"];
    for line in text(made.path(), "reviews").lines() {
        let places: Vec<usize> = order.iter().map(|key| line.find(&format!("\"{key}\": ")).unwrap()).collect();
        assert!(places.is_sorted(), "{line}");
    }
    assert!(first("items").starts_with("{\"category\": [\""), "{}", first("items"));
}

#[test]
fn stars_and_products_a_customer_follow_the_real_sets() {
    let rows = rows(json!({"customers": 2000, "duplicate_rate": 0.0, "seed": 5}));
    let share = |stars: f64| rows.iter().filter(|r| r.rating == stars).count() as f64 / rows.len() as f64;
    for (stars, expected) in [(1.0, 0.04), (2.0, 0.05), (3.0, 0.10), (4.0, 0.16), (5.0, 0.65)] {
        assert!((share(stars) - expected).abs() < 0.002, "{stars} stars: {}", share(stars));
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    rows.iter().for_each(|row| *counts.entry(&row.user_id).or_default() += 1);
    let mut counts: Vec<usize> = counts.into_values().collect();
    counts.sort_unstable();
    let at = |q: f64| counts[(counts.len() as f64 * q) as usize];
    assert_eq!((counts[0], at(0.5), at(0.9)), (4, 6, 10));
    assert!(counts.last().is_some_and(|most| *most <= 30));
}

#[test]
fn text_lengths_follow_the_real_sets() {
    let mut lengths: Vec<usize> = rows(json!({"junk_rate": 0.0})).iter().map(|r| r.text.len()).collect();
    lengths.sort_unstable();
    let at = |q: f64| lengths[(lengths.len() as f64 * q) as usize];
    assert!((80..=170).contains(&at(0.5)) && (450..=900).contains(&at(0.9)), "{} {}", at(0.5), at(0.9));
}

#[test]
fn titles_are_distinct_and_differ_in_wording() {
    let out = ingested(json!({"junk_rate": 0.0}));
    let items = item::read(&out.path().join("items")).unwrap();
    let titles: BTreeSet<&str> = items.iter().map(|i| i.title.as_str()).collect();
    assert_eq!((items.len(), titles.len()), (180, 180));
    let words: BTreeSet<&str> = titles.iter().flat_map(|t| t.split(' ')).collect();
    assert!(words.len() > 250, "{}", words.len());
}

#[test]
fn duplicates_and_junk_come_at_the_rates_asked_for() {
    let made = make(json!({"customers": 1000}));
    let text = text(made.path(), "reviews");
    let all = text.lines().count() as f64;
    let distinct = text.lines().collect::<BTreeSet<_>>().len() as f64;
    assert!(((all - distinct) / all - 0.015).abs() < 0.006, "{}", (all - distinct) / all);
    let tagged = text.lines().filter(|l| l.contains("<br />") || l.contains("[[VIDEOID:")).count() as f64;
    assert!(tagged > 0.005 * all && tagged < 0.04 * all);
    let clean = make(json!({"duplicate_rate": 0.0, "junk_rate": 0.0}));
    let clean = self::text(clean.path(), "reviews");
    assert_eq!(clean.lines().count(), clean.lines().collect::<BTreeSet<_>>().len());
    assert!(!clean.contains("<br />"));
}

#[test]
fn the_number_of_ratings_is_exact() {
    assert_eq!(rows(json!({"customers": 50, "ratings": 2000, "duplicate_rate": 0.0})).len(), 2000);
    assert_eq!(rows(json!({"customers": 50, "ratings": 50, "duplicate_rate": 0.0})).len(), 50);
    assert_eq!(rows(json!({"customers": 5, "items": 10, "ratings": 50, "duplicate_rate": 0.0})).len(), 50);
}

#[test]
fn stars_can_be_told_from_customer_and_product() {
    let rows = rows(json!({"customers": 600, "ratings": 12000, "duplicate_rate": 0.0}));
    let (test, train): (Vec<_>, Vec<_>) = rows.iter().enumerate().partition(|(n, _)| n % 5 == 0);
    let mean = train.iter().map(|(_, r)| r.rating).sum::<f64>() / train.len() as f64;
    // Means shrunk by 5, product first: the simplest predictor that knows who and what.
    let shrunk = |rest: BTreeMap<String, (f64, f64)>| -> BTreeMap<String, f64> {
        rest.into_iter().map(|(id, (sum, n))| (id, sum / (n + 5.0))).collect()
    };
    let mut sums: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for (_, row) in &train {
        let entry = sums.entry(row.item_id.clone()).or_default();
        *entry = (entry.0 + row.rating - mean, entry.1 + 1.0);
    }
    let by_item = shrunk(sums);
    let mut sums: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for (_, row) in &train {
        let entry = sums.entry(row.user_id.clone()).or_default();
        *entry = (entry.0 + row.rating - mean - by_item[&row.item_id], entry.1 + 1.0);
    }
    let by_user = shrunk(sums);
    let predict =
        |r: &Interaction| mean + by_item.get(&r.item_id).unwrap_or(&0.0) + by_user.get(&r.user_id).unwrap_or(&0.0);
    let rmse = |f: &dyn Fn(&Interaction) -> f64| {
        (test.iter().map(|(_, r)| (r.rating - f(r)).powi(2)).sum::<f64>() / test.len() as f64).sqrt()
    };
    let (flat, known) = (rmse(&|_| mean), rmse(&predict));
    assert!(known < 0.95 * flat, "{known} against {flat}");
}

#[test]
fn impossible_numbers_are_faults() {
    let check = |params: Value| (Kind::of::<Synthetic>().check)(&(Kind::of::<Synthetic>().resolve)(&params).unwrap());
    assert_eq!(check(json!({"categories": 9}))[0].path, "categories");
    assert_eq!(check(json!({"junk_rate": 1.5, "customers": 0})).len(), 2);
    assert_eq!(check(json!({"ratings": 100}))[0].path, "ratings");
    assert!(check(json!({})).is_empty());
}
