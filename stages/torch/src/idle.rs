//! How torch's threads wait for each other.
//!
//! By default OpenMP's threads spin between two loops. On a machine that others use too, a spinning thread takes the core
//! that the thread it waits for needs: a thousand tokens of LoRA training of a 135M model on two threads, at a load of 10
//! to 15 on 2 cores, cost 25 s of processor time spinning and 7.5 s passive (measured with `examples/throughput.rs`).

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::{Error, Result};

/// OpenMP reads this once, when it is loaded.
const POLICY: &str = "OMP_WAIT_POLICY";

/// Starts this program anew, in the same process, with threads that sleep while they wait; returns at once when the
/// environment already says how to wait. Call it first of all: nothing may have been read from stdin yet.
///
/// # Errors
/// [`Error::Device`] when the program cannot be started again.
pub fn sleep_while_waiting() -> Result<()> {
    if std::env::var_os(POLICY).is_some() {
        return Ok(());
    }
    let program = std::env::current_exe().map_err(|e| Error::Device(format!("cannot find this program: {e}")))?;
    let error = Command::new(program).args(std::env::args_os().skip(1)).env(POLICY, "passive").exec();
    Err(Error::Device(format!("cannot start this program again: {error}; set `{POLICY}` in its environment")))
}
