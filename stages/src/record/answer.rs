//! `answers`: generated texts as JSON lines.

use serde::{Deserialize, Serialize};

/// One generated text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Id of the prompt.
    pub id: String,
    /// Customer of the prompt.
    #[serde(default)]
    pub group: String,
    /// Number of the sample for this prompt, from 0.
    #[serde(default)]
    pub sample: u32,
    /// The text without special tokens.
    pub text: String,
    /// The tokens, a final end token included.
    #[serde(default)]
    pub token_ids: Vec<u32>,
    /// `stop`, `length` or `stop_string`.
    #[serde(default)]
    pub finish_reason: String,
    /// Number of generated tokens.
    #[serde(default)]
    pub tokens: u32,
    /// How often the parrot guard had it written again; left out when never.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u32,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_written_once_says_nothing_of_retries() {
        let written = |retries| serde_json::to_value(Answer { retries, ..Answer::default() }).unwrap();
        assert_eq!((written(0).get("retries"), written(2)["retries"].as_u64()), (None, Some(2)));
        let read: Answer = serde_json::from_value(written(0)).unwrap();
        assert_eq!(read.retries, 0);
    }
}
