//! What one HTTP exchange means: a reply, another try, the end of a row, or the end of the stage.
//!
//! Which statuses are tried again is openai-python's rule (`_should_retry`): 408, 409, 429, 500 and above, overridden by
//! `x-should-retry`. Two cases look alike and are not: a 429 with `insufficient_quota` never passes, and a 400 about the
//! content of one prompt says nothing about the others.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::backoff;
use super::reply::Reply;

/// Characters of an error body that are shown.
const EXCERPT: usize = 200;

/// What the network brought.
#[derive(Debug)]
pub enum Exchange {
    /// An answer, its body redacted.
    Answer(Answer),
    /// None: refused, reset, timed out, too long.
    Lost {
        /// What happened.
        why: String,
        /// Whether the request may have reached the server, and so been billed.
        sent: bool,
    },
}

/// A complete HTTP answer.
#[derive(Debug, Default)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// `x-should-retry`.
    pub should_retry: Option<String>,
    /// `retry-after-ms`.
    pub retry_after_ms: Option<String>,
    /// `retry-after`.
    pub retry_after: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// Keep it.
    Reply(Reply),
    /// Try again.
    Again(Again),
    /// This row gets no label; the others go on.
    Row(String),
    /// Nothing more can be had: what is wrong and how to mend it.
    Stop(String),
}

/// A fault that may pass.
#[derive(Debug, PartialEq)]
pub struct Again {
    /// What happened.
    pub why: String,
    /// The wait that the server asks for.
    pub wait: Option<Duration>,
    /// What sort of fault.
    pub sort: Sort,
}

/// Faults that may pass, by what they ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// Network or server: wait and try again.
    Passing,
    /// The server is over its limit: everybody waits.
    Limit,
    /// A 200 that is no chat completion: tried again less often, for it was perhaps billed.
    Garbage,
    /// A chat completion without text: tried as garbage, then a verdict about this row.
    Empty,
}

impl Exchange {
    /// Returns what the exchange means.
    pub fn verdict(&self) -> Verdict {
        match self {
            Exchange::Lost { why, .. } => Verdict::Again(Again { why: why.clone(), wait: None, sort: Sort::Passing }),
            Exchange::Answer(answer) if answer.status == 200 => match Reply::parse(&answer.body) {
                Ok(reply) if reply.is_empty() => {
                    Verdict::Again(Again { why: "sends an empty answer".into(), wait: None, sort: Sort::Empty })
                }
                Ok(reply) => Verdict::Reply(reply),
                Err(why) => Verdict::Again(Again { why, wait: None, sort: Sort::Garbage }),
            },
            Exchange::Answer(answer) => answer.refusal(),
        }
    }

    /// Says whether the exchange may have cost something although it brought no reply.
    pub fn may_be_billed(&self) -> bool {
        match self {
            Exchange::Lost { sent, .. } => *sent,
            Exchange::Answer(answer) => answer.status == 200,
        }
    }
}

impl Answer {
    fn refusal(&self) -> Verdict {
        let (code, text) = self.error();
        let status = self.status;
        if code == "insufficient_quota" {
            return Verdict::Stop(format!(
                "has no quota left ({status} insufficient_quota): {text}; add credit or use another key"
            ));
        }
        if self.is_retryable() {
            return self.again(format!("answers {status}: {text}"));
        }
        match status {
            301..=308 => Verdict::Stop(format!(
                "redirects ({status}), which is not followed; set `with.endpoint` to the final address"
            )),
            401 => Verdict::Stop(format!(
                "refuses the key (401): {text}; set `run.api_key: {{env: NAME}}` to a variable that holds a valid key"
            )),
            403 => Verdict::Stop(format!(
                "forbids this (403): {text}; check what the key of `run.api_key` may use, and `with.model`"
            )),
            404 => Verdict::Stop(format!(
                "has no such address or model (404): {text}; check `with.endpoint`, which often ends in `/v1`, and `with.model`"
            )),
            400 | 413 | 422 if is_about_content(&code) => Verdict::Row(format!("refused ({status} {code}): {text}")),
            _ => Verdict::Stop(format!("rejects the request ({status}): {text}; check the parameters of the stage")),
        }
    }

    fn is_retryable(&self) -> bool {
        match self.should_retry.as_deref() {
            Some("true") => true,
            Some("false") => false,
            _ => matches!(self.status, 408 | 409 | 429 | 500..),
        }
    }

    fn again(&self, why: String) -> Verdict {
        let wait = backoff::asked(self.retry_after_ms.as_deref(), self.retry_after.as_deref(), SystemTime::now());
        match wait.filter(|w| *w > backoff::LONGEST) {
            Some(wait) => Verdict::Stop(format!(
                "asks to wait {} s, more than the {} s that a stage waits ({why}); run again later",
                wait.as_secs(),
                backoff::LONGEST.as_secs()
            )),
            None => {
                Verdict::Again(Again { why, wait, sort: if self.status == 429 { Sort::Limit } else { Sort::Passing } })
            }
        }
    }

    /// Returns the provider's error code and a short text, whatever the body looks like.
    fn error(&self) -> (String, String) {
        let body = String::from_utf8_lossy(&self.body);
        let value: Value = serde_json::from_str(&body).unwrap_or_default();
        let error = value.get("error").unwrap_or(&value);
        let field = |name: &str| error.get(name).and_then(Value::as_str).filter(|t| !t.is_empty());
        let code = field("code").or(field("type")).unwrap_or_default().to_string();
        let text = field("message").or(error.as_str()).unwrap_or(&body);
        let words: Vec<&str> = text.split_whitespace().collect();
        let short: String = words.join(" ").chars().filter(|c| !c.is_control()).take(EXCERPT).collect();
        (code, if short.is_empty() { "no text".into() } else { short })
    }
}

/// Codes that speak of one prompt: OpenAI's, Azure's, llama.cpp's.
fn is_about_content(code: &str) -> bool {
    const CODES: [&str; 6] = [
        "context_length_exceeded",
        "exceed_context_size_error",
        "content_filter",
        "content_policy_violation",
        "string_above_max_length",
        "invalid_prompt",
    ];
    CODES.contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, body: &str) -> Verdict {
        Exchange::Answer(Answer { status, body: body.into(), ..Answer::default() }).verdict()
    }

    #[test]
    fn passing_faults_are_told_from_lasting_ones() {
        for status in [408, 409, 429, 500, 503] {
            assert!(matches!(verdict(status, ""), Verdict::Again(_)), "{status}");
        }
        for status in [302, 400, 401, 403, 404, 422] {
            assert!(matches!(verdict(status, ""), Verdict::Stop(_)), "{status}");
        }
        let quota = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;
        assert!(matches!(verdict(429, quota), Verdict::Stop(text) if text.contains("no quota left")));
        let long = r#"{"error":{"code":400,"message":"too long","type":"exceed_context_size_error"}}"#;
        assert!(matches!(verdict(400, long), Verdict::Row(_)));
    }

    #[test]
    fn server_may_overrule_the_rule() {
        let no = Answer { status: 500, should_retry: Some("false".into()), ..Answer::default() };
        assert!(matches!(Exchange::Answer(no).verdict(), Verdict::Stop(_)));
        let yes = Answer { status: 400, should_retry: Some("true".into()), ..Answer::default() };
        assert!(matches!(Exchange::Answer(yes).verdict(), Verdict::Again(_)));
    }

    #[test]
    fn long_wait_ends_the_stage() {
        let limit = |wait: &str| Answer { status: 429, retry_after: Some(wait.into()), ..Answer::default() };
        assert!(matches!(Exchange::Answer(limit("3600")).verdict(), Verdict::Stop(text) if text.contains("3600 s")));
        assert!(
            matches!(Exchange::Answer(limit("120")).verdict(), Verdict::Again(a) if a.wait == Some(backoff::LONGEST))
        );
    }
}
