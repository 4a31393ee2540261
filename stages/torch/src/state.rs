//! A trainer's state on disk: one safetensors file with the flat buffers, and the counters beside them as text.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};
use watershed_weights::folder::beyond;

use crate::packed::Packed;
use crate::{Error, Result, StepReport};

/// Sums over the micro-batches since the last update.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub(crate) micros: u64,
    pub(crate) label_tokens: u64,
    pub(crate) tokens: u64,
    response_tokens: u64,
    /// Losses under the update's weights, and plainly over response labels.
    weighted_nll: f64,
    response_nll: f64,
}

/// The buffers, in the order that [`save`] and [`load`] take them.
const NAMES: [&str; 4] = ["params", "m", "v", "gradient"];

impl Pending {
    /// Counts a micro-batch with losses `nll` `[labels]`.
    pub(crate) fn add(&mut self, nll: &Tensor, packed: &Packed, weight: f64) {
        self.micros += 1;
        self.label_tokens += packed.label_tokens;
        self.response_tokens += packed.response_tokens;
        self.weighted_nll += nll.sum(Kind::Double).double_value(&[]) * weight;
        self.response_nll += nll.dot(&packed.in_response).double_value(&[]);
    }

    pub(crate) fn report(&self, step: u64, divisor: f64, grad_norm: f64) -> StepReport {
        let has_response = self.response_tokens > 0;
        StepReport {
            step,
            loss: self.weighted_nll / divisor,
            response_loss: has_response.then(|| self.response_nll / self.response_tokens as f64),
            grad_norm,
            label_tokens: self.label_tokens,
            tokens: self.tokens,
        }
    }
}

/// Writes the buffers and counters, complete or not at all.
pub(crate) fn save(path: &Path, tensors: [&Tensor; 4], step: u64, pending: &Pending) -> Result<()> {
    let bytes: Vec<Vec<u8>> = tensors.iter().map(|tensor| to_bytes(tensor)).collect();
    let view = |bytes| TensorView::new(Dtype::F32, vec![tensors[0].numel()], bytes).map_err(|e| Error::write(path, e));
    let views = NAMES.iter().zip(&bytes).map(|(name, bytes)| Ok((*name, view(bytes)?))).collect::<Result<Vec<_>>>()?;
    let pending = serde_json::to_string(pending).map_err(|e| Error::write(path, e))?;
    let metadata = HashMap::from([("step".to_owned(), step.to_string()), ("pending".to_owned(), pending)]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| Error::write(path, e))?;
    let temporary = path.with_extension("tmp");
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()
    });
    written.and_then(|()| std::fs::rename(&temporary, path)).map_err(|e| Error::write(path, e))
}

/// Reads the state after update `step` into the buffers, all of it or nothing, and returns what was added up since.
pub(crate) fn load(path: &Path, step: u64, tensors: [&Tensor; 4]) -> Result<Pending> {
    let refuse = |why: String| Error::read(path, why);
    let bytes = std::fs::read(path).map_err(|e| refuse(e.to_string()))?;
    if let Some(name) = beyond(&bytes) {
        return Err(refuse(format!("`{name}` ends beyond the file")));
    }
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| refuse(e.to_string()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| refuse(e.to_string()))?;
    let field = |name: &str| header.metadata().as_ref().and_then(|map| map.get(name));
    if field("step") != Some(&step.to_string()) {
        return Err(refuse(format!("it is not the state after update {step}")));
    }
    let pending = field("pending").and_then(|pending| serde_json::from_str(pending).ok());
    let pending = pending.ok_or_else(|| refuse("its counters are damaged".to_owned()))?;
    let mut found = Vec::new();
    for name in NAMES {
        let view = file.tensor(name).map_err(|e| refuse(e.to_string()))?;
        if view.dtype() != Dtype::F32 || view.shape() != [tensors[0].numel()] {
            return Err(refuse(format!(
                "`{name}` is {:?}, the adapter has {} parameters",
                view.shape(),
                tensors[0].numel()
            )));
        }
        let numbers = Tensor::f_from_data_size(view.data(), &[tensors[0].numel() as i64], Kind::Float)?;
        if !bool::try_from(numbers.isfinite().all())? {
            return Err(refuse(format!("`{name}` holds what is no number")));
        }
        found.push(numbers);
    }
    for (tensor, found) in tensors.iter().zip(found) {
        tensor.shallow_clone().copy_(&found);
    }
    Ok(pending)
}

fn to_bytes(tensor: &Tensor) -> Vec<u8> {
    let mut bytes = vec![0; tensor.numel() * 4];
    tensor.to_device(Device::Cpu).copy_data_u8(&mut bytes, tensor.numel());
    bytes
}
