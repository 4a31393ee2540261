//! Backend `target`: what the customer really bought next, in a sentence.
//!
//! With `held.valid` as `interactions` this labels each customer with the held-out purchase: supervised training on the
//! task that the evaluation asks.

use std::collections::BTreeSet;

use watershed_engine::{Job, StageError};

use crate::record::example::Example;

use super::TeacherLabel;
use super::label::{Labelling, Outcome, Tally};
use super::sentence::sentence;
use super::shop::Shop;

/// Labels every prompt.
///
/// # Errors
/// When `interactions` or `items` cannot be read.
pub fn label(params: &TeacherLabel, prompts: &[Example], job: &Job) -> Result<Labelling, StageError> {
    let shop = Shop::read(job)?;
    let seed = params.seed.unwrap_or(0);
    let outcomes: Vec<Outcome> = prompts.iter().map(|prompt| outcome(&shop, prompt, seed)).collect();
    warn_of_history(prompts, &outcomes, job);
    Ok(Labelling { outcomes, tally: Tally::default() })
}

fn outcome(shop: &Shop, prompt: &Example, seed: u64) -> Outcome {
    match shop.bought.get(&prompt.group).and_then(|items| items.first()) {
        None => Outcome::Failed(format!("customer `{}` has no row in `interactions`", prompt.group)),
        Some(item) if shop.titled(item).is_none() => Outcome::Failed(format!("item `{item}` has no title in `items`")),
        Some(item) => sentence(shop, prompt, item, seed, "target"),
    }
}

/// A target that the prompt already shows means that `interactions` is not the held-out part.
fn warn_of_history(prompts: &[Example], outcomes: &[Outcome], job: &Job) {
    let shown = prompts.iter().zip(outcomes).filter(|(prompt, outcome)| match outcome {
        Outcome::Label(_, meta) => {
            let history: BTreeSet<&str> = prompt.history.iter().map(String::as_str).collect();
            meta.get("item_id").and_then(|v| v.as_str()).is_some_and(|item| history.contains(item))
        }
        Outcome::Failed(_) => false,
    });
    let count = shown.count();
    if count > 0 {
        job.warn(format!(
            "{count} prompts already show their target: is `interactions` the held-out part, for example `held.valid`?"
        ));
    }
}
