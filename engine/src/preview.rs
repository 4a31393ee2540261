//! What a stage can tell before it runs: facts, lints and cost.
//!
//! `plan` prints previews; `run` computes them again as a gate before the first training starts.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fault::StageError;

/// What [`crate::Stage::preview`] found out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Preview {
    /// Column name to value, in the order they are printed, for example `rows`, `updates`, `max_lr`.
    pub facts: Vec<(String, Value)>,
    /// Things a user should know before paying for the stage.
    pub lints: Vec<Lint>,
    /// What the stage would cost.
    pub cost: Cost,
    /// Facts that wait for an input: name of the fact, port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<(String, String)>,
}

impl Preview {
    /// Adds a fact.
    pub fn fact(&mut self, name: &str, value: impl Into<Value>) -> &mut Preview {
        self.facts.push((name.to_string(), value.into()));
        self
    }

    /// Says that a fact is known only when the input of `port` is there.
    pub fn waits(&mut self, fact: &str, port: &str) -> &mut Preview {
        self.unknown.push((fact.to_string(), port.to_string()));
        self
    }
}

/// What a stage would cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Estimated seconds of work on this machine.
    pub seconds: Option<f64>,
    /// Bytes of memory that the work takes on a processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Paid requests.
    pub calls: Option<u64>,
    /// Highest price in US dollars.
    pub usd: Option<f64>,
}

/// How much a lint matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Printed.
    Warn,
    /// The run refuses to start.
    Fail,
}

/// One finding of a preview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lint {
    /// Stable code, for example `L003`.
    pub code: String,
    /// Whether the run may start.
    pub severity: Severity,
    /// What was found and how to mend it.
    pub message: String,
}

/// The inputs that are there already, by port and label, and how the stage would run. A port that is missing here is not known
/// yet, one without entries is bound to nothing.
#[derive(Debug, Clone, Default)]
pub struct PreviewInputs {
    /// Port to (label, path).
    pub ports: BTreeMap<String, Vec<(String, PathBuf)>>,
    /// Port to the digest of its only input in hexadecimal digits, where it is known without reading the input.
    pub digests: BTreeMap<String, String>,
    /// The kind's own `run` keys.
    pub run: Value,
    /// `cpu` or `cuda`: where the stage would run.
    pub device: &'static str,
    /// What the preview before this one worked out.
    pub shared: Shared,
}

/// What previews hand on to the next: the cases of a sweep that differ in a learning rate read the same rows.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<Option<(String, Found)>>>);

type Found = Arc<dyn Any + Send + Sync>;

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl PreviewInputs {
    /// Returns the only input of `port`, if it is there.
    pub fn get(&self, port: &str) -> Option<&Path> {
        self.ports.get(port).and_then(|list| list.first()).map(|(_, path)| path.as_path())
    }

    /// Returns the digest of the only input of `port` in hexadecimal digits, if it is known.
    pub fn digest(&self, port: &str) -> Option<&str> {
        self.digests.get(port).map(String::as_str)
    }

    /// Returns the kind's own `run` keys, which were checked when the pipeline was.
    pub fn run_keys<R: DeserializeOwned + Default>(&self) -> R {
        R::deserialize(&self.run).unwrap_or_default()
    }

    /// Works something out, unless the preview before had the same `question`. The question names all that the answer depends
    /// on: paths stand for their bytes, as long as one plan lasts.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn once<T: Any + Send + Sync>(
        &self,
        question: &str,
        make: impl FnOnce() -> Result<T, StageError>,
    ) -> Result<Arc<T>, StageError> {
        let mut last = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last.as_ref().filter(|(before, _)| before == question).map(|(_, found)| found.clone());
        if let Some(found) = known.and_then(|found| found.downcast::<T>().ok()) {
            return Ok(found);
        }
        // What the last one needed is let go of first: two sets of rows need not be held at once.
        *last = None;
        let found = Arc::new(make()?);
        *last = Some((question.to_string(), found.clone()));
        Ok(found)
    }
}
