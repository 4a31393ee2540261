//! How a stage says that it cannot go on, and what is wrong with its parameters.

use std::io;
use std::path::Path;

/// Why an action ended without a result. The variant decides the exit code and whether a retry makes sense.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StageError {
    /// The stage's own verdict: bad data, a refused teacher, a failed check (exit 1).
    #[error("{0}")]
    Failed(String),
    /// A training whose numbers are no longer numbers: nothing is published, its last good checkpoint stays (exit 1).
    #[error("diverged: {0}")]
    Diverged(String),
    /// The machine's fault: disk full, device or program missing (exit 6).
    #[error("{0}")]
    Environment(String),
    /// Another process held a lock for too long (exit 5).
    #[error("{0}")]
    Busy(String),
    /// A passing fault; `run.retries` counts these.
    #[error("{0}")]
    Retry(String),
    /// The run was cancelled; what was checkpointed stays.
    #[error("cancelled")]
    Cancelled,
    /// The time limit was reached; what was checkpointed stays.
    #[error("timed out, resumable: {0}")]
    TimedOut(String),
}

impl StageError {
    /// Returns a [`StageError::Failed`] with this message.
    pub fn failed(message: impl Into<String>) -> StageError {
        StageError::Failed(message.into())
    }

    /// Returns the variant's name, as the worker protocol and the run log write it.
    pub fn class(&self) -> &'static str {
        match self {
            StageError::Failed(_) => "failed",
            StageError::Diverged(_) => "diverged",
            StageError::Environment(_) => "environment",
            StageError::Busy(_) => "busy",
            StageError::Retry(_) => "retry",
            StageError::Cancelled => "cancelled",
            StageError::TimedOut(_) => "timed_out",
        }
    }

    /// Returns the error of a stage that was cancelled because of `run.timeout`.
    pub fn out_of_time() -> StageError {
        StageError::TimedOut("the time limit of `run.timeout` was reached; run again: a stage with a checkpoint goes on from there, any other begins anew".into())
    }

    /// Returns the error of a stage whose program was told to end and not by this run.
    pub fn ended_from_outside() -> StageError {
        StageError::Failed("a signal from outside ended its program; run again: a stage with a checkpoint goes on from there, any other begins anew".into())
    }

    /// Returns the error for a failed `verb` on `path`; a full disk is the environment's fault.
    pub fn io(verb: &str, path: &Path, error: &io::Error) -> StageError {
        let text = format!("cannot {verb} `{}`: {error}", path.display());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem => {
                StageError::Environment(format!("{text}; free some space or choose another disk, then run again"))
            }
            _ => StageError::Failed(text),
        }
    }
}

/// One fault in a stage's parameters that their types cannot express, for example two that exclude each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamFault {
    /// Dotted path inside `with`, for example `lora.r`; empty for the stage as a whole.
    pub path: String,
    /// What is wrong, lower case, no full stop.
    pub message: String,
    /// How to mend it, perhaps empty.
    pub help: String,
}

impl ParamFault {
    /// Returns a fault at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>, help: impl Into<String>) -> ParamFault {
        ParamFault { path: path.into(), message: message.into(), help: help.into() }
    }
}
