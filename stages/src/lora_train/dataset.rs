//! What a training reads, as ids and labels: made once here for the preview and for the training itself.

use std::path::Path;

use watershed_engine::StageError;

use super::audit::{Audit, nothing_left};
use super::overlap::Overlap;
use super::{LoraTrain, context};
use crate::base::Base;
use crate::formats;
use crate::metrics::parroting::{Thresholds, parroting};
use crate::record::example::Example;
use crate::text::batch::{BatchPlan, LossNorm};
use crate::text::labels::{Cut, Encoded, Encoder, Row};
use crate::text::schedule::Schedule;
use crate::text::signs::{Signed, Signs};
use crate::text::{Template, Tokenizer};

/// Prompts that are answered at each evaluation: a rate in eighths, for the price of a few rows of training.
const SAMPLED: usize = 8;
/// Tokens of each of their answers: some twenty words, enough for a copied run of 16, and few beside the tokens of an epoch.
pub const SAMPLE_TOKENS: usize = 32;
/// Rows that the checks after a training look at.
pub const CHECKED_ROWS: usize = 8;

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
    /// Of the first rows of the validation set, of the training set without one.
    pub sampled: Vec<Sampled>,
    /// Id of a training row whose question, asked as generation asks it, has other tokens than the row has.
    pub asked_otherwise: Option<String>,
    /// Rows of any file that hold control tokens in their own text.
    pub signed: Option<Signed>,
    /// Rows of `val` and `test` that are no test of anything.
    pub overlap: Overlap,
}

/// A prompt that is answered at each evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampled {
    /// Id of the row.
    pub id: String,
    /// The prompt as training reads it, cut where it is.
    pub ids: Vec<u32>,
    /// What an answer may copy; see [`Example::material`].
    pub material: String,
    /// Whether the row's own answer parrots.
    pub own_parrots: bool,
}

impl Sampled {
    /// Returns the prompt of a row, none where its last answer is not learned or was cut away: what is before another answer
    /// asks another question than the one that [`Example::material`] is of.
    fn of(row: &Row, example: &Example) -> Option<Sampled> {
        let turns = example.messages.as_deref().unwrap_or_default();
        let is_cut = turns.len() > 2 && matches!(row.cut, Cut::Answer(_));
        if is_cut || turns.last().is_some_and(|turn| turn.train == Some(false)) {
            return None;
        }
        let (ids, material) = (row.prompt()?.to_vec(), example.material().to_string());
        let own_parrots = parroting(&material, example.answer().unwrap_or_default()).is_parrot(&Thresholds::default());
        Some(Sampled { id: example.id.clone(), ids, material, own_parrots })
    }
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
        let overlap = Overlap::of(&train_rows, [&val_rows, &test_rows].into_iter().flatten());
        let signed = Signs::of(&tokenizer).find([&train_rows, &val_rows, &test_rows].into_iter().flatten());
        let asked_otherwise = asked_otherwise(&template, &tokenizer, &train.rows, &train_rows);
        let sampled =
            if val_rows.is_empty() { sampled(&train.rows, &train_rows) } else { sampled(&val.rows, &val_rows) };
        Ok(Dataset { train, val, test, tokenizer, template, sampled, asked_otherwise, signed, overlap })
    }

    /// Returns the share of the sampled rows whose own answers parrot; 0 without any.
    pub fn own_parrot_rate(&self) -> f64 {
        let parrots = self.sampled.iter().filter(|of| of.own_parrots).count();
        parrots as f64 / self.sampled.len().max(1) as f64
    }

    /// Returns the tokens of each training row.
    pub fn lengths(&self) -> Vec<usize> {
        self.train.rows.iter().map(|row| row.ids.len()).collect()
    }
}

/// Looks for a row whose answer is learned after other tokens than generation will write it after: a chat template that opens
/// answers with a space has it merged with the answer's first word.
fn asked_otherwise(template: &Template, tokenizer: &Tokenizer, rows: &[Row], examples: &[Example]) -> Option<String> {
    let whole = rows.iter().take(SAMPLED).filter(|row| row.cut == Cut::None);
    let apart = |row: &Row| {
        let (read, asked) = (Sampled::of(row, &examples[row.index])?, &examples[row.index]);
        template.prompt_ids(asked, tokenizer).is_ok_and(|ids| ids != read.ids).then_some(read.id)
    };
    whole.into_iter().find_map(apart)
}

fn sampled(rows: &[Row], examples: &[Example]) -> Vec<Sampled> {
    rows.iter().filter_map(|row| Sampled::of(row, &examples[row.index])).take(SAMPLED).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::example::Message;
    use crate::text::fixture::tiny_llama;
    use crate::text::labels::Overflow;

    #[test]
    fn sampled_prompts_are_what_training_reads() {
        let (Some(rows), Some(base)) = (tiny_llama("dataset.json"), tiny_llama("model")) else { return };
        let open = |max_len: u32| {
            let params = LoraTrain { max_len, overflow: Overflow::Truncate, ..LoraTrain::default() };
            Dataset::open(&params, Files { train: &rows, val: None, test: None }, &base).unwrap()
        };
        let (whole, examples) = (open(1024), formats::read(&rows).unwrap());
        assert_eq!(whole.sampled.len(), SAMPLED);
        for (of, example) in whole.sampled.iter().zip(&examples) {
            assert_eq!(of.ids, whole.template.prompt_ids(example, &whole.tokenizer).unwrap());
        }
        let longest = whole.lengths().into_iter().max().unwrap();
        let cut = open(longest as u32 / 2);
        assert!(cut.train.rows.iter().any(|row| row.cut != Cut::None));
        assert!(cut.sampled.iter().all(|of| of.ids.len() < longest / 2));
    }

    #[test]
    fn a_prompt_is_sampled_where_its_own_answer_is_learned() {
        let turn = |role: &str, train| Message { role: role.into(), content: "x".into(), train };
        let row = |cut| Row {
            index: 0,
            source: String::new(),
            ids: (0..9).collect(),
            labels: vec![true; 9],
            answers: [false, true, true, false, false, true, true, true, true].to_vec(),
            cut,
        };
        let of = |train, cut| {
            let turns = ["user", "assistant", "user"].map(|role| turn(role, None)).into_iter();
            let messages = Some(turns.chain([turn("assistant", train)]).collect());
            Sampled::of(&row(cut), &Example { messages, ..Example::default() })
        };
        assert_eq!(of(None, Cut::Input).unwrap().ids, [0, 1, 2, 3, 4]);
        assert_eq!((of(Some(false), Cut::None), of(None, Cut::Answer(3))), (None, None));
    }
}
