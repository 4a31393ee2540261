//! The loss on held-out rows, whole and by source.

use std::collections::BTreeMap;

use watershed_engine::Job;
use watershed_stages::text::labels;
use watershed_torch::{Error, Evaluation, Lora, Model, Row, evaluate_unless};

use super::curves::EvalLine;

/// Held-out rows by source, as the library takes them.
pub struct Validation(BTreeMap<String, Vec<Row>>);

/// Turns an encoded row into the library's.
pub fn row(row: &labels::Row) -> Row {
    Row { ids: row.ids.clone(), labels: row.labels.clone(), answers: row.answers.clone() }
}

impl Validation {
    /// Sorts rows by source.
    pub fn new(rows: &[labels::Row]) -> Validation {
        let mut by_source: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for encoded in rows {
            by_source.entry(encoded.source.clone()).or_default().push(row(encoded));
        }
        Validation(by_source)
    }

    /// Says whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Evaluates all rows after update `step`, token-weighted; without an adapter, the base on its own.
    ///
    /// # Errors
    /// When the rows have no label, or the model cannot take them; [`Error::Cancelled`] when the job is.
    pub fn measure(
        &self,
        model: &Model,
        lora: Option<&Lora>,
        budget: usize,
        (step, epoch): (u64, f64),
        job: &Job,
    ) -> Result<EvalLine, Error> {
        let mut sum = Evaluation::default();
        let mut sources = BTreeMap::new();
        for (source, rows) in &self.0 {
            let part = evaluate_unless(model, lora, rows, budget, &|| job.is_cancelled())?;
            sum.sum_nll += part.sum_nll;
            sum.tokens += part.tokens;
            sum.response_sum_nll += part.response_sum_nll;
            sum.response_tokens += part.response_tokens;
            let name = if source.is_empty() { "base" } else { source };
            sources.extend(part.loss().map(|loss| (name.to_string(), loss)));
        }
        let loss = sum
            .loss()
            .ok_or_else(|| Error::Input("the held-out rows have no label: `max_len` cuts every answer off".into()))?;
        Ok(EvalLine { step, epoch, loss, response_loss: sum.response_loss(), sources })
    }
}
