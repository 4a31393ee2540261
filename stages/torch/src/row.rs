//! One training row: ids, and which of them the model learns to write.

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
