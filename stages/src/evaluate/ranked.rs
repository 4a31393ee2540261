//! Hit rate, NDCG and MRR of every system that recommends, on the same customers.
//!
//! An answer becomes a list by the order in which it names products; from then on it is judged exactly as a baseline's.

use std::collections::{BTreeMap, BTreeSet};

use super::Evaluate;
use super::answers::{Scored, by_customer};
use super::customer::Customers;
use super::evidence::Evidence;
use super::numbers::{Numbers, flag, mean};
use crate::metrics::grounding::Catalogue;
use crate::metrics::interval::{bootstrap, wilson};
use crate::metrics::ranking::Judged;

type Lists = BTreeMap<String, Vec<String>>;

/// Sets the ranking metrics of every system, where targets are known.
pub fn measure(
    evidence: &Evidence,
    scored: &BTreeMap<&str, Vec<Scored>>,
    how: &Evaluate,
    numbers: &mut Numbers,
    customers: &mut Customers,
) {
    if evidence.judged_customers().next().is_none() {
        return;
    }
    if let Some(catalogue) = &evidence.catalogue {
        for (system, scores) in scored {
            measure_system(system, &named(scores, catalogue, evidence), evidence, how, numbers, customers);
        }
    }
    for (system, lists) in &evidence.rankings {
        measure_system(system, lists, evidence, how, numbers, customers);
    }
}

/// Returns the products that each customer's first sample names, in order.
///
/// Of several items that bear one title, the text cannot say which it means: the target is taken if it is among them, then
/// a bought one, then the lowest id.
fn named(scored: &[Scored], catalogue: &Catalogue, evidence: &Evidence) -> Lists {
    let none = BTreeSet::new();
    let mut lists = Lists::new();
    for (customer, own) in by_customer(scored) {
        let targets = evidence.truth.get(customer).unwrap_or(&none);
        let first = own.into_iter().filter(|s| s.answer.sample == 0);
        let items = first.flat_map(|s| s.mentions.iter().map(move |mention| (s, mention))).map(|(s, mention)| {
            let bearers = &catalogue.title(mention.title).items;
            let target = bearers.iter().find(|item| targets.contains(*item));
            let bought = || bearers.iter().find(|item| s.prompt.history.contains(item));
            target.or_else(bought).unwrap_or(&bearers[0]).clone()
        });
        lists.insert(customer.to_string(), items.collect());
    }
    lists
}

fn measure_system(
    system: &str,
    lists: &Lists,
    evidence: &Evidence,
    how: &Evaluate,
    numbers: &mut Numbers,
    customers: &mut Customers,
) {
    let histories = evidence.histories();
    let mut kept: Vec<Vec<&str>> = Vec::new();
    let mut judged: Vec<Judged> = Vec::new();
    for (customer, targets) in evidence.judged_customers() {
        let list = new_items(lists.get(customer), targets, histories.get(customer));
        let gains = targets.iter().map(|item| (item.as_str(), 1.0)).collect();
        let own = Judged::of(list.iter().copied(), &gains);
        fill_row(customers, system, customer, &own, &list, &how.k);
        judged.push(own);
        kept.push(list);
    }
    numbers.put(system, "customers", judged.len() as f64);
    numbers.put(system, "no_list_rate", mean(kept.iter().map(|list| flag(list.is_empty()))));
    for &k in &how.k {
        let hits: f64 = judged.iter().map(|j| j.hit(k)).sum();
        numbers.put(system, &format!("hit@{k}"), mean(judged.iter().map(|j| Some(j.hit(k)))));
        numbers.put_bounds(system, &format!("hit@{k}"), wilson(hits, judged.len()));
        numbers.put(system, &format!("ndcg@{k}"), mean(judged.iter().map(|j| Some(j.ndcg(k)))));
        numbers.put(system, &format!("mrr@{k}"), mean(judged.iter().map(|j| Some(j.reciprocal_rank(k)))));
        numbers.put(system, &format!("coverage@{k}"), coverage(&kept, k, evidence.items));
    }
    put_drawn_bounds(system, &judged, how, numbers);
}

/// Returns a list without the items that the prompt shows as bought, each item once.
fn new_items<'a>(
    list: Option<&'a Vec<String>>,
    targets: &BTreeSet<String>,
    history: Option<&BTreeSet<&str>>,
) -> Vec<&'a str> {
    let bought = |item: &str| history.is_some_and(|h| h.contains(item)) && !targets.contains(item);
    let mut seen = BTreeSet::new();
    let items = list.into_iter().flatten().map(String::as_str);
    items.filter(|item| !bought(item) && seen.insert(*item)).collect()
}

fn fill_row(customers: &mut Customers, system: &str, customer: &str, judged: &Judged, list: &[&str], ks: &[usize]) {
    let row = customers.row(system, customer);
    let longest = ks.iter().copied().max().unwrap_or(0);
    row.recommended = Some(list.iter().take(longest).map(|item| item.to_string()).collect());
    if let Some(rank) = judged.rank() {
        row.values.insert("rank".into(), rank as f64);
    }
    for &k in ks {
        row.values.insert(format!("hit@{k}"), judged.hit(k));
        row.values.insert(format!("ndcg@{k}"), judged.ndcg(k));
    }
}

fn coverage(lists: &[Vec<&str>], k: usize, items: usize) -> Option<f64> {
    let shown: BTreeSet<&str> = lists.iter().flat_map(|list| list.iter().take(k).copied()).collect();
    (items > 0).then(|| shown.len() as f64 / items as f64)
}

fn put_drawn_bounds(system: &str, judged: &[Judged], how: &Evaluate, numbers: &mut Numbers) {
    let row = |j: &Judged| how.k.iter().flat_map(|&k| [j.ndcg(k), j.reciprocal_rank(k)]).collect();
    let rows: Vec<Vec<f64>> = judged.iter().map(row).collect();
    let columns = how.k.iter().flat_map(|k| [format!("ndcg@{k}"), format!("mrr@{k}")]);
    for (metric, bounds) in columns.zip(bootstrap(&rows, &how.bootstrap)) {
        numbers.put_bounds(system, &metric, bounds);
    }
}
