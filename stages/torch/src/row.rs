//! One training row: ids, and which of them the model learns to write.

use crate::{Error, Result};

/// A tokenised example. Padding is nobody's business outside the library: rows are packed as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The tokens, prompt then response.
    pub ids: Vec<u32>,
    /// True where the token is a label; as long as `ids`. The first token is never predicted, whatever stands here.
    pub labels: Vec<bool>,
    /// Index of the response's first token; labels from here on also count in `response_loss`.
    pub response_start: usize,
}

impl Row {
    /// Returns how many tokens are predicted and learned.
    pub fn label_tokens(&self) -> usize {
        self.labels.iter().skip(1).filter(|label| **label).count()
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.labels.len() == self.ids.len() {
            return Ok(());
        }
        Err(Error::Input(format!("a row has {} tokens but {} labels", self.ids.len(), self.labels.len())))
    }
}
