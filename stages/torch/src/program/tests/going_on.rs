//! Trainings that go on from an adapter.

use super::*;

/// An adapter of rank 4 on q and v, after an epoch.
fn trained(project: &Project) -> PathBuf {
    let params =
        with(json!({"epochs": 1, "lora": {"r": 4, "targets": ["q_proj", "v_proj"]}, "checks": {"eos": "off"}}));
    project.train(params, "trained", 0).unwrap()
}

#[test]
fn training_goes_on_from_an_adapter_with_its_settings() {
    let Some(project) = Project::new() else { return };
    let first = trained(&project);
    let params = with(json!({"lora": {}, "epochs": 1, "checks": {"eos": "off"}}));
    let second = project.train_on(&first.join("adapter"), params, "second").unwrap();
    let config = report(&second, "adapter/adapter_config.json");
    assert_eq!((&config["r"], &config["lora_alpha"]), (&json!(4), &json!(8)));
    assert_eq!(config["target_modules"], json!(["q_proj", "v_proj"]));
    let (before, after) = (numbers(&first, "eval.jsonl", "loss"), numbers(&second, "eval.jsonl", "loss"));
    assert!((after[0] - before[1]).abs() < 1e-6 && after[1] < after[0], "{before:?} {after:?}");
    let told = project.logged("note").join("\n");
    let words = format!(
        "goes on from an adapter with r 4, alpha 8, dropout 0.05, q_proj v_proj; its validation loss is {:.4}",
        after[0]
    );
    assert!(told.contains(&words), "{told}");
    assert_eq!(project.logged("warn"), Vec::<String>::new());
}

#[test]
fn written_key_that_is_not_the_adapters_is_refused_with_both_values() {
    let Some(project) = Project::new() else { return };
    let first = trained(&project).join("adapter");
    let train_on = |lora: Value, out: &str| {
        let params = with(json!({"lora": lora, "max_steps": 1, "warmup": 0, "checks": {"eos": "off"}}));
        project.train_on(&first, params, out).map_err(|e| e.to_string())
    };
    let written = json!({"r": 8, "variant": "rslora", "alpha": 8, "written": ["alpha", "r", "variant"]});
    let error = train_on(written, "other").unwrap_err();
    assert!(
        error.contains("`lora.r` is 8, the adapter's is 4, `lora.variant` is rslora, the adapter's is lora;"),
        "{error}"
    );
    train_on(json!({"r": 4, "written": ["r"]}), "same").unwrap();
}

#[test]
fn adapter_of_other_shapes_is_refused_and_one_of_another_base_warned_of() {
    let Some(project) = Project::new() else { return };
    let adapter = trained(&project).join("adapter");
    let card = std::fs::read_to_string(adapter.join("watershed.json")).unwrap();
    std::fs::write(adapter.join("watershed.json"), card.replace("blake3:d1", "blake3:d2")).unwrap();
    let params = with(json!({"lora": {}, "max_steps": 1, "warmup": 0, "checks": {"eos": "off"}}));
    project.train_on(&adapter, params.clone(), "warned").unwrap();
    let warned = project.logged("warn");
    assert!(warned[0].contains("another base (blake3:d2, not blake3:d1)"), "{warned:?}");
    let weights = adapter.join("adapter_model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let swapped = file.tensors().into_iter().map(|(name, view)| {
        let shape =
            if name.contains("lora_A") { view.shape().iter().rev().copied().collect() } else { view.shape().to_vec() };
        (name, safetensors::tensor::TensorView::new(view.dtype(), shape, view.data()).unwrap())
    });
    let swapped = safetensors::serialize(swapped, None).unwrap();
    std::fs::write(&weights, swapped).unwrap();
    let error = project.train_on(&adapter, params, "refused").unwrap_err().to_string();
    assert!(error.contains("has rank 64, `adapter_config.json` says 4"), "{error}");
}

#[test]
fn adapter_to_go_on_from_is_the_best_when_no_update_makes_it_better() {
    let Some(project) = Project::new() else { return };
    let first = project.train(with(json!({"epochs": 6})), "first", 0).unwrap();
    let spoiling = with(
        json!({"lora": {}, "lr": 3.0, "warmup": 0.0, "schedule": "constant", "max_steps": 2, "eval_every": 1, "checks": {"eos": "off"}}),
    );
    let second = project.train_on(&first.join("adapter"), spoiling, "second").unwrap();
    assert!(adapter_bytes(&second, "adapter") == adapter_bytes(&first, "adapter"));
    assert!(adapter_bytes(&second, "last") != adapter_bytes(&first, "adapter"));
    assert_eq!(report(&second, "receipt")["adapter_from_update"], 0);
    let warned = project.logged("warn").join("\n");
    assert!(warned.contains("no update made the adapter to go on from better"), "{warned}");
}

#[test]
fn what_decides_memory_is_the_adapters_in_the_preview_and_in_the_training() {
    let Some(project) = Project::new() else { return };
    let adapter = trained(&project).join("adapter");
    let model = watershed_weights::ModelFiles::open(&project.base).unwrap();
    let told = watershed_stages::lora_train::Origin::open(&adapter, model.config()).unwrap().lora();
    let model = watershed_torch::Model::load(&model, watershed_torch::Compute::F32, tch::Device::Cpu).unwrap();
    let held = crate::program::start::settings(watershed_torch::Lora::load(&adapter, &model).unwrap().config());
    assert_eq!((held.r, held.dropout, held.target_names()), (told.r, told.dropout, told.target_names()));
}
