//! What one record means: Alpaca's three fields, a conversation, a prompt with its completion, or columns that the user names.
//!
//! A row that Watershed wrote itself is an Alpaca row or a conversation with further fields, and keeps them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::record::example::{Example, Message};

/// A record, its meaning still unknown.
pub type Fields = Map<String, Value>;

/// What the records of a file mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Told from the fields: each record's own, those of the first where they speak for nothing.
    #[default]
    Detect,
    /// `instruction`, `input` (may be absent), `output` (Taori et al. 2023).
    Alpaca,
    /// `messages: [{role, content}]`, as OpenAI's and TRL's fine-tuning files.
    Messages,
    /// `conversations: [{from, value}]`.
    Sharegpt,
    /// `prompt` and `completion` (or `response`).
    PromptCompletion,
    /// As `columns` says.
    Columns,
}

/// Which column of a file holds what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Columns {
    /// Column with the row's id; without it, ids are made from contents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Column with the customer, or any other group that must not be split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Column with the system prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Column with the instruction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// Column with the input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Column with the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Column with a conversation, instead of instruction, input and output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<String>,
}

impl Columns {
    /// Says whether no column is named.
    pub fn is_empty(&self) -> bool {
        *self == Columns::default()
    }
}

impl Format {
    /// Returns the format itself or, for `detect`, the one that the fields of a record speak for.
    ///
    /// # Errors
    /// Tells the fields when they speak for none.
    pub fn settle(self, fields: &Fields, columns: &Columns) -> Result<Format, String> {
        let has = |name: &str| fields.contains_key(name);
        match self {
            Format::Detect if !columns.is_empty() => Ok(Format::Columns),
            Format::Detect if has("messages") => Ok(Format::Messages),
            Format::Detect if has("conversations") => Ok(Format::Sharegpt),
            Format::Detect if has("output") && (has("instruction") || has("input")) => Ok(Format::Alpaca),
            Format::Detect if has("prompt") && (has("completion") || has("response")) => Ok(Format::PromptCompletion),
            Format::Detect => {
                let names: Vec<&str> = fields.keys().map(String::as_str).collect();
                Err(format!(
                    "cannot tell the format from the fields `{}`: say in `columns` of kind `examples` which holds the `instruction` and the `output`",
                    names.join("`, `")
                ))
            }
            known => Ok(known),
        }
    }

    /// Returns the format of one record of a file whose first one is `settled`: under `detect` a file may hold several, as one
    /// that was mixed of conversations and Alpaca rows does.
    pub(super) fn of(self, fields: &Fields, settled: Format, columns: &Columns) -> Format {
        if self == Format::Detect { self.settle(fields, columns).unwrap_or(settled) } else { settled }
    }

    /// Reads one record.
    ///
    /// # Errors
    /// Says which field is missing or wrong.
    pub fn example(self, fields: &Fields, columns: &Columns) -> Result<Example, String> {
        let row = match self {
            Format::Messages => Example { messages: Some(messages(fields, "messages")?), ..common(fields)? },
            Format::Sharegpt => Example { messages: Some(messages(fields, "conversations")?), ..common(fields)? },
            Format::PromptCompletion => prompt_completion(fields)?,
            Format::Columns => mapped(fields, columns)?,
            Format::Alpaca | Format::Detect => Example {
                instruction: text(fields, "instruction")?,
                input: text(fields, "input")?,
                output: Some(text(fields, "output")?),
                ..common(fields)?
            },
        };
        complete(row)
    }
}

/// Reads what rows of every shape may have.
pub(super) fn common(fields: &Fields) -> Result<Example, String> {
    Ok(Example {
        id: text(fields, "id")?,
        group: text(fields, "group")?,
        source: text(fields, "source")?,
        system: Some(text(fields, "system")?).filter(|system| !system.is_empty()),
        history: item_ids(fields, "history")?.unwrap_or_default(),
        candidates: item_ids(fields, "candidates")?,
        meta: fields.get("meta").and_then(Value::as_object).cloned().unwrap_or_default(),
        ..Example::default()
    })
}

/// Reads `prompt` and `completion` or `response`, each a text or a list of turns.
pub(super) fn prompt_completion(fields: &Fields) -> Result<Example, String> {
    let answer = if fields.contains_key("completion") { "completion" } else { "response" };
    if fields.get("prompt").is_some_and(Value::is_array) {
        let turns = [messages(fields, "prompt")?, messages(fields, answer)?].concat();
        return Ok(Example { messages: Some(turns), ..common(fields)? });
    }
    Ok(Example { instruction: text(fields, "prompt")?, output: Some(text(fields, answer)?), ..common(fields)? })
}

fn mapped(fields: &Fields, columns: &Columns) -> Result<Example, String> {
    let take = |column: &Option<String>| match column {
        Some(name) if !fields.contains_key(name) => Err(format!("no column `{name}`")),
        Some(name) => text(fields, name),
        None => Ok(String::new()),
    };
    Ok(Example {
        id: take(&columns.id)?,
        group: take(&columns.group)?,
        system: Some(take(&columns.system)?).filter(|system| !system.is_empty()),
        instruction: take(&columns.instruction)?,
        input: take(&columns.input)?,
        output: columns.output.is_some().then(|| take(&columns.output)).transpose()?,
        messages: columns.messages.as_deref().map(|name| messages(fields, name)).transpose()?,
        ..Example::default()
    })
}

/// Refuses rows that nothing could be learned from.
fn complete(row: Example) -> Result<Example, String> {
    let blank = |text: &str| text.trim().is_empty();
    match &row.messages {
        Some(turns) if !turns.iter().any(|turn| turn.role == "assistant" && !blank(&turn.content)) => {
            Err("no assistant turn".into())
        }
        Some(_) => Ok(row),
        None if blank(row.output.as_deref().unwrap_or_default()) => Err("no answer: `output` is empty".into()),
        None if blank(&row.instruction) && blank(&row.input) => {
            Err("no question: `instruction` and `input` are empty".into())
        }
        None => Ok(row),
    }
}

/// Reads a text; a field that is absent is empty.
pub(super) fn text(fields: &Fields, name: &str) -> Result<String, String> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
        Some(Value::Array(_)) => Err(format!("`{name}` is a list, expected text")),
        Some(Value::Object(_)) => Err(format!("`{name}` is a map, expected text")),
    }
}

fn item_ids(fields: &Fields, name: &str) -> Result<Option<Vec<String>>, String> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(list) => {
            Vec::<String>::deserialize(list).map(Some).map_err(|_| format!("`{name}` is not a list of item ids"))
        }
    }
}

/// Reads a list of turns.
pub(super) fn messages(fields: &Fields, name: &str) -> Result<Vec<Message>, String> {
    let turns = fields.get(name).and_then(Value::as_array).ok_or_else(|| format!("`{name}` is not a list of turns"))?;
    turns
        .iter()
        .enumerate()
        .map(|(index, turn)| message(turn).map_err(|e| format!("turn {} of `{name}`: {e}", index + 1)))
        .collect()
}

fn message(turn: &Value) -> Result<Message, String> {
    let fields = turn.as_object().ok_or("expected a map with `role` and `content`")?;
    let first = |names: [&str; 2]| names.into_iter().find_map(|name| fields.get(name).and_then(Value::as_str));
    let role = match first(["role", "from"]).ok_or("no `role`")? {
        "human" => "user",
        "gpt" | "model" => "assistant",
        known @ ("system" | "user" | "assistant" | "tool") => known,
        other => return Err(format!("unknown role `{other}`: expected `system`, `user`, `assistant` or `tool`")),
    };
    // OpenAI marks turns that shall not be learned with `weight: 0`.
    let unweighted = fields.get("weight").and_then(Value::as_f64) == Some(0.0);
    let train = fields.get("train").and_then(Value::as_bool).or(unweighted.then_some(false));
    if let Some(call) = ["tool_calls", "function_call"].into_iter().find(|name| is_given(fields.get(*name))) {
        return Err(format!("`{call}` is not supported: write the call out in `content`, as the model shall write it"));
    }
    let content = ["content", "value"].into_iter().find_map(|name| fields.get(name));
    Ok(Message { role: role.into(), content: content.ok_or("no `content`").map(said)??, train })
}

fn is_given(value: Option<&Value>) -> bool {
    !matches!(value, None | Some(Value::Null)) && value != Some(&Value::Array(Vec::new()))
}

/// Reads what a turn says: a text, or a list of parts that are texts, as OpenAI's newer files have.
fn said(content: &Value) -> Result<String, String> {
    let part = |part: &Value| part.get("text").and_then(Value::as_str).map(String::from);
    let text = match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => parts.iter().map(part).collect(),
        _ => None,
    };
    text.ok_or_else(|| "`content` is neither a text nor a list of texts: write it as a text".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<Example, String> {
        let fields = value.as_object().unwrap();
        Format::Detect.settle(fields, &Columns::default())?.example(fields, &Columns::default())
    }

    #[test]
    fn a_turn_may_be_said_in_parts_and_calls_no_tools() {
        let asked = |answer: Value| read(json!({"messages": [{"role": "user", "content": "q"}, answer]}));
        let parts = json!([{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]);
        let row = asked(json!({"role": "assistant", "content": parts, "tool_calls": []})).unwrap();
        assert_eq!(row.messages.unwrap()[1].content, "a b");
        for (key, call) in [("tool_calls", json!([{"id": "1"}])), ("function_call", json!({"name": "f"}))] {
            let error = asked(json!({"role": "assistant", "content": null, key: call})).unwrap_err();
            assert!(error.contains(&format!("turn 2 of `messages`: `{key}` is not supported")), "{error}");
        }
        let image = json!([{"type": "image_url", "image_url": {"url": "x"}}]);
        let error = asked(json!({"role": "assistant", "content": image})).unwrap_err();
        assert!(error.contains("neither a text nor a list of texts"), "{error}");
        assert!(asked(json!({"role": "assistant"})).unwrap_err().contains("no `content`"));
    }

    #[test]
    fn each_shape_is_told_from_its_fields() {
        let row = read(json!({"instruction": "add", "input": 1, "output": "2"})).unwrap();
        assert_eq!((row.instruction.as_str(), row.input.as_str(), row.output.as_deref()), ("add", "1", Some("2")));
        let row = read(json!({"prompt": "hello", "completion": "hi"})).unwrap();
        assert_eq!((row.instruction.as_str(), row.output.as_deref()), ("hello", Some("hi")));
        let openai = read(
            json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}]}),
        );
        assert_eq!(openai.unwrap().messages.unwrap()[1].train, Some(false));
        let sharegpt =
            read(json!({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]})).unwrap();
        assert_eq!(sharegpt.messages.unwrap()[1].role, "assistant");
        let trl = read(
            json!({"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]}),
        );
        assert_eq!(trl.unwrap().messages.unwrap().len(), 2);
    }

    #[test]
    fn rows_of_watershed_keep_every_field() {
        let written = json!({"id": "u1", "group": "u1", "source": "base", "system": "s", "instruction": "i", "input": "x",
            "output": "y", "history": ["B1"], "candidates": ["B2"], "meta": {"model": "m"}});
        assert_eq!(serde_json::to_value(read(written.clone()).unwrap()).unwrap(), written);
    }

    #[test]
    fn what_teaches_nothing_is_refused_with_a_reason() {
        for (row, reason) in [
            (json!({"instruction": "a", "output": " "}), "no answer"),
            (json!({"instruction": "", "input": "", "output": "b"}), "no question"),
            (json!({"instruction": ["a"], "output": "b"}), "`instruction` is a list"),
            (json!({"messages": [{"role": "user", "content": "q"}]}), "no assistant turn"),
            (json!({"messages": [{"role": "robot", "content": "q"}]}), "turn 1 of `messages`: unknown role `robot`"),
            (json!({"question": "a", "answer": "b"}), "`question`, `answer`"),
            (
                json!({"instruction": "a", "output": "b", "history": [["q", "a"]]}),
                "`history` is not a list of item ids",
            ),
        ] {
            let found = read(row).unwrap_err();
            assert!(found.contains(reason), "{found}");
        }
    }

    #[test]
    fn columns_map_any_names() {
        let columns = Columns {
            group: Some("who".into()),
            instruction: Some("q".into()),
            output: Some("a".into()),
            ..Columns::default()
        };
        let fields = json!({"who": 7, "q": "why", "a": "so"}).as_object().unwrap().clone();
        let row = Format::Detect.settle(&fields, &columns).unwrap().example(&fields, &columns).unwrap();
        assert_eq!((row.group.as_str(), row.instruction.as_str(), row.output.as_deref()), ("7", "why", Some("so")));
        let fields = json!({"q": "why", "a": "so"}).as_object().unwrap().clone();
        assert_eq!(Format::Columns.example(&fields, &columns).unwrap_err(), "no column `who`");
    }
}
