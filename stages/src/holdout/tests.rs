//! `holdout` as a whole: which rows land where.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use watershed_engine::Kind;
use watershed_engine::job::run_alone;

use super::*;

fn row(user: &str, item: &str, day: i64) -> Interaction {
    Interaction {
        user_id: user.into(),
        item_id: item.into(),
        rating: 5.0,
        time_ms: day * day::DAY_MS,
        ..Default::default()
    }
}

/// Output rows as `user item`, by port.
struct Out(tempfile::TempDir);

impl Out {
    fn rows(&self, port: &str) -> Vec<String> {
        let rows = interaction::read(&self.0.path().join(port)).unwrap();
        rows.iter().map(|r| format!("{} {}", r.user_id, r.item_id)).collect()
    }

    fn report(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.0.path().join("report")).unwrap()).unwrap()
    }
}

/// Writes rows as they come, unsorted, so that a dependence on their order would show.
fn write_unsorted(path: &Path, rows: &[Interaction]) {
    let mut out = csv::Writer::from_path(path).unwrap();
    rows.iter().for_each(|row| out.serialize(row).unwrap());
    out.flush().unwrap();
}

fn hold(rows: &[Interaction], params: Value) -> Out {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.csv");
    write_unsorted(&input, rows);
    run_alone(&Kind::of::<Holdout>(), params, &[("interactions", "in", &input)], folder.path()).unwrap();
    Out(folder)
}

fn plain() -> Vec<Interaction> {
    vec![row("u", "a", 1), row("u", "b", 2), row("u", "c", 3), row("v", "a", 1), row("v", "b", 5), row("w", "a", 9)]
}

#[test]
fn the_last_product_is_test_and_the_one_before_is_valid() {
    let out = hold(&plain(), json!({}));
    assert_eq!(out.rows("test"), ["u c", "v b"]);
    assert_eq!(out.rows("train"), ["u a", "u b", "v a", "w a"]);
    assert_eq!(out.rows("valid"), ["u b"]);
    assert_eq!(out.rows("fit"), ["u a", "v a", "w a"]);
    assert_eq!(out.report()["customers_with_test"], 2);
}

#[test]
fn a_tie_goes_by_hash_and_not_by_file_order() {
    let rows: Vec<Interaction> = (0..40)
        .flat_map(|u| ["a", "b", "c", "d"].map(|item| row(&format!("u{u}"), item, i64::from(item != "a"))))
        .collect();
    let reversed: Vec<Interaction> = rows.iter().rev().cloned().collect();
    let test = hold(&rows, json!({})).rows("test");
    assert_eq!(test, hold(&reversed, json!({})).rows("test"));
    let chosen: BTreeSet<&str> = test.iter().map(|r| r.split(' ').nth(1).unwrap()).collect();
    assert_eq!(chosen, BTreeSet::from(["b", "c", "d"]));
    assert_ne!(test, hold(&rows, json!({"seed": 1})).rows("test"));
}

#[test]
fn adding_a_customer_moves_nobody_else() {
    let mut rows = vec![row("u", "a", 1), row("u", "b", 2), row("u", "c", 2)];
    let before = hold(&rows, json!({})).rows("test");
    rows.insert(0, row("a", "a", 1));
    rows.insert(0, row("a", "b", 1));
    assert!(hold(&rows, json!({})).rows("test").contains(&before[0]));
}

#[test]
fn a_basket_is_held_out_whole_and_exclude_leaves_the_customer_in_train() {
    let rows = [row("u", "a", 1), row("u", "b", 2), row("u", "c", 2), row("v", "a", 1), row("v", "b", 2)];
    assert_eq!(hold(&rows, json!({"ties": "basket"})).rows("test"), ["u b", "u c", "v b"]);
    let out = hold(&rows, json!({"ties": "exclude"}));
    assert_eq!(out.rows("test"), ["v b"]);
    assert_eq!(out.rows("train"), ["u a", "u b", "u c", "v a"]);
}

#[test]
fn nobody_loses_the_only_product_or_the_only_basket() {
    let rows = [row("u", "a", 1), row("v", "a", 1), row("v", "b", 1)];
    let out = hold(&rows, json!({"ties": "basket"}));
    assert!(out.rows("test").is_empty());
    assert_eq!(out.rows("train").len(), 3);
}

#[test]
fn a_second_review_is_not_the_next_product_and_shows_no_answer() {
    let rows = [row("u", "a", 1), row("u", "b", 2), row("u", "c", 3), row("u", "a", 4), row("u", "c", 5)];
    let out = hold(&rows, json!({}));
    assert_eq!(out.rows("test"), ["u c"]);
    assert_eq!(out.rows("train"), ["u a", "u b", "u a"]);
    assert_eq!(out.report()["repeats_dropped"], 1);
}

#[test]
fn the_share_of_tied_last_days_is_reported() {
    let rows = [row("u", "a", 1), row("u", "b", 2), row("u", "c", 2), row("v", "a", 1), row("v", "b", 2)];
    assert_eq!(hold(&rows, json!({})).report()["last_day_tied_share"], 0.5);
}

#[test]
fn a_moment_parts_rows_by_time() {
    let rows = [row("u", "a", 1), row("u", "b", 20), row("u", "a", 21), row("v", "c", 30), row("v", "d", 2)];
    let out = hold(&rows, json!({"by": "timestamp", "at": "1970-01-21"}));
    assert_eq!(out.rows("test"), ["u b", "v c"]);
    assert_eq!(out.rows("train"), ["u a", "v d"]);
    assert_eq!(out.report()["repeats_dropped"], 1);
}

#[test]
fn a_moment_is_demanded_where_it_counts_and_refused_elsewhere() {
    let check = |params: Value| (Kind::of::<Holdout>().check)(&(Kind::of::<Holdout>().resolve)(&params).unwrap());
    assert_eq!(check(json!({"by": "timestamp"}))[0].path, "at");
    assert_eq!(check(json!({"by": "timestamp", "at": "soon"})).len(), 1);
    assert_eq!(check(json!({"at": 0})).len(), 1);
    assert!(check(json!({"by": "timestamp", "at": "2016-01-01"})).is_empty());
}

#[test]
fn the_catalogue_is_handed_on_and_empty_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let (rows, items) = (folder.path().join("in.csv"), folder.path().join("in.jsonl"));
    write_unsorted(&rows, &plain());
    std::fs::write(&items, "{\"item_id\":\"a\",\"title\":\"A\"}\n").unwrap();
    run_alone(
        &Kind::of::<Holdout>(),
        json!({}),
        &[("interactions", "i", &rows), ("items", "j", &items)],
        folder.path(),
    )
    .unwrap();
    assert_eq!(std::fs::read(folder.path().join("items")).unwrap(), std::fs::read(&items).unwrap());
    assert_eq!(std::fs::read(hold(&plain(), json!({})).0.path().join("items")).unwrap(), b"");
}

/// 53 % of Magazine's customers and 64 % of Gift Cards' bought two or more products on their last day (`docs/recsys.md`).
#[test]
fn the_real_share_of_tied_last_days_is_the_known_one() {
    let Some(folder) = crate::ingest::tests::real_reviews() else { return };
    for (name, share) in [("Magazine_Subscriptions", 0.53), ("Gift_Cards", 0.64)] {
        let out = tempfile::tempdir().unwrap();
        let reviews = folder.join(format!("{name}_5.json.gz"));
        run_alone(&Kind::of::<crate::ingest::Ingest>(), json!({}), &[("reviews", "r", &reviews)], out.path()).unwrap();
        let rows = interaction::read(&out.path().join("interactions")).unwrap();
        let found = hold(&rows, json!({})).report()["last_day_tied_share"].as_f64().unwrap();
        assert!((found - share).abs() < 0.02, "{name}: {found}");
    }
}
