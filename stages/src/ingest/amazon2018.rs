//! Amazon reviews and metadata as published in 2018 (Ni, Li and McAuley, EMNLP 2019): strict JSON, one object a line.
//!
//! Text is kept as it stands; mending it is `clean`'s work. What cannot be kept as it stands is decided here: numbers written
//! as text are read, `style` keys lose their colon, and halves of surrogate pairs, which no UTF-8 file can hold, become U+FFFD.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::price;
use super::time;
use crate::record::interaction::Interaction;
use crate::record::item::Item;

#[derive(Deserialize)]
struct Review {
    #[serde(rename = "reviewerID")]
    reviewer_id: Option<String>,
    asin: Option<Value>,
    overall: Option<Value>,
    #[serde(rename = "unixReviewTime")]
    unix_review_time: Option<Value>,
    #[serde(rename = "reviewTime")]
    review_time: Option<String>,
    #[serde(rename = "reviewerName")]
    reviewer_name: Option<String>,
    summary: Option<String>,
    #[serde(rename = "reviewText")]
    review_text: Option<String>,
    style: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Meta {
    asin: Option<Value>,
    title: Option<String>,
    brand: Option<String>,
    #[serde(default)]
    category: Option<OneOrMany>,
    #[serde(default)]
    main_cat: Option<String>,
    #[serde(default)]
    feature: Option<OneOrMany>,
    #[serde(default)]
    description: Option<OneOrMany>,
    price: Option<Value>,
    #[serde(default)]
    also_buy: Option<OneOrMany>,
    #[serde(default)]
    also_view: Option<OneOrMany>,
}

/// A list, or a single text where others have a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<String>),
    One(String),
}

/// Reads one line of reviews; the error is the reason for its quarantine.
pub fn review(line: &str) -> Result<Interaction, String> {
    let review: Review = from_json(line)?;
    Ok(Interaction {
        user_id: id(review.reviewer_id.map(Value::String), "reviewerID")?,
        item_id: item_id(review.asin)?,
        rating: rating(review.overall)?,
        time_ms: time::of_review(review.unix_review_time.as_ref(), review.review_time.as_deref())?,
        user_name: review.reviewer_name.unwrap_or_default(),
        title: review.summary.unwrap_or_default(),
        text: review.review_text.unwrap_or_default(),
        style: review.style.map(|style| style_text(&style)).unwrap_or_default(),
    })
}

/// Reads one line of metadata; the error is the reason for its quarantine.
pub fn item(line: &str) -> Result<Item, String> {
    let meta: Meta = from_json(line)?;
    let (price_cents, price_max_cents) = match meta.price.as_ref().and_then(|p| price::parse(&plain(p))) {
        Some((low, high)) => (Some(low), high),
        None => (None, None),
    };
    Ok(Item {
        item_id: item_id(meta.asin)?,
        title: meta.title.unwrap_or_default(),
        brand: meta.brand.unwrap_or_default(),
        categories: categories(list(meta.category), meta.main_cat.unwrap_or_default()),
        features: list(meta.feature),
        description: list(meta.description).join("\n"),
        price_cents,
        price_max_cents,
        also_buy: list(meta.also_buy),
        also_view: list(meta.also_view),
    })
}

/// The one path from main category to leaf; the main category alone where the page gave no path.
fn categories(path: Vec<String>, main_cat: String) -> Vec<Vec<String>> {
    if !path.is_empty() {
        return vec![path];
    }
    if main_cat.trim().is_empty() { Vec::new() } else { vec![vec![main_cat]] }
}

fn list(value: Option<OneOrMany>) -> Vec<String> {
    let entries = match value {
        None => Vec::new(),
        Some(OneOrMany::Many(entries)) => entries,
        Some(OneOrMany::One(entry)) => vec![entry],
    };
    entries.into_iter().filter(|entry| !entry.trim().is_empty()).collect()
}

/// Writes `{"Size:": " 6 Feet", "Color:": " White"}` as `Size: 6 Feet; Color: White`.
fn style_text(style: &Map<String, Value>) -> String {
    let pairs = style.iter().filter(|(_, value)| !value.is_null());
    pairs
        .map(|(key, value)| format!("{}: {}", key.trim().trim_end_matches(':'), plain(value).trim()))
        .collect::<Vec<_>>()
        .join("; ")
}

/// An id is text even where a spreadsheet made a number of it; item ids are upper case.
fn item_id(value: Option<Value>) -> Result<String, String> {
    id(value, "asin").map(|id| if id.bytes().any(|b| b.is_ascii_lowercase()) { id.to_ascii_uppercase() } else { id })
}

fn id(value: Option<Value>, key: &str) -> Result<String, String> {
    let text = value.as_ref().map(|value| plain(value).trim().to_string()).unwrap_or_default();
    if text.is_empty() { Err(format!("no `{key}`")) } else { Ok(text) }
}

fn rating(value: Option<Value>) -> Result<f64, String> {
    let value = value.ok_or("no `overall`")?;
    parse_rating(&plain(&value))
}

/// Reads stars from 1 to 5; also for other formats.
pub fn parse_rating(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(stars) if (1.0..=5.0).contains(&stars) => Ok(stars),
        Ok(_) => Err(format!("rating `{}` is outside 1 to 5", text.trim())),
        Err(_) => Err(format!("rating `{}` is no number", text.trim())),
    }
}

/// Returns a text without its quotes, and anything else as JSON writes it.
fn plain(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

fn from_json<T: DeserializeOwned>(line: &str) -> Result<T, String> {
    let parsed = match serde_json::from_str(line) {
        Err(_) if line.contains("\\u") => serde_json::from_str(&mend_surrogates(line)),
        other => other,
    };
    parsed.map_err(|e| if e.is_data() { format!("not a row of this format: {e}") } else { format!("not JSON: {e}") })
}

/// Replaces escapes of half a surrogate pair by the replacement character; an escaped backslash is no escape.
fn mend_surrogates(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let len = match (surrogate(rest), rest.get(6..).and_then(surrogate)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(_), _) => {
                out.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
            (None, _) => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
        out.push_str(&rest[..len]);
        rest = &rest[len..];
    }
    out.push_str(rest);
    out
}

fn surrogate(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u32::from_str_radix(digits, 16).ok().filter(|unit| (0xd800..=0xdfff).contains(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"overall": 4.0, "vote": "1,234", "verified": true, "reviewTime": "09 1, 2016", "reviewerID": " A1 ", "asin": "b00005n7ps", "style": {"Size:": " 7.0 oz", "Color:": " White"}, "reviewerName": "Ann \"x\"", "reviewText": "Fine,\nreally", "summary": "Four Stars", "unixReviewTime": 1472688000}"#;

    #[test]
    fn a_review_is_read_with_its_style() {
        let row = review(LINE).unwrap();
        assert_eq!((row.user_id.as_str(), row.item_id.as_str(), row.rating), ("A1", "B00005N7PS", 4.0));
        assert_eq!(row.time_ms, 1_472_688_000_000);
        assert_eq!(row.style, "Size: 7.0 oz; Color: White");
        assert_eq!(
            (row.title.as_str(), row.text.as_str(), row.user_name.as_str()),
            ("Four Stars", "Fine,\nreally", "Ann \"x\"")
        );
    }

    #[test]
    fn ratings_as_text_count_and_those_outside_the_scale_do_not() {
        assert_eq!(review(&LINE.replace("4.0", "\"5\"")).unwrap().rating, 5.0);
        assert_eq!(review(&LINE.replace("4.0", "6.0")).unwrap_err(), "rating `6.0` is outside 1 to 5");
        assert_eq!(review(&LINE.replace("4.0", "null")).unwrap_err(), "no `overall`");
    }

    #[test]
    fn missing_ids_and_torn_lines_give_a_reason() {
        assert_eq!(review(&LINE.replace("\" A1 \"", "\"\"")).unwrap_err(), "no `reviewerID`");
        assert!(review(&LINE[..60]).unwrap_err().starts_with("not JSON: "));
        assert!(review("[1]").unwrap_err().starts_with("not a row"));
    }

    #[test]
    fn optional_fields_may_be_missing_or_null() {
        let row = review(
            r#"{"overall": 1, "reviewerID": "A", "asin": "B", "reviewText": null, "unixReviewTime": 1472688000}"#,
        )
        .unwrap();
        assert_eq!((row.text, row.title, row.user_name, row.style), Default::default());
    }

    #[test]
    fn half_a_surrogate_pair_becomes_a_replacement_character() {
        let row = review(&LINE.replace("really", r"\ud83d ok \ud83d\ude00 \\ud83d \ude00x")).unwrap();
        assert_eq!(row.text, "Fine,\n\u{fffd} ok \u{1f600} \\ud83d \u{fffd}x");
    }

    #[test]
    fn metadata_is_read_with_prices_and_paths() {
        let line = r#"{"category": ["Kitchen", "Tools"], "description": ["", "One.", "Two."], "title": "A", "brand": "B", "feature": ["F1", ""], "rank": [], "also_buy": ["X"], "main_cat": "Home", "price": "$9.99 - $29.99", "asin": "0001"}"#;
        let item = item(line).unwrap();
        assert_eq!((item.item_id.as_str(), item.price_cents, item.price_max_cents), ("0001", Some(999), Some(2999)));
        assert_eq!(item.categories, [["Kitchen", "Tools"]]);
        assert_eq!((item.description.as_str(), item.features.len(), item.also_buy.len()), ("One.\nTwo.", 1, 1));
    }

    #[test]
    fn a_page_without_path_has_its_main_category() {
        let item = item(r#"{"category": [], "main_cat": "Home", "asin": "1", "price": ".a{b:c}"}"#).unwrap();
        assert_eq!((item.categories, item.price_cents), (vec![vec!["Home".to_string()]], None));
    }
}
