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
}
