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
    /// Index of the first answer's first token.
    pub response_start: usize,
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
            response_start: 0,
            cut: Cut::None,
        };
        let parts = self.template.parts(example)?;
        if !parts.iter().any(|part| part.is_answer) {
            return Err("the conversation has no answer to learn".into());
        }
        let tokens = self.tokens(&parts).map_err(|e| e.to_string())?;
        row.response_start = tokens.iter().position(|(_, is_answer)| *is_answer).unwrap_or(tokens.len());
        let is_label = |is_answer: bool| is_answer || self.train_on == TrainOn::All;
        (row.ids, row.labels) = tokens.into_iter().map(|(id, is_answer)| (id, is_label(is_answer))).unzip();
        self.end(&mut row)?;
        Ok(row)
    }

    /// Returns the tokens of a conversation, each with whether it belongs to an answer.
    fn tokens(&self, parts: &[Part]) -> Result<Vec<(u32, bool)>, StageError> {
        if self.template.is_chat() {
            return self.tokenizer.conversation(parts);
        }
        let mut tokens: Vec<(u32, bool)> = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let ids = if at == 0 { self.tokenizer.start(&part.text)? } else { self.tokenizer.more(&part.text)? };
            tokens.extend(ids.into_iter().map(|id| (id, part.is_answer)));
        }
        Ok(tokens)
    }

    /// Appends the end token unless the template has written it; a tokenizer's own template ends an answer with its own.
    fn end(&self, row: &mut Row) -> Result<(), String> {
        let eos = self.tokenizer.eos().map_err(|e| e.to_string())?;
        let ends_itself = |id: &u32| *id == eos || (self.template.is_chat() && self.tokenizer.is_control(*id));
        if !row.ids.last().is_some_and(ends_itself) {
            row.ids.push(eos);
            row.labels.push(true);
        }
        Ok(())
    }

    fn cut_right(&self, mut row: Row) -> Row {
        let answer = row.ids.len() - row.response_start;
        row.ids.truncate(self.max_len);
        row.labels.truncate(self.max_len);
        row.cut = Cut::Answer(answer - row.ids.len().saturating_sub(row.response_start));
        row
    }

    /// Cuts the middle out of the input until the row fits.
    fn cut_input(&self, index: usize, example: &Example, tokens: usize) -> Result<Row, Unfit> {
        let text = input_of(example);
        let length = text.chars().count();
        // one token is one character at least, so the first cut is never too large
        let mut cut = (tokens - self.max_len).min(length);
        loop {
            let mut row = self.whole(index, &with_input(example, &without_middle(&text, cut)))?;
            if row.ids.len() <= self.max_len {
                row.cut = Cut::Input;
                return Ok(row);
            }
            if cut == length {
                // the mark of a cut costs tokens of its own, where there was nothing to cut
                return Err(Unfit::TooLong(row.ids.len().min(tokens)));
            }
            cut = (cut + (row.ids.len() - self.max_len).max(length / 64)).min(length);
        }
    }
}

/// Returns what may be cut: the input, else the last user turn.
fn input_of(example: &Example) -> String {
    match &example.messages {
        Some(messages) => messages.iter().rfind(|m| m.role == "user").map(|m| m.content.clone()).unwrap_or_default(),
        None => example.input.clone(),
    }
}

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

fn without_middle(text: &str, cut: usize) -> String {
    let characters: Vec<char> = text.chars().collect();
    let keep = characters.len().saturating_sub(cut);
    let head: String = characters[..keep.div_ceil(2)].iter().collect();
    let tail: String = characters[characters.len() - keep / 2..].iter().collect();
    format!("{head} … {tail}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::fixture::{cuts, ids, reference, tiny_llama};
    use crate::text::template::TemplateChoice;

    fn dataset() -> Option<Vec<Example>> {
        let text = std::fs::read_to_string(tiny_llama("dataset.json")?).unwrap();
        let mut rows: Vec<Example> = serde_json::from_str::<Vec<serde_json::Value>>(&text)
            .unwrap()
            .into_iter()
            .enumerate()
            .map(|(i, mut row)| {
                row["id"] = i.to_string().into();
                serde_json::from_value(row).unwrap()
            })
            .collect();
        rows.iter_mut().for_each(|row| row.source = "fixture".into());
        Some(rows)
    }

    fn with_encoder(max_len: usize, overflow: Overflow, train_on: TrainOn, test: impl Fn(&Encoder<'_>, &[Example])) {
        let (Some(rows), Some(folder)) = (dataset(), tiny_llama("model")) else { return };
        let tokenizer = Tokenizer::open(&folder).unwrap();
        let template = Template::new(&TemplateChoice::default(), None, None).unwrap();
        test(&Encoder { template: &template, tokenizer: &tokenizer, train_on, max_len, overflow }, &rows);
    }

    #[test]
    fn reference_rows_have_these_ids_and_labels() {
        let Some(reference) = reference() else { return };
        for (name, max_len) in cuts(&reference) {
            with_encoder(max_len, Overflow::Truncate, TrainOn::Response, |encoder, rows| {
                for case in reference[&name].as_array().unwrap() {
                    let index = case["index"].as_u64().unwrap() as usize;
                    let row = encoder.encode(index, &rows[index]).unwrap().unwrap();
                    assert_eq!(row.ids, ids(&case["ids"]), "{name} {index}");
                    if let Some(labels) = case["labels"].as_array() {
                        let labels: Vec<bool> = labels.iter().map(|l| l.as_i64() != Some(-100)).collect();
                        assert_eq!(row.labels, labels, "{name} {index}");
                    }
                    if let Some(tokens) = case["label_tokens"].as_u64() {
                        assert_eq!(row.label_tokens() as u64, tokens, "{name} {index}");
                    }
                }
            });
        }
    }

    #[test]
    fn reference_rows_have_these_prompts_and_these_labels_of_all_tokens() {
        let Some(reference) = reference() else { return };
        let (_, max_len) = cuts(&reference).pop().unwrap();
        with_encoder(max_len, Overflow::Truncate, TrainOn::All, |encoder, rows| {
            for case in reference["examples"].as_array().unwrap() {
                let row = &rows[case["index"].as_u64().unwrap() as usize];
                assert_eq!(encoder.template.prompt(row).unwrap(), case["prompt"].as_str().unwrap());
                let encoded = encoder.encode(0, row).unwrap().unwrap();
                assert_eq!(encoded.ids, ids(&case["labels_train_on_inputs"]));
                assert!(encoded.labels.iter().all(|label| *label));
            }
        });
    }

    #[test]
    fn input_is_cut_before_the_answer() {
        with_encoder(1024, Overflow::TruncateInput, TrainOn::Response, |whole, rows| {
            let long = rows.iter().position(|row| row.input.len() > 100).unwrap();
            let before = whole.encode(long, &rows[long]).unwrap().unwrap();
            let max_len = before.ids.len() - 20;
            let row = Encoder { max_len, ..*whole }.encode(long, &rows[long]).unwrap().unwrap();
            assert_eq!(row.cut, Cut::Input);
            assert!(row.ids.len() <= max_len && row.ids.len() > max_len - 20, "{} of {max_len}", row.ids.len());
            assert_eq!(row.ids[row.response_start..], before.ids[before.response_start..]);
        });
    }

    #[test]
    fn answers_too_long_for_max_len_are_an_error_not_a_cut() {
        with_encoder(20, Overflow::TruncateInput, TrainOn::Response, |encoder, rows| {
            let Unfit::TooLong(needed) = encoder.encode(0, &rows[0]).unwrap_err() else { panic!("another fault") };
            assert!(needed > 20);
            let message = encoder.encode_all(rows).unwrap_err().to_string();
            assert!(
                message.contains(&format!("{0} of {0} rows are longer than `max_len: 20`", rows.len())),
                "{message}"
            );
            // the mend that it names is one
            let longest = message.split("raise `max_len` to ").nth(1).unwrap().split(',').next().unwrap();
            let longer = Encoder { max_len: longest.parse().unwrap(), ..*encoder };
            assert_eq!(longer.encode_all(rows).unwrap().rows.len(), rows.len());
        });
    }

    #[test]
    fn dropped_rows_are_named() {
        with_encoder(64, Overflow::Drop, TrainOn::Response, |encoder, rows| {
            let encoded = encoder.encode_all(rows).unwrap();
            assert!(!encoded.dropped.is_empty());
            assert_eq!(encoded.rows.len() + encoded.dropped.len(), rows.len());
        });
    }

    #[test]
    fn training_on_all_labels_the_prompt_too_but_never_the_first_token() {
        with_encoder(192, Overflow::Error, TrainOn::All, |encoder, rows| {
            let row = encoder.encode(0, &rows[0]).unwrap().unwrap();
            assert_eq!(row.label_tokens(), row.ids.len() - 1);
        });
    }

    #[test]
    fn end_token_closes_every_whole_row() {
        with_encoder(192, Overflow::Error, TrainOn::Response, |encoder, rows| {
            let eos = encoder.tokenizer.eos().unwrap();
            for row in encoder.encode_all(rows).unwrap().rows {
                assert_eq!((row.ids.last(), row.labels.last()), (Some(&eos), Some(&true)));
            }
        });
    }

    /// What `tests/reference/chat.py` wrote.
    fn chats() -> (std::path::PathBuf, serde_json::Value) {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/chat");
        let text = std::fs::read_to_string(folder.join("expected.json")).unwrap();
        (folder, serde_json::from_str(&text).unwrap())
    }

    /// A folder with one of its tokenizers.
    fn chat_tokenizer(name: &str) -> (tempfile::TempDir, Tokenizer) {
        let ((source, expected), folder) = (chats(), tempfile::tempdir().unwrap());
        std::fs::copy(source.join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
        std::fs::copy(source.join(format!("{name}.jinja")), folder.path().join("chat_template.jinja")).unwrap();
        let config = expected[name]["tokenizer_config"].to_string();
        std::fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        (folder, tokenizer)
    }

    #[test]
    fn chat_templates_give_the_ids_and_labels_of_transformers() {
        for (name, case) in chats().1.as_object().unwrap() {
            let (_keep, tokenizer) = chat_tokenizer(name);
            let chat = TemplateChoice::Named(crate::text::template::TemplateName::Chat);
            let template = Template::new(&chat, None, tokenizer.chat().cloned()).unwrap();
            let (train_on, overflow) = (TrainOn::Response, Overflow::Error);
            let encoder = Encoder { template: &template, tokenizer: &tokenizer, train_on, max_len: 1024, overflow };
            for wanted in case["rows"].as_array().unwrap() {
                let messages = serde_json::from_value(wanted["messages"].clone()).unwrap();
                let row = encoder.encode(0, &Example { messages, ..Example::default() }).unwrap().unwrap();
                // the line break after the last end token belongs to no turn, and nothing is learned from it
                let whole = ids(&wanted["ids"]);
                assert!(row.ids.len() >= whole.len() - 1 && whole.starts_with(&row.ids), "{name}: {}", wanted["text"]);
                let labels: Vec<bool> = serde_json::from_value(wanted["labels"].clone()).unwrap();
                assert_eq!(row.labels, labels[..row.ids.len()], "{name}: {}", wanted["text"]);
                assert!(!labels[row.ids.len()..].contains(&true));
                let messages = serde_json::from_value(wanted["messages"].clone()).unwrap();
                let prompt = template.prompt_ids(&Example { messages, ..Example::default() }, &tokenizer);
                assert_eq!(prompt.unwrap(), ids(&wanted["prompt"]), "{name}: {}", wanted["text"]);
            }
            let end = tokenizer.more(case["end"].as_str().unwrap()).unwrap();
            assert!(end.len() == 1 && template.stops(&tokenizer).contains(&end[0]), "{name}");
        }
    }

    #[test]
    fn a_conversation_that_breaks_the_alternation_is_named() {
        let (_keep, tokenizer) = chat_tokenizer("mistral");
        let chat = TemplateChoice::Named(crate::text::template::TemplateName::Chat);
        let template = Template::new(&chat, None, tokenizer.chat().cloned()).unwrap();
        let (train_on, overflow) = (TrainOn::Response, Overflow::Error);
        let encoder = Encoder { template: &template, tokenizer: &tokenizer, train_on, max_len: 1024, overflow };
        let row = |roles: &[&str]| {
            let turns = roles.iter().map(|role| serde_json::json!({"role": role, "content": "x"})).collect();
            let messages = serde_json::from_value(serde_json::Value::Array(turns)).unwrap();
            Example { id: "r7".into(), messages, ..Example::default() }
        };
        let rows = [row(&["user", "assistant"]), row(&["user", "user", "assistant"])];
        let error = encoder.encode_all(&rows).unwrap_err().to_string();
        assert!(error.contains("row 2 (`r7`)") && error.contains("must alternate"), "{error}");
    }
}
