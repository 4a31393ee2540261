//! `clean` as a whole: each case of the table of dirty data.

use std::path::Path;

use serde_json::json;
use watershed_engine::Kind;
use watershed_engine::job::run_alone;

use super::*;

fn row(user: &str, item: &str, day: i64, text: &str) -> Interaction {
    let time_ms = 1_400_000_000_000 + day * 86_400_000;
    Interaction {
        user_id: user.into(),
        item_id: item.into(),
        rating: 5.0,
        time_ms,
        text: text.into(),
        ..Default::default()
    }
}

fn product(id: &str, title: &str) -> Item {
    Item { item_id: id.into(), title: title.into(), ..Default::default() }
}

struct Out {
    rows: Vec<Interaction>,
    items: Vec<Item>,
    report: Value,
}

impl Out {
    fn count(&self, rule: &str) -> u64 {
        self.report["rules"][rule]["count"].as_u64().unwrap_or(0)
    }
}

fn clean(params: Value, rows: &[Interaction], items: &[Item]) -> Result<Out, String> {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("in.csv"), folder.path().join("in.jsonl"));
    interaction::write(&a, rows.to_vec()).unwrap();
    lines::write(&b, items).unwrap();
    run(params, &a, &b, folder.path())
}

fn run(params: Value, rows: &Path, items: &Path, to: &Path) -> Result<Out, String> {
    run_alone(&Kind::of::<Clean>(), params, &[("interactions", "i", rows), ("items", "j", items)], to)
        .map_err(|e| e.to_string())?;
    let report = serde_json::from_slice(&std::fs::read(to.join("report")).unwrap()).unwrap();
    Ok(Out {
        rows: interaction::read(&to.join("interactions")).unwrap(),
        items: item::read(&to.join("items")).unwrap(),
        report,
    })
}

/// Cleans one review text.
fn text(params: Value, text: &str) -> String {
    clean(params, &[row("u", "a", 0, text)], &[]).unwrap().rows.remove(0).text
}

/// Cleans one product.
fn page(params: Value, item: Item) -> Item {
    let rows = [row("u", &item.item_id, 0, "fine")];
    clean(params, &rows, &[item]).unwrap().items.remove(0)
}

#[test]
fn each_text_rule_works_and_can_be_turned_off() {
    let cases = [
        ("unescape", "Black &amp;amp; Decker", "Black & Decker"),
        ("strip_html", "one<br />two", "one two"),
        ("markers", "[[VIDEOID:x]]good", "good"),
        ("nfc", "e\u{301}", "é"),
        ("whitespace", "a\r\n b\u{200b}", "a b"),
        ("missing_words", "N/A", ""),
    ];
    for (rule, dirty, mended) in cases {
        assert_eq!(text(json!({}), dirty), mended, "{rule}");
        assert_eq!(text(json!({rule: false}), dirty), dirty, "{rule} turned off");
    }
}

#[test]
fn a_title_of_page_code_falls_back_to_the_brand() {
    let item =
        Item { brand: "Texas Monthly".into(), ..product("a", "<span class=\"a-size-medium a-color-secondary\"") };
    assert_eq!(page(json!({}), item.clone()).title, "Texas Monthly");
    let code = Item { title: "var aPageStart = (new Date()).getTime();".into(), ..item.clone() };
    assert_eq!(page(json!({}), code).title, "Texas Monthly");
    let error = clean(json!({"title_from_brand": false}), &[row("u", "a", 0, "x")], &[item]).err().unwrap();
    assert!(error.contains("no row is left of 1") && error.contains("`drop_missing` 2"), "{error}");
}

#[test]
fn the_earliest_row_of_a_customer_and_product_stays_in_any_order() {
    let rows = [
        row("u", "a", 2, "later"),
        row("u", "a", 1, "b first"),
        row("u", "a", 1, "a first"),
        row("v", "a", 3, "other"),
    ];
    let mut reversed = rows.clone();
    reversed.reverse();
    let out = clean(json!({}), &rows, &[]).unwrap();
    assert_eq!(out.rows.iter().map(|r| r.text.as_str()).collect::<Vec<_>>(), ["a first", "other"]);
    assert_eq!(out.rows, clean(json!({}), &reversed, &[]).unwrap().rows);
    assert_eq!(out.count("dedup"), 2);
    assert_eq!(clean(json!({"dedup": "off"}), &rows, &[]).unwrap().rows.len(), 4);
}

#[test]
fn one_text_on_several_variants_is_a_repeat_where_asked() {
    let rows = [
        row("u", "a", 1, "the same words on every variant"),
        row("u", "b", 1, "the same words on every variant"),
        row("u", "c", 1, "ok"),
    ];
    assert_eq!(clean(json!({}), &rows, &[]).unwrap().rows.len(), 3);
    assert_eq!(clean(json!({"dedup": "text"}), &rows, &[]).unwrap().rows.len(), 2);
}

#[test]
fn cores_are_counted_on_distinct_products_until_nothing_more_goes() {
    // `w` falls below two products only once `c`, bought by one customer, is gone.
    let rows = [("u", "a"), ("u", "b"), ("v", "a"), ("v", "b"), ("w", "a"), ("w", "c"), ("x", "b"), ("x", "b")];
    let rows: Vec<Interaction> = rows.iter().enumerate().map(|(day, (u, i))| row(u, i, day as i64, "t")).collect();
    let kept = |params: Value| {
        clean(params, &rows, &[])
            .unwrap()
            .rows
            .iter()
            .map(|r| format!("{}{}", r.user_id, r.item_id))
            .collect::<Vec<_>>()
    };
    assert_eq!(kept(json!({"k_core": {"user": 2, "item": 2}})), ["ua", "ub", "va", "vb"]);
    assert_eq!(kept(json!({"k_core": {"user": 2, "item": 2, "iterate": false}})), ["ua", "ub", "va", "vb", "wa"]);
    assert_eq!(kept(json!({})).len(), 7);
}

#[test]
fn implausible_prices_are_missing_and_others_stay() {
    let priced = |cents| page(json!({}), Item { price_cents: Some(cents), ..product("a", "A") }).price_cents;
    assert_eq!((priced(1), priced(999), priced(99_999_999)), (None, Some(999), None));
}

#[test]
fn features_are_few_short_distinct_and_about_the_product() {
    let features = [
        "Soft &amp; warm",
        "soft & warm",
        "Currently, item can be shipped only within the U.S.",
        "long words here",
        "x",
        "y",
        "z",
        "w",
    ];
    let item = Item { features: features.map(String::from).to_vec(), ..product("a", "A") };
    assert_eq!(page(json!({"features": {"n": 3, "chars": 11}}), item).features, ["Soft & warm", "long words", "x"]);
}

#[test]
fn categories_keep_four_short_levels_and_pictures_their_description() {
    let path = ["<img src=\"a\" alt=\"Home\">", "Tools &amp; More", &"sentence ".repeat(9), "C", "D", "E"]
        .map(String::from)
        .to_vec();
    let item = Item { categories: vec![path], ..product("a", "A") };
    assert_eq!(page(json!({}), item).categories, [["Home", "Tools & More", "C", "D"]]);
}

#[test]
fn repeated_pages_become_the_most_complete_one() {
    let full = Item { brand: "B".into(), ..product("a", "A") };
    let out = clean(json!({}), &[row("u", "a", 0, "x")], &[product("a", "A"), full.clone()]).unwrap();
    assert_eq!(out.items, [full]);
}

#[test]
fn long_texts_end_after_a_sentence_and_long_titles_after_a_word() {
    assert_eq!(text(json!({"max_chars": 20}), "One two three. Four five six"), "One two three.");
    assert_eq!(
        page(json!({"title_max_chars": 18}), product("a", "Sylvania SCR1053 1.2-Inch")).title,
        "Sylvania SCR1053"
    );
}

#[test]
fn the_paper_preset_cuts_titles_as_the_paper_did_and_the_careful_one_does_not() {
    let paper = Clean::presets().into_iter().find(|(name, _)| *name == "paper").unwrap().1;
    let mut paper: serde_json::Map<String, Value> = serde_json::from_value(paper).unwrap();
    assert_eq!(paper.insert("k_core".into(), json!({})), Some(json!({"user": 5})));
    let title = |params| page(params, product("a", "AmazonBasics 6-Feet HDMI Cable, Black")).title;
    assert_eq!(title(Value::Object(paper)), "AmazonBasics 6");
    assert_eq!(title(json!({})), "AmazonBasics 6-Feet HDMI Cable, Black");
}

#[test]
fn names_are_settled_by_id_and_never_shown_in_examples() {
    let named = |user: &str, item: &str, name: &str| Interaction { user_name: name.into(), ..row(user, item, 0, "x") };
    let rows = [
        named("u", "a", "Ann \"x\" B"),
        named("u", "b", "Ann \"x\" B"),
        named("u", "c", "Amazon Customer"),
        named("v", "a", "v@mail.example"),
    ];
    let names = |rule: &str| -> Vec<String> {
        clean(json!({"names": rule}), &rows, &[]).unwrap().rows.into_iter().map(|r| r.user_name).collect()
    };
    assert_eq!(names("keep"), ["Ann x B", "Ann x B", "Amazon Customer", ""]);
    assert_eq!(names("most_frequent"), ["Ann x B", "Ann x B", "Ann x B", ""]);
    assert_eq!(names("drop"), ["", "", "", ""]);
    let made_up = names("pseudonym");
    assert!(made_up[0] == made_up[2] && made_up[0] != made_up[3] && !made_up[0].is_empty());
    assert!(!clean(json!({}), &rows, &[]).unwrap().report.to_string().contains("Ann"));
}

#[test]
fn rows_without_needed_fields_go_and_without_metadata_titles_are_not_asked_for() {
    let rows = [row("u", "a", 0, ""), row("u", "b", 0, "text"), row("u", "z", 0, "no page")];
    let items = [product("a", "A"), product("b", "B"), product("c", "None")];
    let out = clean(json!({"drop_missing": ["title", "text"]}), &rows, &items).unwrap();
    assert_eq!((out.rows.len(), out.items.len()), (1, 2));
    assert_eq!(clean(json!({}), &rows, &[]).unwrap().rows.len(), 3);
}

#[test]
fn the_report_counts_each_rule_and_shows_twenty_examples() {
    let rows: Vec<Interaction> = (0..30).map(|i| row("u", &format!("i{i}"), i, "a<br>b")).collect();
    let out = clean(json!({}), &rows, &[]).unwrap();
    assert_eq!(out.count("strip_html"), 30);
    let examples = out.report["rules"]["strip_html"]["examples"].as_array().unwrap();
    assert_eq!((examples.len(), &examples[0]["before"], &examples[0]["after"]), (20, &json!("a<br>b"), &json!("a b")));
}

#[test]
fn cleaning_twice_changes_nothing() {
    let made = tempfile::tempdir().unwrap();
    run_alone(&Kind::of::<crate::synthetic::Synthetic>(), json!({"junk_rate": 0.3}), &[], made.path()).unwrap();
    let (reviews, pages) = (made.path().join("reviews"), made.path().join("items"));
    let read = tempfile::tempdir().unwrap();
    run_alone(
        &Kind::of::<crate::ingest::Ingest>(),
        json!({}),
        &[("reviews", "r", &reviews), ("items", "i", &pages)],
        read.path(),
    )
    .unwrap();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = run(json!({}), &read.path().join("interactions"), &read.path().join("items"), one.path()).unwrap();
    let again = run(json!({}), &one.path().join("interactions"), &one.path().join("items"), two.path()).unwrap();
    assert_eq!((&first.rows, &first.items), (&again.rows, &again.items));
    assert!(first.count("strip_html") > 20 && first.count("dedup") > 10 && first.count("title_from_brand") > 0);
    assert!(first.items.iter().all(|item| !item.title.contains(['<', '&']) || item.title.contains(" & ")));
}

/// 148 of 151 joined products of Magazine have page code for a title (`docs/data.md`).
#[test]
fn real_titles_of_page_code_are_all_mended() {
    let Some(folder) = crate::ingest::tests::real_reviews() else { return };
    let (reviews, pages) =
        (folder.join("Magazine_Subscriptions_5.json.gz"), folder.join("meta_Magazine_Subscriptions.json.gz"));
    let (read, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run_alone(
        &Kind::of::<crate::ingest::Ingest>(),
        json!({}),
        &[("reviews", "r", &reviews), ("items", "i", &pages)],
        read.path(),
    )
    .unwrap();
    let out = run(json!({}), &read.path().join("interactions"), &read.path().join("items"), out.path()).unwrap();
    assert!(out.items.iter().all(|item| !item.title.contains("<span") && !item.title.is_empty()));
    let bought: std::collections::BTreeSet<&str> = out.rows.iter().map(|r| r.item_id.as_str()).collect();
    eprintln!(
        "magazine: {} rows, {} bought, {} pages, {} from brand, {} sharing",
        out.rows.len(),
        bought.len(),
        out.items.len(),
        out.count("title_from_brand"),
        out.report["items_sharing_a_title"]
    );
    assert!(out.count("title_from_brand") > 1900 && bought.len() > 140);
}
