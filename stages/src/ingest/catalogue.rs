//! The catalogue: one row a product, where metadata files repeat pages.

use std::collections::BTreeMap;

use crate::record::item::Item;

/// Keeps of each product the most complete row; between equals the content decides, never the order of the file.
///
/// Returns the products sorted by id, and how many rows were repeats.
pub fn one_each(rows: Vec<Item>) -> (Vec<Item>, u64) {
    let all = rows.len() as u64;
    let mut best: BTreeMap<String, (usize, Item)> = BTreeMap::new();
    for row in rows {
        let filled = completeness(&row);
        let is_better = |(most, kept): &(usize, Item)| (filled, tie_break(&row)) > (*most, tie_break(kept));
        if best.get(&row.item_id).is_none_or(is_better) {
            best.insert(row.item_id.clone(), (filled, row));
        }
    }
    let repeats = all - best.len() as u64;
    (best.into_values().map(|(_, item)| item).collect(), repeats)
}

/// Number of fields that say something.
fn completeness(item: &Item) -> usize {
    let has_title = !item.title.trim().is_empty() && !item.title.trim_start().starts_with('<');
    let fields = [
        has_title,
        !item.brand.is_empty(),
        !item.categories.is_empty(),
        !item.features.is_empty(),
        !item.description.is_empty(),
        item.price_cents.is_some(),
        !item.also_buy.is_empty(),
        !item.also_view.is_empty(),
    ];
    fields.into_iter().filter(|filled| *filled).count()
}

fn tie_break(item: &Item) -> [u8; 32] {
    let bytes = serde_json::to_vec(item).expect("an item is plain data");
    *blake3::hash(&bytes).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, title: &str, brand: &str) -> Item {
        Item { item_id: id.into(), title: title.into(), brand: brand.into(), ..Item::default() }
    }

    #[test]
    fn the_most_complete_page_of_a_product_wins_in_any_order() {
        let rows = vec![item("b", "B", ""), item("a", "<span", "X"), item("a", "A", "X"), item("b", "B", "Y")];
        let reversed = rows.iter().rev().cloned().collect();
        let (kept, repeats) = one_each(rows);
        assert_eq!(repeats, 2);
        assert_eq!(kept, [item("a", "A", "X"), item("b", "B", "Y")]);
        assert_eq!(one_each(reversed).0, kept);
    }

    #[test]
    fn equally_complete_pages_give_the_same_one_in_any_order() {
        let (one, other) = (item("a", "One", "X"), item("a", "Two", "X"));
        assert_eq!(one_each(vec![one.clone(), other.clone()]), one_each(vec![other, one]));
    }
}
