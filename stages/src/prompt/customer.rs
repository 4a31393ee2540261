//! A customer as a prompt shows one: a name and the distinct products bought, oldest first.
//!
//! Made from the given interactions alone. What was held out is not among them, so no prompt can leak it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::CategoryLevel;
use crate::record::interaction::Interaction;
use crate::record::item::Item;

/// A product that a customer bought.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bought {
    /// Product.
    pub item_id: String,
    /// Its title, or its brand where it has none.
    pub title: String,
    /// Maker, perhaps empty.
    pub brand: String,
    /// First category path, main category first.
    pub category: Vec<String>,
    /// Its features joined by spaces, else the variant bought (`Size is 6 Feet Color is White`); empty when neither is known.
    pub features: String,
    /// Stars given last.
    pub rating: f64,
    /// Text of the last review that has one; empty without.
    pub comment: String,
}

/// A customer with every product that has a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Customer {
    /// Customer.
    pub user_id: String,
    /// Last display name that is not empty, else empty.
    pub name: String,
    /// Distinct products in the order of their last purchase.
    pub products: Vec<Bought>,
    /// Every item bought, named or not.
    pub owned: BTreeSet<String>,
}

/// Returns every customer, sorted by id.
pub fn gather(rows: &[Interaction], items: &HashMap<&str, &Item>, features: usize) -> Vec<Customer> {
    let mut by_user: BTreeMap<&str, Vec<&Interaction>> = BTreeMap::new();
    rows.iter().for_each(|row| by_user.entry(&row.user_id).or_default().push(row));
    by_user.into_iter().map(|(user_id, rows)| customer(user_id, rows, items, features)).collect()
}

fn customer(user_id: &str, mut rows: Vec<&Interaction>, items: &HashMap<&str, &Item>, features: usize) -> Customer {
    rows.sort_by(|a, b| (a.time_ms, &a.item_id).cmp(&(b.time_ms, &b.item_id)));
    let name = rows.iter().rev().map(|row| row.user_name.trim()).find(|name| !name.is_empty()).unwrap_or_default();
    let mut by_item: BTreeMap<&str, Vec<&Interaction>> = BTreeMap::new();
    rows.iter().for_each(|row| by_item.entry(&row.item_id).or_default().push(row));
    let last = |rows: &Vec<&Interaction>| (rows[rows.len() - 1].time_ms, rows[rows.len() - 1].item_id.clone());
    let mut bought: Vec<Vec<&Interaction>> = by_item.into_values().collect();
    bought.sort_by_key(last);
    Customer {
        user_id: user_id.to_string(),
        name: name.to_string(),
        products: bought.iter().filter_map(|rows| product(rows, items, features)).collect(),
        owned: rows.iter().map(|row| row.item_id.clone()).collect(),
    }
}

/// Returns the product of these interactions (oldest first), or `None` when nothing names it.
fn product(rows: &[&Interaction], items: &HashMap<&str, &Item>, features: usize) -> Option<Bought> {
    let last = rows.last()?;
    let item = items.get(last.item_id.as_str())?;
    let title = title(item)?;
    let comment = rows.iter().rev().map(|row| row.text.trim()).find(|text| !text.is_empty()).unwrap_or_default();
    let listed: Vec<&str> = item.features.iter().map(|f| f.trim()).filter(|f| !f.is_empty()).take(features).collect();
    let features = match listed.is_empty() {
        true if features > 0 => variant(&last.style),
        _ => listed.join(" "),
    };
    Some(Bought {
        item_id: item.item_id.clone(),
        title: title.to_string(),
        brand: item.brand.clone(),
        category: item.categories.first().cloned().unwrap_or_default(),
        features,
        rating: last.rating,
        comment: comment.to_string(),
    })
}

/// Returns what a prompt calls an item: its title, else its brand.
pub fn title(item: &Item) -> Option<&str> {
    [item.title.trim(), item.brand.trim()].into_iter().find(|name| !name.is_empty())
}

/// Writes `Size: 6 Feet; Color: White` as the paper does: `Size is 6 Feet Color is White`.
fn variant(style: &str) -> String {
    let pairs = style.split("; ").map(|pair| match pair.split_once(':') {
        Some((key, value)) => format!("{} is {}", key.trim(), value.trim()),
        None => pair.trim().to_string(),
    });
    pairs.filter(|pair| !pair.is_empty()).collect::<Vec<_>>().join(" ")
}

impl Customer {
    /// Returns how many different categories the products have at `level`; products without a category count for none.
    pub fn categories(&self, level: CategoryLevel) -> usize {
        let named = self.products.iter().filter(|product| !product.category.is_empty());
        let distinct: BTreeSet<&[String]> = named.map(|product| level.of(&product.category)).collect();
        distinct.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, title: &str, path: &[&str]) -> Item {
        let categories = vec![path.iter().map(|s| s.to_string()).collect()];
        Item { item_id: id.into(), title: title.into(), categories, ..Item::default() }
    }

    fn bought(item: &str, time_ms: i64, text: &str, style: &str) -> Interaction {
        let (user_id, item_id, text, style) = ("u".into(), item.into(), text.into(), style.into());
        Interaction { user_id, item_id, time_ms, text, style, rating: 5.0, ..Interaction::default() }
    }

    #[test]
    fn products_are_distinct_named_and_ordered_by_their_last_purchase() {
        let items =
            [item("a", "A", &["Home", "Egg"]), item("b", "", &["Home", "Cup"]), item("c", "C", &["Toys", "Cup"])];
        let by_id = items.iter().map(|item| (item.item_id.as_str(), item)).collect();
        let rows = [
            bought("c", 5, "", "Size: 6 Feet; Color: White"),
            bought("a", 1, "old", ""),
            bought("b", 2, "", ""),
            bought("a", 9, "", ""),
        ];
        let customer = &gather(&rows, &by_id, 1)[0];
        let shown: Vec<&str> = customer.products.iter().map(|p| p.item_id.as_str()).collect();
        assert_eq!(shown, ["c", "a"]);
        assert_eq!(customer.products[0].features, "Size is 6 Feet Color is White");
        assert_eq!(customer.products[1].comment, "old");
        assert_eq!(customer.owned.len(), 3);
        let count = |level| customer.categories(level);
        assert_eq!((count(CategoryLevel::Main), count(CategoryLevel::Leaf), count(CategoryLevel::Path)), (2, 2, 2));
    }

    #[test]
    fn an_item_without_title_goes_by_its_brand() {
        let branded = Item { brand: " Reader's Digest ".into(), ..item("b", " ", &[]) };
        assert_eq!(title(&branded), Some("Reader's Digest"));
        assert_eq!(title(&item("n", "", &[])), None);
    }
}
