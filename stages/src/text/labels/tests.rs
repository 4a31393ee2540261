//! The fixture's rows, overflow, and conversations.

use super::*;
use crate::record::example::Message;
use crate::text::fixture::{cuts, ids, reference, tiny_llama};
use crate::text::template::{TemplateChoice, TemplateName};

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
        assert_eq!(row.ids[row.response_start()..], before.ids[before.response_start()..]);
    });
}

#[test]
fn no_more_is_cut_where_a_character_is_several_tokens() {
    with_encoder(1024, Overflow::TruncateInput, TrainOn::Response, |whole, rows| {
        let row = Example { input: "静かな時計🕰".repeat(20), ..rows[0].clone() };
        let tokens = |row: &Example| whole.encode(0, row).unwrap().unwrap().ids.len();
        let (before, bare) = (tokens(&row), tokens(&Example { input: String::new(), ..row.clone() }));
        assert!(before - bare > row.input.chars().count(), "{before} {bare}");
        let max_len = before - 40;
        let cut = Encoder { max_len, ..*whole }.encode(0, &row).unwrap().unwrap();
        assert!(cut.ids.len() <= max_len && cut.ids.len() > max_len - 20, "{} of {max_len}", cut.ids.len());
        // of a text that is far too long, as much stays as there is room for
        let long = Example { input: row.input.repeat(200), ..row };
        let cut = Encoder { max_len, ..*whole }.encode(0, &long).unwrap().unwrap();
        assert!(cut.ids.len() <= max_len && cut.ids.len() > max_len - 20, "{} of {max_len}", cut.ids.len());
    });
}

#[test]
fn turns_of_the_user_are_no_answers_even_where_all_is_learned() {
    let turn = |role: &str, text: &str| Message { role: role.into(), content: text.into(), train: None };
    let turns =
        vec![turn("user", "a clock?"), turn("assistant", "this"), turn("user", "why?"), turn("assistant", "soft")];
    let row = Example { messages: Some(turns), ..Example::default() };
    let Some(folder) = tiny_llama("model") else { return };
    let tokenizer = Tokenizer::open(&folder).unwrap();
    let template = Template::new(&TemplateChoice::Named(TemplateName::Chatml), None, None).unwrap();
    let encode = |train_on| {
        let encoder =
            Encoder { template: &template, tokenizer: &tokenizer, train_on, max_len: 512, overflow: Overflow::Error };
        encoder.encode(0, &row).unwrap().unwrap()
    };
    let (all, answers) = (encode(TrainOn::All), encode(TrainOn::Response));
    assert!(all.labels.iter().all(|label| *label) && !all.answers[all.response_start()..].iter().all(|label| *label));
    assert_eq!((&all.answers, &answers.answers), (&answers.labels, &answers.labels));
}

#[test]
fn answers_too_long_for_max_len_are_an_error_not_a_cut() {
    with_encoder(20, Overflow::TruncateInput, TrainOn::Response, |encoder, rows| {
        let Unfit::TooLong(needed) = encoder.encode(0, &rows[0]).unwrap_err() else { panic!("another fault") };
        assert!(needed > 20);
        let message = encoder.encode_all(rows).unwrap_err().to_string();
        assert!(message.contains(&format!("{0} of {0} rows are longer than `max_len: 20`", rows.len())), "{message}");
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
fn chatml_ends_at_its_token_where_there_is_one_and_else_at_its_text() {
    let template = Template::new(&TemplateChoice::Named(TemplateName::Chatml), None, None).unwrap();
    let (_keep, tokenizer) = chat_tokenizer("chatml");
    let end = tokenizer.sign("<|im_end|>").unwrap();
    assert!(template.stop_text(&tokenizer).is_none() && template.stops(&tokenizer).contains(&end));
    let Some(folder) = tiny_llama("model") else { return };
    let tokenizer = Tokenizer::open(&folder).unwrap();
    let wanted = if tokenizer.sign("<|im_end|>").is_some() { None } else { Some("<|im_end|>") };
    assert_eq!(template.stop_text(&tokenizer), wanted);
    let alpaca = Template::new(&TemplateChoice::default(), None, None).unwrap();
    assert_eq!(alpaca.stop_text(&tokenizer), None);
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
fn an_added_word_that_ends_a_turn_ends_an_answer_though_it_is_no_control_token() {
    let (keep, whole) = chat_tokenizer("chatml");
    let file = keep.path().join("tokenizer.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    json["added_tokens"].as_array_mut().unwrap().iter_mut().for_each(|token| token["special"] = false.into());
    std::fs::write(&file, json.to_string()).unwrap();
    let tokenizer = Tokenizer::open(keep.path()).unwrap();
    let end = whole.sign("<|im_end|>").unwrap();
    assert!(!tokenizer.is_control(end));
    let chat = TemplateChoice::Named(TemplateName::Chat);
    let template = Template::new(&chat, None, tokenizer.chat().cloned()).unwrap();
    assert!(template.stops(&tokenizer).contains(&end));
    let (train_on, overflow) = (TrainOn::Response, Overflow::Error);
    let encoder = Encoder { template: &template, tokenizer: &tokenizer, train_on, max_len: 512, overflow };
    let row = Example { instruction: "a clock?".into(), output: Some("soft".into()), ..Example::default() };
    assert_eq!(encoder.encode(0, &row).unwrap().unwrap().ids.last(), Some(&end));
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
