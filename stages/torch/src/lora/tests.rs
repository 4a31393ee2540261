//! What an adapter adds, how it starts, and that it is read as it was written.

use super::*;
use crate::fixture::{Fixture, largest_difference};

const RUNS: [&str; 2] = ["a_qv_token_mean", "b_all_linear_rslora_micro_mean"];

#[test]
fn tuned_logits_are_those_of_peft_merged_or_not() {
    let Some(fixture) = Fixture::open() else { return };
    let (model, ids) = (fixture.model("model"), fixture.ids("plain.input_ids"));
    for run in RUNS {
        let lora = Lora::load(&fixture.path(&format!("adapter_{run}")), &model).unwrap();
        let wanted = fixture.floats(&format!("{run}.logits"));
        let applied = model.logits(Some(&lora), &ids).unwrap();
        let merged = model.merged(&lora).logits(None, &ids).unwrap();
        assert!(largest_difference(&applied, &wanted) < 1e-4, "{run}");
        assert!(largest_difference(&merged, &wanted) < 1e-4, "{run} merged");
        // what merging changes is rounding, in another order here than there
        let changed = (&merged - &applied).abs().max().double_value(&[]);
        let theirs = fixture.reference["runs"][run]["merged_vs_unmerged_max_abs"].as_f64().unwrap();
        assert!(changed > 0.0 && changed < 4.0 * theirs, "{run}: merging changes {changed}, in PEFT {theirs}");
    }
}

#[test]
fn fresh_adapter_changes_nothing() {
    let Some(fixture) = Fixture::open() else { return };
    let (model, ids) = (fixture.model("model"), fixture.ids("plain.input_ids"));
    let lora = Lora::new(&model, &fixture.run(RUNS[1]).lora(), 3).unwrap();
    let plain: Vec<f32> = model.logits(None, &ids).unwrap().flatten(0, -1).try_into().unwrap();
    assert_eq!(largest_difference(&model.logits(Some(&lora), &ids).unwrap(), &plain), 0.0);
    assert!(lora.b_norms().iter().all(|(_, norm)| *norm == 0.0));
}

#[test]
fn start_has_the_bound_of_peft_and_depends_on_the_seed() {
    let Some(fixture) = Fixture::open() else { return };
    let model = fixture.model("model");
    let config = fixture.run(RUNS[0]).lora();
    let start = |seed| Lora::new(&model, &config, seed).unwrap().numbers();
    assert_eq!(start(1), start(1));
    assert_ne!(start(1), start(2));
    let peft = Lora::load(&fixture.path(&format!("adapter_{}_init", RUNS[0])), &model).unwrap().numbers();
    let largest = |numbers: &[f32]| numbers.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    assert!((largest(&start(1)) - largest(&peft)).abs() < 0.01 * largest(&peft));
    assert_eq!(start(1).len(), peft.len());
}

#[test]
fn gaussian_start_deviates_by_the_rank_and_b_starts_at_zero() {
    let Some(fixture) = Fixture::open() else { return };
    let model = fixture.model("model");
    let config = LoraConfig { r: 8, init: Init::Gaussian, ..fixture.run(RUNS[1]).lora() };
    let lora = Lora::new(&model, &config, 3).unwrap();
    let b_start = lora.flat().1 as usize;
    let numbers = lora.numbers();
    let n = b_start as f64;
    let deviation = (numbers[..b_start].iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / n).sqrt();
    // five standard errors of a deviation
    assert!((deviation * 8.0 - 1.0).abs() < 5.0 / (2.0 * n).sqrt(), "{deviation} of {n} numbers");
    assert!(numbers[b_start..].iter().all(|x| *x == 0.0));
}

#[test]
fn saved_adapter_loads_as_it_was() {
    let Some(fixture) = Fixture::open() else { return };
    let model = fixture.model("model");
    let folder = tempfile::tempdir().unwrap();
    for run in RUNS {
        let original = fixture.path(&format!("adapter_{run}"));
        let lora = Lora::load(&original, &model).unwrap();
        lora.save(folder.path(), "blake3:00").unwrap();
        let again = Lora::load(folder.path(), &model).unwrap();
        assert_eq!((lora.config(), lora.numbers()), (again.config(), again.numbers()));
        // PEFT's own file, key for key and byte for byte.
        let shard =
            |folder: &Path| watershed_weights::folder::Shard::open(&folder.join("adapter_model.safetensors")).unwrap();
        let (ours, theirs) = (shard(folder.path()), shard(&original));
        assert!(ours.names().eq(theirs.names()));
        assert!(ours.names().all(|name| ours.raw(name) == theirs.raw(name)));
    }
}

#[test]
fn adapters_that_do_not_fit_are_refused_by_name() {
    let Some(fixture) = Fixture::open() else { return };
    let model = fixture.model("model");
    let refusal = |folder: &Path| Lora::load(folder, &model).err().expect("it should be refused").to_string();
    assert!(refusal(&fixture.path("adapter_c_dora")).contains("use_dora"));
    let folder = tempfile::tempdir().unwrap();
    assert!(refusal(folder.path()).contains("adapter_config.json"));
    let original = fixture.path(&format!("adapter_{}", RUNS[0]));
    std::fs::copy(original.join("adapter_config.json"), folder.path().join("adapter_config.json")).unwrap();
    std::fs::write(folder.path().join("adapter_model.bin"), b"\x80").unwrap();
    assert!(refusal(folder.path()).contains("never unpickled"));
    let weights = std::fs::read(original.join("adapter_model.safetensors")).unwrap();
    std::fs::write(folder.path().join("adapter_model.safetensors"), &weights[..weights.len() - 4]).unwrap();
    assert!(refusal(folder.path()).contains("adapter_model.safetensors"));
}

#[test]
fn folding_under_bf16_rounds_once() {
    let Some(fixture) = Fixture::open() else { return };
    let files = watershed_weights::ModelFiles::open(&fixture.path("model")).unwrap();
    let model = Model::load(&files, crate::Compute::Bf16, Device::Cpu).unwrap();
    for run in RUNS {
        let folder = fixture.path(&format!("adapter_{run}"));
        let (lora, adapter) =
            (Lora::load(&folder, &model).unwrap(), watershed_weights::Adapter::open(&folder, files.config()).unwrap());
        for (index, pair) in lora.pairs.iter().enumerate() {
            // what `export` merges
            let mut wanted = vec![0.0; pair.shape[0] * pair.shape[1]];
            adapter.merge(&adapter.pairs[index].module, &mut wanted);
            let largest = wanted.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            let off = largest_difference(&lora.delta(pair.layer, pair.target).unwrap(), &wanted);
            // the order of a few sums of f32; rounding to bf16 before would be off by 2^-9
            assert!(off < f64::from(largest) * 1e-5, "{run}, {}: off by {off} of {largest}", pair.module);
        }
    }
}
