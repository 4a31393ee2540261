//! Losses of a training run, from its curves.
//!
//! The paper's Table 2 gives averages over the run, so `train_loss` and `val_loss_mean` are such; what a user wants to know
//! is rather `val_loss_best` beside `val_loss_before`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};
use watershed_engine::{JobInput, StageError};

use super::numbers::{Numbers, mean};
use crate::record::lines;

type Line = Map<String, Value>;

/// Columns of a line that are no loss of a source.
const NOT_SOURCES: [&str; 5] = ["step", "epoch", "loss", "response_loss", "label_tokens"];

/// Sets the losses of each system.
///
/// # Errors
/// When a folder does not hold the two files of curves.
pub fn measure(curves: &[JobInput], numbers: &mut Numbers) -> Result<(), StageError> {
    for input in curves {
        let updates = read(&input.path, "metrics.jsonl")?;
        numbers.put(&input.label, "train_loss", mean(updates.iter().map(|line| number(line, "loss"))));
        numbers.put(
            &input.label,
            "train_response_loss",
            mean(updates.iter().map(|line| number(line, "response_loss"))),
        );
        numbers.put(&input.label, "updates", updates.len() as f64);
        measure_validation(&input.label, &read(&input.path, "eval.jsonl")?, numbers);
        measure_test(&input.label, &read(&input.path, "test.jsonl")?, numbers);
    }
    Ok(())
}

fn read(folder: &Path, file: &str) -> Result<Vec<Line>, StageError> {
    let path = folder.join(file);
    if file != "metrics.jsonl" && folder.is_dir() && !path.exists() {
        return Ok(Vec::new());
    }
    lines::read(&path)
}

fn number(line: &Line, name: &str) -> Option<f64> {
    line.get(name).and_then(Value::as_f64)
}

fn measure_validation(system: &str, lines: &[Line], numbers: &mut Numbers) {
    let trained: Vec<&Line> = lines.iter().filter(|line| number(line, "step") != Some(0.0)).collect();
    let before = lines.iter().find(|line| number(line, "step") == Some(0.0));
    let losses = || trained.iter().filter_map(|line| number(line, "loss"));
    numbers.put(system, "val_loss_before", before.and_then(|line| number(line, "loss")));
    numbers.put(system, "val_loss", losses().next_back());
    numbers.put(system, "val_loss_best", losses().min_by(f64::total_cmp));
    numbers.put(system, "val_loss_mean", mean(losses().map(Some)));
    for (source, loss) in trained.last().map(|line| sources(line)).unwrap_or_default() {
        numbers.put(system, &format!("val_loss.{source}"), loss);
    }
}

/// The base's line stands before the tuned model's.
fn measure_test(system: &str, lines: &[Line], numbers: &mut Numbers) {
    let loss = |line: Option<&Line>| line.and_then(|line| number(line, "loss"));
    numbers.put(system, "test_loss_before", loss(lines.iter().find(|line| number(line, "step") == Some(0.0))));
    numbers.put(system, "test_loss", loss(lines.iter().rfind(|line| number(line, "step") != Some(0.0))));
}

/// Returns the losses by source: an object `sources`, or columns `loss.SOURCE`.
fn sources(line: &Line) -> BTreeMap<String, f64> {
    let nested = line.get("sources").and_then(Value::as_object).into_iter().flatten();
    let flat = line.iter().filter(|(name, _)| !NOT_SOURCES.contains(&name.as_str()));
    let flat = flat.filter_map(|(name, value)| Some((name.strip_prefix("loss.")?, value)));
    nested
        .map(|(name, value)| (name.as_str(), value))
        .chain(flat)
        .filter_map(|(name, v)| Some((name.to_string(), v.as_f64()?)))
        .collect()
}
