//! Which of PEFT's settings are understood.
//!
//! PEFT has many ways to make an adapter. One whose numbers mean anything else than `B A * scale` over the base as it stands
//! is refused by name: read as plain LoRA, it would answer wrongly without a word.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{CONFIG, PREFIX, Pair, pattern};

type Checked = Result<(), String>;

/// Settings that ask for more than a low-rank product on each token.
const MORE: [&str; 10] = [
    "modules_to_save",
    "lora_bias",
    "fan_in_fan_out",
    "alora_invocation_tokens",
    "layer_replication",
    "use_qalora",
    "use_bdlora",
    "arrow_config",
    "kasa_config",
    "trainable_token_indices",
];

/// Starts of `A` and `B` that leave the base as it was (PEFT 0.21, `tuners/lora/layer.py`, `*_init`).
const PLAIN_STARTS: [&str; 4] = ["gaussian", "eva", "orthogonal", "mica"];

/// Checks `adapter_config.json` on its own.
pub(super) fn check(json: &Value) -> Checked {
    check_kind(json)?;
    check_start(&json["init_lora_weights"])?;
    ["rank_pattern", "alpha_pattern"].into_iter().try_for_each(|field| check_keys(field, &json[field]))
}

/// Checks that the tensors are those that `adapter_config.json` describes.
pub(super) fn check_agreement(json: &Value, pairs: &[Pair]) -> Checked {
    for Pair { module, r, .. } in pairs {
        let said = pattern(&json["rank_pattern"], module).or(json["r"].as_f64());
        if let Some(said) = said.filter(|said| *said != *r as f64) {
            let name = format!("{PREFIX}{module}.lora_A.weight");
            return Err(format!("`{name}` has rank {r}, `{CONFIG}` says {said}: {TOGETHER}"));
        }
    }
    check_targets(json, pairs)?;
    check_layers(json, pairs)
}

/// PEFT adapts the modules that the configuration names and passes over other tensors of the file.
fn check_targets(json: &Value, pairs: &[Pair]) -> Checked {
    let names = |module: &str, target: &str| module == target || module.ends_with(&format!(".{target}"));
    let (targets, excluded) = (json["target_modules"].as_array(), &json["exclude_modules"]);
    if excluded.as_str().is_some_and(|pattern| !pattern.is_empty()) {
        return Err(format!(
            "`exclude_modules` is {excluded}, a regular expression, which is not supported: write a list"
        ));
    }
    for Pair { module, .. } in pairs {
        if texts(excluded).any(|target| names(module, target)) {
            return Err(format!("`exclude_modules` leaves out `{module}`, which the file adapts: {TOGETHER}"));
        }
        let is_target = |target: &Value| target.as_str().is_some_and(|target| names(module, target));
        if targets.is_some_and(|targets| !targets.iter().any(is_target)) {
            return Err(format!("`target_modules` does not name `{module}`, which the file adapts: {TOGETHER}"));
        }
    }
    Ok(())
}

const TOGETHER: &str = "give the two files that were saved together";

fn check_kind(json: &Value) -> Checked {
    let kind = json["peft_type"].as_str().unwrap_or("nothing");
    if kind != "LORA" {
        return Err(format!("`peft_type` is `{kind}`: only LORA is supported"));
    }
    if json["use_dora"].as_bool() == Some(true) {
        return Err("DoRA adapters (`use_dora`) are not supported: merge it into its base with PEFT".to_owned());
    }
    let is_empty = |value: &Value| *value == json!([]) || *value == json!({});
    let is_set = |key: &&str| !matches!(&json[*key], Value::Null | Value::Bool(false)) && !is_empty(&json[*key]);
    match MORE.iter().find(|key| is_set(key)) {
        Some(key) => Err(format!("`{key}` is set, which is not supported")),
        None if json["r"].as_u64().is_some_and(|r| r > 0) && json["lora_alpha"].is_number() => Ok(()),
        None => Err("`r` or `lora_alpha` is missing".to_owned()),
    }
}

/// PiSSA and its like take a part out of the base and train that: their numbers belong to the base that is left.
fn check_start(start: &Value) -> Checked {
    let name = start.as_str().unwrap_or_default();
    let is_plain =
        matches!(start, Value::Null | Value::Bool(_)) || PLAIN_STARTS.contains(&name.to_lowercase().as_str());
    if is_plain {
        return Ok(());
    }
    let name = if name.is_empty() { start.to_string() } else { name.to_owned() };
    Err(format!(
        "`init_lora_weights` is `{name}`, so the adapter belongs to a base that its start has changed: convert it to plain LoRA with PEFT's `save_pretrained(folder, path_initial_model_for_weight_conversion=start)`, or merge it into its own base with PEFT"
    ))
}

/// PEFT matches keys as regular expressions; in a plain name the dot that matches anything meets the dot.
fn check_keys(field: &str, patterns: &Value) -> Checked {
    let is_plain = |key: &str| key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    for (key, value) in patterns.as_object().into_iter().flatten() {
        if !is_plain(key) {
            return Err(format!(
                "`{field}` has the key `{key}`, a regular expression, which is not supported: write the key of each module instead, such as `layers.0.self_attn.q_proj`"
            ));
        }
        if !value.is_number() {
            return Err(format!("`{field}` has {value} for `{key}`: expected a number"));
        }
    }
    Ok(())
}

/// Modules that `target_modules` names in full are adapted whatever the layers say (PEFT `check_target_module_exists`).
fn check_layers(json: &Value, pairs: &[Pair]) -> Checked {
    let named: BTreeSet<u64> = numbers(&json["layers_to_transform"]).collect();
    if named.is_empty() {
        return Ok(());
    }
    let pattern = &json["layers_pattern"];
    if texts(pattern).next().is_some() && texts(pattern).all(|text| text != "layers") {
        return Err(format!("`layers_pattern` is {pattern}, the file adapts modules of `layers`: {TOGETHER}"));
    }
    let is_target = |pair: &&Pair| texts(&json["target_modules"]).any(|target| target == pair.module);
    let adapted: BTreeSet<u64> = pairs.iter().map(|pair| pair.layer as u64).collect();
    let by_layer: BTreeSet<u64> = pairs.iter().filter(|pair| !is_target(pair)).map(|pair| pair.layer as u64).collect();
    if let Some(layer) = by_layer.difference(&named).next() {
        return Err(format!("`layers_to_transform` leaves out layer {layer}, which the file adapts: {TOGETHER}"));
    }
    match named.difference(&adapted).next() {
        Some(layer) => {
            Err(format!("`layers_to_transform` names layer {layer}, which the file does not adapt: {TOGETHER}"))
        }
        None => Ok(()),
    }
}

/// PEFT takes one or a list of them.
fn numbers(value: &Value) -> impl Iterator<Item = u64> + '_ {
    value.as_u64().into_iter().chain(value.as_array().into_iter().flatten().filter_map(Value::as_u64))
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    let one = value.as_str().filter(|text| !text.is_empty());
    one.into_iter().chain(value.as_array().into_iter().flatten().filter_map(Value::as_str))
}
