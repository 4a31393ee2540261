//! From a row to ids and labels: what the model reads and which tokens it learns to write.
//!
//! The end token is appended after any cutting and is always a label, so that a trained model stops. An answer is never cut
//! silently: only `overflow: truncate` cuts answers, as alpaca-lora did, and such rows are counted.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_engine::StageError;

use super::template::{Part, Template};
use super::tokenizer::Tokenizer;
use crate::record::example::Example;

/// How finely `truncate_input` cuts: what could have stayed is less than a part in so many of what does.
const FINE: usize = 64;

/// Which tokens are labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrainOn {
    /// Answers and the end token.
    #[default]
    Response,
    /// Everything, prompts too.
    All,
}

/// What happens to a row longer than `max_len`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// The stage fails.
    Error,
    /// The row is left out.
    Drop,
    /// The middle of its `input` is cut out; template and answer stay whole.
    #[default]
    TruncateInput,
    /// The row is cut on the right, the answer first; it then teaches no end (alpaca-lora).
    Truncate,
}

/// A row as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Number of the row in its file, from 0.
    pub index: usize,
    /// Where the row comes from.
    pub source: String,
    /// The tokens.
    pub ids: Vec<u32>,
    /// Whether each token is learned.
    pub labels: Vec<bool>,
    /// Whether each token belongs to an answer.
    pub answers: Vec<bool>,
    /// What was cut.
    pub cut: Cut,
}

/// What a row lost to `max_len`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Nothing.
    None,
    /// Some of its input.
    Input,
    /// Some of its answer, or the end token; the number of answer tokens lost, the end token included.
    Answer(usize),
}

impl Row {
    /// Returns the index of the first answer's first token; the row's length where all answers were cut off.
    pub fn response_start(&self) -> usize {
        self.answers.iter().position(|is_answer| *is_answer).unwrap_or(self.ids.len())
    }

    /// Returns what stands before the last answer; none where all of that was cut off, or it is its end alone.
    pub fn prompt(&self) -> Option<&[u32]> {
        let last = self.answers.iter().rposition(|is_answer| *is_answer)?;
        let start = self.answers[..last].iter().rposition(|is_answer| !is_answer)? + 1;
        (start < last).then(|| &self.ids[..start])
    }

    /// Returns the number of labels; the first token of a row is never predicted.
    pub fn label_tokens(&self) -> usize {
        self.labels.iter().skip(1).filter(|&&label| label).count()
    }
}

/// Why a row cannot be trained on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// It has so many tokens and `overflow` may not shorten it further: under `truncate_input`, template, instruction and
    /// answer alone.
    TooLong(usize),
    /// Template or tokenizer refuse it.
    Refused(String),
}

impl From<String> for Unfit {
    fn from(why: String) -> Unfit {
        Unfit::Refused(why)
    }
}

/// All rows of a file.
#[derive(Debug, Clone, Default)]
pub struct Encoded {
    /// Rows in file order.
    pub rows: Vec<Row>,
    /// Ids of the rows that `overflow: drop` left out.
    pub dropped: Vec<String>,
}

/// What turns rows into ids and labels.
pub struct Encoder<'a> {
    /// Makes text.
    pub template: &'a Template,
    /// Makes ids.
    pub tokenizer: &'a Tokenizer,
    /// Which tokens are labels.
    pub train_on: TrainOn,
    /// Longest row in tokens.
    pub max_len: usize,
    /// What happens to longer ones.
    pub overflow: Overflow,
}

impl Encoder<'_> {
    /// Encodes all rows of a file, in parallel, in file order.
    ///
    /// # Errors
    /// Names the first row that cannot be made into text; of rows that do not fit into `max_len`, tells how many they are.
    pub fn encode_all(&self, examples: &[Example]) -> Result<Encoded, StageError> {
        let each = |(index, row): (usize, &Example)| self.encode(index, row);
        let rows: Vec<Result<Option<Row>, Unfit>> = examples.par_iter().enumerate().map(each).collect();
        let mut encoded = Encoded::default();
        let mut too_long: Vec<(usize, &str, usize)> = Vec::new();
        for (index, (row, example)) in rows.into_iter().zip(examples).enumerate() {
            match row {
                Ok(Some(row)) => encoded.rows.push(row),
                Ok(None) => encoded.dropped.push(example.id.clone()),
                Err(Unfit::TooLong(tokens)) => too_long.push((index, &example.id, tokens)),
                Err(Unfit::Refused(why)) => {
                    return Err(StageError::failed(format!("row {} (`{}`): {why}", index + 1, example.id)));
                }
            }
        }
        self.refuse_long(&too_long, examples.len()).map_or(Ok(encoded), Err)
    }

    /// Returns one error for all rows that are too long, with the `max_len` that would take them.
    fn refuse_long(&self, too_long: &[(usize, &str, usize)], rows: usize) -> Option<StageError> {
        let (index, id, tokens) = too_long.first()?;
        let longest = too_long.iter().map(|(_, _, tokens)| tokens).max()?;
        let (even, others) = match self.overflow {
            Overflow::TruncateInput => (" even without their input", "`overflow: drop`"),
            _ => ("", "`overflow: truncate_input` or `drop`"),
        };
        Some(StageError::failed(format!(
            "{} of {rows} rows are longer than `max_len: {}`{even}, the first is row {} (`{id}`) with {tokens} tokens; raise \
             `max_len` to {longest}, or set {others}",
            too_long.len(),
            self.max_len,
            index + 1
        )))
    }

    /// Encodes one row; `None` when `overflow: drop` leaves it out.
    ///
    /// # Errors
    /// When the row does not fit the template, or not into `max_len`.
    pub fn encode(&self, index: usize, example: &Example) -> Result<Option<Row>, Unfit> {
        let row = self.whole(index, example)?;
        if row.ids.len() <= self.max_len {
            return Ok(Some(row));
        }
        match self.overflow {
            Overflow::Drop => Ok(None),
            Overflow::Truncate => Ok(Some(self.cut_right(row))),
            Overflow::TruncateInput => self.cut_input(index, example, row.ids.len()).map(Some),
            Overflow::Error => Err(Unfit::TooLong(row.ids.len())),
        }
    }

    fn whole(&self, index: usize, example: &Example) -> Result<Row, String> {
        let mut row = Row {
            index,
            source: example.source.clone(),
            ids: Vec::new(),
            labels: Vec::new(),
            answers: Vec::new(),
            cut: Cut::None,
        };
        let parts = self.template.parts(example)?;
        if !parts.iter().any(|part| part.is_answer) {
            return Err("the conversation has no answer to learn".into());
        }
        let tokens = self.tokens(&parts).map_err(|e| e.to_string())?;
        (row.ids, row.answers) = tokens.into_iter().unzip();
        self.end(&mut row)?;
        let is_label = |is_answer: &bool| *is_answer || self.train_on == TrainOn::All;
        row.labels = row.answers.iter().map(is_label).collect();
        Ok(row)
    }

    /// Returns the tokens of a conversation, each with whether it belongs to an answer.
    fn tokens(&self, parts: &[Part]) -> Result<Vec<(u32, bool)>, StageError> {
        if self.template.is_chat() {
            return self.tokenizer.conversation(parts);
        }
        let mut tokens: Vec<(u32, bool)> = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let last = tokens.last().map(|(id, _)| *id);
            let ids =
                if at == 0 { self.tokenizer.start(&part.text)? } else { self.tokenizer.after(last, &part.text)? };
            tokens.extend(ids.into_iter().map(|id| (id, part.is_answer)));
        }
        Ok(tokens)
    }

    /// Appends the end token unless the template has written it; a tokenizer's own template ends an answer with its own.
    fn end(&self, row: &mut Row) -> Result<(), String> {
        let eos = self.tokenizer.eos().map_err(|e| e.to_string())?;
        let ends_itself = |id: &u32| *id == eos || (self.template.is_chat() && self.tokenizer.is_mark(*id));
        if !row.ids.last().is_some_and(ends_itself) {
            row.ids.push(eos);
            row.answers.push(true);
        }
        Ok(())
    }

    fn cut_right(&self, mut row: Row) -> Row {
        let (start, tokens) = (row.response_start(), row.ids.len());
        row.ids.truncate(self.max_len);
        row.labels.truncate(self.max_len);
        row.answers.truncate(self.max_len);
        row.cut = Cut::Answer(tokens - start.max(self.max_len));
        row
    }

    /// Cuts as little out of the middle of the input as lets the row fit, to a part in [`FINE`] of what is kept. How many tokens
    /// a character makes depends on the script and on the tokenizer, so the cut is found by halving.
    fn cut_input(&self, index: usize, example: &Example, tokens: usize) -> Result<Row, Unfit> {
        let text = example.material();
        let keeping = |characters: usize| {
            let row = self.whole(index, &with_input(example, &without_middle(text, characters)));
            row.map(|row| Row { cut: Cut::Input, ..row })
        };
        let mut row = keeping(0)?;
        if row.ids.len() > self.max_len {
            // the mark of a cut costs tokens of its own, where there was nothing to cut
            return Err(Unfit::TooLong(row.ids.len().min(tokens)));
        }
        let (mut fits, mut too_many) = (0, text.chars().count());
        while too_many - fits > 1 + fits / FINE {
            let characters = (fits + too_many) / 2;
            let tried = keeping(characters)?;
            if tried.ids.len() > self.max_len {
                too_many = characters;
            } else {
                (row, fits) = (tried, characters);
            }
        }
        Ok(row)
    }
}

/// Returns the row with other [`Example::material`].
fn with_input(example: &Example, input: &str) -> Example {
    let mut example = example.clone();
    match &mut example.messages {
        Some(messages) => {
            if let Some(user) = messages.iter_mut().rfind(|m| m.role == "user") {
                user.content = input.into();
            }
        }
        None => example.input = input.into(),
    }
    example
}

/// Returns the beginning and the end of a text, `keep` characters in all, with a mark between.
fn without_middle(text: &str, keep: usize) -> String {
    let characters: Vec<char> = text.chars().collect();
    let head: String = characters[..keep.div_ceil(2)].iter().collect();
    let tail: String = characters[characters.len() - keep / 2..].iter().collect();
    format!("{head} … {tail}")
}

#[cfg(test)]
mod tests;
