//! Ids of the fixtures in every kind of file, and what is made still on opening.

use watershed_weights::gguf::Value;

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

/// Opens the tokenizer of a GGUF file that holds these tokens, of these kinds, and what else `more` says.
fn of_gguf(model: &str, tokens: &[(&str, i64)], more: &[(&str, Value)]) -> Tokenizer {
    let list = |of: &dyn Fn(&(&str, i64)) -> Value| Value::List(tokens.iter().map(of).collect());
    let own = [
        ("model", Value::Text(model.into())),
        ("tokens", list(&|(text, _)| Value::Text((*text).into()))),
        ("token_type", list(&|(_, kind)| Value::Signed(*kind))),
        ("merges", Value::List(Vec::new())),
    ];
    let key = |(name, value): &(&str, Value)| (format!("tokenizer.ggml.{name}"), value.clone());
    let metadata: Vec<_> = own.iter().chain(more).map(key).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    watershed_weights::gguf::write::write(&path, &metadata, &[], |_| Ok(Vec::new())).unwrap();
    Tokenizer::open(&path).unwrap()
}

#[test]
fn the_split_decides_on_a_beginning_where_the_file_does_not() {
    let adds = |pre: &str, flag: Option<bool>| {
        let mut more = vec![("pre", Value::Text(pre.into())), ("bos_token_id", Value::Unsigned(1))];
        more.extend(flag.map(|flag| ("add_bos_token", Value::Bool(flag))));
        of_gguf("gpt2", &[("a", 1), ("<s>", 3)], &more).start("a").unwrap() == [1, 0]
    };
    for (pre, own) in [
        ("llama-bpe", true),
        ("llama3", true),
        ("llama-v3", true),
        ("smollm", false),
        ("gpt-2", false),
        ("qwen2", false),
    ] {
        let by_flag = [None, Some(true), Some(false)].map(|flag| adds(pre, flag));
        assert_eq!(by_flag, [own, true, false], "{pre}");
    }
}

#[test]
fn all_three_ends_of_a_gguf_stop_an_answer() {
    let ends = ["eos", "eot", "eom"].map(|name| format!("{name}_token_id"));
    let mut more = vec![("pre", Value::Text("gpt-2".into()))];
    more.extend(ends.iter().zip([2, 1, 3]).map(|(key, id)| (key.as_str(), Value::Unsigned(id))));
    let tokenizer = of_gguf("gpt2", &[("a", 1), ("<b>", 3), ("<c>", 3), ("<d>", 3)], &more);
    assert_eq!((tokenizer.special().eos, tokenizer.special().stops.as_slice()), (Some(2), [2, 1, 3].as_slice()));
}

#[test]
fn what_users_added_to_sentence_piece_stays_whole_and_is_text() {
    let tokens = [("<unk>", 2), ("a", 1), ("<sign>", 3), ("<word>", 4)];
    let tokenizer = of_gguf("llama", &tokens, &[("add_space_prefix", Value::Bool(false))]);
    let ids = tokenizer.bare("a<sign><word>a").unwrap();
    assert_eq!(ids, [1, 2, 3, 1]);
    assert_eq!(tokenizer.decode(&ids), "a<word>a");
    assert_eq!([1, 2, 3].map(|id| tokenizer.is_control(id)), [false, true, false]);
}

#[test]
fn behind_a_whole_token_sentence_piece_begins_anew_as_it_does_in_one_go() {
    let tokens = [("<unk>", 2), ("a", 1), ("</s>", 3), ("\u{2581}", 1), ("\u{2581}a", 1)];
    let scores = Value::List(vec![Value::Float(0.0); tokens.len()]);
    let tokenizer = of_gguf("llama", &tokens, &[("scores", scores), ("eos_token_id", Value::Unsigned(2))]);
    let whole = tokenizer.bare("a</s>a").unwrap();
    let first = tokenizer.bare("a</s>").unwrap();
    let last = first.last().copied();
    assert_eq!([first, tokenizer.after(last, "a").unwrap()].concat(), whole);
    assert_eq!(tokenizer.after(Some(1), "a").unwrap(), [1], "behind text it goes on");
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

#[test]
fn a_sign_is_one_control_token_and_nothing_beside() {
    let Some(folder) = tiny_llama("model") else { return };
    let tokenizer = Tokenizer::open(&folder).unwrap();
    let eos = tokenizer.eos().unwrap();
    let text = tokenizer.text_of(eos);
    assert_eq!(tokenizer.sign(&text), Some(eos));
    for other in ["a".to_string(), format!("a{text}"), format!("{text}{text}"), String::new()] {
        assert_eq!(tokenizer.sign(&other), None, "{other:?}");
    }
}
