//! The machine: processors, memory, the program for training, CUDA devices.

use std::fs;

use super::{Finding, State};
use crate::cli::out;
use crate::{memory, process, slots, worker};

pub fn findings() -> Vec<Finding> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = out::bytes(memory::total());
    let devices = slots::nvidia_devices();
    vec![
        Finding::new("program", State::Ok, format!("watershed {}", env!("CARGO_PKG_VERSION"))),
        Finding::new("machine", State::Ok, format!("{processors} processors, {memory} of memory")),
        torch(),
        cuda(&devices),
    ]
}

/// Starts the program for training without a job: it says what it is, and its libraries were found.
fn torch() -> Finding {
    match process::greet() {
        Ok(greeting) if greeting.fits => Finding::new("libtorch", State::Ok, greeting.program.display().to_string()),
        Ok(greeting) => {
            let found =
                format!("`{}` is another build than this program ({})", greeting.program.display(), worker::BUILD);
            Finding::new("libtorch", State::Problem, found).help("build both together: `make build`")
        }
        Err(error) => Finding::new("libtorch", State::Note, format!("nothing can be trained here: {error}")),
    }
}

fn cuda(devices: &[u32]) -> Finding {
    if devices.is_empty() {
        return Finding::new("CUDA", State::Note, "no NVIDIA device: training and sampling run on processors");
    }
    let ids: Vec<String> = devices.iter().map(u32::to_string).collect();
    let version = fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    let driver = version.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let found = format!("devices {}, driver {}", ids.join(", "), driver.unwrap_or("unknown"));
    Finding::new("CUDA", State::Ok, found)
}
