//! Which tokens begin and end a text, gathered from files that often disagree.
//!
//! `tokenizer_config.json` and the post-processor of `tokenizer.json` are made for the tokenizer; `config.json` and
//! `generation_config.json` are the model's and are known to be wrong in early LLaMA conversions (their end was the
//! tokenizer's beginning), so the tokenizer's own word counts first.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tokenizers::Tokenizer;

/// Ids with a meaning, and whether texts begin with one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Special {
    /// Beginning of a text, where there is one.
    pub bos: Option<u32>,
    /// Whether texts are made to begin with `bos`.
    pub add_bos: bool,
    /// End of a text: what training appends.
    pub eos: Option<u32>,
    /// Every id that ends generation, `eos` first.
    pub stops: Vec<u32>,
    /// Which file of the model knows another end than the tokenizer, in words.
    pub disagreement: Option<String>,
}

impl Special {
    /// Gathers the ids of a Hugging Face folder.
    pub fn of_folder(folder: &Path, tokenizer: &Tokenizer) -> Special {
        let [own, model, generation] =
            ["tokenizer_config.json", "config.json", "generation_config.json"].map(|name| json(&folder.join(name)));
        let first = first_token(tokenizer);
        let bos =
            token(&own, "bos_token", tokenizer).or(first).or_else(|| ids(&model, "bos_token_id").first().copied());
        let add_bos = own.get("add_bos_token").and_then(Value::as_bool).unwrap_or(first.is_some());
        let eos = token(&own, "eos_token", tokenizer);
        let ends = [("generation_config.json", generation), ("config.json", model)];
        let ends = ends.map(|(name, file)| (name, ids(&file, "eos_token_id")));
        let disagreement = eos.and_then(|eos| disagreement(eos, &ends));
        let stops = eos.into_iter().chain(ends.into_iter().flat_map(|(_, ids)| ids));
        Special { disagreement, ..Special::new(bos, add_bos, stops) }
    }

    /// Joins ids that stand in one file; the first of `stops` is the end of a text. What texts begin with ends one only where
    /// nothing else does.
    pub fn new(bos: Option<u32>, add_bos: bool, stops: impl IntoIterator<Item = u32>) -> Special {
        let mut unique: Vec<u32> = Vec::new();
        for id in stops {
            if !unique.contains(&id) {
                unique.push(id);
            }
        }
        let is_beginning = |id: &u32| add_bos && Some(*id) == bos;
        if !unique.iter().all(is_beginning) {
            unique.retain(|id| !is_beginning(id));
        }
        let (add_bos, eos) = (add_bos && bos.is_some(), unique.first().copied());
        Special { bos, add_bos, eos, stops: unique, disagreement: None }
    }
}

/// Names the first file whose ends are without the tokenizer's `eos`.
fn disagreement(eos: u32, ends: &[(&str, Vec<u32>)]) -> Option<String> {
    let (name, ids) = ends.iter().find(|(_, ids)| !ids.is_empty() && !ids.contains(&eos))?;
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    Some(format!("the tokenizer ends texts with token {eos}, `{name}` with {}", ids.join(", ")))
}

/// Returns the id that the post-processor puts before a text.
fn first_token(tokenizer: &Tokenizer) -> Option<u32> {
    let with = tokenizer.encode_fast("a", true).ok()?;
    let without = tokenizer.encode_fast("a", false).ok()?;
    let (with, without) = (with.get_ids(), without.get_ids());
    (with.first() != without.first()).then(|| with.first().copied()).flatten()
}

/// Returns the id of a token written as text or as `{content}`; early conversions hold an empty text.
fn token(config: &Value, key: &str, tokenizer: &Tokenizer) -> Option<u32> {
    let value = config.get(key)?;
    let text = value.as_str().or_else(|| value.get("content").and_then(Value::as_str))?;
    tokenizer.token_to_id(text).filter(|_| !text.is_empty())
}

fn ids(config: &Value, key: &str) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match config.get(key) {
        Some(Value::Array(list)) => list.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// Returns the texts of a folder's special tokens by the names that chat templates give them, as transformers passes them:
/// those of `tokenizer_config.json`, else of `special_tokens_map.json`, else `usual`. One that is null is none.
pub fn named(folder: &Path, usual: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut named = usual;
    let files = ["special_tokens_map.json", "tokenizer_config.json"].map(|name| json(&folder.join(name)));
    let fields = files.iter().filter_map(Value::as_object).flatten().filter(|(name, _)| name.ends_with("_token"));
    for (name, value) in fields {
        match value.as_str().or_else(|| value.get("content")?.as_str()) {
            Some(text) => named.insert(name.clone(), text.to_string()),
            None => named.remove(name),
        };
    }
    named
}

/// Returns the chat template of a folder: `chat_template.jinja`, else the one in `tokenizer_config.json`.
pub fn chat_source(folder: &Path) -> Option<String> {
    if let Ok(text) = std::fs::read_to_string(folder.join("chat_template.jinja")) {
        return Some(text);
    }
    let config = json(&folder.join("tokenizer_config.json"));
    let template = config.get("chat_template")?;
    let named = template.as_array().and_then(|list| list.iter().find(|t| t["name"] == "default"));
    template.as_str().or_else(|| named?["template"].as_str()).map(String::from)
}

/// Reads an optional JSON file; an absent or broken one says nothing.
pub fn json(path: &Path) -> Value {
    std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_is_the_beginning_is_a_broken_conversion() {
        let special = Special::new(Some(1), true, [2, 1, 2, 7]);
        assert_eq!(special.stops, [2, 7]);
        assert_eq!(special.eos, Some(2));
    }

    #[test]
    fn a_beginning_that_is_the_only_end_stays_one() {
        let special = Special::new(Some(1), true, [1, 1]);
        assert_eq!((special.eos, special.stops), (Some(1), vec![1]));
    }

    #[test]
    fn a_file_that_knows_another_end_is_named() {
        let found = |generation: &[u32], model: &[u32]| {
            disagreement(2, &[("generation_config.json", generation.to_vec()), ("config.json", model.to_vec())])
        };
        assert_eq!(found(&[5, 2], &[2]), None);
        assert_eq!(found(&[], &[]), None);
        let words = "the tokenizer ends texts with token 2, `config.json` with 0, 1";
        assert_eq!(found(&[2], &[0, 1]).as_deref(), Some(words));
    }

    #[test]
    fn special_tokens_have_the_names_and_texts_of_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let usual = || ["bos_token", "eos_token"].map(|name| (name.to_string(), "<usual>".to_string())).into();
        assert_eq!(named(folder.path(), usual()), usual());
        let write = |name: &str, json: Value| std::fs::write(folder.path().join(name), json.to_string()).unwrap();
        write("special_tokens_map.json", serde_json::json!({"bos_token": "<s>", "pad_token": "<pad>"}));
        let config = serde_json::json!({"bos_token": null, "unk_token": {"content": "<unk>"}, "add_bos_token": true});
        write("tokenizer_config.json", config);
        let found = named(folder.path(), usual());
        let found: Vec<(&str, &str)> = found.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!(found, [("eos_token", "<usual>"), ("pad_token", "<pad>"), ("unk_token", "<unk>")]);
    }

    #[test]
    fn several_ends_may_stand_in_a_list() {
        assert_eq!(ids(&serde_json::json!({"eos_token_id": [128001, 128009]}), "eos_token_id"), [128001, 128009]);
    }
}
