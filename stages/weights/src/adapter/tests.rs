//! What an adapter adds, and which adapters are refused.

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::ModelFiles;
use crate::fixture::{copy, tiny_llama};

#[test]
fn merging_adds_the_product_and_leaves_others_alone() {
    let pair = Pair { module: "m".into(), layer: 0, projection: 0, shape: [2, 3], r: 2, alpha: 4.0 };
    let numbers = vec![1.0, 2.0, 3.0, 0.0, 1.0, 0.0, 1.0, 0.0, 2.0, -1.0];
    let adapter = Adapter { config: json!({}), pairs: vec![pair], numbers };
    let mut weights = vec![1.0; 6];
    adapter.merge("other", &mut weights);
    assert_eq!(weights, [1.0; 6]);
    adapter.merge("m", &mut weights);
    assert_eq!(weights, [3.0, 5.0, 7.0, 5.0, 7.0, 13.0]);
    let rslora = Adapter { config: json!({"use_rslora": true}), ..adapter };
    assert_eq!(rslora.scale(&rslora.pairs[0]), 4.0 / 2f64.sqrt());
}

#[test]
fn adapters_that_do_not_fit_are_refused_by_name() {
    let (Some(model), Some(dora)) = (tiny_llama("model"), tiny_llama("adapter_c_dora")) else { return };
    let config = ModelFiles::open(&model).unwrap().config().clone();
    let refusal = |folder: &Path, config: &LlamaConfig| Adapter::open(folder, config).unwrap_err().to_string();
    assert!(refusal(&dora, &config).contains("use_dora"));
    let sound = tiny_llama("adapter_a_qv_token_mean").unwrap();
    let wider = LlamaConfig { hidden: 2 * config.hidden, ..config.clone() };
    assert!(refusal(&sound, &wider).contains("is it another model's adapter?"));
    let shallow = LlamaConfig { layers: 1, ..config.clone() };
    assert!(refusal(&sound, &shallow).contains("the base has no projection `model.layers."));
    let folder = tempfile::tempdir().unwrap();
    copy(&sound, folder.path());
    let weights = std::fs::read(sound.join(WEIGHTS)).unwrap();
    std::fs::write(folder.path().join(WEIGHTS), &weights[..weights.len() - 4]).unwrap();
    assert!(refusal(folder.path(), &config).contains(WEIGHTS));
}

/// PEFT's adapter of the fixture, copied, with these keys in its configuration.
fn with(keys: Value) -> Option<tempfile::TempDir> {
    let folder = tempfile::tempdir().unwrap();
    copy(&tiny_llama("adapter_a_qv_token_mean")?, folder.path());
    let path = folder.path().join(CONFIG);
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    std::fs::write(&path, config.to_string()).unwrap();
    Some(folder)
}

/// Opens that adapter over the fixture's base.
fn opened(keys: Value) -> Option<std::result::Result<Adapter, String>> {
    let (model, folder) = (tiny_llama("model")?, with(keys)?);
    let config = ModelFiles::open(&model).unwrap().config().clone();
    Some(Adapter::open(folder.path(), &config).map_err(|e| e.to_string()))
}

fn assert_refused(keys: Value, words: &str) {
    let Some(opened) = opened(keys.clone()) else { return };
    let message = opened.err().unwrap_or_else(|| panic!("{keys} was not refused"));
    assert!(message.contains(words), "{keys}: {message}");
}

#[test]
fn a_number_that_is_none_is_refused_by_its_tensor_and_file() {
    let (Some(model), Some(folder)) = (tiny_llama("model"), with(json!({}))) else { return };
    let path = folder.path().join(WEIGHTS);
    let (mut bytes, name) =
        (std::fs::read(&path).unwrap(), "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight");
    let place = Shard::open(&path).unwrap().raw(name).unwrap().to_vec();
    let at = bytes.windows(place.len()).position(|window| window == place).unwrap();
    bytes[at + 8..at + 12].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let config = ModelFiles::open(&model).unwrap().config().clone();
    let message = Adapter::open(folder.path(), &config).unwrap_err().to_string();
    let wanted = format!(
        "`{}` is not a usable model file: `{name}` holds NaN: train the adapter again, or take an earlier checkpoint of it",
        path.display()
    );
    assert_eq!(message, wanted);
}

#[test]
fn regular_expressions_in_patterns_are_refused_and_plain_names_read() {
    for field in ["rank_pattern", "alpha_pattern"] {
        for key in
            ["layers\\.\\d+\\.self_attn\\.q_proj", "^model.layers.0.self_attn.q_proj", "q_proj|v_proj", ".*q_proj"]
        {
            assert_refused(json!({field: {key: 8}}), &format!("`{field}` has the key `{key}`, a regular expression"));
        }
    }
    let plain =
        json!({"alpha_pattern": {"layers.1.self_attn.q_proj": 160, "v_proj": 4}, "rank_pattern": {"q_proj": 8}});
    let Some(adapter) = opened(plain) else { return };
    let adapter = adapter.unwrap();
    let alpha = |module: &str| adapter.pair(module).unwrap().1.alpha;
    let found =
        ["0.self_attn.q_proj", "1.self_attn.q_proj", "1.self_attn.v_proj"].map(|m| alpha(&format!("model.layers.{m}")));
    assert_eq!(found, [16.0, 160.0, 4.0]);
}

#[test]
fn starts_that_change_the_base_are_refused_by_name_and_others_read() {
    for start in ["pissa", "pissa_niter_16", "olora", "corda", "lora_ga", "loftq", "tomorrows"] {
        assert_refused(json!({"init_lora_weights": start}), &format!("`init_lora_weights` is `{start}`"));
        assert_refused(json!({"init_lora_weights": start}), "path_initial_model_for_weight_conversion");
    }
    for start in [json!(true), json!(false), json!(null), json!("gaussian"), json!("eva"), json!("orthogonal")] {
        let Some(opened) = opened(json!({"init_lora_weights": start})) else { return };
        opened.unwrap();
    }
}

#[test]
fn what_is_more_than_low_rank_is_refused_by_name() {
    let tokens = json!([1, 2]);
    for (key, value) in
        [("alora_invocation_tokens", &tokens), ("layer_replication", &tokens), ("use_qalora", &json!(true))]
    {
        assert_refused(json!({key: value}), &format!("`{key}` is set, which is not supported"));
    }
}

#[test]
fn ranks_that_are_not_the_tensors_are_refused() {
    assert_refused(json!({"r": 32}), "q_proj.lora_A.weight` has rank 8, `adapter_config.json` says 32");
    assert_refused(
        json!({"rank_pattern": {"v_proj": 4}}),
        "v_proj.lora_A.weight` has rank 8, `adapter_config.json` says 4",
    );
}

#[test]
fn modules_that_the_configuration_does_not_name_are_refused() {
    assert_refused(json!({"target_modules": ["q_proj"]}), "`target_modules` does not name `model.layers.0.self_attn.");
    assert_refused(json!({"exclude_modules": ["v_proj"]}), "v_proj`, which the file adapts");
    assert_refused(json!({"exclude_modules": ".*v_proj"}), "a regular expression, which is not supported");
    let Some(opened) = opened(json!({"target_modules": "all-linear", "exclude_modules": null})) else { return };
    opened.unwrap();
}

#[test]
fn layers_that_are_not_the_tensors_are_refused() {
    assert_refused(
        json!({"layers_to_transform": [0]}),
        "`layers_to_transform` leaves out layer 1, which the file adapts",
    );
    assert_refused(json!({"layers_to_transform": 0}), "`layers_to_transform` leaves out layer 1");
    let Some(model) = tiny_llama("model") else { return };
    let count = ModelFiles::open(&model).unwrap().config().layers;
    let layers: Vec<usize> = (0..count).collect();
    assert_refused(
        json!({"layers_to_transform": (0..=count).collect::<Vec<usize>>()}),
        &format!("`layers_to_transform` names layer {count}, which the file does not adapt"),
    );
    assert_refused(json!({"layers_to_transform": layers, "layers_pattern": "h"}), "`layers_pattern` is \"h\"");
    let Some(opened) = opened(json!({"layers_to_transform": layers, "layers_pattern": ["layers"]})) else { return };
    opened.unwrap();
}
