//! Faults of a pipeline as people and programs read them: code, message, place, help.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// One fault, with its place where it has one (a fault in `--set` has none).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Stable code, for example `E012`.
    pub code: &'static str,
    /// What is wrong, lower case, no full stop.
    pub message: String,
    /// File of the fault.
    pub file: Option<PathBuf>,
    /// Line, from 1.
    pub line: Option<usize>,
    /// Column in characters, from 1.
    pub column: Option<usize>,
    /// How to mend it.
    pub help: Option<String>,
    /// Short text under the caret.
    #[serde(skip)]
    pub label: String,
    /// Characters to underline.
    #[serde(skip)]
    pub width: usize,
}

/// All faults of a pipeline, in file order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Diagnostics {
    /// The faults.
    pub errors: Vec<Diagnostic>,
    /// Text that the places refer to, for snippets.
    #[serde(skip)]
    pub text: String,
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.errors {
            writeln!(f, "error[{}]: {}", error.code, error.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
