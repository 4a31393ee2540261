//! Byte-level BPE from a GGUF's tokens and merges, written down as the `tokenizer.json` it once was.
//!
//! GGUF names only how text is split before merging (`tokenizer.ggml.pre`); the expressions stand in llama.cpp
//! `src/llama-vocab.cpp`. An unknown name is refused: a wrong split gives plausible ids and a quietly worse model.

use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;

/// LLaMA 3's split.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's split: digits one by one.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// `tokenizer.ggml.token_type` of control tokens, which are no text.
pub const CONTROL: i32 = 3;
/// `tokenizer.ggml.token_type` of tokens that users added, which are text.
pub const USER_DEFINED: i32 = 4;

/// Builds a tokenizer from tokens in the byte-level alphabet, merges `left right`, token types and the split's name.
///
/// # Errors
/// When the split is unknown or the merges do not fit the tokens.
pub fn build(tokens: &[String], merges: &[String], kinds: &[i32], pre: &str) -> Result<Tokenizer, String> {
    let split = known(pre)?;
    let vocab: Map<String, Value> = tokens.iter().cloned().zip((0u32..).map(Value::from)).collect();
    let file = json!({
        "version": "1.0",
        "added_tokens": added(tokens, kinds),
        "pre_tokenizer": split.pre_tokenizer,
        "decoder": byte_level(true),
        "model": {"type": "BPE", "vocab": vocab, "merges": merges, "ignore_merges": split.ignore_merges},
    });
    Tokenizer::from_bytes(file.to_string())
        .map_err(|e| format!("the GGUF's tokens and merges do not fit each other: {e}"))
}

fn added(tokens: &[String], kinds: &[i32]) -> Vec<Value> {
    let whole = tokens.iter().zip(kinds).enumerate().filter(|(_, (_, kind))| matches!(**kind, CONTROL | USER_DEFINED));
    let entry = |(id, (text, kind)): (usize, (&String, &i32))| {
        json!({"id": id, "content": text, "special": *kind == CONTROL,
               "single_word": false, "lstrip": false, "rstrip": false, "normalized": false})
    };
    whole.map(entry).collect()
}

fn byte_level(use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}

/// Names of the splits that are known, each by its first name.
pub const NAMES: [&str; 4] = ["gpt-2", "smollm", "llama-bpe", "qwen2"];

/// What llama.cpp does under a name.
pub struct Split {
    /// How text is split, in the words of `tokenizer.json`.
    pub pre_tokenizer: Value,
    /// Whether tokens that are whole words skip merging.
    pub ignore_merges: bool,
    /// Whether texts begin with the beginning token where the file does not say.
    pub adds_bos: bool,
}

fn known(name: &str) -> Result<Split, String> {
    split(name).ok_or_else(|| {
        format!(
            "the GGUF splits text by `{name}`, which is not known here (known: {}); use the model's Hugging Face folder instead",
            NAMES.join(", ")
        )
    })
}

/// Returns the split called `name`; none when it is not known.
pub fn split(name: &str) -> Option<Split> {
    let sequence =
        |first: Value, use_regex| json!({"type": "Sequence", "pretokenizers": [first, byte_level(use_regex)]});
    let by = |regex: &str| {
        sequence(json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false}), false)
    };
    let digits = || sequence(json!({"type": "Digits", "individual_digits": true}), true);
    let (pre_tokenizer, ignore_merges, adds_bos) = match name {
        "gpt-2" | "gpt2" => (byte_level(true), false, false),
        "smollm" => (digits(), false, false),
        "llama-bpe" | "llama3" | "llama-v3" => (by(LLAMA3), true, true),
        "qwen2" => (by(QWEN2), false, false),
        _ => return None,
    };
    Some(Split { pre_tokenizer, ignore_merges, adds_bos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_split_is_refused_by_name() {
        let error = build(&[], &[], &[], "tekken").unwrap_err();
        assert!(error.contains("`tekken`"), "{error}");
    }

    #[test]
    fn whole_tokens_are_not_merged_apart() {
        let tokens = ["a", "b", "ab", "<|end|>"].map(String::from);
        for pre in ["gpt-2", "smollm", "llama-bpe", "qwen2"] {
            let bpe = build(&tokens, &["a b".to_string()], &[1, 1, 1, 3], pre).unwrap();
            assert_eq!(bpe.encode_fast("ab<|end|>a", false).unwrap().get_ids(), [2, 3, 0]);
        }
    }
}
