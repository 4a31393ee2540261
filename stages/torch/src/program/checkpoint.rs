//! What survives a kill: the trainer's state, the best adapter, and how far the training is.
//!
//! A checkpoint is a folder `step-N`, written under another name, synced and renamed, so a half-written one is never read.
//! One is kept.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use watershed_engine::StageError;

use super::curves::Curves;
use super::sampler::Sample;

/// Everything about a training that is not in the trainer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Updates done.
    pub step: u64,
    /// Losses so far.
    pub curves: Curves,
    /// Texts so far.
    pub samples: Vec<Sample>,
    /// Lowest validation loss so far, and its update.
    pub best: Option<(f64, u64)>,
    /// Evaluations since.
    pub since_best: u32,
    /// Tokens trained on.
    pub tokens: u64,
    /// Seconds of work so far, for the timing report only.
    pub seconds: f64,
    /// What computed it.
    pub numerics: Value,
}

const STATE: &str = "state.safetensors";
const PROGRESS: &str = "progress.json";
const BEST: &str = "best";

/// Writes a checkpoint into `folder`; `save_state` writes the trainer's file, `best` is the best adapter's folder.
///
/// # Errors
/// When it cannot be written.
pub fn save(
    folder: &Path,
    progress: &Progress,
    best: &Path,
    save_state: impl FnOnce(&Path) -> Result<(), StageError>,
) -> Result<(), StageError> {
    let fail = |e: std::io::Error| StageError::io("write a checkpoint to", folder, &e);
    let (temporary, place) = (folder.join("unfinished"), folder.join(name(progress.step)));
    remove(&temporary).map_err(fail)?;
    fs::create_dir_all(&temporary).map_err(fail)?;
    save_state(&temporary.join(STATE))?;
    if best.exists() {
        copy(best, &temporary.join(BEST)).map_err(fail)?;
    }
    let text = serde_json::to_vec(progress).expect("progress has text keys only");
    fs::write(temporary.join(PROGRESS), text).map_err(fail)?;
    sync(&temporary).map_err(fail)?;
    remove(&place).map_err(fail)?;
    fs::rename(&temporary, &place).map_err(fail)?;
    File::open(folder).and_then(|f| f.sync_all()).map_err(fail)?;
    for older in all(folder).into_iter().filter(|path| *path != place) {
        remove(&older).map_err(fail)?;
    }
    Ok(())
}

/// Returns the newest checkpoint of `folder` that can be read, with the path of the trainer's file.
pub fn load(folder: &Path) -> Option<(Progress, PathBuf)> {
    all(folder).into_iter().rev().find_map(|place| {
        let progress = serde_json::from_slice(&fs::read(place.join(PROGRESS)).ok()?).ok()?;
        Some((progress, place.join(STATE)))
    })
}

/// Brings the best adapter of the checkpoint with this state file back to `best`.
///
/// # Errors
/// When it cannot be copied.
pub fn restore_best(state: &Path, best: &Path) -> Result<(), StageError> {
    let kept = state.with_file_name(BEST);
    if !kept.exists() {
        return Ok(());
    }
    remove(best).and_then(|()| copy(&kept, best)).map_err(|e| StageError::io("restore", best, &e))
}

fn name(step: u64) -> String {
    format!("step-{step:010}")
}

fn all(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("step-"))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

fn remove(folder: &Path) -> std::io::Result<()> {
    if folder.exists() { fs::remove_dir_all(folder) } else { Ok(()) }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Syncs every file below `folder`, so that the rename cannot reach the disk before them.
fn sync(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { sync(&path)? } else { File::open(&path)?.sync_all()? }
    }
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_whole_checkpoint_is_read_and_older_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let none = folder.path().join("none");
        for step in [3, 12] {
            let progress = Progress { step, ..Progress::default() };
            save(folder.path(), &progress, &none, |path| {
                fs::write(path, "state").unwrap();
                Ok(())
            })
            .unwrap();
        }
        fs::create_dir(folder.path().join("unfinished")).unwrap();
        let (progress, state) = load(folder.path()).unwrap();
        assert_eq!((progress.step, fs::read_to_string(state).unwrap().as_str()), (12, "state"));
        assert_eq!(all(folder.path()).len(), 1);
    }
}
