//! Runs of PEFT that the trainer repeats, and what it promises beyond them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::*;
use crate::evaluate;
use crate::fixture::{Fixture, Run};

fn validation(fixture: &Fixture, model: &Model, lora: &Lora, run: &Run) -> f64 {
    let train: usize = run.json["batches"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|update| update.as_array().unwrap())
        .flat_map(|micro| micro.as_array().unwrap())
        .map(|row| row.as_u64().unwrap() as usize)
        .max()
        .unwrap();
    let rows = fixture.rows(false);
    evaluate(model, Some(lora), &rows[train + 1..], 1000).unwrap().loss().unwrap()
}

fn assert_run(name: &'static str) {
    let Some(fixture) = Fixture::open() else { return };
    let (run, model) = (fixture.run(name), fixture.model("model"));
    let lora = Lora::load(&fixture.path(&format!("adapter_{name}_init")), &model).unwrap();
    assert_eq!(lora.parameters() as u64, run.json["trainable"].as_u64().unwrap());
    let before = validation(&fixture, &model, &lora, &run);
    assert!((before - run.json["val_loss_before"].as_f64().unwrap()).abs() < 1e-4, "{before} before");
    let mut trainer = Trainer::new(&model, lora, run.optimizer());
    let batches = run.batches(&fixture.rows(run.train_on_inputs()));
    for (step, micros) in batches.iter().enumerate() {
        let report = trainer.step(micros, &run.step(step)).unwrap();
        let wanted = &run.json["steps"][step];
        let (loss, norm) = (wanted["loss"].as_f64().unwrap(), wanted["grad_norm"].as_f64().unwrap());
        assert!((report.loss - loss).abs() < 1e-4, "step {}: loss {} for {loss}", report.step, report.loss);
        assert!(
            (report.grad_norm / norm - 1.0).abs() < 1e-3,
            "step {}: norm {} for {norm}",
            report.step,
            report.grad_norm
        );
        assert_eq!(Some(report.label_tokens), wanted["label_tokens"].as_u64(), "step {}", report.step);
    }
    let after = validation(&fixture, &model, trainer.lora(), &run);
    assert!((after - run.json["val_loss_after"].as_f64().unwrap()).abs() < 1e-4, "{after} after");
    let wanted = Lora::load(&fixture.path(&format!("adapter_{}", run.name)), &model).unwrap().numbers();
    let off = trainer.lora().numbers().iter().zip(&wanted).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(off < 1e-3, "the adapter is off by {off}");
}

#[test]
fn token_mean_run_is_that_of_peft() {
    assert_run("a_qv_token_mean");
}

#[test]
fn micro_mean_run_with_rslora_on_all_projections_is_that_of_peft() {
    assert_run("b_all_linear_rslora_micro_mean");
}

/// Dropout draws from libtorch's one generator of a process, which a training has to itself, and so have these tests.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A trainer with dropout, so that resuming must also restore the randomness.
fn with_dropout<'a>(model: &'a Model, run: &Run) -> Trainer<'a> {
    let config = crate::LoraConfig { dropout: 0.3, ..run.lora() };
    Trainer::new(model, Lora::new(model, &config, 5).unwrap(), run.optimizer())
}

#[test]
fn resumed_training_equals_the_uninterrupted_bit_for_bit() {
    let _turn = alone();
    let Some(fixture) = Fixture::open() else { return };
    let (run, model) = (fixture.run("a_qv_token_mean"), fixture.model("model"));
    let batches = run.batches(&fixture.rows(false));
    let file = tempfile::tempdir().unwrap().keep().join("state.safetensors");
    let mut whole = with_dropout(&model, &run);
    let mut reports = Vec::new();
    for (step, micros) in batches[..6].iter().enumerate() {
        let (first, others) = micros.split_first().unwrap();
        whole.accumulate(first, &run.step(step)).unwrap();
        if step == 3 {
            whole.save_state(&file).unwrap();
        }
        others.iter().for_each(|micro| whole.accumulate(micro, &run.step(step)).unwrap());
        reports.push(whole.update(&run.step(step)).unwrap());
    }
    let mut resumed = with_dropout(&model, &run);
    assert!(resumed.load_state(&file, 4).unwrap_err().to_string().contains("not the state after update 4"));
    resumed.load_state(&file, 3).unwrap();
    assert_eq!(resumed.steps_done(), 3);
    for step in 3..6 {
        let left = &batches[step][usize::from(step == 3)..];
        left.iter().for_each(|micro| resumed.accumulate(micro, &run.step(step)).unwrap());
        assert_eq!(resumed.update(&run.step(step)).unwrap(), reports[step]);
    }
    assert_eq!(resumed.lora().numbers(), whole.lora().numbers());
    std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
}

#[test]
fn dropout_depends_on_the_seed_and_stops_at_evaluation() {
    let _turn = alone();
    let Some(fixture) = Fixture::open() else { return };
    let (run, model) = (fixture.run("a_qv_token_mean"), fixture.model("model"));
    let batches = run.batches(&fixture.rows(false));
    let trained = |seed| {
        let mut trainer = with_dropout(&model, &run);
        for (step, micros) in batches[..3].iter().enumerate() {
            trainer.step(micros, &StepConfig { seed, lr: 0.01, ..run.step(step) }).unwrap();
        }
        trainer
    };
    let (one, two) = (trained(1), trained(2));
    assert_ne!(one.lora().numbers(), two.lora().numbers());
    let loss = || evaluate(&model, Some(one.lora()), &batches[0][0], 1000).unwrap();
    assert_eq!(loss(), loss());
}

/// A trainer of all projections of a small model, its `B`s no longer at zero.
fn on<'a>(model: &'a Model, dropout: f64, b_lr_ratio: f64) -> Trainer<'a> {
    let (targets, scaling) = (crate::Target::ALL.to_vec(), crate::Scaling::Lora);
    let config = crate::LoraConfig { r: 3, alpha: 6.0, dropout, targets, scaling, init: crate::Init::Kaiming };
    let optimizer = OptimizerConfig { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0, b_lr_ratio };
    let lora = Lora::new(model, &config, 5).unwrap();
    let (flat, b_start) = lora.flat();
    let mut b = flat.narrow(0, b_start, flat.numel() as i64 - b_start);
    let _ = b.fill_(0.05);
    Trainer::new(model, lora, optimizer)
}

fn small(keys: &serde_json::Value) -> Model {
    let place = crate::model::Placement { device: tch::Device::Cpu, kind: Kind::Float };
    Model::of(&crate::naive::Naive::new(keys, Kind::Float), place).unwrap()
}

/// Two rows, of which the second is trained on whole.
fn two_rows() -> Vec<Row> {
    vec![Row::answered(vec![1, 7, 23, 42, 9, 2], 3), Row::answered(vec![1, 50, 4, 2], 1)]
}

const STEP: StepConfig = StepConfig {
    lr: 0.01,
    max_grad_norm: 0.0,
    loss_norm: LossNorm::Token,
    accumulation: None,
    seed: 9,
    recompute: false,
};

/// The gradient of the same loss, by autograd through whole logits.
fn by_autograd(trainer: &Trainer, rows: &[Row]) -> Tensor {
    let leaves = trainer.lora.leaves();
    let mut sum = Tensor::zeros([], (Kind::Float, tch::Device::Cpu));
    for row in rows {
        let mut packed = Packed::new(trainer.model, std::slice::from_ref(row)).unwrap().unwrap();
        let hidden = forward(trainer.model, Some(Active::still(&trainer.lora)), &mut packed);
        let chosen = trainer.model.project(&hidden).log_softmax(-1, Kind::Float);
        sum -= chosen.gather(1, &packed.targets.unsqueeze(1), false).sum(Kind::Float);
    }
    let gradients = Tensor::run_backward(&[sum], &leaves, false, false);
    Tensor::cat(&gradients.iter().map(|gradient| gradient.flatten(0, -1)).collect::<Vec<_>>(), 0)
}

#[test]
fn gradient_is_autograds_for_every_set_of_tensors() {
    for (name, keys) in crate::naive::shapes() {
        let model = small(&keys);
        let mut trainer = on(&model, 0.0, 1.0);
        trainer.accumulate(&two_rows(), &STEP).unwrap();
        let wanted = by_autograd(&trainer, &two_rows());
        let off = (&trainer.gradient - &wanted).norm() / wanted.norm();
        assert!(off.double_value(&[]) < 1e-5, "{name}: off by {off:?}");
    }
}

/// Trains three updates with dropout, and returns the adapter's numbers and the losses.
fn three_updates(model: &Model, lora: Lora, recompute: bool) -> (Vec<f32>, Vec<StepReport>) {
    let optimizer = OptimizerConfig { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0, b_lr_ratio: 1.0 };
    let mut trainer = Trainer::new(model, lora, optimizer);
    let micros: Vec<Vec<Row>> = two_rows().into_iter().map(|row| vec![row]).chain([two_rows()]).collect();
    let config = StepConfig { recompute, ..STEP };
    let reports = (0..3).map(|_| trainer.step(&micros, &config).unwrap()).collect();
    (trainer.lora.numbers(), reports)
}

#[test]
fn computing_blocks_again_gives_the_same_bytes_dropout_included() {
    let _turn = alone();
    for (name, keys) in crate::naive::shapes() {
        for kind in [Kind::Float, Kind::BFloat16] {
            let place = crate::model::Placement { device: tch::Device::Cpu, kind };
            let model = Model::of(&crate::naive::Naive::new(&keys, kind), place).unwrap();
            let trained = |recompute| three_updates(&model, on(&model, 0.3, 1.0).lora, recompute);
            assert!(trained(true) == trained(false), "{name} in {kind:?}");
        }
    }
}

#[test]
fn adapter_of_the_upper_block_alone_is_trained_the_same_by_computing_again() {
    let _turn = alone();
    let model = small(&crate::naive::shapes()[1].1);
    let folder = tempfile::tempdir().unwrap();
    on(&model, 0.3, 1.0).lora.save(folder.path(), "base").unwrap();
    let path = folder.path().join("adapter_model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let mut tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap().tensors();
    tensors.retain(|(name, _)| name.contains("layers.1."));
    std::fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
    let trained = |recompute| three_updates(&model, Lora::load(folder.path(), &model).unwrap(), recompute);
    assert!(trained(true) == trained(false));
}

#[test]
fn lora_plus_moves_b_sixteen_times_as_far() {
    let model = small(&crate::naive::shapes()[0].1);
    let moved = |ratio: f64| {
        let mut trainer = on(&model, 0.0, ratio);
        let before = trainer.lora.flat().0.copy();
        trainer.step(&[two_rows()], &STEP).unwrap();
        (trainer.lora.flat().0 - before, trainer.lora.flat().1)
    };
    let ((plain, b_start), (plus, _)) = (moved(1.0), moved(16.0));
    let (a, b) = (|x: &Tensor| x.narrow(0, 0, b_start), |x: &Tensor| x.narrow(0, b_start, x.size()[0] - b_start));
    assert!(a(&plain) == a(&plus));
    // numbers near 0.05 keep seven digits, and the smaller move is 0.01
    let off = (b(&plain) * 16.0 - b(&plus)).abs().max().double_value(&[]);
    assert!(off < 1e-6 && b(&plain).abs().max().double_value(&[]) > 0.009, "{off}");
}

#[test]
fn update_that_fails_leaves_the_state_of_the_one_before() {
    let _turn = alone();
    let model = small(&crate::naive::shapes()[0].1);
    let (mut once, mut twice) = (on(&model, 0.3, 1.0), on(&model, 0.3, 1.0));
    let spoilt = Row::answered(vec![1, 900, 2], 0);
    let error = twice.step(&[two_rows(), vec![spoilt]], &STEP).unwrap_err();
    assert!(error.to_string().contains("token 900"), "{error}");
    let reports = [&mut once, &mut twice].map(|trainer| trainer.step(&[two_rows()], &STEP).unwrap());
    assert_eq!(reports[0], reports[1]);
    assert_eq!(once.lora.numbers(), twice.lora.numbers());
}

#[test]
fn update_that_is_cancelled_between_micro_batches_was_never_begun() {
    let _turn = alone();
    let model = small(&crate::naive::shapes()[0].1);
    let (mut once, mut twice) = (on(&model, 0.3, 1.0), on(&model, 0.3, 1.0));
    let asked = std::cell::Cell::new(0);
    let halt = || asked.replace(asked.get() + 1) == 1;
    let error = twice.step_unless(&[two_rows(), two_rows(), two_rows()], &STEP, &halt).unwrap_err();
    assert!(matches!(error, Error::Cancelled) && asked.get() == 2, "{error}, asked {} times", asked.get());
    let reports = [&mut once, &mut twice].map(|trainer| trainer.step(&[two_rows()], &STEP).unwrap());
    assert_eq!(reports[0], reports[1]);
    assert_eq!(once.lora.numbers(), twice.lora.numbers());
}

#[test]
fn losses_that_are_no_numbers_stop_the_training_at_the_update() {
    let model = small(&crate::naive::shapes()[0].1);
    let mut trainer = on(&model, 0.0, 1.0);
    trainer.step(&[two_rows()], &StepConfig { lr: 1e30, ..STEP }).unwrap();
    let error = trainer.step(&[two_rows()], &STEP).unwrap_err();
    assert!(matches!(error, Error::Diverged { step: 2, .. }), "{error}");
    assert_eq!(trainer.steps_done(), 1);
}

#[test]
fn update_without_labels_is_refused() {
    let _turn = alone();
    let Some(fixture) = Fixture::open() else { return };
    let (run, model) = (fixture.run("a_qv_token_mean"), fixture.model("model"));
    let mut row = fixture.rows(false)[0].clone();
    row.labels.fill(false);
    let error = with_dropout(&model, &run).step(&[vec![row]], &run.step(0)).unwrap_err();
    assert!(error.to_string().contains("no label"));
}

#[test]
fn state_of_another_adapter_is_refused() {
    let Some(fixture) = Fixture::open() else { return };
    let (run, model) = (fixture.run("a_qv_token_mean"), fixture.model("model"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.safetensors");
    with_dropout(&model, &run).save_state(&file).unwrap();
    let config = crate::LoraConfig { r: 2, ..run.lora() };
    let mut other = Trainer::new(&model, Lora::new(&model, &config, 0).unwrap(), run.optimizer());
    assert!(other.load_state(&file, 0).unwrap_err().to_string().contains("parameters"));
}

#[test]
fn state_that_no_training_leaves_is_refused_and_changes_nothing() {
    let Some(fixture) = Fixture::open() else { return };
    let (run, model) = (fixture.run("a_qv_token_mean"), fixture.model("model"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.safetensors");
    let mut trainer = with_dropout(&model, &run);
    trainer.save_state(&file).unwrap();
    let good = std::fs::read(&file).unwrap();
    let before = trainer.lora().numbers();
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let mut spoiled = good.clone();
    let last = spoiled.len() - 4;
    spoiled[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    // as long as the end that stood there, which need not be in the file
    let text = String::from_utf8(good[8..header].to_vec()).unwrap();
    let end = (good.len() - header).to_string();
    assert!(text.contains(&end));
    let beyond = [&good[..8], text.replace(&end, &"9".repeat(end.len())).as_bytes(), &good[header..]].concat();
    for (bytes, why) in [(spoiled, "holds what is no number"), (beyond, "ends beyond the file")] {
        std::fs::write(&file, bytes).unwrap();
        let error = trainer.load_state(&file, 0).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert_eq!(trainer.lora().numbers(), before);
    }
}
