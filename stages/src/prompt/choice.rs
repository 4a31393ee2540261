//! What a prompt draws at random: instruction, comment and candidates.
//!
//! Every draw is a hash of seed and customer, never the next number of a stream, so that adding a customer changes no other
//! row. `a_new_customer_changes_no_other_row` (in the kind's tests) pins that.

use std::collections::HashMap;

use super::customer::{Bought, Customer};
use super::{Candidates, CommentPick, From};
use crate::record::interaction::Interaction;
use crate::record::item::Item;
use crate::seeded::{SplitMix, draw};

/// Returns the instruction of a customer.
pub fn instruction<'a>(seed: u64, user_id: &str, texts: &[&'a str]) -> &'a str {
    let mut stream = SplitMix::new(seed, &format!("instruction/{user_id}"));
    texts[stream.below(texts.len() as u64) as usize]
}

/// Returns the place of the product whose comment is shown, among the products shown in order of purchase.
pub fn comment(pick: CommentPick, seed: u64, user_id: &str, shown: &[&Bought]) -> Option<usize> {
    let mut spoken = shown.iter().enumerate().filter(|(_, product)| !product.comment.is_empty());
    let best = match pick {
        CommentPick::None => None,
        CommentPick::MostRecent => spoken.next_back(),
        CommentPick::OneRandom => {
            spoken.min_by_key(|(_, product)| draw(seed, &format!("comment/{user_id}/{}", product.item_id)))
        }
        CommentPick::Longest => spoken.max_by_key(|(_, product)| product.comment.chars().count()),
        CommentPick::BestRated => spoken.max_by(|(_, a), (_, b)| a.rating.total_cmp(&b.rating)),
    };
    best.map(|(index, _)| index)
}

/// The items that candidates are drawn from, with how often each was bought.
pub struct Pool<'a> {
    items: Vec<(&'a Item, usize)>,
}

impl<'a> Pool<'a> {
    /// Gathers the named items of a catalogue.
    pub fn new(items: &'a [Item], rows: &[Interaction]) -> Pool<'a> {
        let mut bought: HashMap<&str, usize> = HashMap::new();
        rows.iter().for_each(|row| *bought.entry(&row.item_id).or_default() += 1);
        let named = items.iter().filter(|item| super::customer::title(item).is_some());
        Pool { items: named.map(|item| (item, bought.get(item.item_id.as_str()).copied().unwrap_or(0))).collect() }
    }

    /// Draws candidates that the customer does not own; `target` is among them when given, at a place drawn by seed.
    pub fn draw(&self, wanted: &Candidates, seed: u64, customer: &Customer, target: Option<&'a Item>) -> Vec<&'a Item> {
        let is_target = |item: &Item| target.is_some_and(|target| target.item_id == item.item_id);
        let open = self.items.iter().filter(|(item, _)| !customer.owned.contains(&item.item_id) && !is_target(item));
        let rank = |item: &Item| draw(seed, &format!("candidate/{}/{}", customer.user_id, item.item_id));
        let mut open: Vec<&(&Item, usize)> = open.collect();
        match wanted.from {
            From::Random => open.sort_by_cached_key(|(item, _)| (rank(item), item.item_id.clone())),
            From::Popular => open.sort_by_cached_key(|(item, count)| (usize::MAX - count, item.item_id.clone())),
        }
        let others = wanted.n as usize - usize::from(target.is_some());
        let mut chosen: Vec<&Item> = open.into_iter().take(others).map(|(item, _)| *item).chain(target).collect();
        chosen.sort_by_cached_key(|item| (rank(item), item.item_id.clone()));
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bought(id: &str, rating: f64, comment: &str) -> Bought {
        let (title, brand, features) = (id.to_string(), String::new(), String::new());
        Bought { item_id: id.into(), title, brand, category: Vec::new(), features, rating, comment: comment.into() }
    }

    #[test]
    fn each_pick_takes_the_comment_it_names() {
        let products =
            [bought("a", 3.0, "long comment"), bought("b", 5.0, "b"), bought("c", 4.0, "cc"), bought("d", 5.0, "")];
        let shown: Vec<&Bought> = products.iter().collect();
        let pick = |pick| comment(pick, 7, "u", &shown);
        assert_eq!(pick(CommentPick::MostRecent), Some(2));
        assert_eq!(pick(CommentPick::Longest), Some(0));
        assert_eq!(pick(CommentPick::BestRated), Some(1));
        assert_eq!(pick(CommentPick::None), None);
        let drawn: Vec<_> = (0..40).map(|seed| comment(CommentPick::OneRandom, seed, "u", &shown)).collect();
        assert!((0..3).all(|place| drawn.contains(&Some(place))) && !drawn.contains(&Some(3)));
    }

    #[test]
    fn every_instruction_is_used() {
        let texts = ["a", "b", "c"];
        let used: Vec<&str> = (0..60).map(|user| instruction(0, &format!("u{user}"), &texts)).collect();
        assert!(texts.iter().all(|text| used.iter().filter(|used| *used == text).count() > 8));
    }

    #[test]
    fn candidates_hold_the_target_and_nothing_owned() {
        let items: Vec<Item> =
            (0..20).map(|i| Item { item_id: format!("i{i:02}"), title: "t".into(), ..Item::default() }).collect();
        let rows: Vec<Interaction> =
            (0..5).map(|_| Interaction { item_id: "i07".into(), ..Interaction::default() }).collect();
        let owned = ["i00".to_string()].into();
        let customer = Customer { user_id: "u".into(), name: String::new(), products: Vec::new(), owned };
        let pool = Pool::new(&items, &rows);
        let draw = |from, target| {
            let wanted = Candidates { from, n: 4, include_target: target };
            pool.draw(&wanted, 0, &customer, target.then_some(&items[19]))
                .iter()
                .map(|item| item.item_id.clone())
                .collect::<Vec<_>>()
        };
        let random = draw(From::Random, true);
        assert!(random.len() == 4 && random.contains(&"i19".to_string()) && !random.contains(&"i00".to_string()));
        assert!(draw(From::Popular, false).contains(&"i07".to_string()));
    }
}
