//! The protocol between the engine and a worker program such as `watershed-torch`.
//!
//! One JSON [`Order`] on the worker's stdin; JSON lines ([`Line`]) on its stdout: first `hello`, then what the job tells,
//! last `done` or `error`. A `hello` that does not fit ends the action before any work. The worker only reads inputs and
//! writes outputs; hashing and publishing stay with the engine, so an abort of the worker fails one action and no more.

use std::io::{BufRead, Write};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::fault::StageError;
use crate::job::{Job, JobEvent, JobSpec, Sink};
use crate::signal;

/// Version of this protocol.
pub const PROTOCOL: u32 = 1;

/// Identifies builds that may work together.
pub const BUILD: &str = env!("CARGO_PKG_VERSION");

/// What the engine sends.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// See [`PROTOCOL`].
    pub protocol: u32,
    /// See [`BUILD`].
    pub build: String,
    /// The job.
    pub spec: JobSpec,
}

/// What the worker sends.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// The worker's own lines.
    Own(Own),
    /// What the job tells.
    Job(JobEvent),
}

/// Lines that frame a job.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "worker", rename_all = "snake_case")]
pub enum Own {
    /// First line.
    Hello {
        /// See [`PROTOCOL`].
        protocol: u32,
        /// See [`BUILD`].
        build: String,
        /// Kinds that the worker executes, with their versions.
        kinds: Vec<(String, u32)>,
    },
    /// The outputs are written.
    Done,
    /// The job ended without a result.
    Error {
        /// See [`StageError::class`].
        class: String,
        /// Why.
        message: String,
    },
}

impl Own {
    /// Returns the line for an error.
    pub fn error(error: &StageError) -> Own {
        let message = match error {
            StageError::Cancelled => String::new(),
            StageError::Failed(m) | StageError::Diverged(m) | StageError::Environment(m) => m.clone(),
            StageError::Busy(m) | StageError::Retry(m) | StageError::TimedOut(m) => m.clone(),
        };
        Own::Error { class: error.class().into(), message }
    }

    /// Returns the error that an `error` line stands for.
    pub fn to_error(class: &str, message: String) -> StageError {
        match class {
            "diverged" => StageError::Diverged(message),
            "environment" => StageError::Environment(message),
            "retry" => StageError::Retry(message),
            "cancelled" => StageError::Cancelled,
            "timed_out" => StageError::TimedOut(message),
            _ => StageError::Failed(message),
        }
    }
}

struct Stdout(Mutex<std::io::Stdout>);

impl Stdout {
    fn send<T: Serialize>(&self, line: &T) {
        let mut out = self.0.lock().expect("no thread panics while it holds this lock");
        let text = serde_json::to_string(line).expect("protocol lines have no map keys that JSON lacks");
        // A closed pipe means that the engine is gone; the parent-death signal ends this process.
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}

impl Sink for Stdout {
    fn emit(&self, event: JobEvent) {
        self.send(&event);
    }
}

/// Runs the worker's side: reads one order, executes it with `execute`, and returns the process's exit code.
///
/// SIGTERM and SIGINT raise the job's cancel flag; the engine has the kernel send SIGTERM when it dies. Returns 0 when done,
/// 40 when the job failed, 75 when a retry may help, 64 when the order could not be read.
pub fn serve(kinds: &[(&str, u32)], execute: impl FnOnce(&Job) -> Result<(), StageError>) -> i32 {
    let cancel = signal::cancel_on_termination();
    let out = Stdout(Mutex::new(std::io::stdout()));
    let kinds = kinds.iter().map(|(k, v)| (k.to_string(), *v)).collect();
    out.send(&Own::Hello { protocol: PROTOCOL, build: BUILD.into(), kinds });
    let mut text = String::new();
    let read = std::io::stdin().lock().read_line(&mut text).map_err(|e| e.to_string());
    let order = read.and_then(|_| serde_json::from_str::<Order>(&text).map_err(|e| e.to_string()));
    let order = match order {
        Ok(order) => order,
        Err(e) => {
            out.send(&Own::error(&StageError::Environment(format!("cannot read the order: {e}"))));
            return 64;
        }
    };
    let job = Job::new(order.spec, &out, cancel);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| execute(&job)));
    let outcome =
        outcome.unwrap_or_else(|panic| Err(StageError::Failed(format!("internal error: {}", panic_text(&*panic)))));
    match outcome {
        Ok(()) => out.send(&Own::Done),
        Err(ref e) => out.send(&Own::error(e)),
    }
    match outcome {
        Ok(()) => 0,
        Err(StageError::Retry(_)) => 75,
        Err(_) => 40,
    }
}

/// Returns the message of a caught panic.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| s.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic without a message".into())
}
