//! Loss of a set of rows, and how far an adapter moved the model.

use crate::{Error, Lora, Model, Result, Row};

/// Sums over the labels of a set of rows; token-weighted, never a mean of means.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Evaluation {
    /// Sum of negative log-likelihood over labels, in nats.
    pub sum_nll: f64,
    /// Labels counted.
    pub tokens: u64,
    /// The same over labels of the response.
    pub response_sum_nll: f64,
    /// Labels of the response.
    pub response_tokens: u64,
}

impl Evaluation {
    /// Returns the mean loss of a label in nats, none without labels.
    pub fn loss(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.sum_nll / self.tokens as f64)
    }

    /// Returns the mean loss of a response label in nats, none without such labels.
    pub fn response_loss(&self) -> Option<f64> {
        (self.response_tokens > 0).then(|| self.response_sum_nll / self.response_tokens as f64)
    }
}

/// Returns the loss sums of `rows`, computed in batches of at most `batch_tokens` tokens, longest rows together.

pub fn evaluate(model: &Model, lora: Option<&Lora>, rows: &[Row], batch_tokens: usize) -> Result<Evaluation> {
    let _ = (model, lora, rows, batch_tokens);
    Err(Error::Input("not evaluated yet".to_owned()))
}

/// Returns the mean KL divergence KL(base || tuned) over the label positions of `rows`, in nats a token.
pub fn divergence(model: &Model, lora: &Lora, rows: &[Row]) -> Result<f64> {
    let _ = (model, lora, rows);
    Err(Error::Input("not compared yet".to_owned()))
}
