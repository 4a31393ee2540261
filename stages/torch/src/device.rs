//! Where tensors live: the processor, or a CUDA device that must then really work.

use std::ffi::CStr;
use std::path::Path;

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
    let is_present = has_device_node();
    match choice {
        Choice::Cpu => Ok(Device::Cpu),
        Choice::Auto if !is_present => Ok(Device::Cpu),
        Choice::Cuda if !is_present => Err(Error::Device(
            "`device: cuda` needs an NVIDIA device, and this machine has none (no `/dev/nvidia0`)".to_owned(),
        )),
        Choice::Auto | Choice::Cuda => open_cuda(),
    }
}

fn has_device_node() -> bool {
    (0..16).any(|number| Path::new(&format!("/dev/nvidia{number}")).exists())
}

fn open_cuda() -> Result<Device> {
    // SAFETY: the name is a C string; loading libtorch_cuda runs its registrations, which is its purpose. The handle is
    // kept open for the life of the process.
    let handle = unsafe { libc::dlopen(c"libtorch_cuda.so".as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if handle.is_null() {
        return Err(unusable(&format!("`libtorch_cuda.so` cannot be loaded: {}", dl_error())));
    }
    if !tch::Cuda::is_available() {
        return Err(unusable("libtorch finds no usable device: is the driver older than the CUDA libraries?"));
    }
    Ok(Device::Cuda(0))
}

fn unusable(why: &str) -> Error {
    Error::Device(format!("an NVIDIA device is present, but {why}; repair it, or choose `run: {{device: cpu}}`"))
}

fn dl_error() -> String {
    // SAFETY: dlerror returns null or a C string that lives until the next dl call of this thread.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "unknown reason".to_owned();
    }
    // SAFETY: not null, see above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuda_is_what_the_device_node_says() {
        match (has_device_node(), open(Choice::Cuda)) {
            (true, opened) => assert!(matches!(opened, Ok(Device::Cuda(_)))),
            (false, opened) => assert!(opened.unwrap_err().to_string().contains("this machine has none")),
        }
        assert_eq!(open(Choice::Cpu).unwrap(), Device::Cpu);
    }
}
