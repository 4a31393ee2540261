//! Backend `openai`: the memo first, then the network for what it does not hold.

use watershed_engine::{Job, StageError};

use crate::network::block_on;
use crate::record::example::Example;

use super::TeacherLabel;
use super::ask::Asks;
use super::budget::Budget;
use super::client::Client;
use super::dispatch::Dispatch;
use super::endpoint::Endpoint;
use super::label::{Labelling, Outcome, Tally};
use super::run_keys::{Mode, TeacherRun};

/// Labels every prompt.
///
/// # Errors
/// When a row is lost to network, quota or budget; finished rows stay in the memo.
pub fn label(params: &TeacherLabel, run: &TeacherRun, prompts: &[Example], job: &Job) -> Result<Labelling, StageError> {
    if run.mode == Mode::Batch {
        return Err(StageError::failed("`run.mode: batch` is not here yet: use `online`"));
    }
    // Faults of the budget are told even when the memo holds everything, not on the day it does not.
    Budget::new(params, run)?;
    let text = params.endpoint.as_deref().ok_or_else(|| StageError::failed("backend `openai` needs `endpoint`"))?;
    let endpoint = Endpoint::parse(text).map_err(|e| StageError::failed(format!("{}; {}", e.what, e.mend)))?;
    let provider = params.provider.clone().unwrap_or_else(|| endpoint.provider());
    let asks = Asks::new(params, provider, prompts);
    let recalled = asks.recall(job);
    let memo_hits = rows(&asks, recalled.iter().map(Result::is_ok));
    if memo_hits == prompts.len() as u64 {
        return Ok(spread(
            &asks,
            recalled.into_iter().map(Result::ok),
            prompts.len(),
            Tally { memo_hits, ..Tally::default() },
        ));
    }
    if job.spec().offline {
        let missing = prompts.len() as u64 - memo_hits;
        return Err(StageError::failed(format!(
            "{missing} of {} rows have no remembered reply and `--offline` forbids asking `{}`: run once without it",
            prompts.len(),
            endpoint.shown()
        )));
    }
    let client = Client::new(&endpoint, run)?;
    let mut dispatch = Dispatch::new(&asks, recalled, run, client, job)?;
    let ended = block_on(dispatch.run())?;
    ended.map_err(|e| explain(e, &endpoint, dispatch.rows_done(), prompts.len()))?;
    let tally = Tally { memo_hits, ..dispatch.tally.clone() };
    Ok(spread(&asks, dispatch.outcomes.into_iter(), prompts.len(), tally))
}

fn rows(asks: &Asks, chosen: impl Iterator<Item = bool>) -> u64 {
    asks.list.iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|(ask, _)| ask.rows.len() as u64).sum()
}

/// Gives every row the outcome of its request.
fn spread(asks: &Asks, outcomes: impl Iterator<Item = Option<Outcome>>, rows: usize, tally: Tally) -> Labelling {
    let mut spread = vec![Outcome::Failed("was not asked".into()); rows];
    for (ask, outcome) in asks.list.iter().zip(outcomes) {
        for &row in &ask.rows {
            spread[row] = outcome.clone().unwrap_or_else(|| spread[row].clone());
        }
    }
    Labelling { outcomes: spread, tally }
}

/// Adds who said it and what is kept.
fn explain(error: StageError, endpoint: &Endpoint, done: u64, rows: usize) -> StageError {
    let text = |why: String| {
        format!("the teacher at `{}` {why}; {done} of {rows} rows are answered and kept", endpoint.shown())
    };
    match error {
        StageError::Failed(why) => StageError::Failed(text(why)),
        StageError::Retry(why) => StageError::Retry(text(why)),
        other => other,
    }
}
