//! One tokenizer type over three kinds of file: `tokenizer.json`, GGUF byte-level BPE, GGUF SentencePiece.
//!
//! Prompt and answer are tokenised apart ([`Tokenizer::start`], [`Tokenizer::more`]), so the border between them is where
//! the template put it, and a continuation gets no space before it.

mod bpe;
mod gguf;
mod special;
mod spm;
mod to_gguf;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use tokenizers::models::ModelWrapper;
use watershed_engine::StageError;
use watershed_weights::Gguf;

use super::chat::ChatTemplate;
use super::template::Part;
pub use special::Special;
use spm::Spm;

/// Text to ids and back.
pub struct Tokenizer {
    model: Model,
    special: Special,
    chat: Option<ChatTemplate>,
    size: usize,
    digest: String,
    /// Tokens that are no text.
    control: HashSet<u32>,
    /// Tokens that are never taken apart or merged: those that are no text, and words that were added.
    whole: HashSet<u32>,
}

enum Model {
    Fast(Box<tokenizers::Tokenizer>),
    Spm { spm: Spm, whole: Vec<Whole> },
}

/// A token of a SentencePiece vocabulary that is never taken apart.
struct Whole {
    text: String,
    id: u32,
    is_control: bool,
}

impl Tokenizer {
    /// Opens the tokenizer of a Hugging Face folder, a GGUF file, or a `tokenizer.json`.
    ///
    /// # Errors
    /// When there is none, or it is of a sort that is not supported.
    pub fn open(path: &Path) -> Result<Tokenizer, StageError> {
        if path.is_dir() {
            Tokenizer::of_folder(path)
        } else if path.extension().is_some_and(|e| e == "json") {
            Tokenizer::of_json(path, path.parent().unwrap_or(path))
        } else {
            // the file's own errors name it
            let file = Gguf::open(path).map_err(|e| StageError::failed(e.to_string()))?;
            gguf::read(&file).map_err(|why| unusable(path, why))
        }
    }

    fn of_folder(folder: &Path) -> Result<Tokenizer, StageError> {
        let file = folder.join("tokenizer.json");
        if file.exists() {
            return Tokenizer::of_json(&file, folder);
        }
        let found = if folder.join("tokenizer.model").exists() { "only `tokenizer.model`" } else { "none" };
        Err(unusable(
            folder,
            format!(
                "a `tokenizer.json` is needed and there is {found}: load the model's tokenizer with transformers and `save_pretrained` it here"
            ),
        ))
    }

    fn of_json(file: &Path, folder: &Path) -> Result<Tokenizer, StageError> {
        let bytes = std::fs::read(file).map_err(|e| unusable(file, e))?;
        let again = |e: tokenizers::Error| unusable(file, format!("{e}; fetch the file again"));
        let mut fast = tokenizers::Tokenizer::from_bytes(&bytes).map_err(again)?;
        // a file saved after training may truncate or pad on its own
        fast.with_truncation(None).map_err(again)?;
        fast.with_padding(None);
        let fast = without_dropout(fast);
        let special = Special::of_folder(folder, &fast);
        let mut tokenizer = Tokenizer::of_fast(fast, special, None, blake3::hash(&bytes));
        let named = special::named(folder, tokenizer.ends());
        tokenizer.chat = special::chat_source(folder).map(|source| ChatTemplate::new(&source, named));
        Ok(tokenizer)
    }

    fn of_fast(fast: tokenizers::Tokenizer, special: Special, chat: Option<String>, digest: blake3::Hash) -> Tokenizer {
        let size = fast.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        Tokenizer::new(Model::Fast(Box::new(fast)), special, chat, size, digest)
    }

    fn of_spm(
        spm: Spm,
        whole: Vec<Whole>,
        special: Special,
        chat: Option<String>,
        size: usize,
        digest: blake3::Hash,
    ) -> Tokenizer {
        Tokenizer::new(Model::Spm { spm, whole }, special, chat, size, digest)
    }

    fn new(model: Model, special: Special, chat: Option<String>, size: usize, digest: blake3::Hash) -> Tokenizer {
        let digest = digest.to_hex().to_string();
        let (control, whole) = (control(&model, &special), whole(&model));
        let mut tokenizer = Tokenizer { model, special, chat: None, size, digest, control, whole };
        tokenizer.chat = chat.map(|source| ChatTemplate::new(&source, tokenizer.ends()));
        tokenizer
    }

    /// Returns the texts of the tokens that begin and end a text, by the names that chat templates give them.
    fn ends(&self) -> BTreeMap<String, String> {
        let ids = [("bos_token", self.special.bos), ("eos_token", self.special.eos)];
        ids.into_iter().filter_map(|(name, id)| Some((name.to_string(), self.text_of(id?)))).collect()
    }

    /// Returns the ids of a text from its beginning, with the beginning token where the model expects one.
    ///
    /// A template that writes the beginning token itself gets no second one.
    ///
    /// # Errors
    /// When the tokenizer's own rules fail on the text.
    pub fn start(&self, text: &str) -> Result<Vec<u32>, StageError> {
        let ids = self.encode(text, true)?;
        let bos = self.special.bos.filter(|bos| self.special.add_bos && ids.first() != Some(bos));
        Ok(bos.into_iter().chain(ids).collect())
    }

    /// Returns the ids of a text that continues another.
    ///
    /// # Errors
    /// When the tokenizer's own rules fail on the text.
    pub fn more(&self, text: &str) -> Result<Vec<u32>, StageError> {
        let Model::Fast(_) = self.model else { return self.encode(text, false) };
        // Some tokenizer.json put a space before every text: behind a line break they leave the text alone.
        self.behind("\n", text)
    }

    /// Returns the ids of a text that continues others, of which the last token is `last`. Behind a whole token a text begins
    /// anew, as it does where the tokenizer reads all of them at once.
    ///
    /// # Errors
    /// When the tokenizer's own rules fail on the text.
    pub fn after(&self, last: Option<u32>, text: &str) -> Result<Vec<u32>, StageError> {
        match (last.filter(|id| self.whole.contains(id)), &self.model) {
            (None, _) => self.more(text),
            (Some(_), Model::Spm { .. }) => self.encode(text, true),
            (Some(id), Model::Fast(_)) => self.behind(&self.text_of(id), text),
        }
    }

    fn behind(&self, opening: &str, text: &str) -> Result<Vec<u32>, StageError> {
        let behind = self.encode(&format!("{opening}{text}"), true)?;
        let opening = self.encode(opening, true)?;
        match behind.strip_prefix(opening.as_slice()) {
            Some(ids) => Ok(ids.to_vec()),
            None => self.encode(text, true),
        }
    }

    /// Returns the ids of a text that says itself where it begins: a rendered chat template.
    ///
    /// # Errors
    /// When the tokenizer's own rules fail on the text.
    pub fn bare(&self, text: &str) -> Result<Vec<u32>, StageError> {
        self.encode(text, true)
    }

    /// Returns the ids of a rendered conversation, each with whether it belongs to an answer. The text is tokenised as a
    /// whole, as transformers' `apply_chat_template` does; a token across the border between two parts belongs to the first.
    ///
    /// # Errors
    /// When the tokenizer's own rules fail on the text.
    pub fn conversation(&self, parts: &[Part]) -> Result<Vec<(u32, bool)>, StageError> {
        let Model::Fast(fast) = &self.model else { return self.apart(parts) };
        let text: String = parts.iter().map(|part| part.text.as_str()).collect();
        let encoding = fast.encode(text, false).map_err(fails)?;
        let mut ends = parts.iter().scan(0, |end, part| {
            *end += part.text.len();
            Some((*end, part.is_answer))
        });
        let mut here = ends.next().unwrap_or_default();
        let mut tokens = Vec::with_capacity(encoding.len());
        for (id, (start, _)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
            while let Some(next) = (*start >= here.0).then(|| ends.next()).flatten() {
                here = next;
            }
            tokens.push((*id, here.1));
        }
        Ok(tokens)
    }

    /// SentencePiece of a GGUF knows no offsets, so that its parts are tokenised one by one.
    fn apart(&self, parts: &[Part]) -> Result<Vec<(u32, bool)>, StageError> {
        let mut tokens: Vec<(u32, bool)> = Vec::new();
        for part in parts {
            let last = tokens.last().map(|(id, _)| *id);
            let ids = if tokens.is_empty() { self.bare(&part.text)? } else { self.after(last, &part.text)? };
            tokens.extend(ids.into_iter().map(|id| (id, part.is_answer)));
        }
        Ok(tokens)
    }

    /// Returns the id of a text that is a sign as a whole, such as `</s>`.
    pub fn sign(&self, text: &str) -> Option<u32> {
        let ids = self.more(text).ok()?;
        ids.first().copied().filter(|id| ids.len() == 1 && self.is_control(*id))
    }

    /// Says whether a token is no text but a sign, such as the end of a turn.
    pub fn is_control(&self, id: u32) -> bool {
        self.control.contains(&id)
    }

    /// Returns the texts that are read as tokens which are no text but signs.
    pub fn signs(&self) -> impl Iterator<Item = String> {
        self.control.intersection(&self.whole).map(|id| self.text_of(*id))
    }

    /// Says whether a token ends a turn by being there, control or not: it is whole, and no white space.
    pub fn is_mark(&self, id: u32) -> bool {
        self.is_control(id) || (self.whole.contains(&id) && !self.text_of(id).trim().is_empty())
    }

    fn encode(&self, text: &str, at_start: bool) -> Result<Vec<u32>, StageError> {
        match &self.model {
            Model::Fast(fast) => {
                let encoding = fast.encode_fast(text, false).map_err(fails)?;
                Ok(encoding.get_ids().to_vec())
            }
            Model::Spm { spm, whole } => Ok(encode_spm(spm, whole, text, at_start)),
        }
    }

    /// Returns the text of ids, control tokens left out.
    pub fn decode(&self, ids: &[u32]) -> String {
        match &self.model {
            Model::Fast(fast) => fast.decode(ids, true).unwrap_or_default(),
            Model::Spm { spm, whole } => {
                let is_control = |id: &u32| whole.iter().any(|token| token.is_control && token.id == *id);
                let plain: Vec<u32> = ids.iter().copied().filter(|id| !is_control(id)).collect();
                spm.decode(&plain)
            }
        }
    }

    /// Returns the text of ids, control tokens spelled out.
    pub fn shown(&self, ids: &[u32]) -> String {
        match &self.model {
            Model::Fast(fast) => fast.decode(ids, false).unwrap_or_default(),
            Model::Spm { spm, .. } => spm.decode(ids),
        }
    }

    /// Returns one token as it stands in the vocabulary.
    pub fn text_of(&self, id: u32) -> String {
        match &self.model {
            Model::Fast(fast) => fast.id_to_token(id).unwrap_or_default(),
            Model::Spm { spm, .. } => spm.piece(id).to_string(),
        }
    }

    /// Returns the ids with a meaning.
    pub fn special(&self) -> &Special {
        &self.special
    }

    /// Returns the id that ends an answer.
    ///
    /// # Errors
    /// When no file names one: without it a model never learns to stop.
    pub fn eos(&self) -> Result<u32, StageError> {
        let missing = "the tokenizer names no end token; set `eos_token` in tokenizer_config.json";
        self.special.eos.ok_or_else(|| StageError::failed(missing))
    }

    /// Returns the tokenizer's chat template.
    pub fn chat(&self) -> Option<&ChatTemplate> {
        self.chat.as_ref()
    }

    /// Returns the tokenizer as a `tokenizer.json`.
    ///
    /// # Errors
    /// For GGUF's SentencePiece, which has no such form.
    pub fn to_json(&self) -> Result<String, String> {
        match &self.model {
            Model::Fast(fast) => fast.to_string(true).map_err(|e| e.to_string()),
            Model::Spm { .. } => {
                Err("its SentencePiece tokenizer cannot be written as `tokenizer.json`; use `format: gguf`".into())
            }
        }
    }

    /// Returns the tokenizer as metadata of a GGUF file for a model with `vocab` embedding rows.
    ///
    /// # Errors
    /// When GGUF has no words for it.
    pub fn to_gguf(&self, vocab: usize) -> Result<Vec<(String, watershed_weights::gguf::Value)>, String> {
        let json = serde_json::from_str(&self.to_json()?).map_err(|e| e.to_string())?;
        to_gguf::metadata(&json, &self.special, self.chat.as_ref().map(|chat| chat.source.as_str()), vocab)
    }

    /// Returns the highest id plus one.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns the digest of what defines the ids, hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Checks that a model with `vocab` embedding rows can read every id.
    ///
    /// # Errors
    /// When the tokenizer has more ids than the model has rows: they do not belong together.
    pub fn check_fits(&self, vocab: usize) -> Result<(), StageError> {
        let highest = self.special.stops.iter().chain(&self.special.bos).max().map_or(0, |id| *id as usize + 1);
        let needed = self.size.max(highest);
        if needed <= vocab {
            return Ok(());
        }
        Err(StageError::failed(format!(
            "base and tokenizer do not fit: the tokenizer has {needed} ids, the model {vocab} embedding rows; added tokens would need rows of their own, which are not trained here: use the tokenizer that came with the model"
        )))
    }
}

/// Returns the tokenizer without BPE dropout (Provilkov et al. 2020), which would give a text other ids at each reading.
fn without_dropout(mut fast: tokenizers::Tokenizer) -> tokenizers::Tokenizer {
    if let ModelWrapper::BPE(bpe) = fast.get_model()
        && bpe.dropout.is_some()
    {
        let mut still = bpe.clone();
        still.dropout = None;
        fast.with_model(still);
    }
    fast
}

fn fails(error: tokenizers::Error) -> StageError {
    StageError::failed(format!("the tokenizer fails on a text: {error}"))
}

fn control(model: &Model, special: &Special) -> HashSet<u32> {
    let own: Vec<u32> = match model {
        Model::Fast(fast) => {
            let added = fast.get_added_tokens_decoder();
            added.into_iter().filter(|(_, token)| token.special).map(|(id, _)| id).collect()
        }
        Model::Spm { whole, .. } => whole.iter().filter(|token| token.is_control).map(|token| token.id).collect(),
    };
    own.into_iter().chain(special.stops.iter().copied()).chain(special.bos).collect()
}

fn whole(model: &Model) -> HashSet<u32> {
    match model {
        Model::Fast(fast) => fast.get_added_tokens_decoder().into_keys().collect(),
        Model::Spm { whole, .. } => whole.iter().map(|token| token.id).collect(),
    }
}

fn unusable(path: &Path, why: impl std::fmt::Display) -> StageError {
    StageError::failed(format!("cannot read the tokenizer of `{}`: {why}", path.display()))
}

/// Cuts whole tokens out first, then merges what lies between; a space is put before each run, as llama.cpp does.
fn encode_spm(spm: &Spm, whole: &[Whole], text: &str, at_start: bool) -> Vec<u32> {
    let mut ids = Vec::new();
    let mut rest = text;
    let mut at_start = at_start;
    while let Some((place, token)) = first_of(whole, rest) {
        ids.extend(spm.encode(&rest[..place], at_start));
        ids.push(token.id);
        rest = &rest[place + token.text.len()..];
        at_start = true;
    }
    ids.extend(spm.encode(rest, at_start));
    ids
}

/// Returns the first whole token in `text` and its place; of several at one place the longest.
fn first_of<'a>(whole: &'a [Whole], text: &str) -> Option<(usize, &'a Whole)> {
    let found = whole.iter().filter_map(|token| Some((text.find(&token.text)?, token)));
    found.min_by_key(|(place, token)| (*place, std::cmp::Reverse(token.text.len())))
}

#[cfg(test)]
mod tests;
