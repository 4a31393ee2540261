//! How the cases stand: in groups, best first.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use watershed_engine::cases::Listed;
use watershed_engine::language::nearest;
use watershed_engine::{JobInput, StageError};

use super::Mode;
use super::scores::{Score, Scores};

/// One case.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Its name.
    pub case: String,
    /// Its overrides.
    pub overrides: BTreeMap<String, Value>,
    /// What its scores say.
    pub score: Score,
    /// Whether it can be chosen.
    pub is_candidate: bool,
    /// The number by which it is ranked: the mean of its group; `None` where that has none.
    pub counts: Option<f64>,
    /// Cases in its group.
    pub group_size: usize,
    /// Why it has no rank; empty where it has one.
    pub note: String,
}

/// Returns all cases, the best first, those without a rank last; ties go by name.
///
/// # Errors
/// When `mean_over` names what no case overrides.
pub fn ranked(
    candidates: &BTreeMap<&str, &JobInput>,
    scores: &Scores,
    listed: &[Listed],
    mode: Mode,
    mean_over: &[String],
) -> Result<Vec<Standing>, StageError> {
    check_paths(listed, mean_over)?;
    let overrides: BTreeMap<&str, &BTreeMap<String, Value>> =
        listed.iter().map(|case| (case.name.as_str(), &case.overrides)).collect();
    let names: BTreeSet<&str> =
        candidates.keys().copied().chain(scores.cases()).chain(overrides.keys().copied()).collect();
    let mut standings: Vec<Standing> = names
        .into_iter()
        .map(|case| {
            let overrides = overrides.get(case).copied().cloned().unwrap_or_default();
            alone(case, candidates.contains_key(case), scores.of(case), overrides)
        })
        .collect();
    if !mean_over.is_empty() {
        average(&mut standings, mean_over);
    }
    standings.sort_by(|a, b| better_first(a, b, mode));
    Ok(standings)
}

fn alone(case: &str, is_candidate: bool, score: Score, overrides: BTreeMap<String, Value>) -> Standing {
    let note = match (score, is_candidate) {
        (Score::Number(_), true) => "",
        (Score::None, false) => "failed or was skipped",
        (_, false) => "it has scores but is no candidate",
        (Score::NotANumber, _) => "the metric is not a number",
        (Score::Missing, _) => "its scores lack the metric",
        (Score::None, _) => "it has no scores",
    };
    let counts = score.number().filter(|_| is_candidate);
    Standing { case: case.to_string(), overrides, score, is_candidate, counts, group_size: 1, note: note.to_string() }
}

/// Gives every case the mean of its group. A case without scores counts for nothing; one whose scores hold no number leaves its
/// group without a rank.
fn average(standings: &mut [Standing], mean_over: &[String]) {
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, standing) in standings.iter().enumerate().filter(|(_, standing)| standing.score != Score::None) {
        groups.entry(group(standing, mean_over)).or_default().push(index);
    }
    for members in groups.into_values() {
        let numbers: Option<Vec<f64>> = members.iter().map(|&index| standings[index].score.number()).collect();
        let mean = numbers.map(|numbers| numbers.iter().sum::<f64>() / numbers.len() as f64);
        let culprit = members.iter().map(|&index| &standings[index]).find(|s| s.score.number().is_none());
        let culprit = culprit.map(|s| s.case.clone());
        for index in &members {
            let standing = &mut standings[*index];
            standing.counts = mean.filter(|_| standing.is_candidate);
            standing.group_size = members.len();
            if let (Some(culprit), true) = (&culprit, standing.note.is_empty()) {
                standing.note = format!("`{culprit}` of its group has no number");
            }
        }
    }
}

/// Returns what the cases of a group have in common. A case of no sweep is alone.
fn group(standing: &Standing, mean_over: &[String]) -> String {
    let kept: BTreeMap<&String, &Value> =
        standing.overrides.iter().filter(|(path, _)| !mean_over.iter().any(|end| is_end(end, path))).collect();
    if standing.overrides.is_empty() {
        return standing.case.clone();
    }
    serde_json::to_string(&kept).unwrap_or_default()
}

/// Says whether an override path is the one meant: the same, or ending so.
fn is_end(end: &str, path: &str) -> bool {
    path == end || path.strip_suffix(end).is_some_and(|before| before.ends_with('.'))
}

/// The one case of a plain run overrides nothing, so it cannot tell a wrong path.
fn check_paths(listed: &[Listed], mean_over: &[String]) -> Result<(), StageError> {
    let paths: BTreeSet<&str> = listed.iter().flat_map(|case| case.overrides.keys().map(String::as_str)).collect();
    let unknown = mean_over.iter().find(|end| !paths.iter().any(|path| is_end(end, path)));
    let Some(unknown) = unknown.filter(|_| !paths.is_empty()) else { return Ok(()) };
    let ends = paths.iter().flat_map(|path| [*path, path.rsplit('.').next().unwrap_or(path)]);
    let near = nearest(unknown, ends).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    let known: Vec<String> = paths.iter().map(|path| format!("`{path}`")).collect();
    Err(StageError::failed(format!(
        "`mean_over` names `{unknown}`, which no case overrides: {near}They override {}",
        known.join(", ")
    )))
}

fn better_first(a: &Standing, b: &Standing, mode: Mode) -> Ordering {
    let by_number = match (a.counts, b.counts) {
        (Some(a), Some(b)) => {
            let ascending = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
            if mode == Mode::Min { ascending } else { ascending.reverse() }
        }
        (a, b) => b.is_some().cmp(&a.is_some()),
    };
    by_number.then_with(|| a.case.cmp(&b.case))
}
