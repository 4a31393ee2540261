//! Previews of the tiny-llama fixture.

use watershed_engine::preview::Severity;

use super::*;
use crate::lora_train::{Checks, Level, Lora, Target};
use crate::text::fixture::tiny_llama;
use crate::text::labels::Overflow;

/// The fixture's rows for training; the same rows as validation where `overlaps`.
fn inputs(overlaps: bool) -> Option<PreviewInputs> {
    let (rows, base) = (tiny_llama("dataset.json")?, tiny_llama("model")?);
    let mut inputs = PreviewInputs::default();
    inputs.ports.insert("train".into(), vec![("train".into(), rows.clone())]);
    inputs.ports.insert("base".into(), vec![("base".into(), base)]);
    if overlaps {
        inputs.ports.insert("val".into(), vec![("val".into(), rows)]);
    }
    Some(inputs)
}

fn codes(preview: &Preview) -> Vec<(&str, Severity)> {
    preview.lints.iter().map(|lint| (lint.code.as_str(), lint.severity)).collect()
}

#[test]
fn facts_stand_in_the_order_of_the_table() {
    let Some(inputs) = inputs(false) else { return };
    let params = LoraTrain { max_len: 256, epochs: 5, batch_size: 32, warmup: 100.0, ..LoraTrain::default() };
    let preview = preview(&params, &inputs).unwrap();
    let names: Vec<&str> = preview.facts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "rows",
            "updates",
            "warmup_share",
            "max_lr",
            "sum_lr",
            "rows_cut",
            "label_tokens",
            "trainable",
            "trainable_share"
        ]
    );
    assert_eq!(codes(&preview), [("L003", Severity::Fail)]);
    assert!(preview.cost.seconds.is_some_and(|s| s >= 1.0));
}

#[test]
fn memory_is_told_as_the_stage_would_run() {
    let Some(inputs) = inputs(false) else { return };
    let bytes = |run: Value, device: &'static str| {
        let inputs = PreviewInputs { run, device, ..inputs.clone() };
        preview(&LoraTrain::default(), &inputs).unwrap().cost.bytes
    };
    let usual = bytes(Value::Null, "cpu").unwrap();
    for run in [json!({"micro_batch": 1}), json!({"checkpointing": "on"})] {
        assert!(bytes(run.clone(), "cpu").unwrap() < usual, "{run}");
    }
    assert_eq!(bytes(json!({"checkpointing": "auto", "micro_batch": "auto"}), "cpu"), Some(usual));
    assert_eq!(bytes(Value::Null, "cuda"), None);
}

#[test]
fn alpaca_loras_cut_is_seen_and_weighed_by_checks() {
    let Some(inputs) = inputs(true) else { return };
    let warn = Checks { truncation: Level::Warn, eos: Level::Off, ..Checks::default() };
    let params = LoraTrain { max_len: 110, overflow: Overflow::Truncate, checks: warn, ..LoraTrain::default() };
    let preview = preview(&params, &inputs).unwrap();
    // of the training rows, and of the same rows as validation
    assert_eq!(codes(&preview), [("L001", Severity::Warn), ("L001", Severity::Warn), ("L004", Severity::Fail)]);
    assert!(
        preview.lints[1].message.contains(" of 80 rows of `val` lose answer tokens at `max_len: 110`"),
        "{preview:?}"
    );
}

#[test]
fn rows_longer_than_max_len_without_their_input_are_counted_and_refused() {
    let Some(inputs) = inputs(false) else { return };
    let error = preview(&LoraTrain { max_len: 30, ..LoraTrain::default() }, &inputs).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("even without their input") && message.contains("`overflow: drop`"), "{message}");
}

#[test]
fn what_overflow_takes_away_is_told() {
    let Some(inputs) = inputs(false) else { return };
    let dropping = LoraTrain { max_len: 64, overflow: Overflow::Drop, ..LoraTrain::default() };
    let preview = preview(&dropping, &inputs).unwrap();
    let lint = preview.lints.iter().find(|lint| lint.code == "L005").unwrap();
    assert!(lint.message.contains("rows are left out at `max_len: 64`"), "{}", lint.message);
}

#[test]
fn rows_longer_than_the_bases_context_are_told_before_any_step() {
    let Some(mut inputs) = inputs(false) else { return };
    let folder = tempfile::tempdir().unwrap();
    crate::fixture::copy(&tiny_llama("model").unwrap(), folder.path());
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["max_position_embeddings"] = json!(100);
    std::fs::write(&path, config.to_string()).unwrap();
    inputs.ports.insert("base".into(), vec![("base".into(), folder.path().into())]);
    let message = preview(&LoraTrain::default(), &inputs).unwrap_err().to_string();
    assert!(message.contains("longer than the 100 tokens") && message.contains("`max_len: 100`"), "{message}");
    let overflow = Overflow::Drop;
    assert!(preview(&LoraTrain { max_len: 100, overflow, ..LoraTrain::default() }, &inputs).is_ok());
}

#[test]
fn base_that_cannot_be_used_is_told_before_there_are_rows() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("noise.gguf");
    std::fs::write(&base, "noise").unwrap();
    let mut inputs = PreviewInputs::default();
    inputs.ports.insert("base".into(), vec![("base".into(), base)]);
    let message = preview(&LoraTrain::default(), &inputs).unwrap_err().to_string();
    assert_eq!(message.matches("noise.gguf").count(), 1, "{message}");
}

#[test]
fn without_rows_the_parameters_speak_alone() {
    let preview = preview(&LoraTrain { max_steps: Some(25), ..LoraTrain::default() }, &PreviewInputs::default());
    assert_eq!(preview.unwrap().facts[0], ("updates".to_string(), 25.into()));
}

/// Writes the fixture's rows that have an input: their prompts alone are longer than 70 tokens.
fn long_rows(folder: &Path) -> Option<std::path::PathBuf> {
    let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(tiny_llama("dataset.json")?).unwrap()).unwrap();
    let long: Vec<Value> =
        rows.into_iter().filter(|row| row["input"].as_str().is_some_and(|text| text.len() > 100)).collect();
    let path = folder.join("long.json");
    std::fs::write(&path, Value::from(long).to_string()).unwrap();
    Some(path)
}

/// Binds `port` to a copy of this folder of the fixture, which may be spoilt.
fn bound_to_copy(inputs: &mut PreviewInputs, port: &str, name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    crate::fixture::copy(&tiny_llama(name).unwrap(), folder.path());
    bound(inputs, port, folder.path());
    folder
}

fn bound(inputs: &mut PreviewInputs, port: &str, path: &Path) {
    inputs.ports.insert(port.into(), vec![(port.into(), path.into())]);
}

#[test]
fn validation_that_would_vanish_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (Some(mut inputs), Some(long)) = (inputs(false), long_rows(folder.path())) else { return };
    let checks = Checks { overlap: Level::Off, truncation: Level::Off, eos: Level::Off, ..Checks::default() };
    for port in ["val", "test"] {
        inputs.ports.remove("val");
        bound(&mut inputs, port, &long);
        let params = LoraTrain { max_len: 70, checks, early_stop: Some(1), ..LoraTrain::default() };
        for overflow in [Overflow::Drop, Overflow::Truncate] {
            let preview = preview(&LoraTrain { overflow, ..params.clone() }, &inputs).unwrap();
            let words = format!("rows of `{port}` has a label at `max_len: 70` (");
            let found = preview.lints.iter().find(|lint| lint.message.contains(&words)).unwrap();
            assert_eq!((found.code.as_str(), found.severity), ("L006", Severity::Fail));
        }
    }
}

#[test]
fn val_without_rows_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut inputs) = inputs(false) else { return };
    let empty = folder.path().join("empty.json");
    std::fs::write(&empty, "[]").unwrap();
    bound(&mut inputs, "val", &empty);
    let preview = preview(&LoraTrain::default(), &inputs).unwrap();
    assert_eq!(codes(&preview), [("L007", Severity::Warn)]);
    assert!(preview.lints[0].message.starts_with("`val` has no rows: no loss is measured"), "{preview:?}");
}

#[test]
fn update_without_a_label_is_refused_where_cut_answers_only_warn() {
    let folder = tempfile::tempdir().unwrap();
    let (Some(mut inputs), Some(long)) = (inputs(false), long_rows(folder.path())) else { return };
    bound(&mut inputs, "train", &long);
    let checks = Checks { truncation: Level::Warn, eos: Level::Warn, ..Checks::default() };
    let params = LoraTrain { max_len: 70, overflow: Overflow::Truncate, checks, ..LoraTrain::default() };
    let preview = preview(&params, &inputs).unwrap();
    let wanted = [("L001", Severity::Warn), ("L001", Severity::Fail), ("L002", Severity::Warn)];
    let mut found = codes(&preview);
    found.sort_by_key(|(code, severity)| (code.to_string(), *severity == Severity::Fail));
    assert_eq!(found, wanted);
    assert!(preview.lints.iter().any(|lint| lint.message.starts_with("update 1 has no label: every response")));
}

#[test]
fn adapter_that_training_cannot_go_on_from_is_told_before_there_are_rows() {
    let Some(mut inputs) = inputs(false) else { return };
    bound(&mut inputs, "adapter", &tiny_llama("adapter_b_all_linear_rslora_micro_mean").unwrap());
    let lora = Lora { r: 16, targets: Target::ALL.to_vec(), written: vec!["r".into()], ..Lora::default() };
    let params = LoraTrain { lora, max_steps: Some(5), ..LoraTrain::default() };
    let words = "`lora.r` is 16, the adapter's is 4; leave out of `lora` what the adapter to go on from decides";
    for _ in ["with rows", "without rows"] {
        assert_eq!(preview(&params, &inputs).unwrap_err().to_string(), words);
        inputs.ports.remove("train");
    }
    bound(&mut inputs, "adapter", &tiny_llama("adapter_c_dora").unwrap());
    assert!(preview(&params, &inputs).unwrap_err().to_string().contains("DoRA"));
}

#[test]
fn what_the_adapter_learned_otherwise_is_a_warning() {
    let Some(mut inputs) = inputs(false) else { return };
    let folder = bound_to_copy(&mut inputs, "adapter", "adapter_a_qv_token_mean");
    inputs.digests.insert("base".into(), "d1".into());
    assert_eq!(codes(&preview(&LoraTrain::default(), &inputs).unwrap()), [], "it has no card");
    let tokenizer = Base::open(&tiny_llama("model").unwrap()).unwrap().tokenizer;
    let short = serde_json::from_value(json!("alpaca_short")).unwrap();
    let params = LoraTrain { template: short, ..LoraTrain::default() };
    let write = |base: &str| {
        let card = crate::lora_train::Card::new(&params, &tokenizer, base.into());
        std::fs::write(folder.path().join("watershed.json"), serde_json::to_string(&card).unwrap()).unwrap();
    };
    write("blake3:d1");
    let fresh = |inputs: &PreviewInputs| PreviewInputs { shared: Default::default(), ..inputs.clone() };
    assert_eq!(codes(&preview(&params, &fresh(&inputs)).unwrap()), []);
    let told = preview(&LoraTrain::default(), &fresh(&inputs)).unwrap();
    assert_eq!(codes(&told), [("L007", Severity::Warn)]);
    let words = "with `template: alpaca_short`, and goes on with `template: alpaca`";
    assert!(told.lints[0].message.contains(words), "{told:?}");
    write("blake3:d2");
    let told = preview(&params, &fresh(&inputs)).unwrap();
    assert!(told.lints[0].message.contains("on another base (blake3:d2, not blake3:d1)"), "{told:?}");
}

#[test]
fn files_that_know_different_ends_of_a_text_are_told_with_rows_and_without() {
    let Some(mut inputs) = inputs(false) else { return };
    let folder = bound_to_copy(&mut inputs, "base", "model");
    let end = Base::open(folder.path()).unwrap().tokenizer.eos().unwrap();
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["eos_token_id"] = (end + 1).into();
    std::fs::write(&path, config.to_string()).unwrap();
    for _ in ["with rows", "without rows"] {
        let told = preview(&LoraTrain::default(), &inputs).unwrap();
        let words = format!("the tokenizer ends texts with token {end}, `config.json` with {}", end + 1);
        assert!(told.lints.iter().any(|lint| lint.message.starts_with(&words)), "{:?}", told.lints);
        inputs.ports.remove("train");
    }
}

/// What is told with rows, and what without.
fn told_twice(params: &LoraTrain, inputs: &PreviewInputs) -> [Vec<String>; 2] {
    let mut without = PreviewInputs { shared: Default::default(), ..inputs.clone() };
    without.ports.remove("train");
    [inputs, &without].map(|inputs| {
        let lints = preview(params, inputs).unwrap().lints.into_iter();
        lints.filter(|lint| lint.code == "L007").map(|lint| lint.message).collect()
    })
}

#[test]
fn marks_that_the_base_has_no_tokens_for_are_told_with_rows_and_without() {
    let Some(mut inputs) = inputs(false) else { return };
    let params = LoraTrain { template: serde_json::from_value(json!("chatml")).unwrap(), ..LoraTrain::default() };
    let folder = bound_to_copy(&mut inputs, "base", "model");
    std::fs::write(folder.path().join("chat_template.jinja"), "{{ messages[0].content }}").unwrap();
    for told in told_twice(&params, &inputs) {
        let words = "the base has no token `<|im_end|>`: the marks of `template: chatml` are learned as ordinary text, this one as ";
        let mend = " tokens; use `template: chat`, or a base that has them";
        assert!(told.len() == 1 && told[0].starts_with(words) && told[0].ends_with(mend), "{told:?}");
    }
    assert_eq!(told_twice(&LoraTrain::default(), &inputs), [[""; 0]; 2]);
}

#[test]
fn a_rank_above_the_width_of_a_projection_is_told_where_the_base_is_known() {
    let Some(mut inputs) = inputs(false) else { return };
    let of = |r: u32, targets: &[Target]| {
        let lora = Lora { r, targets: targets.to_vec(), ..Lora::default() };
        LoraTrain { lora, ..LoraTrain::default() }
    };
    let config = Base::open(&tiny_llama("model").unwrap()).unwrap().config;
    let width = config.kv_heads * config.head_dim;
    // of equal widths the first is told
    let name = if config.kv_heads < config.heads { "k_proj" } else { "q_proj" };
    let words = format!(
        "`lora.r` is {}, and no change of `{name}` has a higher rank than its width of {width}; lower `r` to {width}",
        width + 1
    );
    let narrow = [Target::QProj, Target::KProj];
    assert_eq!(told_twice(&of(width as u32 + 1, &narrow), &inputs), [[words.clone()], [words]]);
    assert_eq!(told_twice(&of(width as u32, &narrow), &inputs), [[""; 0]; 2]);
    assert_eq!(told_twice(&of(config.hidden as u32, &[Target::QProj]), &inputs), [[""; 0]; 2]);
    bound(&mut inputs, "adapter", &tiny_llama("adapter_a_qv_token_mean").unwrap());
    let inputs = PreviewInputs { shared: Default::default(), ..inputs };
    assert_eq!(told_twice(&of(4000, &Target::ALL), &inputs), [[""; 0]; 2], "the adapter decides");
}

#[test]
fn memory_is_that_of_the_adapter_to_go_on_from() {
    let (Some(mut inputs), Some(adapter)) = (inputs(false), tiny_llama("adapter_a_qv_token_mean")) else { return };
    let bytes = |inputs: &PreviewInputs| preview(&LoraTrain::default(), inputs).unwrap().cost.bytes.unwrap();
    let all = bytes(&inputs);
    bound(&mut inputs, "adapter", &adapter);
    assert!(bytes(&inputs) < all, "it adapts two projections of seven");
}

#[test]
fn a_chat_template_whose_opening_merges_with_the_answer_is_told() {
    let Some(mut inputs) = inputs(false) else { return };
    let folder = bound_to_copy(&mut inputs, "base", "model");
    let rows = folder.path().join("rows.jsonl");
    std::fs::write(&rows, json!({"instruction": "Which one?", "output": "the clock"}).to_string()).unwrap();
    bound(&mut inputs, "train", &rows);
    let params = LoraTrain { template: serde_json::from_value(json!("chat")).unwrap(), ..LoraTrain::default() };
    let told = |opening: &str| {
        let template = format!(
            "{{% for m in messages %}}{{% if m.role == 'assistant' %}}{opening}{{{{ m.content }}}}{{{{ eos_token }}}}{{% else %}}Q: {{{{ m.content }}}}\n{{% endif %}}{{% endfor %}}{{% if add_generation_prompt %}}{opening}{{% endif %}}"
        );
        std::fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
        let inputs = PreviewInputs { shared: Default::default(), ..inputs.clone() };
        let lints = preview(&params, &inputs).unwrap().lints;
        lints.into_iter().filter(|lint| lint.message.contains("learned after other tokens")).count()
    };
    assert_eq!((told("A:"), told("A: ")), (0, 1));
}
