//! Logits against transformers and against the papers written out.

use super::*;
use crate::fixture::{Fixture, largest_difference};
use crate::naive::{Naive, shapes};

fn assert_logits(name: &str, wanted: &str) {
    let Some(fixture) = Fixture::open() else { return };
    let logits = fixture.model(name).logits(None, &fixture.ids("plain.input_ids")).unwrap();
    let off = largest_difference(&logits, &fixture.floats(wanted));
    assert!(off < 1e-4, "{name}: logits are off by {off}");
}

#[test]
fn logits_are_those_of_transformers() {
    assert_logits("model", "plain.logits");
}

#[test]
fn logits_are_those_of_the_papers_for_every_set_of_tensors() {
    for (name, keys) in shapes() {
        let naive = Naive::new(&keys, Kind::Float);
        let model = Model::of(&naive, Placement { device: Device::Cpu, kind: Kind::Float }).unwrap();
        let ids = [1, 7, 23, 42, 7, 60, 5];
        let logits = model.logits(None, &ids).unwrap();
        let off = (logits.to_kind(Kind::Double) - naive.logits(&ids)).abs().max().double_value(&[]);
        assert!(off < 1e-4, "{name}: logits are off by {off}");
    }
}

#[test]
fn next_logits_are_the_last_of_all() {
    let Some(fixture) = Fixture::open() else { return };
    let (model, ids) = (fixture.model("model"), fixture.ids("plain.input_ids"));
    let wanted = fixture.floats("plain.logits");
    let next = model.next_logits(None, &ids).unwrap();
    assert_eq!(next.size(), [model.config().vocab as i64]);
    assert!(largest_difference(&next, &wanted[wanted.len() - model.config().vocab..]) < 1e-4);
    assert!(model.next_logits(None, &[]).unwrap_err().to_string().contains("no tokens"));
}

#[test]
fn gguf_logits_are_those_of_transformers() {
    assert_logits("model.q8_0.gguf", "gguf.q8_0.logits");
    assert_logits("model.q4_1.gguf", "gguf.q4_1.logits");
}

#[test]
fn gguf_logits_are_as_far_from_the_originals_as_the_reference_says() {
    let Some(fixture) = Fixture::open() else { return };
    let model = fixture.model("model").logits(None, &fixture.ids("plain.input_ids")).unwrap();
    let distances = fixture.reference["gguf"].as_object().unwrap();
    assert!(!distances.is_empty());
    for (name, wanted) in distances {
        let off = largest_difference(&model, &fixture.floats(name)) - wanted.as_f64().unwrap();
        assert!(off.abs() < 1e-4, "{name}: off by {off}");
    }
}

#[test]
fn hidden_states_after_each_block_are_those_of_transformers() {
    let Some(fixture) = Fixture::open() else { return };
    let (model, ids) = (fixture.model("model"), fixture.ids("plain.input_ids"));
    let length = ids.len() as i64;
    let positions = Tensor::arange(length, (Kind::Int64, Device::Cpu));
    let mut attention = Causal { lengths: vec![length] };
    let angles = model.rope.angles(&positions, model.kind());
    let mut pass = Pass { angles, attention: &mut attention, active: None };
    let mut x = model.embedding.index_select(0, &model.index(ids.iter().map(|id| i64::from(*id))));
    let mut states = vec![x.shallow_clone()];
    for block in &model.blocks {
        x = block.forward(&x, &mut pass, None);
        states.push(x.shallow_clone());
    }
    // transformers' last state is after the final norm
    *states.last_mut().unwrap() = rms_norm(&x, &model.norm, model.config.rms_eps);
    for (at, state) in states.iter().enumerate() {
        let off = largest_difference(state, &fixture.floats(&format!("plain.hidden.{at}")));
        assert!(off < 1e-4, "state {at} is off by {off}");
    }
}

#[test]
fn packed_rows_do_not_see_each_other() {
    let Some(fixture) = Fixture::open() else { return };
    let model = fixture.model("model");
    let (ids, mask) = (fixture.ids("batch.input_ids_right"), fixture.ids("batch.mask_right"));
    let wanted = fixture.floats("batch.last_logits");
    let vocab = model.config().vocab;
    let rows = wanted.len() / vocab;
    let columns = ids.len() / rows;
    let real = |row: usize| (row * columns..(row + 1) * columns).filter(|at| mask[*at] == 1);
    let lengths: Vec<i64> = (0..rows).map(|row| real(row).count() as i64).collect();
    let packed = model.index((0..rows).flat_map(real).map(|at| i64::from(ids[at])));
    let positions = model.index(lengths.iter().flat_map(|length| 0..*length));
    let last = model.index((1..=rows).map(|row| lengths[..row].iter().sum::<i64>() - 1));
    let hidden = model.hidden(&packed, &positions, &mut Causal { lengths }, None, &last);
    assert!(largest_difference(&model.project(&hidden), &wanted) < 1e-4);
}

#[test]
fn impossible_ids_are_refused() {
    let Some(fixture) = Fixture::open() else { return };
    let model = fixture.model("model");
    assert!(model.logits(None, &[]).unwrap_err().to_string().contains("no tokens"));
    assert!(model.logits(None, &[1, 512_000]).unwrap_err().to_string().contains("token 512000"));
    assert!(model.logits(None, &vec![1; 1_000_000]).unwrap_err().to_string().contains("at most"));
}

#[test]
fn bf16_is_near_f32() {
    let Some(fixture) = Fixture::open() else { return };
    let files = ModelFiles::open(&fixture.path("model")).unwrap();
    let model = Model::load(&files, Compute::Bf16, Device::Cpu).unwrap();
    let logits = model.logits(None, &fixture.ids("plain.input_ids")).unwrap();
    let wanted = fixture.floats("plain.logits");
    let largest = wanted.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    // bfloat16 keeps 8 bits; four layers add up a few of its roundings.
    assert!(largest_difference(&logits, &wanted) < f64::from(largest) * 0.03);
}
