//! Ids of the fixtures in every kind of file, and what is made still on opening.

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

#[test]
fn bpe_dropout_is_left_to_the_training_that_wanted_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/chat/tokenizer.json");
    let folder = tempfile::tempdir().unwrap();
    let dropping = folder.path().join("tokenizer.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&source).unwrap()).unwrap();
    // at 1 no pair is ever merged
    json["model"]["dropout"] = 1.0.into();
    std::fs::write(&dropping, json.to_string()).unwrap();
    let [still, dropping] = [&source, &dropping].map(|file| Tokenizer::open(file).unwrap());
    let text = "the other one of that answer";
    assert!(still.start(text).unwrap().len() < text.len());
    assert_eq!(dropping.start(text).unwrap(), still.start(text).unwrap());
    let exported: serde_json::Value = serde_json::from_str(&dropping.to_json().unwrap()).unwrap();
    assert!(exported["model"]["dropout"].is_null());
}
