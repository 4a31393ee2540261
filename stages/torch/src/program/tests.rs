//! Trainings of the tiny-llama fixture through the program's own functions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use watershed_engine::job::{Cancel, JobEvent, Sink};
use watershed_engine::{Job, JobInput, JobSpec, RecordType, StageError};

use super::execute;
use super::fixture::tiny_llama;

/// Dropout draws from libtorch's one generator of a process: a job has a process to itself, and so has a test's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Cancels a job once it has told `after` updates; 0 never does.
struct Canceller {
    after: u64,
    seen: AtomicU64,
    cancel: Cancel,
}

impl Sink for Canceller {
    fn emit(&self, event: JobEvent) {
        let is_update = matches!(event, JobEvent::Metric { ref values, .. } if values.contains_key("lr"));
        if is_update && self.seen.fetch_add(1, Ordering::SeqCst) + 1 == self.after {
            self.cancel.cancel();
        }
    }
}

/// A project folder with training and validation rows of the fixture.
struct Project {
    folder: tempfile::TempDir,
    base: PathBuf,
}

impl Project {
    fn new() -> Option<Project> {
        let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(tiny_llama("dataset.json")?).unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let lines = |rows: &[Value], from: usize| -> String {
            let line = |(i, row): (usize, &Value)| {
                let mut row = row.clone();
                row["id"] = (i + from).to_string().into();
                row["source"] = if i % 3 == 0 { "alpaca" } else { "reviews" }.into();
                format!("{row}\n")
            };
            rows.iter().enumerate().map(line).collect()
        };
        std::fs::write(folder.path().join("train.jsonl"), lines(&rows[..32], 0)).unwrap();
        std::fs::write(folder.path().join("val.jsonl"), lines(&rows[64..72], 64)).unwrap();
        let unlabelled = rows[64..72].iter().cloned().map(|mut row| {
            row.as_object_mut().unwrap().remove("output");
            row
        });
        std::fs::write(folder.path().join("prompts.jsonl"), lines(&unlabelled.collect::<Vec<_>>(), 64)).unwrap();
        Some(Project { folder, base: tiny_llama("model")? })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(
        &self,
        kind: &str,
        params: Value,
        inputs: &[(&str, PathBuf)],
        out: &str,
        after: u64,
    ) -> Result<PathBuf, StageError> {
        let out = self.path(out);
        std::fs::create_dir_all(&out).unwrap();
        let ports = ["adapter", "last", "curves", "receipt", "timing", "samples", "answers", "report"];
        let input = |path: &PathBuf| JobInput {
            label: "x".into(),
            path: path.clone(),
            digest: "d1".into(),
            record: RecordType::Bytes,
            gathered: false,
        };
        let spec = JobSpec {
            kind: kind.into(),
            params,
            inputs: inputs.iter().map(|(port, path)| (port.to_string(), vec![input(path)])).collect(),
            outputs: ports.iter().map(|port| (port.to_string(), out.join(port))).collect(),
            checkpoint: Some(out.join("checkpoint")),
            ..JobSpec::default()
        };
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let cancel = Cancel::default();
        let sink = Canceller { after, seen: AtomicU64::new(0), cancel: cancel.clone() };
        execute(&Job::new(spec, &sink, cancel)).map(|()| out)
    }

    fn inputs(&self) -> Vec<(&'static str, PathBuf)> {
        vec![("train", self.path("train.jsonl")), ("val", self.path("val.jsonl")), ("base", self.base.clone())]
    }

    fn train(&self, params: Value, out: &str, after: u64) -> Result<PathBuf, StageError> {
        self.run("lora-train", params, &self.inputs(), out, after)
    }
}

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
