//! One request: the body that is sent, which is also what the memo is keyed by.

use serde::Serialize;
use serde_json::json;

use crate::record::example::Example;

use super::TeacherLabel;

/// Tokens that a chat template may add around one message; generous.
const FRAME_TOKENS: u64 = 16;

/// A chat-completions request in its canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    body: String,
    bytes: u64,
    turns: u64,
}

/// The fields in the order in which they are written: the canonical form.
#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: &'a [Turn<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'a str,
    content: String,
}

impl Request {
    /// Returns the request that labels `prompt`.
    pub fn new(params: &TeacherLabel, prompt: &Example) -> Request {
        let turns = turns(params, prompt);
        let body = Body {
            model: params.model.as_deref().unwrap_or_default(),
            messages: &turns,
            temperature: params.temperature,
            top_p: params.top_p,
            max_tokens: params.max_tokens,
            seed: params.seed,
        };
        let bytes = turns.iter().map(|t| t.content.len() as u64).sum();
        let body = serde_json::to_string(&body).expect("strings and finite numbers always encode");
        Request { body, bytes, turns: turns.len() as u64 }
    }

    /// Returns the JSON that is sent.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// Returns what the memo is keyed by: (provider, canonical body, sample number).
    pub fn memo_key(&self, provider: &str, sample: u32) -> String {
        json!([provider, self.body, sample]).to_string()
    }

    /// Returns a bound on the prompt's tokens that holds for any byte-level tokenizer: one for each byte.
    pub fn tokens_in_at_most(&self) -> u64 {
        self.bytes + FRAME_TOKENS * (self.turns + 1)
    }

    /// Returns a likely number of prompt tokens, for pacing: four bytes each.
    pub fn tokens_in_likely(&self) -> u64 {
        self.bytes / 4 + FRAME_TOKENS
    }
}

fn turns<'a>(params: &'a TeacherLabel, prompt: &'a Example) -> Vec<Turn<'a>> {
    let mut turns = Vec::new();
    if let Some(system) = params.system.as_ref().or(prompt.system.as_ref()) {
        turns.push(Turn { role: "system", content: system.clone() });
    }
    match &prompt.messages {
        Some(messages) => {
            let asked = messages.iter().rposition(|m| m.role != "assistant").map_or(0, |last| last + 1);
            let own = messages[..asked].iter().filter(|m| m.role != "system" || params.system.is_none());
            turns.extend(own.map(|m| Turn { role: &m.role, content: m.content.clone() }));
        }
        None => turns.push(Turn { role: "user", content: user_text(prompt) }),
    }
    turns
}

fn user_text(prompt: &Example) -> String {
    let parts = [prompt.instruction.as_str(), prompt.input.as_str()];
    parts.iter().filter(|p| !p.is_empty()).copied().collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::example::Message;

    #[test]
    fn body_is_pinned() {
        let params = TeacherLabel {
            model: Some("m".into()),
            temperature: Some(0.7),
            max_tokens: Some(9),
            ..TeacherLabel::default()
        };
        let prompt = Example { instruction: "Say".into(), input: "hi".into(), ..Example::default() };
        let body =
            r#"{"model":"m","messages":[{"role":"user","content":"Say\n\nhi"}],"temperature":0.7,"max_tokens":9}"#;
        assert_eq!(Request::new(&params, &prompt).body(), body);
    }

    #[test]
    fn former_answer_of_a_conversation_is_not_sent() {
        let turn = |role: &str| Message { role: role.into(), content: role.into(), train: None };
        let prompt =
            Example { messages: Some(vec![turn("system"), turn("user"), turn("assistant")]), ..Example::default() };
        let params = TeacherLabel { system: Some("mine".into()), ..TeacherLabel::default() };
        let body = Request::new(&params, &prompt).body().to_string();
        assert!(
            body.contains("mine") && !body.contains(r#""content":"system""#) && !body.contains("assistant"),
            "{body}"
        );
    }
}
