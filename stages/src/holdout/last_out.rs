//! Parts each customer's rows into the last product and the rest.

use std::collections::BTreeMap;

use super::Ties;
use crate::record::interaction::Interaction;
use crate::seeded::draw;

/// Rows held out and rows kept.
#[derive(Debug, Default)]
pub struct Parted {
    /// One row for each held-out product of a customer: the first.
    pub held: Vec<Interaction>,
    /// Everything else, but for further rows of held-out products.
    pub kept: Vec<Interaction>,
    /// Customers with a held-out row.
    pub customers: usize,
    /// Customers whose held-out product was one of several of the same moment.
    pub ties: usize,
    /// Rows dropped because they show a held-out product.
    pub repeats: usize,
}

/// Takes each customer's last product.
///
/// A product counts from the customer's first row of it: a second review of something bought long ago is not what comes
/// next. A customer keeps at least one product; who has only one, or only one basket, stays whole.
pub fn take_last(rows: Vec<Interaction>, ties: Ties, seed: u64) -> Parted {
    let mut by_user: BTreeMap<String, Vec<Interaction>> = BTreeMap::new();
    for row in rows {
        by_user.entry(row.user_id.clone()).or_default().push(row);
    }
    let mut parted = Parted::default();
    for rows in by_user.into_values() {
        parted.add(rows, ties, seed);
    }
    parted
}

impl Parted {
    fn add(&mut self, rows: Vec<Interaction>, ties: Ties, seed: u64) {
        let first = first_rows(&rows);
        let last_ms = first.values().map(|at| rows[*at].time_ms).max().unwrap_or_default();
        let mut last: Vec<usize> = first.values().copied().filter(|at| rows[*at].time_ms == last_ms).collect();
        let is_tied = last.len() > 1;
        match ties {
            Ties::Exclude if is_tied => last.clear(),
            Ties::Exclude | Ties::Basket => {}
            Ties::Hash => {
                let chosen = last.iter().copied().min_by_key(|at| rank(seed, &rows[*at]));
                last = chosen.into_iter().collect();
            }
        }
        if last.is_empty() || last.len() == first.len() {
            self.kept.extend(rows);
            return;
        }
        self.customers += 1;
        self.ties += usize::from(is_tied);
        let held: Vec<String> = last.iter().map(|at| rows[*at].item_id.clone()).collect();
        for (at, row) in rows.into_iter().enumerate() {
            if last.contains(&at) {
                self.held.push(row);
            } else if held.contains(&row.item_id) {
                self.repeats += 1;
            } else {
                self.kept.push(row);
            }
        }
    }
}

/// Returns the position of each product's first row; among rows of one moment the content decides.
fn first_rows(rows: &[Interaction]) -> BTreeMap<&str, usize> {
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    let order = |at: usize| (rows[at].time_ms, &rows[at].text, &rows[at].title, rows[at].rating.to_bits());
    for (at, row) in rows.iter().enumerate() {
        let kept = first.entry(&row.item_id).or_insert(at);
        if order(at) < order(*kept) {
            *kept = at;
        }
    }
    first
}

fn rank(seed: u64, row: &Interaction) -> (u64, String) {
    (draw(seed, &format!("{}\0{}", row.user_id, row.item_id)), row.item_id.clone())
}
