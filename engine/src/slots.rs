//! What the machine offers to stages that run at once: processors, CUDA devices by number, memory.

use crate::fault::StageError;
use crate::memory;
use crate::stage::Reproducible;
use crate::study::{RunKeys, StageDef};

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
    unknown: Option<StageError>,
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
        Slots::of(jobs, gpus, memory::total())
    }

    /// A device that is named twice is one device all the same.
    fn of(jobs: usize, mut gpus: Vec<u32>, memory_bytes: u64) -> Slots {
        gpus.sort_unstable();
        gpus.dedup();
        let (all_gpus, all_memory_bytes) = (gpus.len(), memory_bytes);
        Slots {
            cpus: jobs,
            gpus,
            memory_bytes,
            calls: CALLS,
            all_cpus: jobs,
            all_gpus,
            all_memory_bytes,
            unknown: None,
        }
    }

    /// Returns places without devices, because what there is cannot be told: a stage that wants one is refused with this error.
    pub fn without_devices(jobs: usize, why: StageError) -> Slots {
        Slots { unknown: Some(why), ..Slots::new(jobs, Vec::new()) }
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
        if let Some(why) = self.unknown.as_ref().filter(|_| wants_device(run)) {
            return Err(why.clone());
        }
        if run.device == "cuda" && self.all_gpus == 0 {
            return Err(StageError::Environment(format!(
                "stage `{}` asks for `device: cuda`, but this machine offers no NVIDIA device: use `auto` or `cpu`, or name \
                 devices with `--gpus` if it has some",
                stage.name
            )));
        }
        let cuda = wants_device(run) && self.all_gpus > 0;
        let gpus = if cuda { run.gpus.max(1) } else { 0 };
        if gpus > self.all_gpus {
            return Err(StageError::Environment(format!(
                "stage `{}` asks for {gpus} GPUs and this run may use {}: lower its `run.gpus`, or name more with `--gpus`",
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

fn wants_device(run: &RunKeys) -> bool {
    run.device == "cuda" || (run.device == "auto" && run.gpus > 0)
}

/// Returns `cuda` or `cpu`: where a stage would run, as far as that is known before a run that may name devices.
pub fn device_of(run: &RunKeys) -> &'static str {
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let has_devices = || granted_devices(visible.as_deref()).is_ok_and(|devices| !devices.is_empty());
    if wants_device(run) && (run.device == "cuda" || has_devices()) { "cuda" } else { "cpu" }
}

/// Returns the CUDA devices that stages may use when `--gpus` names none: those that CUDA_VISIBLE_DEVICES grants to this
/// program, as a cluster's job has it, else all that have a device node.
///
/// # Errors
/// When the variable names devices otherwise than by number.
pub fn granted_devices(visible: Option<&str>) -> Result<Vec<u32>, StageError> {
    let Some(visible) = visible else { return Ok(nvidia_devices()) };
    let ids = visible.split(',').map(str::trim).filter(|id| !id.is_empty());
    ids.map(|id| id.parse().map_err(|_| not_a_number(id))).collect()
}

fn not_a_number(id: &str) -> StageError {
    StageError::Environment(format!(
        "CUDA_VISIBLE_DEVICES names the device `{id}`, which is not a number: name devices by number, there or with `--gpus`"
    ))
}

/// Returns the numbers by which CUDA calls this machine's devices: from 0 on, one for each device node. A node's own number is
/// none of them: a container that was given `/dev/nvidia3` alone calls it 0.
pub fn nvidia_devices() -> Vec<u32> {
    let Ok(items) = std::fs::read_dir("/dev") else { return Vec::new() };
    let names = items.flatten().filter_map(|i| i.file_name().into_string().ok());
    let nodes = names.filter(|n| n.strip_prefix("nvidia").is_some_and(|id| id.parse::<u32>().is_ok())).count();
    (0..nodes as u32).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::port::Ports;
    use crate::stage::{Home, Kind};
    use crate::study::RunKeys;

    fn kind(reproducible: Reproducible) -> Kind {
        Kind {
            name: "work",
            id: "test/work".into(),
            version: 1,
            reproducible,
            home: Home::Engine,
            fetches: false,
            judges: &[],
            numbers: &[],
            schema: || json!({}),
            run_schema: || json!({}),
            defaults: || json!({}),
            presets: Vec::new,
            resolve: |params| Ok(params.clone()),
            ports: |_| Ports::new(),
            settle: |_, _| None,
            check: |_| Vec::new(),
            preview: |_, _| Ok(crate::preview::Preview::default()),
            peek: |_, _, _| Ok(None),
            probes: |_, _, _| Vec::new(),
            run: |_| Ok(()),
        }
    }

    fn stage(run: RunKeys) -> StageDef {
        StageDef {
            line: 0,
            name: "a".into(),
            kind: Arc::new(kind(Reproducible::Yes)),
            params: Value::Null,
            differing: BTreeMap::new(),
            ports: Ports::new(),
            inputs: Vec::new(),
            env: BTreeMap::new(),
            run,
            allow_missing: false,
        }
    }

    fn on(device: &str, gpus: usize) -> StageDef {
        stage(RunKeys { device: device.into(), gpus, ..RunKeys::default() })
    }

    fn take(slots: &mut Slots, stage: &StageDef) -> Option<Lease> {
        slots.lease(stage).unwrap()
    }

    #[test]
    fn no_device_is_leased_to_two_stages() {
        let mut slots = Slots::of(8, vec![2, 0, 5, 2], u64::MAX);
        let (one, two) = (take(&mut slots, &on("cuda", 2)).unwrap(), take(&mut slots, &on("auto", 1)).unwrap());
        assert_eq!((&one.gpus[..], &two.gpus[..]), (&[0, 2][..], &[5][..]));
        assert_eq!(take(&mut slots, &on("cuda", 1)), None);
        slots.free(one);
        assert_eq!(take(&mut slots, &on("cuda", 0)).unwrap().gpus, [0]);
        slots.free(two);
        assert_eq!(take(&mut slots, &on("cuda", 2)).unwrap().gpus, [2, 5]);
    }

    #[test]
    fn a_stage_on_the_processor_leases_no_device() {
        let mut slots = Slots::of(8, vec![0], u64::MAX);
        for stage in [on("cpu", 1), on("auto", 0)] {
            let lease = take(&mut slots, &stage).unwrap();
            assert_eq!((lease.gpus.len(), lease.device), (0, "cpu"));
        }
        let lease = take(&mut Slots::of(8, Vec::new(), u64::MAX), &on("auto", 1)).unwrap();
        assert_eq!((lease.gpus.len(), lease.device), (0, "cpu"));
    }

    #[test]
    fn what_the_machine_can_never_offer_is_the_environments_fault() {
        let none = Slots::of(8, Vec::new(), u64::MAX).lease(&on("cuda", 1)).unwrap_err();
        let few = Slots::of(8, vec![1], u64::MAX).lease(&on("cuda", 2)).unwrap_err();
        assert!(matches!(&none, StageError::Environment(why) if why.contains("offers no NVIDIA device")));
        assert!(matches!(&few, StageError::Environment(why) if why.contains("asks for 2 GPUs and this run may use 1")));
    }

    #[test]
    fn processors_and_memory_are_shared_and_come_back() {
        let big = |cpus, memory| stage(RunKeys { cpus, memory_bytes: Some(memory), ..RunKeys::default() });
        let mut slots = Slots::of(4, Vec::new(), 100);
        let three = take(&mut slots, &big(3, 60)).unwrap();
        assert_eq!(take(&mut slots, &big(2, 1)), None, "two processors of one");
        assert_eq!(take(&mut slots, &big(1, 50)), None, "50 bytes of 40");
        let one = take(&mut slots, &big(1, 40)).unwrap();
        assert_eq!(take(&mut slots, &big(1, 0)), None, "no processor is left");
        slots.free(three);
        slots.free(one);
        let all = take(&mut slots, &big(64, 1000)).unwrap();
        assert_eq!((all.cpus, all.memory_bytes), (4, 100), "what asks for more than there is gets all of it");
    }

    #[test]
    fn stages_that_wait_for_a_paid_service_take_no_processor() {
        let paid = StageDef { kind: Arc::new(kind(Reproducible::No)), ..stage(RunKeys::default()) };
        let mut slots = Slots::of(1, Vec::new(), 100);
        let own = take(&mut slots, &stage(RunKeys::default())).unwrap();
        let leases: Vec<Lease> = (0..CALLS).map(|_| take(&mut slots, &paid).unwrap()).collect();
        assert_eq!(take(&mut slots, &paid), None);
        assert_eq!((own.cpus, leases[0].cpus), (1, 0));
    }

    #[test]
    fn a_cluster_grants_devices_by_number() {
        assert_eq!(granted_devices(Some("2,3")).unwrap(), [2, 3]);
        assert_eq!(granted_devices(Some("")).unwrap(), [0; 0]);
        assert_eq!(granted_devices(None).unwrap(), nvidia_devices());
        assert!(
            granted_devices(Some("GPU-1b2c")).unwrap_err().to_string().contains("`GPU-1b2c`, which is not a number")
        );
    }
}
