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
        Ok(stored.f_to_device(self.place.device)?.f_to_kind(self.place.kind)?)
    }
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
