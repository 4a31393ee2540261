//! A `tokenizer.json` in GGUF's words: tokens, kinds of token, merges, and the name of the split before merging.
//!
//! Follows llama.cpp `convert_hf_to_gguf.py` (`_set_vocab_gpt2`). A split that has no name there, and a vocabulary that is not
//! byte-level BPE, are refused: written under a wrong name they would give plausible ids and a quietly worse model. An NFC
//! normaliser is left out, as it is there: from a GGUF, text that is not composed (`e` and an accent) gets other ids than it had.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use watershed_weights::gguf::{END_KEYS, Value};

use super::{Special, bpe};

const NORMAL: i64 = 1;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const UNUSED: i64 = 5;

/// Returns the metadata of a tokenizer; `json` is its `tokenizer.json`, `vocab` the rows of the model's embedding.
///
/// # Errors
/// When GGUF has no words for it.
pub fn metadata(
    json: &Json,
    special: &Special,
    chat: Option<&str>,
    vocab: usize,
) -> Result<Vec<(String, Value)>, String> {
    let pre = split(json)?;
    check_added(json)?;
    let (tokens, kinds) = tokens(json, vocab);
    check_ends(&special.stops, &tokens)?;
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let mut all = vec![
        (key("model"), Value::Text("gpt2".into())),
        (key("pre"), Value::Text(pre.into())),
        (key("tokens"), Value::List(tokens)),
        (key("token_type"), Value::List(kinds)),
        (key("merges"), Value::List(merges(json))),
        (key("add_bos_token"), Value::Bool(special.add_bos)),
    ];
    let id = |name: &str, id: Option<u32>| id.map(|id| (key(name), Value::Unsigned(u64::from(id))));
    all.extend(id("bos_token_id", special.bos));
    all.extend(END_KEYS.iter().zip(&special.stops).filter_map(|(name, end)| id(name, Some(*end))));
    all.extend(chat.map(|text| ("tokenizer.chat_template".to_string(), Value::Text(text.into()))));
    Ok(all)
}

/// llama.cpp also ends at tokens of certain texts (`<|im_end|>`), but that list is its own and changes.
fn check_ends(stops: &[u32], tokens: &[Value]) -> Result<(), String> {
    if stops.len() <= END_KEYS.len() {
        return Ok(());
    }
    let text = |id: &u32| tokens.get(*id as usize).and_then(Value::as_text).unwrap_or_default();
    let texts: Vec<String> = stops.iter().map(|id| format!("`{}`", text(id))).collect();
    Err(format!(
        "its answers end at {}, and GGUF has words for {} of them; use `format: hf`, or take some out of `eos_token_id` in \
         generation_config.json",
        texts.join(", "),
        END_KEYS.len()
    ))
}

/// Added tokens that take the spaces beside them, or that are none inside a word, would give other ids.
fn check_added(json: &Json) -> Result<(), String> {
    let mut added = json["added_tokens"].as_array().into_iter().flatten();
    let rule = |token: &Json| ["lstrip", "rstrip", "single_word"].into_iter().find(|rule| token[rule] == true);
    added.find_map(|token| Some((token, rule(token)?))).map_or(Ok(()), |(token, rule)| {
        let text = token["content"].as_str().unwrap_or_default();
        Err(format!("its added token `{text}` has `{rule}: true`, which GGUF cannot say; use `format: hf`"))
    })
}

/// Returns GGUF's name of the split before merging.
fn split(json: &Json) -> Result<&'static str, String> {
    let model = &json["model"];
    if model["type"] != "BPE" || model["byte_fallback"] == true {
        return Err("its tokenizer is no byte-level BPE, and only that can be written as GGUF; use `format: hf`".into());
    }
    let normalizer = json["normalizer"]["type"].as_str();
    if normalizer.is_some_and(|name| name != "NFC") {
        return Err("its tokenizer rewrites text before splitting it, which GGUF cannot say; use `format: hf`".into());
    }
    let ignores = model["ignore_merges"] == true;
    let own = plain(&json["pre_tokenizer"]);
    let is_own = |name: &&&str| {
        bpe::split(name).is_some_and(|known| plain(&known.pre_tokenizer) == own && known.ignore_merges == ignores)
    };
    bpe::NAMES.iter().find(is_own).copied().ok_or_else(|| {
        format!(
            "its tokenizer splits text in a way that has no name here (known: {}); use `format: hf`",
            bpe::NAMES.join(", ")
        )
    })
}

/// Takes away what changes offsets and no ids.
fn plain(json: &Json) -> Json {
    match json {
        Json::Object(map) => {
            let kept = map.iter().filter(|(key, _)| *key != "trim_offsets");
            kept.map(|(key, value)| (key.clone(), plain(value))).collect::<BTreeMap<_, _>>().into_iter().collect()
        }
        Json::Array(list) => list.iter().map(plain).collect(),
        other => other.clone(),
    }
}

/// Returns every token by id with its kind; rows of the embedding that no token has are filled up.
fn tokens(json: &Json, vocab: usize) -> (Vec<Value>, Vec<Value>) {
    let mut all: BTreeMap<u64, (&str, i64)> = BTreeMap::new();
    for (text, id) in json["model"]["vocab"].as_object().into_iter().flatten() {
        all.extend(id.as_u64().map(|id| (id, (text.as_str(), NORMAL))));
    }
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        let kind = if token["special"] == true { CONTROL } else { USER_DEFINED };
        all.extend(token["id"].as_u64().zip(token["content"].as_str()).map(|(id, text)| (id, (text, kind))));
    }
    let token = |id: u64| match all.get(&id) {
        Some((text, kind)) => (Value::Text((*text).into()), Value::Signed(*kind)),
        None => (Value::Text(format!("[PAD{id}]")), Value::Signed(UNUSED)),
    };
    (0..vocab as u64).map(token).unzip()
}

/// Returns `left right` of each merge, which newer files hold as a pair.
fn merges(json: &Json) -> Vec<Value> {
    let pair = |merge: &Json| match merge.as_array() {
        Some(pair) => pair.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(" "),
        None => merge.as_str().unwrap_or_default().to_string(),
    };
    json["model"]["merges"].as_array().into_iter().flatten().map(|merge| Value::Text(pair(merge))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file() -> Json {
        json!({
            "added_tokens": [{"id": 2, "content": "</s>", "special": true}, {"id": 4, "content": "<x>", "special": false}],
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true},
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 3}, "merges": [["a", "b"]]},
        })
    }

    #[test]
    fn kinds_holes_and_merges_are_written_down() {
        let all = metadata(&file(), &Special::default(), Some("{{ x }}"), 6).unwrap();
        let get = |name: &str| all.iter().find(|(key, _)| key.ends_with(name)).map(|(_, value)| value.clone());
        let texts = |texts: &[&str]| Value::List(texts.iter().map(|text| Value::Text((*text).into())).collect());
        assert_eq!(get("ggml.tokens"), Some(texts(&["a", "b", "</s>", "ab", "<x>", "[PAD5]"])));
        assert_eq!(get("token_type"), Some(Value::List([1, 1, 3, 1, 4, 5].map(Value::Signed).to_vec())));
        assert_eq!((get("merges"), get("pre")), (Some(texts(&["a b"])), Some(Value::Text("gpt-2".into()))));
    }

    #[test]
    fn three_ends_are_written_and_a_fourth_is_refused_by_name() {
        let written = |stops: &[u32]| metadata(&file(), &Special::new(None, false, stops.iter().copied()), None, 6);
        let all = written(&[2, 4, 0]).unwrap();
        let get = |name: &str| all.iter().find(|(key, _)| key.ends_with(name)).and_then(|(_, id)| id.as_u64());
        assert_eq!(END_KEYS.map(get), [Some(2), Some(4), Some(0)]);
        let error = written(&[2, 4, 0, 3]).unwrap_err();
        assert!(error.starts_with("its answers end at `</s>`, `<x>`, `a`, `ab`, and GGUF has words for 3"), "{error}");
    }

    #[test]
    fn an_added_token_with_rules_of_its_own_is_refused_by_name() {
        for rule in ["lstrip", "rstrip", "single_word"] {
            let mut file = file();
            file["added_tokens"][1][rule] = json!(true);
            let error = metadata(&file, &Special::default(), None, 6).unwrap_err();
            assert!(error.starts_with(&format!("its added token `<x>` has `{rule}: true`")), "{error}");
        }
    }

    #[test]
    fn what_gguf_has_no_words_for_is_refused() {
        for (path, value, word) in [
            ("/pre_tokenizer/add_prefix_space", json!(true), "no name here"),
            ("/model/type", json!("Unigram"), "no byte-level BPE"),
        ] {
            let mut file = file();
            *file.pointer_mut(path).unwrap() = value;
            assert!(metadata(&file, &Special::default(), None, 6).unwrap_err().contains(word));
        }
        let mut file = file();
        file["normalizer"] = json!({"type": "Lowercase"});
        assert!(metadata(&file, &Special::default(), None, 6).unwrap_err().contains("rewrites text"));
    }
}
