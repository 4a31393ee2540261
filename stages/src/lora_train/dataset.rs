//! What a training reads, as ids and labels: made once here for the preview and for the training itself.

use std::collections::BTreeSet;
use std::path::Path;

use watershed_engine::StageError;

use super::audit::{Audit, nothing_left};
use super::{LoraTrain, context};
use crate::base::Base;
use crate::formats;
use crate::record::example::Example;
use crate::text::batch::{BatchPlan, LossNorm};
use crate::text::labels::{Encoded, Encoder};
use crate::text::schedule::Schedule;
use crate::text::{Template, Tokenizer};

/// Prompts that are answered at each evaluation: a rate in eighths, for the price of a few rows of training.
const SAMPLED: usize = 8;

/// Where the rows lie.
#[derive(Debug, Clone, Copy)]
pub struct Files<'p> {
    /// Trained on.
    pub train: &'p Path,
    /// Looked at while training goes on; the adapter is chosen by them.
    pub val: Option<&'p Path>,
    /// Looked at once, when the adapter is chosen.
    pub test: Option<&'p Path>,
}

/// Rows to train on and rows held out, encoded.
pub struct Dataset {
    /// The tokenizer of the base.
    pub tokenizer: Tokenizer,
    /// The template.
    pub template: Template,
    /// Training rows.
    pub train: Encoded,
    /// Validation rows; whole, unless they are longer than `max_len`.
    pub val: Encoded,
    /// Test rows; whole, unless they are longer than `max_len`.
    pub test: Encoded,
    /// The first examples of the validation set, of the training set without one: their prompts are answered at each
    /// evaluation.
    pub sampled: Vec<Example>,
    /// Rows of `val` and `test` whose group or text is in `train` too.
    pub overlap: Vec<String>,
}

impl Dataset {
    /// Reads and encodes the rows.
    ///
    /// # Errors
    /// Names the file and row that cannot be read or do not fit; and when held-out rows are there and none has a label.
    pub fn open(params: &LoraTrain, files: Files<'_>, base: &Path) -> Result<Dataset, StageError> {
        let data = Dataset::encode(params, files, Base::open(base)?)?;
        let held_out = [("val", &data.val), ("test", &data.test)];
        let refusal = held_out.iter().find_map(|(port, rows)| nothing_left(port, &Audit::of(rows), params));
        refusal.map_or(Ok(data), |why| Err(StageError::Failed(why)))
    }

    /// Reads the rows and encodes them for a base that is open already, whatever is left of them.
    ///
    /// # Errors
    /// Names the file and row that cannot be read or do not fit.
    pub fn encode(params: &LoraTrain, files: Files<'_>, base: Base) -> Result<Dataset, StageError> {
        let Base { config, tokenizer } = base;
        let template = Template::new(&params.template, params.system.as_deref(), tokenizer.chat().cloned());
        let template = template.map_err(StageError::Failed)?;
        let read = |file: Option<&Path>| file.map_or(Ok(Vec::new()), formats::read);
        let (train_rows, val_rows, test_rows) = (formats::read(files.train)?, read(files.val)?, read(files.test)?);
        let encoder = encoder(params, &template, &tokenizer);
        let encode = |port, rows: &[Example]| context::encode(&encoder, config.max_positions, port, rows);
        let (train, val) = (encode("train", &train_rows)?, encode("val", &val_rows)?);
        let test = encode("test", &test_rows)?;
        let overlap = [&val_rows, &test_rows].into_iter().flat_map(|held| overlap(&train_rows, held)).collect();
        let sampled = if val_rows.is_empty() { train_rows } else { val_rows };
        let sampled = sampled.into_iter().take(SAMPLED).collect();
        Ok(Dataset { train, val, test, tokenizer, template, sampled, overlap })
    }

    /// Returns the tokens of each training row.
    pub fn lengths(&self) -> Vec<usize> {
        self.train.rows.iter().map(|row| row.ids.len()).collect()
    }
}

/// Returns what turns the rows of a training into ids and labels.
pub fn encoder<'a>(params: &LoraTrain, template: &'a Template, tokenizer: &'a Tokenizer) -> Encoder<'a> {
    let (train_on, max_len, overflow) = (params.train_on, params.max_len as usize, params.overflow);
    Encoder { template, tokenizer, train_on, max_len, overflow }
}

/// Returns which rows form which update.
pub fn plan(params: &LoraTrain) -> BatchPlan {
    let micro = match params.loss_norm {
        LossNorm::MicroMean => params.micro_batch_size.unwrap_or(1),
        // what fits at once is the machine's affair and must not decide what an update is
        LossNorm::Token => 1,
    };
    BatchPlan {
        batch_size: params.batch_size as usize,
        micro_size: micro as usize,
        epochs: u64::from(params.epochs),
        max_steps: params.max_steps.map(u64::from),
        tail: params.tail,
        order: params.order,
        seed: params.seed,
    }
}

/// Returns the learning rates of `updates` updates.
pub fn schedule(params: &LoraTrain, updates: u64) -> Schedule {
    Schedule::new(params.schedule, params.lr, params.warmup, updates)
}

/// Returns the ids of held-out rows that are no test of anything: their customer, or their text, is trained on.
fn overlap(train: &[Example], held: &[Example]) -> Vec<String> {
    let groups: BTreeSet<&str> = train.iter().map(|row| row.group.as_str()).filter(|group| !group.is_empty()).collect();
    let texts: BTreeSet<String> = train.iter().map(text).collect();
    let known = |row: &&Example| groups.contains(row.group.as_str()) || texts.contains(&text(row));
    held.iter().filter(known).map(|row| row.id.clone()).collect()
}

fn text(row: &Example) -> String {
    let messages = serde_json::to_string(&row.messages).unwrap_or_default();
    [row.instruction.as_str(), &row.input, row.output.as_deref().unwrap_or_default(), &messages].join("\u{1f}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, group: &str, input: &str) -> Example {
        Example { id: id.into(), group: group.into(), input: input.into(), ..Example::default() }
    }

    #[test]
    fn a_customer_or_a_text_on_both_sides_is_overlap() {
        let train = [row("1", "ann", "x"), row("2", "", "y")];
        let val = [row("3", "ann", "z"), row("4", "", "y"), row("5", "bob", "w"), row("6", "", "v")];
        assert_eq!(overlap(&train, &val), ["3", "4"]);
    }
}
