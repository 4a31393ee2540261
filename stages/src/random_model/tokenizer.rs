//! The tokenizer that a random model is built around: its size, its special tokens, its files.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use watershed_engine::StageError;

/// Files that belong to a tokenizer, the first of them needed.
const FILES: [&str; 4] = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"];

/// What a config must know of a tokenizer.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    /// Highest id plus one.
    pub size: usize,
    /// `bos_token_id`, `eos_token_id`, `pad_token_id` as far as `tokenizer_config.json` names the tokens.
    pub special: Vec<(&'static str, u64)>,
}

impl Vocabulary {
    /// Reads a `tokenizer.json`, or the folder that holds one.
    ///
    /// # Errors
    /// When there is none, or it lists no tokens.
    pub fn read(source: &Path) -> Result<Vocabulary, StageError> {
        let path = file(source);
        let tokenizer = json(&path)?;
        let ids = ids(&tokenizer);
        let highest = ids.iter().map(|(_, id)| *id).max();
        let Some(highest) = highest else {
            return Err(StageError::failed(format!("`{}` is no tokenizer.json: it lists no tokens", path.display())));
        };
        let config = source.join("tokenizer_config.json");
        let config = if source.is_dir() && config.exists() { json(&config)? } else { Value::Null };
        let names = [("bos_token_id", "bos_token"), ("eos_token_id", "eos_token"), ("pad_token_id", "pad_token")];
        let special = names.into_iter().filter_map(|(id_name, name)| {
            // A special token is text, or a map with the text in `content`.
            let token = config.get(name).and_then(|token| token.as_str().or_else(|| token.get("content")?.as_str()))?;
            ids.iter().find(|(text, _)| *text == token).map(|(_, id)| (id_name, *id))
        });
        Ok(Vocabulary {
            size: usize::try_from(highest).map_or(usize::MAX, |id| id.saturating_add(1)),
            special: special.collect(),
        })
    }
}

/// A file's name in its folder, and its bytes.
pub type Named = (&'static str, Vec<u8>);

/// Reads the tokenizer's files.
///
/// # Errors
/// When one cannot be read.
pub fn files(source: &Path) -> Result<Vec<Named>, StageError> {
    let is_there = |name: &&str| *name == FILES[0] || (source.is_dir() && source.join(name).exists());
    let read = |name: &'static str| {
        let from = if name == FILES[0] { file(source) } else { source.join(name) };
        Ok((name, fs::read(&from).map_err(|e| StageError::io("read", &from, &e))?))
    };
    FILES.into_iter().filter(is_there).map(read).collect()
}

/// Writes files into the model's folder.
///
/// # Errors
/// When one cannot be written.
pub fn write(folder: &Path, files: &[Named]) -> Result<(), StageError> {
    files.iter().try_for_each(|(name, bytes)| {
        let to = folder.join(name);
        fs::write(&to, bytes).map_err(|e| StageError::io("write", &to, &e))
    })
}

fn file(source: &Path) -> PathBuf {
    if source.is_dir() { source.join(FILES[0]) } else { source.to_path_buf() }
}

fn json(path: &Path) -> Result<Value, StageError> {
    let bytes = fs::read(path).map_err(|e| StageError::io("read", path, &e))?;
    serde_json::from_slice(&bytes).map_err(|e| StageError::failed(format!("`{}` is no JSON: {e}", path.display())))
}

/// Returns every token with its id: a map (BPE, WordPiece) or a list (Unigram), and the added tokens.
fn ids(tokenizer: &Value) -> Vec<(&str, u64)> {
    let vocab = tokenizer.pointer("/model/vocab");
    let map = vocab.and_then(Value::as_object).into_iter().flatten();
    let map = map.filter_map(|(text, id)| Some((text.as_str(), id.as_u64()?)));
    let list = vocab.and_then(Value::as_array).into_iter().flatten().zip(0..);
    let list = list.filter_map(|(piece, id)| Some((piece.get(0)?.as_str()?, id)));
    let added = tokenizer.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
    let added = added.filter_map(|token| Some((token.get("content")?.as_str()?, token.get("id")?.as_u64()?)));
    map.chain(list).chain(added).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vocabulary, StageError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.json");
        fs::write(&path, text).unwrap();
        Vocabulary::read(&path)
    }

    #[test]
    fn sizes_count_maps_lists_and_added_tokens() {
        assert_eq!(read(r#"{"model": {"vocab": {"a": 0, "b": 7}}}"#).unwrap().size, 8);
        assert_eq!(
            read(r#"{"model": {"vocab": [["a", -1.0], ["b", -2.0]]}, "added_tokens": [{"id": 2, "content": "x"}]}"#)
                .unwrap()
                .size,
            3
        );
    }

    #[test]
    fn what_is_no_tokenizer_is_refused() {
        assert!(read("{}").unwrap_err().to_string().contains("lists no tokens"));
        assert!(read("GGUF").unwrap_err().to_string().contains("is no JSON"));
        let folder = tempfile::tempdir().unwrap();
        assert!(Vocabulary::read(folder.path()).unwrap_err().to_string().contains("tokenizer.json"));
    }
}
