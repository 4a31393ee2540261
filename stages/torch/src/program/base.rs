//! The base model of a job, on the device that the scheduler gave.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use watershed_engine::{Job, StageError};
use watershed_stages::lora_train::{Dtype, has_fast_bf16};
use watershed_torch::device::{self, Choice};
use watershed_torch::{Compute, Model};
use watershed_weights::{Gguf, ModelFiles};

use super::failed;

/// Opens the device, sets the threads, and loads the `base` input.
///
/// # Errors
/// When the device does not work or the model cannot be used.
pub fn load(job: &Job, dtype: Dtype) -> Result<Model, StageError> {
    let limits = &job.spec().limits;
    let choice = if limits.device == "cuda" { Choice::Cuda } else { Choice::Cpu };
    let device = device::open(choice).map_err(failed)?;
    tch::set_num_threads(i32::try_from(limits.cpus.max(1)).unwrap_or(1));
    // The pool that small products run on; a process's second job finds it made.
    rayon::ThreadPoolBuilder::new().num_threads(limits.cpus.max(1)).build_global().ok();
    if dtype == Dtype::Bf16 && matches!(choice, Choice::Cpu) && !has_fast_bf16() {
        job.warn("this processor has no instructions for bf16, which takes it dozens of times as long as f32; set `dtype: f32`");
    }
    let compute = match dtype {
        Dtype::F32 => Compute::F32,
        Dtype::Bf16 => Compute::Bf16,
    };
    let files = ModelFiles::open(job.input("base")?).map_err(|e| StageError::failed(e.to_string()))?;
    Model::load(&files, compute, device).map_err(failed)
}

/// Returns the types in which a quantised base holds its matrices, none for one of plain numbers: an adapter that is trained
/// on it belongs to the numbers that these make.
///
/// # Errors
/// When the base cannot be read.
pub fn quantised(job: &Job) -> Result<Option<String>, StageError> {
    let path = job.input("base")?;
    if !Gguf::is_gguf(path) {
        return Ok(None);
    }
    let file = Gguf::open(path).map_err(|e| StageError::failed(e.to_string()))?;
    let types: BTreeSet<String> =
        file.names().filter_map(|name| file.tensor(name)).map(|tensor| format!("{:?}", tensor.dtype())).collect();
    let types: Vec<String> = types.into_iter().filter(|name| name.starts_with('Q')).collect();
    Ok((!types.is_empty()).then(|| types.join(", ")))
}

/// Returns what `base_model_name_or_path` says: the digest of the base's contents, the same on every machine.
pub fn name(job: &Job) -> String {
    format!("blake3:{}", job.inputs("base").first().map_or("", |input| input.digest.as_str()))
}

/// Returns what computes, for the provenance of the result.
pub fn numerics(job: &Job, extra: &[(&str, Value)]) -> BTreeMap<String, Value> {
    let limits = &job.spec().limits;
    let mut values: BTreeMap<String, Value> = extra.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
    values.insert("device".into(), limits.device.clone().into());
    values.insert("threads".into(), limits.cpus.into());
    // tch 0.24 is bound to this libtorch; it offers no call that asks
    values.insert("libtorch".into(), "2.11".into());
    values
}
