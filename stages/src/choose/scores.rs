//! The metric of each case, read from the files of scores.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use watershed_engine::language::nearest;
use watershed_engine::{JobInput, StageError};

/// One flat object of numbers.
type Numbers = BTreeMap<String, Value>;

/// Names that an error lists.
const SHOWN: usize = 20;

/// What is known of one case.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Score {
    /// The number.
    Number(f64),
    /// The metric is there and holds no finite number.
    NotANumber,
    /// The case has scores, the metric is not among them.
    Missing,
    /// The case has no scores.
    None,
}

impl Score {
    /// Returns the number, if there is one.
    pub fn number(self) -> Option<f64> {
        if let Score::Number(number) = self { Some(number) } else { None }
    }
}

/// Scores by case.
pub struct Scores {
    by_case: BTreeMap<String, Score>,
}

impl Scores {
    /// Reads the scores. A single file that is no candidate's holds all cases, each as a system.
    ///
    /// # Errors
    /// When a file is no flat JSON object, when no case has the metric, or when no label is both a candidate's and a score's.
    pub fn read(
        files: &[JobInput],
        metric: &str,
        candidates: &BTreeMap<&str, &JobInput>,
    ) -> Result<Scores, StageError> {
        let all: Vec<(&str, Numbers)> =
            files.iter().map(|file| Ok((file.label.as_str(), numbers(file)?))).collect::<Result<_, StageError>>()?;
        let parts = match &all[..] {
            [(label, numbers)] if !candidates.contains_key(label) => by_system(numbers, candidates),
            _ => all,
        };
        if !parts.iter().any(|(case, _)| candidates.contains_key(case)) {
            return Err(no_label_in_common(files, candidates));
        }
        if !parts.iter().any(|(_, numbers)| numbers.contains_key(metric)) {
            return Err(unknown_metric(metric, &parts));
        }
        let by_case = parts.iter().map(|(case, numbers)| (case.to_string(), score(numbers.get(metric))));
        Ok(Scores { by_case: by_case.collect() })
    }

    /// Returns the score of a case.
    pub fn of(&self, case: &str) -> Score {
        self.by_case.get(case).copied().unwrap_or(Score::None)
    }

    /// Returns the cases that have scores.
    pub fn cases(&self) -> impl Iterator<Item = &str> {
        self.by_case.keys().map(String::as_str)
    }
}

fn numbers(file: &JobInput) -> Result<Numbers, StageError> {
    let bytes = std::fs::read(&file.path).map_err(|e| StageError::io("read", &file.path, &e))?;
    serde_json::from_slice(&bytes).map_err(|e| {
        let help = "expected one flat JSON object of numbers, `null` for what is not a number";
        StageError::failed(format!("cannot read the scores of `{}`: {e}; {help}", file.label))
    })
}

fn score(value: Option<&Value>) -> Score {
    match value {
        None => Score::Missing,
        Some(value) => value.as_f64().filter(|number| number.is_finite()).map_or(Score::NotANumber, Score::Number),
    }
}

/// Takes `CASE.metric` apart.
fn by_system<'c>(numbers: &Numbers, candidates: &BTreeMap<&'c str, &JobInput>) -> Vec<(&'c str, Numbers)> {
    let own = |case: &str| -> Numbers {
        let metric = |name: &str| Some(name.strip_prefix(case)?.strip_prefix('.')?.to_string());
        numbers.iter().filter_map(|(name, value)| Some((metric(name)?, value.clone()))).collect()
    };
    let cases = candidates.keys().map(|case| (*case, own(case)));
    cases.filter(|(_, numbers)| !numbers.is_empty()).collect()
}

fn no_label_in_common(files: &[JobInput], candidates: &BTreeMap<&str, &JobInput>) -> StageError {
    let scored = listed(files.iter().map(|file| file.label.as_str()));
    let candidates = listed(candidates.keys().copied());
    StageError::failed(format!(
        "no candidate has scores: `candidates` are {candidates}, `scores` are {scored}; label them alike, for example \
         `candidates: {{a: …}}` and `scores: {{a: …}}`"
    ))
}

fn unknown_metric(metric: &str, parts: &[(&str, Numbers)]) -> StageError {
    let names: BTreeSet<&str> = parts.iter().flat_map(|(_, numbers)| numbers.keys().map(String::as_str)).collect();
    let near = nearest(metric, names.iter().copied()).or_else(|| same_end(metric, &names));
    let near = near.map(|name| format!("did you mean `{name}`? ")).unwrap_or_default();
    StageError::failed(format!("no case has the metric `{metric}`: {near}They have {}", listed(names.into_iter())))
}

/// `val_loss` for `tuned.val_loss`, and the other way round.
fn same_end<'n>(metric: &str, names: &BTreeSet<&'n str>) -> Option<&'n str> {
    let end = |name: &str| name.rsplit('.').next().unwrap_or(name).to_string();
    names.iter().copied().find(|name| end(name) == end(metric))
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    if names.is_empty() { "none".into() } else { format!("{}{more}", names[..names.len().min(SHOWN)].join(", ")) }
}
