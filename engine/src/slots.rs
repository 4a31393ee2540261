//! What the machine offers to stages that run at once: processors, CUDA devices by number, memory.

use crate::fault::StageError;
use crate::stage::Reproducible;
use crate::study::StageDef;

/// Free places.
#[derive(Debug, Clone)]
pub struct Slots {
    cpus: usize,
    gpus: Vec<u32>,
    memory_bytes: u64,
    calls: usize,
    all_cpus: usize,
    all_gpus: usize,
    all_memory_bytes: u64,
}

/// What one stage holds while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Processors.
    pub cpus: usize,
    /// CUDA devices.
    pub gpus: Vec<u32>,
    /// `cpu` or `cuda`.
    pub device: &'static str,
    memory_bytes: u64,
    calls: usize,
}

/// Stages that wait for a paid service at once; each has its own concurrency inside.
const CALLS: usize = 4;

impl Slots {
    /// Returns the machine's places: `jobs` processors, these CUDA devices, all of its memory.
    pub fn new(jobs: usize, gpus: Vec<u32>) -> Slots {
        let memory_bytes = memory_of_machine();
        let (all_gpus, all_memory_bytes) = (gpus.len(), memory_bytes);
        Slots { cpus: jobs, gpus, memory_bytes, calls: CALLS, all_cpus: jobs, all_gpus, all_memory_bytes }
    }

    /// Takes what a stage needs, or `None` while it is not free.
    ///
    /// # Errors
    /// When the machine can never offer it.
    pub fn lease(&mut self, stage: &StageDef) -> Result<Option<Lease>, StageError> {
        let lease = self.wanted(stage)?;
        let gpus = lease.gpus.len();
        if lease.cpus > self.cpus
            || gpus > self.gpus.len()
            || lease.memory_bytes > self.memory_bytes
            || lease.calls > self.calls
        {
            return Ok(None);
        }
        self.cpus -= lease.cpus;
        self.memory_bytes -= lease.memory_bytes;
        self.calls -= lease.calls;
        let gpus = self.gpus.drain(..gpus).collect();
        Ok(Some(Lease { gpus, ..lease }))
    }

    /// Gives a lease back.
    pub fn free(&mut self, lease: Lease) {
        self.cpus += lease.cpus;
        self.memory_bytes += lease.memory_bytes;
        self.calls += lease.calls;
        self.gpus.extend(lease.gpus);
        self.gpus.sort_unstable();
    }

    fn wanted(&self, stage: &StageDef) -> Result<Lease, StageError> {
        let run = &stage.run;
        let cuda = match run.device.as_str() {
            "cuda" if self.all_gpus == 0 => {
                return Err(StageError::Environment(format!(
                    "stage `{}` asks for `device: cuda`, but this machine has no NVIDIA device; use `auto` or `cpu`",
                    stage.name
                )));
            }
            "cuda" => true,
            "auto" => self.all_gpus > 0 && run.gpus > 0,
            _ => false,
        };
        let gpus = if cuda { run.gpus.max(1) } else { 0 };
        if gpus > self.all_gpus {
            return Err(StageError::Environment(format!(
                "stage `{}` asks for {gpus} GPUs of {}",
                stage.name, self.all_gpus
            )));
        }
        let paid = stage.kind.reproducible == Reproducible::No;
        Ok(Lease {
            cpus: if paid { 0 } else { run.cpus.clamp(1, self.all_cpus.max(1)) },
            gpus: vec![0; gpus],
            device: if cuda { "cuda" } else { "cpu" },
            memory_bytes: run.memory_bytes.unwrap_or(0).min(self.all_memory_bytes),
            calls: usize::from(paid),
        })
    }
}

/// Returns the numbers by which CUDA calls the devices of this process: what `CUDA_VISIBLE_DEVICES` leaves, else from 0 on, one
/// for each device node. A node's own number is none of them: a container that was given `/dev/nvidia3` alone calls it 0.
pub fn nvidia_devices() -> Vec<u32> {
    let Ok(items) = std::fs::read_dir("/dev") else { return Vec::new() };
    let names = items.flatten().filter_map(|i| i.file_name().into_string().ok());
    let nodes = names.filter(|n| n.strip_prefix("nvidia").is_some_and(|id| id.parse::<u32>().is_ok())).count();
    cuda_numbers(nodes, std::env::var("CUDA_VISIBLE_DEVICES").ok().as_deref())
}

fn cuda_numbers(nodes: usize, visible: Option<&str>) -> Vec<u32> {
    let all = || (0..nodes as u32).collect();
    let Some(visible) = visible else { return all() };
    let listed = visible.split(',').map(str::trim).filter(|id| !id.is_empty());
    // Names such as `GPU-8932f937` are CUDA's to resolve; only numbers can be leased.
    let numbers: Result<Vec<u32>, _> = listed.take(nodes).map(str::parse).collect();
    numbers.unwrap_or_else(|_| all())
}

/// Returns the bytes of memory of the machine.
pub fn memory_of_machine() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib =
        text.lines().find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map_or(u64::MAX, |k| k * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_numbered_as_cuda_does() {
        assert_eq!(cuda_numbers(2, None), [0, 1]);
        assert_eq!(cuda_numbers(4, Some("2, 3")), [2, 3]);
        assert!(cuda_numbers(4, Some("")).is_empty());
        assert_eq!(cuda_numbers(1, Some("GPU-8932f937")), [0]);
    }
}
