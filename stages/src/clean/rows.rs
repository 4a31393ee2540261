//! Rules about whole rows: repeats, cores, missing fields, names.

use std::collections::{BTreeMap, BTreeSet};

use super::ledger::Ledger;
use super::{Dedup, KCore, Names};
use crate::record::interaction::Interaction;
use crate::record::item::Item;
use crate::seeded::draw;

/// Names that many customers share, which name nobody.
const NOBODY: [&str; 4] = ["amazon customer", "kindle customer", "a customer", "anonymous"];
/// First names of pseudonyms.
const PSEUDONYMS: [&str; 16] = [
    "Alex", "Blair", "Casey", "Devon", "Ellis", "Frankie", "Gray", "Harper", "Indigo", "Jules", "Kai", "Lane",
    "Morgan", "Nico", "Quinn", "Riley",
];

/// Keeps the earliest of repeated rows; among rows of one moment the content decides, never the order of the file.
pub fn dedup(mut rows: Vec<Interaction>, by: Dedup, ledger: &mut Ledger) -> Vec<Interaction> {
    if by == Dedup::Off {
        return rows;
    }
    rows.sort_by(|a, b| order(a).cmp(&order(b)));
    let mut seen = BTreeSet::new();
    rows.retain(|row| {
        let by_item = seen.insert((row.user_id.clone(), row.item_id.clone(), false));
        let is_copied = by == Dedup::Text && row.text.chars().count() >= 20;
        let by_text = !is_copied || seen.insert((row.user_id.clone(), row.text.clone(), true));
        let is_first = by_item && by_text;
        if !is_first {
            ledger.note("dedup", &id(row), "row", &row.text, "");
        }
        is_first
    });
    rows
}

fn order(row: &Interaction) -> (&str, i64, &str, &str, &str, u64) {
    (&row.user_id, row.time_ms, &row.item_id, &row.text, &row.title, row.rating.to_bits())
}

/// Names a row in examples.
pub fn id(row: &Interaction) -> String {
    format!("{} {}", row.user_id, row.item_id)
}

/// Drops customers with too few products and products with too few customers, again and again until none is left.
pub fn k_core(mut rows: Vec<Interaction>, core: KCore, ledger: &mut Ledger) -> Vec<Interaction> {
    loop {
        let before = rows.len();
        let (mut users, mut items): (BTreeMap<String, BTreeSet<String>>, BTreeMap<String, BTreeSet<String>>) =
            Default::default();
        for row in &rows {
            users.entry(row.user_id.clone()).or_default().insert(row.item_id.clone());
            items.entry(row.item_id.clone()).or_default().insert(row.user_id.clone());
        }
        rows.retain(|row| {
            let fits =
                users[&row.user_id].len() >= core.user as usize && items[&row.item_id].len() >= core.item as usize;
            if !fits {
                ledger.note("k_core", &id(row), "row", &row.title, "");
            }
            fits
        });
        if rows.len() == before || !core.iterate {
            return rows;
        }
    }
}

/// Settles what customers are called; the id alone says who they are.
pub fn names(rows: &mut [Interaction], rule: Names, ledger: &mut Ledger) {
    let chosen: BTreeMap<String, String> = match rule {
        Names::Keep => return,
        Names::MostFrequent => most_frequent(rows),
        Names::Pseudonym => rows.iter().map(|row| (row.user_id.clone(), pseudonym(&row.user_id))).collect(),
        Names::Drop => BTreeMap::new(),
    };
    for row in rows {
        let name = chosen.get(&row.user_id).cloned().unwrap_or_default();
        if name != row.user_name {
            ledger.note("names", &id(row), "user_name", "", "");
            row.user_name = name;
        }
    }
}

fn most_frequent(rows: &[Interaction]) -> BTreeMap<String, String> {
    let mut counts: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for row in rows.iter().filter(|row| !row.user_name.is_empty()) {
        *counts.entry(&row.user_id).or_default().entry(&row.user_name).or_default() += 1;
    }
    let best = |names: &BTreeMap<&str, usize>| {
        let rank = |name: &str, count: usize| (!NOBODY.contains(&name.to_lowercase().as_str()), count);
        // `rev`: of equals the first in the alphabet wins.
        names
            .iter()
            .rev()
            .max_by_key(|(name, count)| rank(name, **count))
            .map(|(name, _)| name.to_string())
            .unwrap_or_default()
    };
    counts.iter().map(|(user, names)| (user.to_string(), best(names))).collect()
}

/// A made-up name that depends on the id alone.
fn pseudonym(user: &str) -> String {
    let number = draw(0, user);
    let initial = char::from(b'A' + (number / 16 % 26) as u8);
    format!("{} {initial}.", PSEUDONYMS[(number % 16) as usize])
}

/// Drops products without a title, and the rows of products that have none or no page at all.
///
/// Without a catalogue nothing can be said about titles, so nothing is dropped.
pub fn drop_untitled(rows: &mut Vec<Interaction>, items: &mut Vec<Item>, ledger: &mut Ledger) {
    if items.is_empty() {
        return;
    }
    items.retain(|item| {
        let has_title = !item.title.is_empty();
        if !has_title {
            ledger.note("drop_missing", &item.item_id, "item.title", "", "");
        }
        has_title
    });
    let known: BTreeSet<&str> = items.iter().map(|item| item.item_id.as_str()).collect();
    rows.retain(|row| {
        let is_known = known.contains(row.item_id.as_str());
        if !is_known {
            ledger.note("drop_missing", &id(row), "row", &row.title, "");
        }
        is_known
    });
}
