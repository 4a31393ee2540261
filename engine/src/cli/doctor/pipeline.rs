//! The pipeline: its faults counted, and whether the variables are set that its stages take keys from. Never their values.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::{Finding, State};
use crate::language::{self, Kinds, LoadRequest};
use crate::stage::Kind;
use crate::study::Study;

pub fn findings(file: &Path, is_named: bool, kinds: fn() -> Vec<Kind>) -> Vec<Finding> {
    if !is_named && !file.exists() {
        let found = "no watershed.yaml in this folder";
        return vec![Finding::new("pipeline", State::Note, found).help("`watershed init` writes one that runs")];
    }
    let study = match language::load(&LoadRequest::new(file), &Kinds::new(kinds())) {
        Ok(study) => study,
        Err(faults) => {
            let found = format!("{} has {} faults", file.display(), faults.errors.len());
            return vec![Finding::new("pipeline", State::Problem, found).help("`watershed check` tells them")];
        }
    };
    let mut all = vec![Finding::new("pipeline", State::Ok, format!("{}: no faults", file.display()))];
    all.extend(keys(&study).into_iter().map(|(stage, variable)| key(&stage, &variable)));
    all
}

/// Returns the stages that take a secret from the environment, and its variable: `run: {KEY: {env: NAME}}`.
fn keys(study: &Study) -> BTreeSet<(String, String)> {
    let stages = study.cases.iter().flat_map(|case| &case.stages);
    let named = stages.flat_map(|stage| {
        let own = stage.run.own.as_object().into_iter().flatten();
        own.filter_map(|(_, value)| Some((stage.name.clone(), value.get("env").and_then(Value::as_str)?.to_string())))
    });
    named.collect()
}

fn key(stage: &str, variable: &str) -> Finding {
    let is_set = std::env::var_os(variable).is_some_and(|value| !value.is_empty());
    if is_set {
        return Finding::new("key", State::Ok, format!("`{variable}` is set, for stage `{stage}`"));
    }
    let found = format!("`{variable}` is not set: stage `{stage}` has only the replies that it remembers");
    Finding::new("key", State::Note, found).help(format!("export {variable}=..."))
}
