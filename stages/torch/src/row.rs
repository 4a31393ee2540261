//! One training row: ids, and which of them the model learns to write.

use crate::{Error, Result};

/// A tokenised example. Padding is nobody's business outside the library: rows are packed as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The tokens: prompt and answer, or the turns of a conversation.
    pub ids: Vec<u32>,
    /// True where the token is a label; as long as `ids`. The first token is never predicted, whatever stands here.
    pub labels: Vec<bool>,
    /// True where the token belongs to an answer, whose labels also count in `response_loss`; as long as `ids`.
    pub answers: Vec<bool>,
}

impl Row {
    /// Returns a row of one answer that begins at token `start` and is learned whole.
    pub fn answered(ids: Vec<u32>, start: usize) -> Row {
        let answers: Vec<bool> = (0..ids.len()).map(|at| at >= start).collect();
        Row { labels: answers.clone(), answers, ids }
    }

    /// Returns how many tokens are predicted and learned.
    pub fn label_tokens(&self) -> usize {
        self.labels.iter().skip(1).filter(|label| **label).count()
    }

    pub(crate) fn check(&self) -> Result<()> {
        if [self.labels.len(), self.answers.len()] == [self.ids.len(); 2] {
            return Ok(());
        }
        let counts = [self.ids.len(), self.labels.len(), self.answers.len()];
        Err(Error::Input(format!("a row's tokens, labels and answers have {counts:?} entries, not as many each")))
    }
}
