//! Backend `neighbours`: what customers like this one bought next, in a sentence.
//!
//! A stand-in for a paid teacher that knows the shop: the recommendation is the unseen item most bought by the customers
//! who share most of the history (user-based nearest neighbours on sets), so a student tuned on it has something to learn.

use std::collections::{BTreeMap, BTreeSet};

use watershed_engine::{Job, StageError};

use crate::record::example::Example;

use super::TeacherLabel;
use super::label::{Labelling, Outcome, Tally};
use super::sentence::sentence;
use super::shop::Shop;

/// Customers whose purchases are counted; more of them drift to what everybody buys.
const NEIGHBOURS: usize = 20;

/// Labels every prompt.
///
/// # Errors
/// When `interactions` or `items` cannot be read.
pub fn label(params: &TeacherLabel, prompts: &[Example], job: &Job) -> Result<Labelling, StageError> {
    let shop = Shop::read(job)?;
    let seed = params.seed.unwrap_or(0);
    let outcomes = prompts.iter().map(|prompt| match pick(&shop, prompt) {
        Some(item) => sentence(&shop, prompt, item, seed, "neighbours"),
        None => Outcome::Failed("no unseen item with a title is left".into()),
    });
    Ok(Labelling { outcomes: outcomes.collect(), tally: Tally::default() })
}

/// Returns the unseen item most bought by the nearest customers; ties, and rows without neighbours, go to the most popular
/// item, then to the smallest id.
fn pick<'a>(shop: &'a Shop, prompt: &Example) -> Option<&'a str> {
    let own = shop.bought.get(&prompt.group).into_iter().flatten();
    let seen: BTreeSet<&str> = own.chain(&prompt.history).map(String::as_str).collect();
    let history: BTreeSet<&str> =
        if prompt.history.is_empty() { seen.clone() } else { prompt.history.iter().map(String::as_str).collect() };
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for user in neighbours(shop, &history, &prompt.group) {
        let basket: BTreeSet<&String> = shop.bought[user].iter().collect();
        for item in basket {
            *counts.entry(item).or_default() += 1;
        }
    }
    let best = |items: &mut dyn Iterator<Item = (&'a str, usize)>| {
        let unseen = items.filter(|(item, _)| !seen.contains(item) && shop.titled(item).is_some());
        unseen
            .max_by_key(|(item, count)| (*count, shop.popularity(item), std::cmp::Reverse(*item)))
            .map(|(item, _)| item)
    };
    let nearest = shop.items.keys().filter_map(|item| Some((item.as_str(), *counts.get(item.as_str())?)));
    best(&mut nearest.into_iter()).or_else(|| best(&mut shop.items.keys().map(|item| (item.as_str(), 0))))
}

/// Returns the customers who share most items with `history`, at most [`NEIGHBOURS`], ties by id.
fn neighbours<'a>(shop: &'a Shop, history: &BTreeSet<&str>, own: &str) -> Vec<&'a str> {
    let mut shared: BTreeMap<&str, usize> = BTreeMap::new();
    for item in history {
        for user in shop.buyers(item).filter(|user| *user != own) {
            *shared.entry(user).or_default() += 1;
        }
    }
    let mut ranked: Vec<(&str, usize)> = shared.into_iter().collect();
    ranked.sort_by_key(|(user, count)| (std::cmp::Reverse(*count), *user));
    ranked.into_iter().take(NEIGHBOURS).map(|(user, _)| user).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{interaction::Interaction, item::Item};

    fn shop(purchases: &[(&str, &str)]) -> Shop {
        let row = |&(user, item): &(&str, &str)| Interaction {
            user_id: user.into(),
            item_id: item.into(),
            ..Interaction::default()
        };
        let ids: BTreeSet<&str> = purchases.iter().map(|p| p.1).collect();
        let item = |id: &&str| Item { item_id: id.to_string(), title: format!("The {id}"), ..Item::default() };
        Shop::new(purchases.iter().map(row).collect(), ids.iter().map(item).collect())
    }

    #[test]
    fn nearest_customers_decide_and_own_items_stay_out() {
        let shop =
            shop(&[("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("b", "z"), ("c", "w"), ("d", "w"), ("e", "w")]);
        let prompt = Example { group: "a".into(), history: vec!["x".into(), "y".into()], ..Example::default() };
        assert_eq!(pick(&shop, &prompt), Some("z"));
        let stranger = Example { group: "new".into(), ..Example::default() };
        assert_eq!(pick(&shop, &stranger), Some("w"), "without neighbours the most popular item");
    }
}
