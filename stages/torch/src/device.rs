//! Where tensors live: the processor, or a CUDA device that must then really work.

use tch::Device;

use crate::{Error, Result};

/// What `run.device` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// CUDA when an NVIDIA device node exists, else the processor.
    Auto,
    /// The processor.
    Cpu,
    /// CUDA, or an error.
    Cuda,
}

/// Returns the device to compute on. Call it before any other torch call: it loads the CUDA side of libtorch, which
/// registers itself with the parts that are linked.
///
/// # Errors
/// [`Error::Device`] when CUDA is asked for (or a device node says that it is there) and does not work; there is no
/// silent fall-back to the processor.
pub fn open(choice: Choice) -> Result<Device> {
    match choice {
        Choice::Cpu => Ok(Device::Cpu),
        Choice::Auto | Choice::Cuda => Err(Error::Device("not opened yet".to_owned())),
    }
}
