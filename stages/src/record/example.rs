//! `prompts` and `examples`: instruction, input and, once labelled, output (Alpaca's terms), or whole conversations.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text.
    pub content: String,
    /// On an assistant turn of an example: `false` leaves it out of the loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<bool>,
}

/// A prompt (`output` empty) or a training example. Absent fields are left out of the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Unique in its file.
    pub id: String,
    /// Customer, or any other group that must not be split.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Where the row comes from, for stratified splits and losses by source.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// System prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// What to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instruction: String,
    /// What to do it with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub input: String,
    /// The answer; `None` in prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Items that the prompt shows as bought.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<String>,
    /// Items to choose from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<Vec<String>>,
    /// A conversation instead of instruction, input and output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<Message>>,
    /// Where the label comes from: model, fingerprint, tokens, attempts.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub meta: Map<String, Value>,
}

impl Example {
    /// Returns what the row gives to work with, which an answer should not copy: `input`, of a conversation the last turn of the
    /// user.
    pub fn material(&self) -> &str {
        match &self.messages {
            Some(turns) => turns.iter().rfind(|turn| turn.role == "user").map_or("", |turn| &turn.content),
            None => &self.input,
        }
    }

    /// Returns the row's own answer: its output, else the turn of the assistant that ends its conversation.
    pub fn answer(&self) -> Option<&str> {
        let last = self.messages.as_ref().and_then(|turns| turns.last()).filter(|turn| turn.role == "assistant");
        self.output.as_deref().or_else(|| last.map(|turn| turn.content.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_gives_its_last_user_turn_to_work_with() {
        let row = Example { input: "a kettle".into(), ..Example::default() };
        assert_eq!(row.material(), "a kettle");
        let turn =
            |(role, content): &(&str, &str)| Message { role: (*role).into(), content: (*content).into(), train: None };
        let turns = [("user", "a kettle"), ("assistant", "a mug"), ("user", "a plate"), ("assistant", "a cup")];
        let messages = Some(turns.iter().map(turn).collect());
        assert_eq!(Example { messages, ..Example::default() }.material(), "a plate");
        assert_eq!(Example { messages: Some(Vec::new()), ..Example::default() }.material(), "");
    }
}
