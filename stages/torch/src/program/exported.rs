//! That a model which `export` wrote computes what base and adapter compute together.

use std::path::Path;

use serde_json::json;
use tch::{Device, Tensor};
use watershed_engine::{Kind, job::run_alone};
use watershed_stages::export::Export;
use watershed_torch::{Compute, Lora, Model};
use watershed_weights::ModelFiles;

use super::fixture::{json as fixture_json, tiny_llama};

fn load(path: &Path) -> Model {
    Model::load(&ModelFiles::open(path).unwrap(), Compute::F32, Device::Cpu).unwrap()
}

fn largest(tensor: &Tensor) -> f64 {
    tensor.abs().max().double_value(&[])
}

#[test]
fn exported_models_give_the_merged_logits() {
    let (Some(base), Some(reference)) = (tiny_llama("model"), fixture_json("tiny-llama/reference.json")) else {
        return;
    };
    let tuned = tiny_llama("adapter_b_all_linear_rslora_micro_mean").unwrap();
    let ids: Vec<u32> = serde_json::from_value(reference["examples"][1]["ids"].clone()).unwrap();
    let model = load(&base);
    let lora = Lora::load(&tuned, &model).unwrap();
    let (plain, wanted) = (model.logits(None, &ids).unwrap(), model.merged(&lora).logits(None, &ids).unwrap());
    let scale = largest(&wanted);
    assert!(largest(&(&plain - &wanted)) > 0.2 * scale, "the adapter changes too little to tell");
    // roundings of 2^-11, 2^-8 and about 2^-8 of a weight add up over the layers
    for (format, dtype, share) in
        [("hf", "f16", 0.005), ("hf", "bf16", 0.05), ("gguf", "f16", 0.005), ("gguf", "q8_0", 0.05)]
    {
        let folder = tempfile::tempdir().unwrap();
        let inputs = [("base", "b", base.as_path()), ("adapter", "a", tuned.as_path())];
        let params = json!({"format": format, "dtype": dtype});
        run_alone(&Kind::of::<Export>(), params, &inputs, folder.path()).unwrap();
        let logits = load(&folder.path().join("model")).logits(None, &ids).unwrap();
        let off = largest(&(&logits - &wanted)) / scale;
        assert!(off < share, "{format} {dtype}: off by {off} of the largest logit");
    }
}
