//! What a training reads, as ids and labels: made once here for the preview and for the training itself.

use std::collections::BTreeSet;
use std::path::Path;

use watershed_engine::StageError;

use super::LoraTrain;
use crate::base::Base;
use crate::formats;
use crate::record::example::Example;
use crate::text::batch::{BatchPlan, LossNorm};
use crate::text::labels::{Cut, Encoded, Encoder, Row};
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
    /// Names the file and row that cannot be read or do not fit.
    pub fn open(params: &LoraTrain, files: Files<'_>, base: &Path) -> Result<Dataset, StageError> {
        let base = Base::open(base)?;
        let data = Dataset::encode(params, files, base.tokenizer)?;
        data.check_context(base.config.max_positions)?;
        Ok(data)
    }

    /// Reads the rows and encodes them with a tokenizer that is open already.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn encode(params: &LoraTrain, files: Files<'_>, tokenizer: Tokenizer) -> Result<Dataset, StageError> {
        let template = Template::new(&params.template, params.system.as_deref(), tokenizer.chat().cloned());
        let template = template.map_err(StageError::Failed)?;
        let train_examples = formats::read(files.train)?;
        let [val_examples, test_examples] =
            [files.val, files.test].map(|file| file.map_or(Ok(Vec::new()), formats::read));
        let (val_examples, test_examples) = (val_examples?, test_examples?);
        let encoder = encoder(params, &template, &tokenizer);
        let overlap =
            [&val_examples, &test_examples].into_iter().flat_map(|held| overlap(&train_examples, held)).collect();
        let (train, val) = (encoder.encode_all(&train_examples)?, encoder.encode_all(&val_examples)?);
        let test = encoder.encode_all(&test_examples)?;
        let sampled = if val_examples.is_empty() { train_examples } else { val_examples };
        let sampled = sampled.into_iter().take(SAMPLED).collect();
        Ok(Dataset { train, val, test, tokenizer, template, sampled, overlap })
    }

    /// Returns the tokens of each training row.
    pub fn lengths(&self) -> Vec<usize> {
        self.train.rows.iter().map(|row| row.ids.len()).collect()
    }

    /// Returns the number of training rows whose answer lost tokens.
    pub fn rows_cut(&self) -> usize {
        self.train.rows.iter().filter(|row| matches!(row.cut, Cut::Answer(_))).count()
    }

    /// Returns the number of training rows whose input lost its middle.
    pub fn inputs_cut(&self) -> usize {
        self.train.rows.iter().filter(|row| row.cut == Cut::Input).count()
    }

    /// Returns the number of training rows that do not teach the end of an answer: whole rows end with one, and learn it.
    pub fn rows_without_end(&self) -> usize {
        self.rows_cut()
    }

    /// Checks that the base can read every row.
    ///
    /// # Errors
    /// When rows are longer than `context`, the longest sequence that the base was made for: says how many and how long.
    pub fn check_context(&self, context: usize) -> Result<(), StageError> {
        let rows = || self.train.rows.iter().chain(&self.val.rows).chain(&self.test.rows);
        let longer = rows().filter(|row| row.ids.len() > context).count();
        let longest = rows().map(|row| row.ids.len()).max().unwrap_or(0);
        if longer == 0 {
            return Ok(());
        }
        Err(StageError::failed(format!(
            "{longer} of {} rows are longer than the {context} tokens that the base was made for, the longest has {longest}; \
             set `max_len: {context}`, or take a base with a longer context",
            rows().count()
        )))
    }

    /// Returns the labels of one pass over the training rows.
    pub fn label_tokens(&self) -> usize {
        self.train.rows.iter().map(Row::label_tokens).sum()
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
