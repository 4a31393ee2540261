//! Prints the logits of one sequence as JSON, for `tests/reference/agreement.py`.
//!
//!     logits MODEL IDS [ADAPTER]
//!
//! IDS are numbers between commas; MODEL a Hugging Face folder or a GGUF file; the answer is a list `[ids, vocab]` in f32.

use std::path::Path;

use tch::{Device, Tensor};
use watershed_torch::{Compute, Lora, Model};
use watershed_weights::ModelFiles;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, ids, adapter @ ..] = arguments.as_slice() else { return Err("logits MODEL IDS [ADAPTER]".into()) };
    let ids = ids.split(',').map(str::parse).collect::<Result<Vec<u32>, _>>()?;
    let model = Model::load(&ModelFiles::open(Path::new(model))?, Compute::F32, Device::Cpu)?;
    let adapter = adapter.first().map(|folder| Lora::load(Path::new(folder), &model)).transpose()?;
    let logits: Tensor = model.logits(adapter.as_ref(), &ids)?;
    let rows: Vec<Vec<f32>> = logits.try_into()?;
    serde_json::to_writer(std::io::stdout().lock(), &rows)?;
    Ok(())
}
