//! From the teacher's verdict on each row to the files: examples in the order of the prompts, and the report.

use serde::Serialize;
use serde_json::{Map, Value};
use watershed_engine::{Job, StageError};

use crate::record::example::{Example, Message};
use crate::record::lines;

use super::TeacherLabel;

/// Failed rows named in the error; all of them are in the report.
const SHOWN: usize = 5;

/// What the teacher said about one row.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The answer and where it comes from.
    Label(String, Map<String, Value>),
    /// No label, and why.
    Failed(String),
}

/// Outcomes in the order of the prompts, and what they took.
#[derive(Debug, Default)]
pub struct Labelling {
    /// One for each prompt.
    pub outcomes: Vec<Outcome>,
    /// What it took.
    pub tally: Tally,
}

/// What labelling took in this execution.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Tally {
    /// Rows answered from the memo.
    pub memo_hits: u64,
    /// Replies received and kept.
    pub calls: u64,
    /// Requests sent, failed ones included.
    pub attempts: u64,
    /// Prompt tokens of the replies, as the provider counted them.
    pub tokens_in: u64,
    /// Answer tokens of the replies.
    pub tokens_out: u64,
    /// US dollars, where a price was given.
    pub usd: Option<f64>,
}

#[derive(Serialize)]
struct Report<'a> {
    rows: usize,
    labelled: usize,
    #[serde(flatten)]
    tally: &'a Tally,
    finish_reasons: std::collections::BTreeMap<&'a str, u64>,
    failed: &'a [FailedRow],
}

#[derive(Serialize)]
struct FailedRow {
    id: String,
    reason: String,
}

/// Writes `examples` and `report`, or fails above `max_failed`.
///
/// # Errors
/// Names the first failed rows and how to let them pass.
pub fn publish(
    params: &TeacherLabel,
    prompts: Vec<Example>,
    labelling: Labelling,
    job: &Job,
) -> Result<(), StageError> {
    let rows = prompts.len();
    let (examples, failed) = sort_out(params, prompts, labelling.outcomes);
    tell(rows, &examples, &failed, &labelling.tally, job);
    if failed.len() as u64 > params.max_failed {
        return Err(StageError::failed(too_many_failed(params, rows, &failed)));
    }
    lines::write(job.output("examples"), &examples)?;
    let finish_reasons = count_finish_reasons(&examples);
    let report = Report { rows, labelled: examples.len(), tally: &labelling.tally, finish_reasons, failed: &failed };
    let path = job.output("report");
    let text = serde_json::to_string_pretty(&report).map_err(|e| StageError::io("write", path, &e.into()))?;
    std::fs::write(path, text + "\n").map_err(|e| StageError::io("write", path, &e))
}

fn sort_out(params: &TeacherLabel, prompts: Vec<Example>, outcomes: Vec<Outcome>) -> (Vec<Example>, Vec<FailedRow>) {
    let (mut examples, mut failed) = (Vec::new(), Vec::new());
    for (prompt, outcome) in prompts.into_iter().zip(outcomes) {
        match outcome {
            Outcome::Failed(reason) => failed.push(FailedRow { id: prompt.id, reason }),
            Outcome::Label(answer, meta) => match params.quality.fault(&prompt.input, &answer) {
                Some(reason) => failed.push(FailedRow { id: prompt.id, reason }),
                None => examples.push(labelled(prompt, answer, meta)),
            },
        }
    }
    (examples, failed)
}

/// Returns the prompt with its answer; a conversation gets it as its last turn.
fn labelled(mut prompt: Example, answer: String, meta: Map<String, Value>) -> Example {
    prompt.meta = meta;
    match &mut prompt.messages {
        Some(messages) => {
            while messages.last().is_some_and(|m| m.role == "assistant") {
                messages.pop();
            }
            messages.push(Message { role: "assistant".into(), content: answer, train: None });
        }
        None => prompt.output = Some(answer),
    }
    prompt
}

fn tell(rows: usize, examples: &[Example], failed: &[FailedRow], tally: &Tally, job: &Job) {
    job.count("rows", rows as f64);
    job.count("memo_hits", tally.memo_hits as f64);
    job.count("calls", tally.calls as f64);
    job.count("failed", failed.len() as f64);
    let cut = count_finish_reasons(examples).get("length").copied().unwrap_or(0);
    if cut > 0 {
        job.warn(format!(
            "{cut} of {rows} answers were cut at `max_tokens`; raise it, or set `finish: {{length: drop}}`"
        ));
    }
}

fn count_finish_reasons(examples: &[Example]) -> std::collections::BTreeMap<&str, u64> {
    let mut counts = std::collections::BTreeMap::new();
    for reason in examples.iter().filter_map(|e| e.meta.get("finish_reason")?.as_str()) {
        *counts.entry(reason).or_default() += 1;
    }
    counts
}

fn too_many_failed(params: &TeacherLabel, rows: usize, failed: &[FailedRow]) -> String {
    let shown: Vec<String> = failed.iter().take(SHOWN).map(|f| format!("`{}`: {}", f.id, f.reason)).collect();
    let more = if failed.len() > SHOWN { ", …" } else { "" };
    format!(
        "{} of {rows} rows have no label, `max_failed` is {} ({}{more}); the others are kept; raise `max_failed`, or loosen \
         `finish` or `quality`",
        failed.len(),
        params.max_failed,
        shown.join(", ")
    )
}
