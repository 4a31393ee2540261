//! A base model that cannot be used: `plan` says so, and no training starts.

use std::path::Path;

use crate::fixture::{copy, tiny_llama, weights};
use crate::project::{Project, rows};

/// `rows -> tuned -> answers` on the base `./base`: a copy of the fixture, spoilt by the caller.
pub fn project(spoil: impl FnOnce(&Path)) -> Option<Project> {
    let model = tiny_llama("model")?;
    let project = Project::new(
        "stages:
  rows:    {use: examples, in: {files: ./data.jsonl}}
  tuned:   {use: lora-train, in: {train: rows, base: ./base}, with: {max_len: 64, max_steps: 2}, run: {device: cpu}}
  answers: {use: generate, in: {base: ./base, prompts: rows}, run: {device: cpu}}
",
    );
    project.write("data.jsonl", &rows(8));
    copy(&model, &project.path("base"));
    spoil(&project.path("base"));
    Some(project)
}

/// Expects these words from `plan` before anything has run and from `run`, for both readers, the base's path once.
fn is_told(spoil: impl FnOnce(&Path), words: &[&str]) {
    let Some(project) = project(spoil) else { return };
    let plan = project.plan(&[]);
    let planned = |stage: &str| {
        let stages = plan["stages"].as_array().unwrap();
        stages.iter().find(|s| s["stage"] == stage).unwrap()["error"].as_str().unwrap_or_default().to_string()
    };
    let ran = project.run(&["--keep-going"]);
    assert_eq!((ran.code, ran.outcome("ran")), (1, vec!["rows".to_string()]));
    for text in [planned("tuned"), planned("answers"), ran.error("tuned"), ran.error("answers")] {
        for word in words {
            assert!(text.contains(word), "`{word}` is not in: {text}");
        }
        assert_eq!(text.matches("/base").count(), 1, "{text}");
    }
}

fn edit(path: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let mut json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(path, json.to_string()).unwrap();
}

#[test]
fn an_architecture_that_is_not_supported_is_told_before_any_training() {
    is_told(
        |base| edit(&base.join("config.json"), |config| config["model_type"] = "mamba".into()),
        &["config.json", "`model_type` is `mamba`", "llama, mistral and qwen2 are supported"],
    );
}

#[test]
fn weights_cut_off_are_told_before_any_training() {
    let cut = |base: &Path| {
        let file = std::fs::File::options().write(true).open(&weights(base)[0]).unwrap();
        file.set_len(5000).unwrap();
    };
    is_told(cut, &[".safetensors", "is the download whole?"]);
}

#[test]
fn a_shard_that_is_missing_is_told_before_any_training() {
    let lose = |base: &Path| {
        weights(base).iter().for_each(|file| std::fs::remove_file(file).unwrap());
        let index = "{\"weight_map\": {\"model.norm.weight\": \"model-00001-of-00002.safetensors\"}}";
        std::fs::write(base.join("model.safetensors.index.json"), index).unwrap();
    };
    is_told(lose, &["model.safetensors.index.json", "`model-00001-of-00002.safetensors`", "fetch the model again"]);
}

#[test]
fn a_missing_tokenizer_is_told_before_any_training() {
    is_told(
        |base| std::fs::remove_file(base.join("tokenizer.json")).unwrap(),
        &["tokenizer", "`tokenizer.json` is needed", "`save_pretrained`"],
    );
}

#[test]
fn a_tokenizer_larger_than_the_model_is_told_before_any_training() {
    let grow = |base: &Path| {
        edit(&base.join("tokenizer.json"), |json| {
            let tokens = json["added_tokens"].as_array_mut().unwrap();
            let mut more = tokens[0].clone();
            (more["id"], more["content"]) = (70_000.into(), "<more>".into());
            tokens.push(more);
        });
    };
    is_told(grow, &["do not fit", "ids", "embedding rows", "the tokenizer that came with the model"]);
}

#[test]
fn a_base_that_only_a_later_stage_reads_is_told_before_any_training() {
    let Some(project) = project(|_| {}) else { return };
    project.write("other/config.json", "{}");
    project.edit("{base: ./base, prompts: rows}", "{base: ./other, adapter: tuned, prompts: rows}");
    let ran = project.run(&[]);
    assert_eq!((ran.code, ran.outcome("ran")), (1, vec!["rows".to_string()]));
    assert_eq!(ran.outcome("failed"), ["answers"]);
    assert!(ran.error("answers").contains("/other"), "{}", ran.error("answers"));
}

#[test]
fn a_base_that_a_stage_made_is_looked_at_before_any_training() {
    let Some(model) = tiny_llama("model") else { return };
    let project = Project::new(
        "stages:
  rows:  {use: examples, in: {files: ./data.jsonl}}
  base:  {use: random-model, in: {tokenizer: ./base/tokenizer.json}, with: {config: {bos_token_id: 1, eos_token_id: 2, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1, max_position_embeddings: 512, vocab_size: 512, tie_word_embeddings: true}}}
  tuned: {use: lora-train, in: {train: rows, val: rows, base: base}, with: {max_len: 400, epochs: 1, batch_size: 4, warmup: 100}, run: {device: cpu}}
",
    );
    project.write("data.jsonl", &rows(8));
    copy(&model, &project.path("base"));
    assert_eq!(project.run(&["base", "rows"]).code, 0);
    let plan = project.watershed(&["plan"]);
    let plan = String::from_utf8_lossy(&plan.stdout) + String::from_utf8_lossy(&plan.stderr);
    assert!(plan.contains("warm-up takes 100 updates and there are 2"), "{plan}");
    assert!(plan.contains("8 held-out rows have the same text as a row of `train`"), "{plan}");
    assert!(project.says(&["peek", "tuned"]).contains("learned"));
    assert_eq!(project.run(&[]).outcome("failed"), ["tuned"]);
}
