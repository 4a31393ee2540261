//! A chat-completions reply, read from its body.

use serde::Deserialize;
use serde_json::{Map, Value};

/// What a label needs of a reply.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reply {
    /// The answer, without surrounding white space.
    pub text: String,
    /// `stop`, `length`, `content_filter`, …; empty when the server says none.
    pub finish_reason: String,
    /// The model as the server names it; may be empty.
    pub model: String,
    /// What the server says about its own build.
    pub system_fingerprint: Option<String>,
    /// Prompt tokens as the provider counts them.
    pub tokens_in: Option<u64>,
    /// Answer tokens as the provider counts them.
    pub tokens_out: Option<u64>,
}

#[derive(Deserialize)]
struct Wire {
    choices: Vec<Choice>,
    model: Option<String>,
    system_fingerprint: Option<String>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Turn,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Turn {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

impl Reply {
    /// Reads a body.
    ///
    /// # Errors
    /// Says why it is no reply: not JSON, or without choices.
    pub fn parse(body: &[u8]) -> Result<Reply, String> {
        let wire: Wire = serde_json::from_slice(body).map_err(|e| format!("sends no chat completion: {e}"))?;
        let choice = wire.choices.into_iter().next().ok_or("sends a reply without choices")?;
        Ok(Reply {
            text: choice.message.content.unwrap_or_default().trim().to_string(),
            finish_reason: choice.finish_reason.unwrap_or_default(),
            model: wire.model.unwrap_or_default(),
            system_fingerprint: wire.system_fingerprint,
            tokens_in: wire.usage.as_ref().and_then(|u| u.prompt_tokens),
            tokens_out: wire.usage.as_ref().and_then(|u| u.completion_tokens),
        })
    }

    /// Says whether there is no text although nothing was filtered.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.finish_reason != "content_filter"
    }

    /// Returns where the label comes from. No attempts, no time: the same reply always gives the same bytes.
    pub fn meta(&self, provider: &str, asked_model: &str) -> Map<String, Value> {
        let mut meta = Map::new();
        let model = if self.model.is_empty() { asked_model } else { &self.model };
        meta.insert("model".into(), model.into());
        meta.insert("provider".into(), provider.into());
        meta.insert("finish_reason".into(), self.finish_reason.as_str().into());
        let extra = [("tokens_in", self.tokens_in.map(Value::from)), ("tokens_out", self.tokens_out.map(Value::from))];
        let fingerprint = ("system_fingerprint", self.system_fingerprint.clone().map(Value::from));
        for (name, value) in extra.into_iter().chain([fingerprint]) {
            meta.extend(value.map(|v| (name.to_string(), v)));
        }
        meta
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_without_an_answer_are_told_apart() {
        assert!(Reply::parse(b"<html>").unwrap_err().contains("no chat completion"));
        assert!(Reply::parse(br#"{"choices":[]}"#).unwrap_err().contains("without choices"));
        let empty = br#"{"choices":[{"message":{"content":null},"finish_reason":"stop"}]}"#;
        assert!(Reply::parse(empty).unwrap().is_empty());
        let filtered = br#"{"choices":[{"message":{"content":null},"finish_reason":"content_filter"}]}"#;
        assert!(!Reply::parse(filtered).unwrap().is_empty());
    }
}
