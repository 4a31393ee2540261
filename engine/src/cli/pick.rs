//! From `last~1@config-4` to a run, or what it did for one case.

use std::path::{Path, PathBuf};

use watershed_cache::Store;

use super::{Common, open, out};
use crate::archive::{self, Run};
use crate::runlog;

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
    let (folder, run) = located(&store.runs(), name).map_err(tell)?;
    let run = of_case(run, case).map_err(tell)?;
    Ok(Picked { store, folder, run, case: case.map(str::to_string) })
}

/// Finds a run and reads it. `last` and `last~1` count the runs that `runs` lists, which are those whose logs can be read.
///
/// # Errors
/// Says what was looked for and what there is.
pub fn located(runs: &Path, wanted: &str) -> Result<(PathBuf, Run), String> {
    if let Some(back) = steps_back(wanted) {
        return newest(runs, back);
    }
    let folder = archive::find(runs, wanted)?;
    let run = read(&folder, None)?;
    Ok((folder, run))
}

/// Finds the folder of a run likewise; one that is named by its id may be damaged.
///
/// # Errors
/// Says what was looked for and what there is.
pub fn find(runs: &Path, wanted: &str) -> Result<PathBuf, String> {
    match steps_back(wanted) {
        Some(back) => newest(runs, back).map(|(folder, _)| folder),
        None => archive::find(runs, wanted),
    }
}

/// Returns how many runs lie after the one that `last` or `last~N` names.
fn steps_back(wanted: &str) -> Option<usize> {
    if wanted == "last" { Some(0) } else { wanted.strip_prefix("last~")?.parse().ok() }
}

fn newest(runs: &Path, back: usize) -> Result<(PathBuf, Run), String> {
    let folders = runlog::list(runs);
    let mut count = 0;
    for folder in &folders {
        let Ok(run) = Run::read(folder) else { continue };
        if count == back {
            return Ok((folder.clone(), run));
        }
        count += 1;
    }
    match folders.len() - count {
        0 if count == 0 => Err(format!("there is no run in `{}`; `watershed run` makes one", runs.display())),
        0 => Err(format!("there are only {count} runs")),
        damaged => Err(format!("there are only {count} runs, and {damaged} with a damaged log")),
    }
}

fn read(folder: &Path, case: Option<&str>) -> Result<Run, String> {
    let run = Run::read(folder).map_err(|e| format!("cannot read `{}`: {e}", folder.display()))?;
    of_case(run, case)
}

fn of_case(run: Run, case: Option<&str>) -> Result<Run, String> {
    match case {
        Some(case) => run.of_case(case),
        None => Ok(run),
    }
}
