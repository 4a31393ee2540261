//! One row as the model sees it, for `peek`.

use serde::Serialize;
use serde_json::Value;

/// Which row of its input a stage shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeekRow {
    /// The row of this number, from 1.
    Number(usize),
    /// The row that loses most of what it should teach.
    Worst,
}

/// A row as the model sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Peek {
    /// What is known of the row, in the order it is printed.
    pub facts: Vec<(String, Value)>,
    /// Its tokens, in order; those that were cut off stand where they would be.
    pub runs: Vec<Run>,
}

/// Tokens in a row with the same fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    /// What becomes of them.
    pub fate: Fate,
    /// Their text, control tokens spelled out.
    pub text: String,
    /// Their ids.
    pub ids: Vec<u32>,
}

/// What becomes of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// The model reads it.
    Read,
    /// The model learns to write it.
    Learned,
    /// The model never sees it.
    Cut,
}

impl Fate {
    /// Returns its word.
    pub fn word(self) -> &'static str {
        match self {
            Fate::Read => "read",
            Fate::Learned => "learned",
            Fate::Cut => "cut",
        }
    }
}

impl Peek {
    /// Adds a fact.
    pub fn fact(&mut self, name: &str, value: impl Into<Value>) -> &mut Peek {
        self.facts.push((name.to_string(), value.into()));
        self
    }
}
