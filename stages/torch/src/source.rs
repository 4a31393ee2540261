//! Where a model's tensors come from: its files, or random numbers for a measurement that needs a shape and no weights.

use std::collections::HashMap;

use tch::{Kind, Tensor};
use watershed_weights::{Dtype, LlamaConfig, ModelFiles};

use crate::model::Placement;
use crate::{Error, Result};

/// Deviation of random matrices: LLaMA's `initializer_range`.
const DEVIATION: f64 = 0.02;

/// The tensors of one model, by Hugging Face name, made where they belong.
pub(crate) trait Source {
    /// Returns the model's shape.
    fn config(&self) -> &LlamaConfig;

    /// Returns one tensor.
    fn tensor(&self, name: &str) -> Result<Tensor>;
}

/// A model on disk.
pub(crate) struct Stored<'a> {
    pub(crate) files: &'a ModelFiles,
    pub(crate) place: Placement,
}

/// A model that is nowhere: normal numbers, drawn on the device in the order of asking.
pub(crate) struct Random<'a> {
    config: &'a LlamaConfig,
    place: Placement,
    shapes: HashMap<String, Vec<usize>>,
}

impl Source for Stored<'_> {
    fn config(&self) -> &LlamaConfig {
        self.files.config()
    }

    /// Plain floats cross as they are stored; only quantised ones are expanded first.
    fn tensor(&self, name: &str) -> Result<Tensor> {
        let view = self.files.tensor(name)?;
        let shape: Vec<i64> = view.shape().iter().map(|size| *size as i64).collect();
        let stored = match view.dtype() {
            Dtype::F32 => Tensor::f_from_data_size(view.bytes(), &shape, Kind::Float)?,
            Dtype::F16 => Tensor::f_from_data_size(view.bytes(), &shape, Kind::Half)?,
            Dtype::Bf16 => Tensor::f_from_data_size(view.bytes(), &shape, Kind::BFloat16)?,
            _ => Tensor::from_slice(&view.to_f32()).view(shape.as_slice()),
        };
        let tensor = stored.f_to_device(self.place.device)?.f_to_kind(self.place.kind)?;
        if !is_finite(&tensor)? {
            let what = format!("tensor `{name}` holds numbers that are not finite: fetch the model again");
            return Err(Error::read(self.files.path(), what));
        }
        Ok(tensor)
    }
}

/// Says whether all numbers are finite. A sum is one pass without another tensor, and only finite numbers have a finite one;
/// where it overflows, each is looked at.
fn is_finite(tensor: &Tensor) -> Result<bool> {
    let sum = tensor.f_sum(Kind::Float)?.double_value(&[]);
    Ok(sum.is_finite() || tensor.f_isfinite()?.f_all()?.int64_value(&[]) == 1)
}

impl<'a> Random<'a> {
    pub(crate) fn new(config: &'a LlamaConfig, place: Placement) -> Random<'a> {
        Random { config, place, shapes: config.tensors().into_iter().collect() }
    }
}

impl Source for Random<'_> {
    fn config(&self) -> &LlamaConfig {
        self.config
    }

    /// Norms scale by one, everything else is drawn.
    fn tensor(&self, name: &str) -> Result<Tensor> {
        let shape = self.shapes.get(name).ok_or_else(|| Error::Input(format!("a model has no tensor `{name}`")))?;
        let shape: Vec<i64> = shape.iter().map(|size| *size as i64).collect();
        let mut tensor = Tensor::f_ones(&shape, (self.place.kind, self.place.device))?;
        Ok(if name.ends_with("norm.weight") { tensor } else { tensor.f_normal_(0.0, DEVIATION)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_not_finite_are_found_and_large_ones_are_not() {
        let with = |number: f32| Tensor::from_slice(&[1.0, number, -2.0, number]);
        for kind in [Kind::Float, Kind::BFloat16] {
            assert!(is_finite(&with(3.0e38).to_kind(kind)).unwrap());
            for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                assert!(!is_finite(&with(number).to_kind(kind)).unwrap());
            }
        }
    }

    #[test]
    fn a_model_with_a_number_that_is_none_is_refused_by_the_tensors_name() {
        let Some(model) = crate::place::tiny_llama("model") else { return };
        let folder = tempfile::tempdir().unwrap();
        crate::place::copy(&model, folder.path());
        let find = |file: &std::path::PathBuf| {
            let shard = watershed_weights::folder::Shard::open(file).unwrap();
            let name = shard.names().find(|name| name.ends_with("down_proj.weight"))?.to_owned();
            Some((file.clone(), shard, name))
        };
        let (file, shard, name) = crate::place::weights(folder.path()).iter().find_map(find).unwrap();
        let mut bytes = std::fs::read(&file).unwrap();
        let place = shard.raw(&name).unwrap();
        let at = bytes.windows(place.len()).position(|window| window == place).unwrap();
        // all ones is no number in f32, f16 and bf16 alike
        bytes[at..at + 4].fill(0xff);
        drop(shard);
        std::fs::write(&file, bytes).unwrap();
        let files = ModelFiles::open(folder.path()).unwrap();
        let loaded = crate::Model::load(&files, crate::Compute::F32, tch::Device::Cpu);
        let message = loaded.err().unwrap().to_string();
        assert!(message.contains(&name) && message.contains("not finite"), "{message}");
    }
}
