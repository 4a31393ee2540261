//! The tokenizer inside a GGUF file: `gpt2` (byte-level BPE) or `llama` (SentencePiece).

use watershed_weights::Gguf;
use watershed_weights::gguf::{END_KEYS, Value};

use super::bpe::{self, CONTROL, USER_DEFINED};
use super::special::Special;
use super::spm::Spm;
use super::{Tokenizer, Whole};

/// Reads the tokenizer of a GGUF file.
///
/// # Errors
/// When there is none, or it is of another sort.
pub fn read(file: &Gguf) -> Result<Tokenizer, String> {
    let tokens = texts(file, "tokens")?;
    let kinds: Vec<i32> = numbers(file, "token_type").into_iter().map(|kind| kind as i32).collect();
    let chat = file.text("tokenizer.chat_template").map(String::from);
    match file.text("tokenizer.ggml.model") {
        Some("gpt2") => {
            let merges = texts(file, "merges")?;
            let pre = file.text("tokenizer.ggml.pre").unwrap_or("default");
            let digest = digest_of(&[&tokens, &merges, &[pre.to_string()]]);
            let fast = bpe::build(&tokens, &merges, &kinds, pre)?;
            let adds_bos = bpe::split(pre).is_some_and(|split| split.adds_bos);
            Ok(Tokenizer::of_fast(fast, special(file, adds_bos), chat, digest))
        }
        Some("llama") => Ok(sentence_piece(file, tokens, &kinds, chat)),
        other => Err(format!(
            "the GGUF's tokenizer is `{}`, and only gpt2 and llama are known; use the model's Hugging Face folder instead",
            other.unwrap_or("missing")
        )),
    }
}

fn sentence_piece(file: &Gguf, tokens: Vec<String>, kinds: &[i32], chat: Option<String>) -> Tokenizer {
    let scores: Vec<f32> = numbers(file, "scores").into_iter().map(|score| score as f32).collect();
    let written: Vec<String> = scores.iter().map(f32::to_string).collect();
    let digest = digest_of(&[&tokens, &written]);
    let is_whole = |text: &str, kind: i32| matches!(kind, CONTROL | USER_DEFINED) && !text.is_empty();
    let whole = (0u32..).zip(&tokens).zip(kinds).filter(|((_, text), kind)| is_whole(text, **kind));
    let whole =
        whole.map(|((id, text), kind)| Whole { text: text.clone(), id, is_control: *kind == CONTROL }).collect();
    let unknown = number(file, "unknown_token_id").unwrap_or(0);
    let prefix = flag(file, "add_space_prefix").unwrap_or(true);
    let size = tokens.len();
    let spm = Spm::new(tokens, scores, kinds, unknown, prefix);
    Tokenizer::of_spm(spm, whole, special(file, true), chat, size, digest)
}

/// Returns the ids with a meaning. `adds_bos` counts where the file has no flag: llama.cpp lets SentencePiece texts begin with
/// the beginning token, and of BPE texts those of some splits.
fn special(file: &Gguf, adds_bos: bool) -> Special {
    let stops = END_KEYS.into_iter().filter_map(|key| number(file, key));
    Special::new(number(file, "bos_token_id"), flag(file, "add_bos_token").unwrap_or(adds_bos), stops)
}

fn number(file: &Gguf, key: &str) -> Option<u32> {
    file.unsigned(&format!("tokenizer.ggml.{key}")).and_then(|id| u32::try_from(id).ok())
}

fn flag(file: &Gguf, key: &str) -> Option<bool> {
    file.get(&format!("tokenizer.ggml.{key}")).and_then(Value::as_bool)
}

fn texts(file: &Gguf, key: &str) -> Result<Vec<String>, String> {
    let list = file.get(&format!("tokenizer.ggml.{key}")).and_then(Value::as_list);
    let list = list.ok_or_else(|| {
        format!(
            "the file holds no `tokenizer.ggml.{key}`; give a complete GGUF file, or the model's Hugging Face folder"
        )
    })?;
    let text = |value: &Value| value.as_text().map(String::from);
    list.iter()
        .map(|v| text(v).ok_or_else(|| format!("`tokenizer.ggml.{key}` holds something that is no text")))
        .collect()
}

fn numbers(file: &Gguf, key: &str) -> Vec<f64> {
    let list = file.get(&format!("tokenizer.ggml.{key}")).and_then(Value::as_list).unwrap_or_default();
    list.iter().filter_map(Value::as_f64).collect()
}

/// Returns a digest of lists of texts that tells every list and text apart.
fn digest_of(lists: &[&[String]]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for list in lists {
        hasher.update(&(list.len() as u64).to_le_bytes());
        for text in *list {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
    }
    hasher.finalize()
}
