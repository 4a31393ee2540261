//! What gc keeps: the results of the last runs, of pinned runs, and of runs that may still be under way.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use watershed_cache::{CacheError, Digest, Store};

use crate::archive::Run;

/// A run without an end whose log is younger may still go on, or be taken up again.
const MAY_LIVE: Duration = Duration::from_secs(14 * 86_400);

/// Keys that gc keeps, and how many runs hold them.
#[derive(Debug, Default)]
pub struct Roots {
    /// Action keys.
    pub keys: BTreeSet<Digest>,
    /// Runs behind them.
    pub runs: usize,
    /// Runs among these that are pinned.
    pub pinned: usize,
}

/// Reads the roots of a store: its newest `keep` runs, those pinned, and those that may be under way.
///
/// # Errors
/// When a log cannot be read: what it refers to is unknown then, so nothing may be freed.
pub fn of(store: &Store, keep: usize) -> Result<Roots, CacheError> {
    let mut roots = Roots::default();
    for (age, folder) in folders(&store.runs())?.iter().enumerate() {
        let run = match Run::read(folder) {
            Ok(run) => run,
            Err(source) if is_refused(&source) => return Err(unreadable(folder, source)),
            // A kill before the first line, or a damaged log without one whole line: it names no result.
            Err(_) => continue,
        };
        let pinned = is_pinned(folder);
        if age < keep || pinned || (run.is_open() && may_live(folder)) {
            roots.keys.extend(run.nodes.iter().filter_map(|node| node.key));
            roots.runs += 1;
            roots.pinned += usize::from(pinned);
        }
    }
    Ok(roots)
}

/// Returns the run folders, newest first. Unlike [`runlog::list`] it tells a folder that cannot be listed from an empty one.
fn folders(runs: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let items = match fs::read_dir(runs).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(items) => items,
        Err(source) if is_refused(&source) => return Err(unreadable(runs, source)),
        Err(_) => Vec::new(),
    };
    let mut folders: Vec<PathBuf> = items.into_iter().map(|item| item.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders.reverse();
    Ok(folders)
}

fn is_refused(error: &std::io::Error) -> bool {
    error.raw_os_error().is_some() && error.kind() != std::io::ErrorKind::NotFound
}

fn unreadable(path: &Path, source: std::io::Error) -> CacheError {
    CacheError::Io { verb: "read", path: path.to_path_buf(), source }
}

/// Says whether a run is pinned.
pub fn is_pinned(run: &Path) -> bool {
    pin_of(run).exists()
}

/// Pins a run, or takes its pin away. The pin lies beside the log, so it goes wherever the run goes.
///
/// # Errors
/// When the folder cannot be written.
pub fn pin(run: &Path, pinned: bool) -> std::io::Result<()> {
    match pinned {
        true => fs::write(pin_of(run), ""),
        false => fs::remove_file(pin_of(run)).or_else(|e| if is_pinned(run) { Err(e) } else { Ok(()) }),
    }
}

fn pin_of(run: &Path) -> PathBuf {
    run.join("pinned")
}

/// A clock that went back makes a log look newer than now; then the run counts as alive.
fn may_live(run: &Path) -> bool {
    let touched = fs::metadata(run.join("events.jsonl")).and_then(|meta| meta.modified());
    let age = touched.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
    age.is_ok_and(|age| age < MAY_LIVE)
}
