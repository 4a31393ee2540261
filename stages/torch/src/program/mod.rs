//! What the program does with a job: decode its parameters, open the device, run its kind.

mod adapter;
mod base;
mod checkpoint;
mod checks;
mod curves;
mod evaluation;
#[cfg(test)]
mod exported;
#[cfg(test)]
#[path = "../../../../tests/it/fixture.rs"]
mod fixture;
mod generate;
mod kept;
#[cfg(test)]
mod project;
mod rank;
mod receipt;
mod room;
mod sampler;
mod speech;
mod start;
#[cfg(test)]
mod tests;
mod train;

use serde::de::DeserializeOwned;
use serde_json::Value;
use watershed_engine::{Job, StageError};
use watershed_torch::Error;

/// Executes a job of one of this program's kinds.
///
/// # Errors
/// What the kind says; parameters that this program does not know.
pub fn execute(job: &Job) -> Result<(), StageError> {
    let spec = job.spec();
    match spec.kind.as_str() {
        "lora-train" => train::train(&decode(&spec.params)?, &decode(&spec.run)?, job),
        "generate" => generate::generate(&decode(&spec.params)?, &decode(&spec.run)?, job),
        "rank" => rank::rank(&decode(&spec.params)?, job),
        other => Err(StageError::Environment(format!("`watershed-torch` does not execute kind `{other}`"))),
    }
}

fn decode<T: DeserializeOwned + Default>(value: &Value) -> Result<T, StageError> {
    if value.is_null() {
        return Ok(T::default());
    }
    T::deserialize(value).map_err(|e| StageError::Failed(format!("parameters do not fit `watershed-torch`: {e}")))
}

/// What the system says of a disk that takes nothing more.
const DISK: [&str; 3] = ["No space left", "quota exceeded", "Read-only file system"];

/// Turns the library's error into a stage's; a device that does not work is the machine's fault.
fn failed(error: Error) -> StageError {
    match error {
        Error::Cancelled => StageError::Cancelled,
        Error::Device(message) => StageError::Environment(message),
        Error::Diverged { .. } => StageError::Diverged(error.to_string()),
        Error::File { verb: "write", ref why, .. } if DISK.iter().any(|words| why.contains(words)) => {
            StageError::Environment(format!("{error}; free some space or choose another disk, then run again"))
        }
        other => StageError::Failed(other.to_string()),
    }
}
