//! What is told of rows and rates: the receipt beside the preview, and what neither lets through.

use watershed_engine::Stage;
use watershed_engine::preview::PreviewInputs;
use watershed_stages::lora_train::LoraTrain;

use super::*;

/// The program's inputs as a preview sees them.
fn previewed(project: &Project) -> PreviewInputs {
    let mut inputs = PreviewInputs::default();
    inputs.ports.extend(project.inputs().into_iter().map(|(port, path)| (port.into(), vec![(port.into(), path)])));
    inputs
}

#[test]
fn receipt_and_preview_agree_on_a_training_to_its_end() {
    let Some(project) = Project::new() else { return };
    let params = with(
        json!({"max_len": 140, "overflow": "truncate", "batch_size": 5, "tail": "carry", "schedule": "cosine", "warmup": 0.3, "checks": {"eos": "off"}}),
    );
    let out = project.train(params.clone(), "out", 0).unwrap();
    let preview = serde_json::from_value::<LoraTrain>(params).unwrap().preview(&previewed(&project)).unwrap();
    let facts: BTreeMap<String, Value> = preview.facts.into_iter().collect();
    let receipt = report(&out, "receipt");
    let (rows, schedule) = (&receipt["rows"], &receipt["schedule"]);
    assert!(rows["cut"].as_u64().unwrap() > 0, "{rows}");
    for (fact, found) in [
        ("rows", &rows["train"]),
        ("rows_cut", &rows["cut"]),
        ("label_tokens", &receipt["labels"]["tokens"]),
        ("updates", &schedule["updates"]),
        ("updates", &schedule["reached"]["updates"]),
    ] {
        assert_eq!(&facts[fact], found, "{fact}");
    }
    for name in ["max_lr", "sum_lr"] {
        let wanted = facts[name].as_f64().unwrap();
        // a preview shows four digits
        for part in [schedule, &schedule["reached"]] {
            assert!((part[name].as_f64().unwrap() / wanted - 1.0).abs() < 1e-3, "{name}: {part}, {wanted}");
        }
    }
}

/// Leaves in a file the rows with an input: their prompts alone are longer than 70 tokens.
fn keep_long(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let is_long =
        |line: &&str| serde_json::from_str::<Value>(line).unwrap()["input"].as_str().is_some_and(|i| !i.is_empty());
    std::fs::write(path, text.lines().filter(is_long).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

#[test]
fn rows_of_which_nothing_is_left_are_refused_before_the_base_is_loaded() {
    let Some(project) = Project::new() else { return };
    let short = |overflow: &str| with(json!({"max_len": 70, "overflow": overflow}));
    keep_long(&project.path("val.jsonl"));
    for overflow in ["drop", "truncate"] {
        let error = project.train(short(overflow), "val", 0).unwrap_err().to_string();
        assert!(error.contains("rows of `val` has a label at `max_len: 70`"), "{error}");
    }
    keep_long(&project.path("train.jsonl"));
    let inputs = [("train", project.path("train.jsonl")), ("base", project.base.clone())];
    let error = project.run("lora-train", short("truncate"), &inputs, "train", 0).unwrap_err().to_string();
    assert!(error.starts_with("update 1 has no label: every response of its rows was cut off"), "{error}");
}
