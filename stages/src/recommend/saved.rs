//! Record type `recommender` on disk: `recommender.safetensors` with what was learned, `recommender.json` with the names.
//!
//! Row `u` of a tensor over users belongs to `users[u]` of the JSON, and likewise for items.

use std::path::Path;

use safetensors::tensor::TensorView;
use serde::Serialize;
use serde_json::Value;
use watershed_engine::StageError;

use super::model::Tensor;
use super::ratings::Ratings;

#[derive(Serialize)]
struct Description<'a> {
    params: &'a Value,
    mean: f64,
    users: &'a [String],
    items: &'a [String],
}

/// Writes a recommender into a new folder.
///
/// # Errors
/// When the folder or a file cannot be written.
pub fn write(folder: &Path, params: &Value, train: &Ratings, tensors: &[Tensor]) -> Result<(), StageError> {
    std::fs::create_dir_all(folder).map_err(|e| StageError::io("create", folder, &e))?;
    let description = Description { params, mean: train.mean, users: train.users.names(), items: train.items.names() };
    let text = serde_json::to_vec_pretty(&description).map_err(|e| StageError::failed(e.to_string()))?;
    write_file(&folder.join("recommender.json"), &text)?;
    let views =
        tensors.iter().map(|tensor| Ok((tensor.name, view(tensor)?))).collect::<Result<Vec<_>, StageError>>()?;
    let bytes = safetensors::serialize(views, None).map_err(|e| StageError::failed(e.to_string()))?;
    write_file(&folder.join("recommender.safetensors"), &bytes)
}

fn view(tensor: &Tensor) -> Result<TensorView<'_>, StageError> {
    TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes)
        .map_err(|e| StageError::failed(format!("cannot write tensor `{}`: {e}", tensor.name)))
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), StageError> {
    std::fs::write(path, bytes).map_err(|e| StageError::io("write", path, &e))
}
