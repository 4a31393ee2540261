//! Who bought what, when, and how many stars they gave.
//!
//! A customer has two favourite categories and a place in a space of two tastes; so has a product. Affinity decides what is
//! bought, and with the quality of the product and the mood of the customer how it is rated: a factor model can learn both.

use super::Synthetic;
use super::catalogue::Product;
use super::shelves::SHELVES;
use crate::day::DAY_MS;
use crate::seeded::SplitMix;

/// Share of reviews with at most 1, 2, 3 and 4 stars: Magazine_Subscriptions 2018 (data.md 1).
const CUMULATIVE_STARS: [f64; 4] = [0.04, 0.09, 0.19, 0.35];
/// Fewest products of a customer, and how many more there are on average (data.md 2: p50 6, p90 10, at most 30).
const LEAST: f64 = 4.0;
const MORE: f64 = 0.715 / 0.285;
const MOST: u64 = 30;
/// 2012-01-01; the last purchase lies before October 2018, as in the 2018 files.
const FIRST_DAY: i64 = 15_340;

/// One purchase with its rating.
pub struct Purchase {
    /// Number of the customer.
    pub customer: u64,
    /// Number of the product.
    pub product: usize,
    /// Stars from 1 to 5.
    pub stars: u8,
    /// Day of the review.
    pub time_ms: i64,
}

/// Returns all purchases, by customer and time, no product twice by one customer.
pub fn purchases(params: &Synthetic, products: &[Product]) -> Vec<Purchase> {
    let mut rows = Vec::new();
    for (customer, count) in counts(params, products.len() as u64).into_iter().enumerate() {
        rows.extend(of_customer(params.seed, customer as u64, count, products));
    }
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| rows[*a].1.total_cmp(&rows[*b].1).then(a.cmp(b)));
    for (rank, at) in order.iter().enumerate() {
        let share = (rank as f64 + 0.5) / rows.len() as f64;
        rows[*at].0.stars = 1 + CUMULATIVE_STARS.iter().filter(|bound| share > **bound).count() as u8;
    }
    rows.into_iter().map(|(purchase, _)| purchase).collect()
}

/// Returns how many products each customer buys; exactly `ratings` in all where that is given.
fn counts(params: &Synthetic, items: u64) -> Vec<u64> {
    let mean = params.ratings.map_or(LEAST + MORE, |n| n as f64 / params.customers as f64);
    let least = LEAST.min(mean);
    let stay = (mean - least) / (mean - least + 1.0);
    let most = if params.ratings.is_some() { items } else { MOST.min(items) };
    let mut counts: Vec<u64> = (0..params.customers)
        .map(|customer| {
            let more = (1.0 - SplitMix::new(params.seed, &format!("count {customer}")).unit()).ln() / stay.ln();
            ((least + more.floor()) as u64).clamp(1, most)
        })
        .collect();
    if let Some(ratings) = params.ratings {
        settle(&mut counts, ratings, most);
    }
    counts
}

/// Adds or takes one from each customer in turn until the sum is `total`.
fn settle(counts: &mut [u64], total: u64, most: u64) {
    let mut sum: u64 = counts.iter().sum();
    while sum != total {
        let before = sum;
        for count in counts.iter_mut() {
            if sum < total && *count < most {
                *count += 1;
                sum += 1;
            } else if sum > total && *count > 1 {
                *count -= 1;
                sum -= 1;
            }
        }
        if sum == before {
            return;
        }
    }
}

/// Returns a customer's purchases with their scores, which decide the stars.
fn of_customer(seed: u64, customer: u64, count: u64, products: &[Product]) -> Vec<(Purchase, f64)> {
    let mut random = SplitMix::new(seed, &format!("customer {customer}"));
    let favourites = [random.below(SHELVES.len() as u64) as usize, random.below(SHELVES.len() as u64) as usize];
    let (taste, mood) = ([random.normal(), random.normal()], random.normal());
    let shelves = 1 + products.iter().map(|p| p.shelf).max().unwrap_or(0);
    let affinity = |product: &Product| match product.shelf {
        shelf if shelf == favourites[0] % shelves => 8.0,
        shelf if shelf == favourites[1] % shelves => 4.0,
        _ => 1.0,
    };
    let match_of = |product: &Product| taste[0] * product.taste[0] + taste[1] * product.taste[1];
    // Weighted draws without replacement: the smallest exponential arrival times (Efraimidis and Spirakis 2006).
    let mut arrivals: Vec<(f64, usize)> = products
        .iter()
        .enumerate()
        .map(|(at, product)| {
            let weight = product.popularity * affinity(product) * (0.6 * match_of(product)).clamp(-5.0, 5.0).exp();
            (-(1.0 - random.unit()).ln() / weight, at)
        })
        .collect();
    let count = (count as usize).min(arrivals.len());
    arrivals.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    arrivals.truncate(count);
    random.shuffle(&mut arrivals);
    let mut day = FIRST_DAY + random.below(1640) as i64;
    arrivals
        .into_iter()
        .map(|(_, at)| {
            let product = &products[at];
            let score = 0.5 * mood + 0.6 * product.quality + 0.7 * match_of(product) + 0.5 * random.normal();
            // Half of real customers buy more than one product on their last day (recsys.md, top note).
            if random.unit() > 0.45 {
                day += 1 + random.below(if count > 60 { 5 } else { 60 }) as i64;
            }
            (Purchase { customer, product: at, stars: 0, time_ms: day.min(17_804) * DAY_MS }, score)
        })
        .collect()
}
