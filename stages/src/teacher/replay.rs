//! Backend `replay`: answers recorded earlier.
//!
//! A line of `recorded` is an example (`id` and `output`, or `messages` that end with the assistant), or an exchange
//! (`request` and `response` as they went over the wire, `id` optional). An exchange without id answers the prompts that
//! would send the same messages.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};
use watershed_engine::StageError;

use crate::record::{example::Example, lines};

use super::TeacherLabel;
use super::ask::Asks;
use super::label::{Labelling, Outcome, Tally};
use super::reply::Reply;
use super::request::Request;

/// Missing ids that an error lists.
const SHOWN: usize = 10;

/// Labels every prompt from the recording.
///
/// # Errors
/// Lists the prompts that were not recorded; names the line that is no recording.
pub fn label(params: &TeacherLabel, prompts: &[Example], recorded: &Path) -> Result<Labelling, StageError> {
    let recording = Recording::read(params, recorded)?;
    let mut outcomes = Vec::with_capacity(prompts.len());
    let mut missing = Vec::new();
    for prompt in prompts {
        match recording.find(params, prompt) {
            Some(outcome) => outcomes.push(outcome),
            None => missing.push(prompt.id.as_str()),
        }
    }
    if missing.is_empty() {
        return Ok(Labelling { outcomes, tally: Tally::default() });
    }
    let more = if missing.len() > SHOWN { ", …" } else { "" };
    let shown: Vec<String> = missing.iter().take(SHOWN).map(|id| format!("`{id}`")).collect();
    Err(StageError::failed(format!(
        "`{}` has no answer for {} of {} prompts: {}{more}; record them, or leave them out of `prompts`",
        recorded.display(),
        missing.len(),
        prompts.len(),
        shown.join(", ")
    )))
}

struct Recording {
    by_id: HashMap<String, Outcome>,
    by_messages: HashMap<String, Outcome>,
}

impl Recording {
    fn read(params: &TeacherLabel, path: &Path) -> Result<Recording, StageError> {
        let mut recording = Recording { by_id: HashMap::new(), by_messages: HashMap::new() };
        for (index, line) in lines::read::<Value>(path)?.into_iter().enumerate() {
            recording
                .add(params, line)
                .map_err(|why| StageError::failed(format!("`{}` row {}: {why}", path.display(), index + 1)))?;
        }
        Ok(recording)
    }

    fn add(&mut self, params: &TeacherLabel, line: Value) -> Result<(), String> {
        let id = line.get("id").and_then(Value::as_str).map(str::to_string);
        if let Some(response) = line.get("response") {
            let outcome = outcome_of(params, response)?;
            let messages = line.get("request").and_then(|r| r.get("messages")).map(Value::to_string);
            return match (id, messages) {
                (Some(id), _) => insert(&mut self.by_id, id, outcome),
                (None, Some(messages)) => insert(&mut self.by_messages, messages, outcome),
                (None, None) => Err("an exchange needs `id` or `request.messages`".into()),
            };
        }
        let example: Example =
            serde_json::from_value(line).map_err(|e| format!("is neither an example nor an exchange: {e}"))?;
        let meta = if example.meta.is_empty() { recorded_meta() } else { example.meta.clone() };
        let text = answer_of(&example).ok_or("has no `output`")?.to_string();
        insert(&mut self.by_id, example.id, Outcome::Label(text, meta))
    }

    fn find(&self, params: &TeacherLabel, prompt: &Example) -> Option<Outcome> {
        self.by_id.get(&prompt.id).cloned().or_else(|| {
            let body: Value = serde_json::from_str(Request::new(params, prompt).body()).ok()?;
            self.by_messages.get(&body["messages"].to_string()).cloned()
        })
    }
}

fn insert(map: &mut HashMap<String, Outcome>, key: String, outcome: Outcome) -> Result<(), String> {
    match map.entry(key) {
        std::collections::hash_map::Entry::Occupied(taken) => Err(format!("records `{}` a second time", taken.key())),
        std::collections::hash_map::Entry::Vacant(free) => {
            free.insert(outcome);
            Ok(())
        }
    }
}

fn outcome_of(params: &TeacherLabel, response: &Value) -> Result<Outcome, String> {
    let reply = Reply::parse(response.to_string().as_bytes())?;
    if reply.is_empty() {
        return Ok(Outcome::Failed("the recorded answer is empty".into()));
    }
    let provider = params.provider.clone().unwrap_or_else(|| "recorded".into());
    let last_sample = super::finish::SAMPLES;
    let asks = Asks { params, provider, list: Vec::new() };
    Ok(asks.settle(&reply, last_sample).expect("the last sample is never drawn again"))
}

fn answer_of(example: &Example) -> Option<&str> {
    let turn = || example.messages.as_ref()?.last().filter(|m| m.role == "assistant").map(|m| m.content.as_str());
    example.output.as_deref().or_else(turn)
}

fn recorded_meta() -> Map<String, Value> {
    Map::from_iter([("provider".to_string(), "recorded".into())])
}
