//! Invented products: a title in a shop's wording, a page around it, and the taste it answers to.

use std::collections::BTreeSet;

use super::shelves::{SHELVES, Shelf};
use crate::seeded::{SplitMix, draw};

/// Few products are bought often, most seldom: the most popular one about nine times as often as the least.
const POPULARITY_SPREAD: f64 = 48.0;
const BASE36: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// One invented product.
pub struct Product {
    /// Ten characters, as the shop's ids have.
    pub asin: String,
    /// Its name, whole.
    pub title: String,
    /// Number of its shelf.
    pub shelf: usize,
    /// Leaf category.
    pub leaf: &'static str,
    /// Maker.
    pub brand: &'static str,
    /// What it is, for example `Skillet`.
    pub noun: &'static str,
    /// What it is good for.
    pub purpose: &'static str,
    /// Three points of praise.
    pub features: [&'static str; 3],
    /// Price in cents.
    pub cents: u64,
    /// How often it is bought, relative to others.
    pub popularity: f64,
    /// How good it is for everybody, standard normal.
    pub quality: f64,
    /// Its place in the space of tastes, standard normal in both directions.
    pub taste: [f64; 2],
}

/// Returns products with distinct titles, spread evenly over the categories.
pub fn products(seed: u64, items: u64, categories: u64) -> Vec<Product> {
    let mut titles = BTreeSet::new();
    (0..items).map(|number| product(seed, number, (number % categories) as usize, &mut titles)).collect()
}

fn product(seed: u64, number: u64, shelf_number: usize, titles: &mut BTreeSet<String>) -> Product {
    let shelf = &SHELVES[shelf_number];
    let mut random = SplitMix::new(seed, &format!("product {number}"));
    let (leaf, nouns) = pick(&mut random, &shelf.leaves);
    let (noun, purpose) = pick(&mut random, nouns);
    let brand = pick(&mut random, &shelf.brands);
    let features = three(&mut random, &shelf.features);
    let title = title(&mut random, shelf, brand, noun, features[0], titles);
    Product {
        asin: format!("B0{}{}", base36(draw(seed, &format!("asin {number}")), 4), base36(number, 4)),
        title,
        shelf: shelf_number,
        leaf,
        brand,
        noun,
        purpose,
        features,
        cents: 499 + random.below(24_000) / (1 + random.below(8)),
        popularity: 1.0 / (random.unit() * POPULARITY_SPREAD + 4.0).powf(0.9),
        quality: random.normal(),
        taste: [random.normal(), random.normal()],
    }
}

/// Words a title in one of five shapes, until it is a new one; a model number ends the search.
fn title(
    random: &mut SplitMix,
    shelf: &Shelf,
    brand: &str,
    noun: &str,
    feature: &str,
    titles: &mut BTreeSet<String>,
) -> String {
    for _ in 0..20 {
        let (quality, size) = (pick(random, &shelf.qualities), pick(random, &shelf.sizes));
        let title = match random.below(5) {
            0 => format!("{brand} {quality} {noun}, {size}"),
            1 => format!("{brand} {noun} with {feature}, {size}"),
            2 => format!("{quality} {noun} by {brand} ({size})"),
            3 => format!("{brand} {size} {quality} {noun}"),
            _ => format!("{brand} {noun} - {quality}, {feature}"),
        };
        if titles.insert(title.clone()) {
            return title;
        }
    }
    let title = format!("{brand} {noun} {feature} Model {}", titles.len());
    titles.insert(title.clone());
    title
}

/// Picks one of a list.
pub fn pick<T: Copy>(random: &mut SplitMix, list: &[T]) -> T {
    list[random.below(list.len() as u64) as usize]
}

fn three(random: &mut SplitMix, list: &[&'static str; 8]) -> [&'static str; 3] {
    let mut shuffled = *list;
    random.shuffle(&mut shuffled);
    [shuffled[0], shuffled[1], shuffled[2]]
}

/// Writes the low digits of a number.
pub fn base36(mut number: u64, digits: usize) -> String {
    let mut out = vec![b'0'; digits];
    for digit in out.iter_mut().rev() {
        *digit = BASE36[(number % 36) as usize];
        number /= 36;
    }
    out.into_iter().map(char::from).collect()
}
