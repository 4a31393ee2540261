//! `choose`: of several candidates the one whose case has the best metric.
//!
//! Under `mean_over` a case counts with the mean of its group: the cases that differ from it in the named overrides alone, for
//! example in a seed. All of a group then tie, and ties go by name, so which seed is taken never depends on how well it did. A
//! case without a number is never chosen, and neither is its group: a mean that leaves out what diverged flatters it.

mod scores;
mod standing;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_engine::fault::ParamFault;
use watershed_engine::input;
use watershed_engine::port::RecordType::{Bytes, Metrics};
use watershed_engine::stage::NoRunKeys;
use watershed_engine::{Job, JobInput, Ports, Stage, StageError};

use scores::Scores;
use standing::{Standing, ranked};

/// Chooses the candidate whose case has the best metric, and ranks them all in `table`. Candidates and scores belong together by
/// label; of a sweep, `candidates: tuned.adapter@*` and `scores: scores@*` have a label a case. One file of scores for all, as an
/// `evaluate` of `answers@*` writes it, will do too: `metric: val_loss` is then `CASE.val_loss` in it.
///
/// `table` is CSV: rank, case, the metric, its mean under `mean_over`, the case's overrides, and why a case has no rank.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Choose {
    /// Name of the number to compare, as `watershed show` prints it with its system, for example `tuned.val_loss`.
    pub metric: Option<String>,
    /// Whether the lowest number (`min`) or the highest (`max`) is best.
    pub mode: Option<Mode>,
    /// Override paths, or their ends such as `seed`, over which the metric is averaged: cases that differ in nothing else are a
    /// group, and of the best group the first by name is chosen.
    pub mean_over: Vec<String>,
}

/// Which number is best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The lowest.
    Min,
    /// The highest.
    Max,
}

impl Stage for Choose {
    const KIND: &'static str = "choose";
    const VERSION: u32 = 1;
    type Run = NoRunKeys;

    fn ports(&self) -> Ports {
        Ports::new()
            .reads_many("candidates", &[Bytes])
            .reads_many("scores", &[Metrics])
            .told_cases()
            .writes_as("chosen", "candidates")
            .writes("table", Bytes)
    }

    fn check(&self) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        if self.metric.as_ref().is_none_or(String::is_empty) {
            faults.push(ParamFault::new("metric", "`metric` is required", "for example `metric: tuned.val_loss`"));
        }
        if self.mode.is_none() {
            let help = "`min` for a loss, `max` for a hit rate";
            faults.push(ParamFault::new("mode", "`mode` is required", help));
        }
        faults
    }

    fn run(&self, _run: &NoRunKeys, job: &Job) -> Result<(), StageError> {
        let (Some(metric), Some(mode)) = (&self.metric, self.mode) else {
            return Err(StageError::failed("`choose` needs `metric` and `mode`"));
        };
        let candidates: BTreeMap<&str, &JobInput> =
            job.inputs("candidates").iter().map(|input| (input.label.as_str(), input)).collect();
        let scores = Scores::read(job.inputs("scores"), metric, &candidates)?;
        let standings = ranked(&candidates, &scores, &job.cases()?, mode, &self.mean_over)?;
        let best = standings.first().filter(|best| best.counts.is_some());
        let best = best.ok_or_else(|| nothing_to_choose(metric, &standings))?;
        for out in standings.iter().filter(|standing| !standing.note.is_empty()) {
            job.warn(format!("`{}` has no rank: {}", out.case, out.note));
        }
        job.log(format!("chose `{}` of {}: {metric} {}", best.case, standings.len(), table::number(best.counts)));
        copy(candidates[best.case.as_str()], job.output("chosen"))?;
        table::write(job.output("table"), metric, &standings, !self.mean_over.is_empty())
    }
}

fn nothing_to_choose(metric: &str, standings: &[Standing]) -> StageError {
    const SHOWN: usize = 5;
    let mut why: Vec<String> = standings.iter().map(|s| format!("`{}`: {}", s.case, s.note)).collect();
    if why.len() > SHOWN {
        why.splice(SHOWN.., [format!("and {} more", standings.len() - SHOWN)]);
    }
    StageError::failed(format!("no candidate has a number for `{metric}`: {}", why.join("; ")))
}

/// Copies a candidate, of a folder the files that its key counts.
fn copy(candidate: &JobInput, target: &Path) -> Result<(), StageError> {
    let source = candidate.path.as_path();
    if source.is_file() {
        return copy_file(source, target);
    }
    let is_counted = input::counted(source, candidate.record);
    let mut open = vec![String::new()];
    while let Some(inner) = open.pop() {
        let folder = source.join(&inner);
        std::fs::create_dir_all(target.join(&inner)).map_err(|e| StageError::io("make", target, &e))?;
        for item in std::fs::read_dir(&folder).map_err(|e| StageError::io("read", &folder, &e))? {
            let name = item.map_err(|e| StageError::io("read", &folder, &e))?.file_name();
            let name = name.to_string_lossy();
            let inner = if inner.is_empty() { name.into_owned() } else { format!("{inner}/{name}") };
            match source.join(&inner).is_dir() {
                _ if !is_counted(&inner) => {}
                true => open.push(inner),
                false => copy_file(&source.join(&inner), &target.join(&inner))?,
            }
        }
    }
    Ok(())
}

fn copy_file(source: &Path, target: &Path) -> Result<(), StageError> {
    std::fs::copy(source, target).map(drop).map_err(|e| StageError::io("copy", source, &e))
}
