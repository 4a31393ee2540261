//! What each rule did: how often, and the first examples.

use std::collections::BTreeMap;

use serde::Serialize;

/// Examples kept of each rule.
const EXAMPLES: usize = 20;
/// Characters kept of an example's text.
const KEPT_CHARS: usize = 200;

/// One thing that a rule did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Example {
    /// Product, or customer and product, that it happened to.
    pub id: String,
    /// Field, for example `item.title`.
    pub field: &'static str,
    /// How the text was; names of customers are not shown.
    pub before: String,
    /// How it is now.
    pub after: String,
}

/// The doings of one rule.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Doings {
    /// How often it changed or dropped something.
    pub count: u64,
    /// The first ones, in the order of ids.
    pub examples: Vec<Example>,
}

/// The doings of all rules, by the rule's name.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Ledger(pub BTreeMap<&'static str, Doings>);

impl Ledger {
    /// Writes down one change.
    pub fn note(&mut self, rule: &'static str, id: &str, field: &'static str, before: &str, after: &str) {
        let doings = self.0.entry(rule).or_default();
        doings.count += 1;
        if doings.examples.len() < EXAMPLES {
            let shown = |text: &str| match field {
                "user_name" => String::new(),
                _ => text.chars().take(KEPT_CHARS).collect(),
            };
            doings.examples.push(Example { id: id.into(), field, before: shown(before), after: shown(after) });
        }
    }

    /// Returns how often a rule did something.
    pub fn count(&self, rule: &str) -> u64 {
        self.0.get(rule).map_or(0, |doings| doings.count)
    }
}
