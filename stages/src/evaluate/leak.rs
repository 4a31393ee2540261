//! Refuses to score answers whose prompts gave the target away.
//!
//! Scores of a leaking study are worthless and look excellent, so the default is to fail. A target among the products that
//! the prompt lists as bought can only be a mistake of the split. A target's title in the text of the input may be chance (a
//! comment that names another product), so that check can be turned into a warning.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_engine::{Job, StageError};

use super::evidence::{Evidence, customer_of};
use crate::metrics::grounding::Catalogue;
use crate::metrics::normalise::norm;
use crate::record::example::Example;

/// What to do about a target's title in a prompt's input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Leaks {
    /// The stage fails.
    #[default]
    Fail,
    /// The stage warns and goes on.
    Warn,
}

/// Looks at every prompt that was answered.
///
/// # Errors
/// When one gives its target away; names the first and how many there are.
pub fn check(evidence: &Evidence, leaks: Leaks, job: &Job) -> Result<(), StageError> {
    let asked: BTreeSet<&str> = evidence.answers.values().flatten().map(|answer| answer.id.as_str()).collect();
    let mut told: Vec<(&str, &str)> = Vec::new();
    for prompt in asked.iter().filter_map(|id| evidence.prompts.get(*id)) {
        let Some(targets) = evidence.truth.get(customer_of(prompt)) else { continue };
        if let Some(item) = prompt.history.iter().find(|item| targets.contains(*item)) {
            return Err(StageError::failed(format!(
                "prompt `{}` lists `{item}` as bought, which `truth` asks to predict: make the prompts from the part that \
                 `holdout` calls `train`",
                prompt.id
            )));
        }
        let told_here = evidence.catalogue.as_ref().and_then(|catalogue| told_target(catalogue, prompt, targets));
        told.extend(told_here.map(|item| (prompt.id.as_str(), item)));
    }
    job.count("prompts_that_name_their_target", told.len() as f64);
    let Some((id, item)) = told.first() else { return Ok(()) };
    let text = format!(
        "the input of prompt `{id}` names the title of `{item}`, which `truth` asks to predict ({} such prompts)",
        told.len()
    );
    match leaks {
        Leaks::Fail => Err(StageError::failed(format!("{text}: mend the split, or set `leaks: warn`"))),
        Leaks::Warn => {
            job.warn(text);
            Ok(())
        }
    }
}

/// Returns the target whose title stands in the input, unless the prompt has a right to name it: a bought product bears the
/// same title, or the target is among the candidates to choose from.
fn told_target<'a>(catalogue: &Catalogue, prompt: &Example, targets: &'a BTreeSet<String>) -> Option<&'a str> {
    let bought: BTreeSet<usize> = prompt.history.iter().filter_map(|item| catalogue.title_of(item)).collect();
    let offered = |item: &String| prompt.candidates.as_ref().is_some_and(|list| list.contains(item));
    let named: BTreeSet<usize> = catalogue.find(&norm(prompt.material())).into_iter().collect();
    let tells = |item: &&String| {
        let title = catalogue.title_of(item);
        !offered(item) && title.is_some_and(|title| named.contains(&title) && !bought.contains(&title))
    };
    targets.iter().find(tells).map(String::as_str)
}
