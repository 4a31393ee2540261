//! Invented rows in the shape of the 2018 files: the same keys in the same order, separators as Python writes them, and the
//! same kinds of junk.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use serde_json::{Map, Value, json};

use super::catalogue::{Product, base36, pick};
use super::prose;
use super::purchases::Purchase;
use super::shelves::SHELVES;
use crate::day;
use crate::seeded::{SplitMix, draw};

const FIRST_NAMES: [&str; 24] = [
    "Dana", "Maria", "Kevin", "Priya", "Tom", "Aisha", "Greta", "Luis", "Hannah", "Omar", "Yuki", "Brian", "Chloe",
    "Marcus", "Ingrid", "Paul", "Nadia", "Jerome", "Wendy", "Felix", "Rosa", "Samuel", "Tess", "Victor",
];

/// What junk replaces a title by, as found on the pages of 2018.
const SPAN: &str = "<span class=\"a-size-medium a-color-secondary\"";
/// What junk replaces a price by.
const STYLE_SHEET: &str = ".a-box-inner{background-color:#fff}#alohaBuyBoxWidget .selected{background-color:#fffbf3}";

/// Returns a line of reviews; `copy` counts reviews of one product by one customer.
pub fn review(seed: u64, junk_rate: f64, purchase: &Purchase, product: &Product, copy: u32) -> Value {
    let name = format!("review {} {} {copy}", purchase.customer, product.asin);
    let mut random = SplitMix::new(seed, &name);
    let mut row = Map::new();
    row.insert("overall".into(), json!(f64::from(purchase.stars)));
    if random.unit() < 0.2 {
        row.insert("vote".into(), json!(votes(&mut random)));
    }
    row.insert("verified".into(), json!(random.unit() < 0.8));
    let (year, month, date) = day::to_civil(purchase.time_ms);
    row.insert("reviewTime".into(), json!(format!("{month:02} {date}, {year}")));
    row.insert("reviewerID".into(), json!(reviewer_id(seed, purchase.customer)));
    row.insert("asin".into(), json!(product.asin));
    if random.unit() < 0.5 {
        row.insert("style".into(), style(&mut random, product));
    }
    if let Some(name) = reviewer_name(seed, purchase.customer) {
        row.insert("reviewerName".into(), json!(name));
    }
    let summary = prose::summary(&mut random, purchase.stars);
    let text = prose::sentences(&mut random, purchase.stars, product);
    let is_junk = random.unit() < junk_rate;
    row.insert("reviewText".into(), json!(if is_junk { spoil(&mut random, &text) } else { text.join(" ") }));
    row.insert("summary".into(), json!(summary));
    row.insert("unixReviewTime".into(), json!(purchase.time_ms / 1000));
    Value::Object(row)
}

/// Returns a line of metadata.
pub fn meta(seed: u64, junk_rate: f64, products: &[Product], number: usize) -> Value {
    let product = &products[number];
    let mut random = SplitMix::new(seed, &format!("page {number}"));
    let mut page = Page { title: product.title.clone(), brand: product.brand.into(), price: price(product.cents) };
    if random.unit() < junk_rate {
        page.spoil(&mut random);
    }
    let shelf = &SHELVES[product.shelf];
    let beside = |random: &mut SplitMix| -> Vec<&str> {
        (0..4).map(|_| pick(random, &others(products, product)).asin.as_str()).collect()
    };
    let (also_buy, also_view) = (beside(&mut random), beside(&mut random));
    json!({
        "category": [shelf.name, product.leaf],
        "tech1": "",
        "description": [format!("The {} by {} was made for {}.", product.noun.to_lowercase(), product.brand, product.purpose)],
        "fit": "",
        "title": page.title,
        "also_buy": also_buy,
        "tech2": "",
        "brand": page.brand,
        "feature": product.features,
        "rank": format!("{} in {} (", grouped(1 + random.below(90_000)), shelf.name),
        "also_view": also_view,
        "details": {"ASIN: ": product.asin},
        "main_cat": shelf.name,
        "similar_item": "",
        "date": "",
        "price": page.price,
        "asin": product.asin,
    })
}

/// The parts of a page that junk falls on.
struct Page {
    title: String,
    brand: String,
    price: String,
}

impl Page {
    /// Spoils the page in one of four ways seen in 2018 metadata.
    fn spoil(&mut self, random: &mut SplitMix) {
        match random.below(4) {
            0 => self.title = format!("<span class=\"a-size-medium\">{}</span>", self.title.replace('&', "&amp;")),
            // As in Magazine_Subscriptions: the title is page code, and a name stands in `brand`.
            1 => self.brand = std::mem::replace(&mut self.title, SPAN.into()),
            2 => self.title = format!("  {}&nbsp;", self.title.replace('-', "&#45;").replace('&', "&amp;")),
            _ => self.price = STYLE_SHEET.into(),
        }
    }
}

fn others<'a>(products: &'a [Product], product: &Product) -> Vec<&'a Product> {
    let near: Vec<&Product> = products.iter().filter(|p| p.shelf == product.shelf).take(40).collect();
    if near.is_empty() { products.iter().collect() } else { near }
}

fn price(cents: u64) -> String {
    format!("${}.{:02}", grouped(cents / 100), cents % 100)
}

/// Writes 1234 as `1,234`.
fn grouped(number: u64) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", grouped(number / 1000), number % 1000) }
}

fn votes(random: &mut SplitMix) -> String {
    grouped(if random.unit() < 0.01 { 1000 + random.below(900) } else { 2 + random.below(20) })
}

fn style(random: &mut SplitMix, product: &Product) -> Value {
    let color = format!(" {}", pick(random, &["White", "Black", "Blue", "Green", "Red", "Natural"]));
    let size = format!(" {}", pick(random, &SHELVES[product.shelf].sizes));
    match random.below(3) {
        0 => json!({"Color:": color}),
        1 => json!({"Size:": size}),
        _ => json!({"Size:": size, "Color:": color}),
    }
}

/// Spoils a review in one of five ways that cleaning must survive.
fn spoil(random: &mut SplitMix, sentences: &[String]) -> String {
    match random.below(5) {
        0 => sentences.join("<br /><br />"),
        1 => format!("I&#39;ll say it: {} &amp; more", sentences.join(" ").replace('\'', "&#39;")),
        2 => format!("[[VIDEOID:{}]]{}", base36(random.next_u64(), 12).to_lowercase(), sentences.join(" ")),
        3 => sentences.join("\n\n\t"),
        _ => String::new(),
    }
}

fn reviewer_id(seed: u64, customer: u64) -> String {
    format!("A{}{}", base36(draw(seed, &format!("reviewer {customer}")), 9), base36(customer, 4))
}

/// Names collide, some are missing, some carry quotes.
fn reviewer_name(seed: u64, customer: u64) -> Option<String> {
    let mut random = SplitMix::new(seed, &format!("name {customer}"));
    let (first, initial) = (pick(&mut random, &FIRST_NAMES), char::from(b'A' + random.below(26) as u8));
    match random.below(50) {
        0 => None,
        1 => Some(format!("{first} \"garden fan\"")),
        2..=5 => Some("Amazon Customer".into()),
        _ => Some(format!("{first} {initial}.")),
    }
}

/// Writes one row a line with `, ` and `: ` between, as Python's `json.dumps` does.
pub fn write_line(out: &mut impl Write, row: &Value) -> io::Result<()> {
    row.serialize(&mut Serializer::with_formatter(&mut *out, Spaced)).map_err(io::Error::from)?;
    out.write_all(b"\n")
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}
