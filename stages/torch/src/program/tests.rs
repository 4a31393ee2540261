//! Trainings of the tiny-llama fixture through the program's own functions.

mod audit;
mod going_on;
mod told;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use watershed_engine::StageError;
use watershed_engine::job::JobEvent;
use watershed_stages::metrics::parroting::{Thresholds, parroting};
use watershed_stages::record::lines;

use super::fixture::tiny_llama;
use super::project::Project;

fn params() -> Value {
    json!({"lora": {"r": 8, "targets": ["q_proj", "v_proj"]}, "epochs": 3, "batch_size": 8, "lr": 1e-2, "max_len": 256, "seed": 7})
}

/// Bytes of every data output; reports may hold times.
fn data(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = ["adapter", "last"].map(|port| {
        ["adapter_config.json", "adapter_model.safetensors", "watershed.json"].map(|file| format!("{port}/{file}"))
    });
    let curves = ["curves/metrics.jsonl", "curves/eval.jsonl"].map(String::from);
    files
        .into_iter()
        .flatten()
        .chain(curves)
        .map(|name| (name.clone(), std::fs::read(out.join(&name)).unwrap()))
        .collect()
}

fn numbers(out: &Path, file: &str, name: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(out.join("curves").join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()[name].as_f64().unwrap()).collect()
}

#[test]
fn losses_fall_and_a_rerun_writes_the_same_bytes() {
    let Some(project) = Project::new() else { return };
    let first = project.train(params(), "first", 0).unwrap();
    let losses = numbers(&first, "metrics.jsonl", "loss");
    assert_eq!(losses.len(), 12);
    assert!(losses[11] < losses[0] - 2.0, "{losses:?}");
    let val = numbers(&first, "eval.jsonl", "loss");
    assert_eq!(numbers(&first, "eval.jsonl", "step"), [0.0, 4.0, 8.0, 12.0]);
    assert!(val[3] < val[0] - 2.0, "{val:?}");
    let second = project.train(params(), "second", 0).unwrap();
    assert!(data(&first) == data(&second));
}

#[test]
fn test_rows_are_measured_once_with_the_chosen_adapter() {
    let Some(project) = Project::new() else { return };
    let mut inputs = project.inputs();
    let without = project.run("lora-train", params(), &inputs, "without", 0).unwrap();
    assert!(!without.join("curves/test.jsonl").exists());
    inputs.push(("test", project.path("val.jsonl")));
    let with = project.run("lora-train", params(), &inputs, "with", 0).unwrap();
    assert!(data(&without) == data(&with));
    let (val, test) = (numbers(&with, "eval.jsonl", "loss"), numbers(&with, "test.jsonl", "loss"));
    let best = val[1..].iter().copied().min_by(f64::total_cmp).unwrap();
    assert_eq!(test.len(), 2);
    let held_out = |out: &Path, port: &str| report(out, "receipt")["held_out"][port]["rows"].clone();
    assert_eq!([held_out(&with, "val"), held_out(&with, "test")], [json!(8), json!(8)]);
    assert_eq!(held_out(&without, "test"), Value::Null);
    assert!((test[0] - val[0]).abs() < 1e-6 && (test[1] - best).abs() < 1e-6, "{val:?} {test:?}");
}

#[test]
fn a_cancelled_training_resumes_to_the_same_bytes() {
    let Some(project) = Project::new() else { return };
    let whole = project.train(params(), "whole", 0).unwrap();
    for after in [1, 4, 6] {
        let name = format!("cut-{after}");
        assert!(matches!(project.train(params(), &name, after), Err(StageError::Cancelled)));
        // what a killed attempt left in the outputs is not there for the next one
        for port in ["adapter", "last"] {
            std::fs::remove_dir_all(project.path(&name).join(port)).ok();
        }
        let resumed = project.train(params(), &name, 0).unwrap();
        assert!(data(&whole) == data(&resumed), "cut after update {after}");
    }
}

#[test]
fn carried_tails_and_micro_means_train_as_the_trainer_of_2023() {
    let Some(project) = Project::new() else { return };
    let mut params = params();
    for (key, value) in [
        ("loss_norm", json!("micro_mean")),
        ("tail", json!("carry")),
        ("micro_batch_size", json!(4)),
        ("batch_size", json!(12)),
        ("checks", json!({"eos": "off"})),
    ] {
        params[key] = value;
    }
    let out = project.train(params, "carry", 0).unwrap();
    assert_eq!(numbers(&out, "metrics.jsonl", "loss").len(), 3 * (32 / 4 / 3));
}

#[test]
fn a_training_that_moves_nothing_is_refused() {
    let Some(project) = Project::new() else { return };
    let mut params = params();
    params["lr"] = json!(0.0);
    let error = project.train(params, "still", 0).unwrap_err().to_string();
    assert!(error.contains("learned nothing"), "{error}");
}

#[test]
fn tuned_answers_differ_from_the_bases_and_keep_the_prompts_order() {
    let Some(project) = Project::new() else { return };
    let mut params = params();
    params["epochs"] = json!(6);
    let tuned = project.train(params, "tuned", 0).unwrap();
    let prompts = ("prompts", project.path("prompts.jsonl"));
    let base = ("base", project.base.clone());
    let generate = json!({"max_new_tokens": 24});
    let plain = project.run("generate", generate.clone(), &[prompts.clone(), base.clone()], "plain", 0).unwrap();
    let adapter = ("adapter", tuned.join("adapter"));
    let answers = project.run("generate", generate, &[prompts, base, adapter], "answers", 0).unwrap();
    let read = |out: &Path| std::fs::read_to_string(out.join("answers")).unwrap();
    assert_ne!(read(&plain), read(&answers));
    let ids: Vec<String> = read(&answers)
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap()["id"].as_str().unwrap().into())
        .collect();
    assert_eq!(ids, (64..72).map(|i| i.to_string()).collect::<Vec<_>>());
    let report: Value = serde_json::from_slice(&std::fs::read(answers.join("report")).unwrap()).unwrap();
    assert!(report["parrot_rate"].is_number());
}

/// [`params`] with these keys on top.
fn with(keys: Value) -> Value {
    let mut params = params();
    params.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    params
}

fn report(out: &Path, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(out.join(name)).unwrap()).unwrap()
}

#[test]
fn a_training_whose_loss_is_no_number_has_diverged_and_keeps_its_checkpoints() {
    let Some(mut project) = Project::new() else { return };
    project.cadence = "1";
    let params = with(json!({"lora": {}, "lr": 1e30, "warmup": 0.0, "eval_every": 1000}));
    for already in ["", "resumes after update 1"] {
        let Err(StageError::Diverged(text)) = project.train(params.clone(), "out", 0) else {
            panic!("it did not diverge")
        };
        assert!(text.contains("of update 2 is") && text.contains("the checkpoint after update 1 is kept"), "{text}");
        assert_eq!(project.logged("note"), if already.is_empty() { vec![] } else { vec![already.to_string()] });
    }
    project.cadence = "epoch";
    let params = with(json!({"lora": {}, "lr": 1e30, "warmup": 0.0, "eval_every": 1}));
    let Err(StageError::Diverged(text)) = project.train(params, "seen", 0) else { panic!("it did not diverge") };
    assert!(
        text.contains("likelihood of a sampled answer of update 1 is NaN")
            && text.contains("there is no checkpoint yet"),
        "{text}"
    );
}

#[test]
fn a_damaged_checkpoint_costs_the_updates_since_the_one_before() {
    let Some(mut project) = Project::new() else { return };
    project.cadence = "2";
    let whole = project.train(params(), "whole", 0).unwrap();
    assert!(matches!(project.train(params(), "cut", 7), Err(StageError::Cancelled)));
    let state = project.path("cut/checkpoint/step-0000000007/state.safetensors");
    let mut bytes = std::fs::read(&state).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&state, bytes).unwrap();
    for port in ["adapter", "last"] {
        std::fs::remove_dir_all(project.path("cut").join(port)).ok();
    }
    let resumed = project.train(params(), "cut", 0).unwrap();
    assert_eq!(project.logged("note")[0], "resumes after update 6");
    assert!(project.logged("warn")[0].contains("`state.safetensors` is not what was written"));
    assert!(data(&whole) == data(&resumed));
}

#[test]
fn parroting_is_told_at_each_evaluation_by_the_function_of_evaluate() {
    let Some(project) = Project::new() else { return };
    let out = project.train(params(), "out", 0).unwrap();
    let rows = validation_rows(&project);
    let input = |id: &Value| rows.iter().find(|row| row["id"] == *id).unwrap()["input"].as_str().unwrap_or_default();
    let samples = report(&out, "samples");
    let samples = samples.as_array().unwrap();
    assert_eq!(samples.len(), 4 * 8);
    for sample in samples {
        assert_eq!(sample["parrots"], parrots(input(&sample["id"]), &sample["text"]), "{sample}");
    }
    let rate = |step: u64| {
        let of = samples.iter().filter(|sample| sample["step"] == step);
        of.filter(|sample| sample["parrots"] == true).count() as f64 / 8.0
    };
    let wanted: Vec<Value> = [0, 4, 8, 12].map(|step| json!({"step": step, "rate": rate(step)})).to_vec();
    assert_eq!(report(&out, "receipt")["parroting"], json!(wanted));
    let told = project.told.lock().unwrap();
    let rates =
        told.iter().filter(|e| matches!(e, JobEvent::Metric { values, .. } if values.contains_key("parrot_rate")));
    assert_eq!(rates.count(), 4);
}

#[test]
fn parroting_of_the_adapter_that_is_kept_is_warned_of_where_it_is_far_from_the_rows_own() {
    let Some(project) = Project::new() else { return };
    let warnings = |project: &Project| {
        let is_it = |text: &String| text.contains("copy their input or themselves");
        project.logged("warn").into_iter().filter(is_it).collect::<Vec<String>>()
    };
    project.train(params(), "sound", 0).unwrap();
    assert_eq!(warnings(&project), [""; 0]);
    let mut inputs = project.inputs();
    let (_, rows) = inputs.iter_mut().find(|(port, _)| *port == "train").unwrap();
    let looping = |mut row: Value| {
        row["output"] = "soft ".repeat(20).into();
        row
    };
    let looping: Vec<Value> = lines::read::<Value>(rows).unwrap().into_iter().map(looping).collect();
    *rows = project.path("looping.jsonl");
    lines::write(rows, &looping).unwrap();
    let checks = json!({"eos": "off", "kl": "off"});
    let params = with(json!({"lora": {}, "lr": 0.02, "warmup": 0.0, "epochs": 6, "select": "last", "checks": checks}));
    let receipt = report(&project.run("lora-train", params, &inputs, "looping", 0).unwrap(), "receipt");
    let told = warnings(&project);
    assert!(told.len() == 1 && told[0].contains("0 % of the rows' own"), "{told:?} {}", receipt["parroting"]);
}

#[test]
fn a_quantised_base_is_said_to_be_one() {
    let (Some(project), Some(base)) = (Project::new(), tiny_llama("model.q8_0.gguf")) else { return };
    let mut inputs = project.inputs();
    inputs.iter_mut().filter(|(port, _)| *port == "base").for_each(|(_, path)| *path = base.clone());
    project.run("lora-train", with(json!({"checks": {"eos": "off"}})), &inputs, "out", 0).unwrap();
    assert!(project.logged("note")[0].starts_with("the base is quantised (Q8_0)"), "{:?}", project.logged("note"));
    project.train(with(json!({"checks": {"eos": "off"}})), "plain", 0).unwrap();
    assert!(project.logged("note").iter().all(|line| !line.contains("quantised")), "{:?}", project.logged("note"));
}

fn validation_rows(project: &Project) -> Vec<Value> {
    let text = std::fs::read_to_string(project.path("val.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Says what `evaluate` says of an answer to `material`.
fn parrots(material: &str, answer: &Value) -> bool {
    parroting(material, answer.as_str().unwrap()).is_parrot(&Thresholds::default())
}

/// Returns the conversation that asks and answers what an Alpaca row does.
fn conversation(row: &Value) -> Value {
    let texts = ["instruction", "input"].map(|name| row[name].as_str().unwrap_or_default());
    let asked = texts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n\n");
    let turns = [("user", json!(asked)), ("assistant", row["output"].clone())];
    json!({"id": row["id"], "messages": turns.map(|(role, content)| json!({"role": role, "content": content}))})
}

#[test]
fn conversations_are_sampled_as_rows_that_say_the_same() {
    let Some(project) = Project::new() else { return };
    let talks: Vec<Value> = validation_rows(&project).iter().map(conversation).collect();
    let lines: Vec<String> = talks.iter().map(Value::to_string).collect();
    std::fs::write(project.path("talks.jsonl"), lines.join("\n")).unwrap();
    let params = with(json!({"template": "chatml", "epochs": 1, "checks": {"eos": "off"}}));
    let samples = |file: &str| {
        let inputs =
            [("train", project.path("train.jsonl")), ("val", project.path(file)), ("base", project.base.clone())];
        report(&project.run("lora-train", params.clone(), &inputs, &format!("of-{file}"), 0).unwrap(), "samples")
    };
    let (of_rows, of_talks) = (samples("val.jsonl"), samples("talks.jsonl"));
    for (row, talk) in of_rows.as_array().unwrap().iter().zip(of_talks.as_array().unwrap()) {
        assert_eq!((&row["id"], &row["text"]), (&talk["id"], &talk["text"]));
        let asked = &talks.iter().find(|known| known["id"] == talk["id"]).unwrap()["messages"][0]["content"];
        assert_eq!(talk["parrots"], parrots(asked.as_str().unwrap(), &talk["text"]), "{talk}");
    }
    assert_eq!(of_talks.as_array().unwrap().len(), 2 * 8);
}

#[test]
fn without_validation_rows_training_prompts_are_sampled() {
    let Some(project) = Project::new() else { return };
    let inputs = [("train", project.path("train.jsonl")), ("base", project.base.clone())];
    let out =
        project.run("lora-train", with(json!({"epochs": 1, "checks": {"eos": "off"}})), &inputs, "out", 0).unwrap();
    let samples = report(&out, "samples");
    assert_eq!((samples.as_array().unwrap().len(), &samples[0]["id"]), (2 * 8, &json!("0")));
    assert_eq!(std::fs::read_to_string(out.join("curves/eval.jsonl")).unwrap(), "");
}

/// Settings that learn too fast, so that the best adapter is not the last.
fn hasty() -> Value {
    with(
        json!({"lr": 0.3, "warmup": 0.0, "schedule": "constant", "eval_every": 1, "checks": {"eos": "off", "kl": "off"}}),
    )
}

fn adapter_bytes(out: &Path, port: &str) -> Vec<u8> {
    std::fs::read(out.join(port).join("adapter_model.safetensors")).unwrap()
}

#[test]
fn early_stop_ends_a_training_that_no_longer_gets_better() {
    let Some(project) = Project::new() else { return };
    let mut params = hasty();
    params["early_stop"] = json!(2);
    let out = project.train(params, "out", 0).unwrap();
    let losses = numbers(&out, "eval.jsonl", "response_loss");
    let best = (1..losses.len()).min_by(|a, b| losses[*a].total_cmp(&losses[*b])).unwrap();
    assert_eq!((losses.len(), report(&out, "receipt")["adapter_from_update"].as_u64()), (best + 3, Some(best as u64)));
    assert!(losses.len() < 13, "{losses:?}");
    let told = format!("`early_stop: 2` ends it after update {} of 12", losses.len() - 1);
    assert!(project.logged("note").contains(&told), "{:?}", project.logged("note"));
    let schedule = report(&out, "receipt")["schedule"].clone();
    let rates = numbers(&out, "metrics.jsonl", "lr");
    assert_eq!((&schedule["updates"], &schedule["reached"]["updates"]), (&json!(12), &json!(rates.len())));
    let [planned, reached] = [&schedule, &schedule["reached"]].map(|part| part["sum_lr"].as_f64().unwrap());
    assert!((planned - 12.0 * 0.3).abs() < 1e-9 && (reached - rates.iter().sum::<f64>()).abs() < 1e-9, "{schedule}");
    assert!(adapter_bytes(&out, "adapter") != adapter_bytes(&out, "last"));
}

#[test]
fn select_last_gives_the_last_adapter_though_another_was_better() {
    let Some(project) = Project::new() else { return };
    let mut params = hasty();
    params["early_stop"] = json!(2);
    let best = project.train(params.clone(), "best", 0).unwrap();
    params["select"] = json!("last");
    let last = project.train(params, "last", 0).unwrap();
    assert!(adapter_bytes(&best, "adapter") != adapter_bytes(&best, "last"));
    assert!(adapter_bytes(&last, "adapter") == adapter_bytes(&best, "last"));
    assert_eq!(report(&last, "receipt")["adapter_from_update"], report(&best, "receipt")["updates"]);
}

#[test]
fn evaluations_come_every_so_many_updates_and_at_both_ends() {
    let Some(project) = Project::new() else { return };
    let out = project.train(with(json!({"eval_every": 5})), "out", 0).unwrap();
    assert_eq!(numbers(&out, "eval.jsonl", "step"), [0.0, 5.0, 10.0, 12.0]);
}

#[test]
fn bf16_training_learns_as_f32_does_and_twice_the_same() {
    let Some(project) = Project::new() else { return };
    let half = with(json!({"dtype": "bf16", "max_steps": 4, "eval_every": 4, "checks": {"eos": "off"}}));
    let mut full = half.clone();
    full["dtype"] = json!("f32");
    let (first, second) = (project.train(half.clone(), "first", 0).unwrap(), project.train(half, "second", 0).unwrap());
    assert!(data(&first) == data(&second));
    let (half, full) = (numbers(&first, "metrics.jsonl", "loss"), project.train(full, "full", 0).unwrap());
    let full = numbers(&full, "metrics.jsonl", "loss");
    assert_ne!(half, full);
    // bfloat16 keeps 8 bits, a few tenths of a percent; what it moved adds up over the updates
    assert!((half[0] / full[0] - 1.0).abs() < 0.01 && (half[3] - full[3]).abs() < 0.3, "{half:?} {full:?}");
}

#[test]
fn a_tuned_model_that_answers_as_its_base_is_refused() {
    let Some(project) = Project::new() else { return };
    let still =
        |level: &str| with(json!({"lr": 1e-9, "max_steps": 2, "warmup": 0.0, "checks": {"eos": "off", "kl": level}}));
    let error = project.train(still("fail"), "failed", 0).unwrap_err().to_string();
    assert!(error.contains("answers as the base does (KL") && error.contains("`checks.kl: warn`"), "{error}");
    project.train(still("warn"), "warned", 0).unwrap();
    assert!(project.logged("warn")[0].contains("answers as the base does"));
}

#[test]
fn checkpointing_changes_no_byte() {
    let Some(mut project) = Project::new() else { return };
    let kept = project.train(params(), "kept", 0).unwrap();
    project.keys = json!({"checkpointing": "on"});
    let again = project.train(params(), "again", 0).unwrap();
    assert!(data(&kept) == data(&again));
}

#[test]
fn where_memory_is_short_blocks_are_computed_again_and_it_is_told() {
    let Some(mut project) = Project::new() else { return };
    let kept = project.train(params(), "kept", 0).unwrap();
    assert_eq!(project.logged("warn"), Vec::<String>::new());
    project.memory = Some(400 << 20);
    let short = project.train(params(), "short", 0).unwrap();
    let told = project.logged("warn");
    assert!(told[0].contains("goes on with `run.checkpointing: on`"), "{told:?}");
    assert!(data(&kept) == data(&short));
}

#[test]
fn one_training_row_is_enough() {
    let Some(project) = Project::new() else { return };
    let text = std::fs::read_to_string(project.path("train.jsonl")).unwrap();
    std::fs::write(project.path("train.jsonl"), text.lines().next().unwrap()).unwrap();
    let out = project.train(with(json!({"epochs": 12, "batch_size": 16})), "out", 0).unwrap();
    let losses = numbers(&out, "metrics.jsonl", "loss");
    assert!(losses.len() == 12 && losses[11] < losses[0] - 1.0, "{losses:?}");
}

/// Trains on a random base with these keys in its `config.json`.
fn trains_on(config: Value) {
    let Some(mut project) = Project::new() else { return };
    let kind = watershed_engine::Kind::of::<watershed_stages::random_model::RandomModel>();
    let mut all = json!({"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.2, "bos_token_id": 1, "eos_token_id": 2});
    all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    let tokenizer = project.base.join("tokenizer.json");
    let made = project.path("made");
    std::fs::create_dir(&made).unwrap();
    let inputs = [("tokenizer", "x", tokenizer.as_path())];
    watershed_engine::job::run_alone(&kind, json!({"config": all, "seed": 3}), &inputs, &made).unwrap();
    project.base = made.join("model");
    let params = with(json!({"lora": {}, "max_len": 512, "checks": {"eos": "off"}}));
    let out = project.train(params, "out", 0).unwrap();
    let losses = numbers(&out, "metrics.jsonl", "loss");
    assert!(losses[11] < losses[0] - 0.1, "{losses:?}");
}

#[test]
fn a_qwen2_with_biases_is_trained() {
    trains_on(json!({"model_type": "qwen2", "num_key_value_heads": 2, "tie_word_embeddings": true}));
}

#[test]
fn a_model_with_all_its_keys_and_an_output_of_its_own_is_trained() {
    trains_on(json!({"num_key_value_heads": 4, "tie_word_embeddings": false}));
}

#[test]
fn folding_the_adapter_in_moves_no_logit_but_for_rounding_and_that_is_counted() {
    let Some(project) = Project::new() else { return };
    let adapter = project.train(params(), "trained", 0).unwrap().join("adapter");
    let inputs = [("prompts", project.path("prompts.jsonl")), ("base", project.base.clone()), ("adapter", adapter)];
    project.run("generate", json!({"max_new_tokens": 2}), &inputs, "answers", 0).unwrap();
    let told = project.told.lock().unwrap();
    let gap = told.iter().find_map(|event| match event {
        JobEvent::Count { name, value } if name == "merged_logit_difference" => Some(*value),
        _ => None,
    });
    assert!(gap.is_some_and(|gap| gap > 0.0 && gap < 1e-3), "{gap:?}");
}
