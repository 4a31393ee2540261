//! From `last~1@config-4` to a run, or what it did for one case.

use std::path::PathBuf;

use watershed_cache::Store;

use super::{Common, open, out};
use crate::archive::{self, Run};

/// A former run that a command names.
pub struct Picked {
    /// The store around it.
    pub store: Store,
    /// The folder of its log.
    pub folder: PathBuf,
    /// The run; of one case where the word names one.
    pub run: Run,
    /// That case.
    case: Option<String>,
}

impl Picked {
    /// Reads the run again, which may have gone on.
    ///
    /// # Errors
    /// Says what cannot be read.
    pub fn read_again(&mut self) -> Result<(), String> {
        self.run = read(&self.folder, self.case.as_deref())?;
        Ok(())
    }

    /// Returns the run's id, with the case where one is named.
    pub fn title(&self) -> String {
        self.case.as_ref().map_or_else(|| self.run.id.clone(), |case| format!("{}@{case}", self.run.id))
    }
}

/// Finds the run that `word` names: an id, a prefix, `last` or `last~1`, each also with `@CASE`.
///
/// # Errors
/// The exit code, after the fault was printed.
pub fn run(word: &str, common: &Common) -> Result<Picked, i32> {
    let tell = |error: String| {
        out::complain(format!("error: {error}"));
        1
    };
    let store = Store::open(&open::cache_here(common)).map_err(|e| {
        out::complain(format!("error: {e}"));
        4
    })?;
    let (name, case) = word.split_once('@').map_or((word, None), |(name, case)| (name, Some(case)));
    let folder = archive::find(&store.runs(), name).map_err(tell)?;
    let run = read(&folder, case).map_err(tell)?;
    Ok(Picked { store, folder, run, case: case.map(str::to_string) })
}

fn read(folder: &std::path::Path, case: Option<&str>) -> Result<Run, String> {
    let run = Run::read(folder).map_err(|e| format!("cannot read `{}`: {e}", folder.display()))?;
    match case {
        Some(case) => run.of_case(case),
        None => Ok(run),
    }
}
