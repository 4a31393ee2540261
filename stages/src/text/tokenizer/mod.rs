//! One tokenizer type over three kinds of file: `tokenizer.json`, GGUF byte-level BPE, GGUF SentencePiece.
//!
//! Prompt and answer are tokenised apart ([`Tokenizer::start`], [`Tokenizer::more`]), so the border between them is where
//! the template put it, and a continuation gets no space before it.

mod bpe;
mod gguf;
mod special;
mod spm;
mod to_gguf;

use std::collections::HashSet;
use std::path::Path;

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
}

enum Model {
    Fast(Box<tokenizers::Tokenizer>),
    Spm { spm: Spm, whole: Vec<(String, u32)> },
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
        let special = Special::of_folder(folder, &fast);
        let chat = special::chat_source(folder);
        Ok(Tokenizer::of_fast(fast, special, chat, blake3::hash(&bytes)))
    }

    fn of_fast(fast: tokenizers::Tokenizer, special: Special, chat: Option<String>, digest: blake3::Hash) -> Tokenizer {
        let size = fast.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        Tokenizer::new(Model::Fast(Box::new(fast)), special, chat, size, digest)
    }

    fn of_spm(
        spm: Spm,
        whole: Vec<(String, u32)>,
        special: Special,
        chat: Option<String>,
        size: usize,
        digest: blake3::Hash,
    ) -> Tokenizer {
        Tokenizer::new(Model::Spm { spm, whole }, special, chat, size, digest)
    }

    fn new(model: Model, special: Special, chat: Option<String>, size: usize, digest: blake3::Hash) -> Tokenizer {
        let digest = digest.to_hex().to_string();
        let control = control(&model, &special);
        let mut tokenizer = Tokenizer { model, special, chat: None, size, digest, control };
        let text = |id: Option<u32>| id.map_or(String::new(), |id| tokenizer.text_of(id));
        let (bos, eos) = (text(tokenizer.special.bos), text(tokenizer.special.eos));
        tokenizer.chat = chat.map(|source| ChatTemplate { source, bos, eos });
        tokenizer
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
        let opening = self.encode("\n", true)?;
        let behind = self.encode(&format!("\n{text}"), true)?;
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
        let mut tokens = Vec::new();
        for part in parts {
            let ids = if tokens.is_empty() { self.bare(&part.text)? } else { self.more(&part.text)? };
            tokens.extend(ids.into_iter().map(|id| (id, part.is_answer)));
        }
        Ok(tokens)
    }

    /// Says whether a token is no text but a sign, such as the end of a turn.
    pub fn is_control(&self, id: u32) -> bool {
        self.control.contains(&id)
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

    /// Returns the text of ids, special tokens left out.
    pub fn decode(&self, ids: &[u32]) -> String {
        match &self.model {
            Model::Fast(fast) => fast.decode(ids, true).unwrap_or_default(),
            Model::Spm { spm, whole } => {
                let plain: Vec<u32> = ids.iter().copied().filter(|id| whole.iter().all(|(_, w)| w != id)).collect();
                spm.decode(&plain)
            }
        }
    }

    /// Returns the text of ids, special tokens spelled out.
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

fn fails(error: tokenizers::Error) -> StageError {
    StageError::failed(format!("the tokenizer fails on a text: {error}"))
}

fn control(model: &Model, special: &Special) -> HashSet<u32> {
    let own: Vec<u32> = match model {
        Model::Fast(fast) => {
            let added = fast.get_added_tokens_decoder();
            added.into_iter().filter(|(_, token)| token.special).map(|(id, _)| id).collect()
        }
        Model::Spm { whole, .. } => whole.iter().map(|(_, id)| *id).collect(),
    };
    own.into_iter().chain(special.stops.iter().copied()).chain(special.bos).collect()
}

fn unusable(path: &Path, why: impl std::fmt::Display) -> StageError {
    StageError::failed(format!("cannot read the tokenizer of `{}`: {why}", path.display()))
}

/// Cuts control tokens out first, then merges what lies between; a space is put before each run, as llama.cpp does.
fn encode_spm(spm: &Spm, whole: &[(String, u32)], text: &str, at_start: bool) -> Vec<u32> {
    let mut ids = Vec::new();
    let mut rest = text;
    let mut at_start = at_start;
    while let Some((place, token, id)) = first_of(whole, rest) {
        ids.extend(spm.encode(&rest[..place], at_start));
        ids.push(id);
        rest = &rest[place + token..];
        at_start = true;
    }
    ids.extend(spm.encode(rest, at_start));
    ids
}

/// Returns place, length and id of the first whole token in `text`; of several at one place the longest.
fn first_of(whole: &[(String, u32)], text: &str) -> Option<(usize, usize, u32)> {
    let found = whole.iter().filter_map(|(token, id)| Some((text.find(token.as_str())?, token.len(), *id)));
    found.min_by_key(|(place, len, _)| (*place, std::cmp::Reverse(*len)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::fixture::{beginning, ids, reference, tiny_llama};

    #[test]
    fn reference_texts_have_these_ids() {
        let (Some(reference), Some(folder)) = (reference(), tiny_llama("model")) else { return };
        let mut tokenizers = vec![Tokenizer::open(&folder).unwrap()];
        for gguf in ["model.q8_0.gguf", "model.q4_1.gguf"].into_iter().filter_map(tiny_llama) {
            tokenizers.push(Tokenizer::open(&gguf).unwrap());
        }
        for tokenizer in &tokenizers {
            for case in reference["tokenize"].as_array().unwrap() {
                let (text, want) = (case["text"].as_str().unwrap(), ids(&case["ids"]));
                assert_eq!(tokenizer.start(text).unwrap(), want, "{text:?}");
                assert_eq!(tokenizer.decode(&want), case["decoded"].as_str().unwrap());
                let bos = want.len() - tokenizer.more(text).unwrap().len();
                assert_eq!(tokenizer.more(text).unwrap(), want[bos..], "{text:?}");
            }
            let special = tokenizer.special();
            assert_eq!(special.bos.filter(|_| special.add_bos), beginning(&reference));
            assert_eq!(u64::from(tokenizer.eos().unwrap()), reference["eos_id"].as_u64().unwrap());
        }
    }

    #[test]
    fn answers_of_the_reference_read_as_it_says() {
        let (Some(reference), Some(folder)) = (reference(), tiny_llama("model")) else { return };
        let tokenizer = Tokenizer::open(&folder).unwrap();
        let runs = reference["runs"].as_object().unwrap().values().map(|run| &run["generate"]);
        let lists = runs.chain([&reference["generate_base"]]).filter_map(serde_json::Value::as_array);
        let mut answers = 0;
        for answer in lists.flatten() {
            assert_eq!(tokenizer.decode(&ids(&answer["greedy"])), answer["text"].as_str().unwrap());
            answers += 1;
        }
        assert!(answers > 0);
    }

    #[test]
    fn sentence_piece_passes_llama_cpps_cases() {
        let (Some(file), Some(texts), Some(want)) =
            (tiny_llama("spm/ggml-vocab-llama-spm.gguf"), tiny_llama("spm/cases.inp"), tiny_llama("spm/cases.out"))
        else {
            return;
        };
        let tokenizer = Tokenizer::open(&file).unwrap();
        let (texts, want) = (std::fs::read_to_string(texts).unwrap(), std::fs::read_to_string(want).unwrap());
        let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
        let want: Vec<Vec<u32>> =
            want.lines().map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect()).collect();
        let mut passed = 0;
        for (text, want) in texts.iter().zip(&want) {
            assert_eq!(tokenizer.encode(text, true).unwrap(), *want, "{text:?}");
            passed += 1;
        }
        assert_eq!(passed, want.len());
        assert_eq!(tokenizer.start("Hello world").unwrap()[0], tokenizer.special().bos.unwrap());
    }

    #[test]
    fn continuation_is_the_text_itself() {
        let Some(file) = tiny_llama("spm/ggml-vocab-llama-spm.gguf") else { return };
        let tokenizer = Tokenizer::open(&file).unwrap();
        let ids = [tokenizer.start("### Response:\n").unwrap(), tokenizer.more("Since you").unwrap()].concat();
        assert_eq!(tokenizer.decode(&ids), "### Response:\nSince you");
        let whole = tokenizer.start("### Response:\nSince you").unwrap();
        assert_eq!(ids, whole);
    }

    #[test]
    fn small_model_and_large_tokenizer_do_not_fit() {
        let Some(folder) = tiny_llama("model") else { return };
        let tokenizer = Tokenizer::open(&folder).unwrap();
        assert!(tokenizer.check_fits(tokenizer.size()).is_ok());
        let error = tokenizer.check_fits(tokenizer.size() - 1).unwrap_err().to_string();
        assert!(error.contains("do not fit") && error.contains("added tokens"), "{error}");
    }
}
