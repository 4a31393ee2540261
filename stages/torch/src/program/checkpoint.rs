//! What survives a kill: the trainer's state, the best adapter, and how far the training is.
//!
//! A checkpoint is a folder `step-N`, written under another name, synced and renamed, so a half-written one is never read.
//! Its last file, `sums.json`, holds the digest of every other: a disk that lost or turned a bit is noticed before training
//! goes on from it. The two newest are kept, so that damage costs the updates between them and not the training.

use std::collections::BTreeMap;
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
    /// Update of the last evaluation.
    pub evaluated: Option<u64>,
    /// Tokens trained on.
    pub tokens: u64,
    /// How often memory did not suffice and micro-batches were halved.
    pub halvings: u32,
    /// Seconds of work so far, for the timing report only.
    pub seconds: f64,
    /// What computed it.
    pub numerics: Value,
}

const STATE: &str = "state.safetensors";
const PROGRESS: &str = "progress.json";
const BEST: &str = "best";
const SUMS: &str = "sums.json";

/// Checkpoints that are kept.
const KEPT: usize = 2;

/// Digest of each file by its path below the folder.
type Sums = BTreeMap<String, String>;

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
    seal(&temporary).and_then(|()| sync(&temporary)).map_err(fail)?;
    remove(&place).map_err(fail)?;
    fs::rename(&temporary, &place).map_err(fail)?;
    File::open(folder).and_then(|f| f.sync_all()).map_err(fail)?;
    all(folder).iter().skip(KEPT).try_for_each(|older| remove(older)).map_err(fail)
}

/// Takes up the newest checkpoint of `folder` that is whole and that `restore` can use; `restore` gets how far it is and the
/// trainer's file. Those that are damaged are removed and told to `tell`.
///
/// # Errors
/// When a damaged one cannot be removed.
pub fn take_up(
    folder: &Path,
    mut restore: impl FnMut(&Progress, &Path) -> Result<(), String>,
    mut tell: impl FnMut(String),
) -> Result<Option<(Progress, PathBuf)>, StageError> {
    for place in all(folder) {
        let state = place.join(STATE);
        match read(&place).and_then(|progress| restore(&progress, &state).map(|()| progress)) {
            Ok(progress) => return Ok(Some((progress, state))),
            Err(why) => tell(format!("the checkpoint `{}` is damaged and removed: {why}", place.display())),
        }
        remove(&place).map_err(|e| StageError::io("remove", &place, &e))?;
    }
    Ok(None)
}

/// Returns the update of the newest checkpoint.
pub fn newest(folder: &Path) -> Option<u64> {
    let name = all(folder).first()?.file_name()?.to_str()?.strip_prefix("step-")?.parse();
    name.ok()
}

/// Makes `best` the best adapter of the checkpoint with this state file, nothing where it has none.
///
/// # Errors
/// When it cannot be copied.
pub fn restore_best(state: &Path, best: &Path) -> Result<(), StageError> {
    let kept = state.with_file_name(BEST);
    let restored = remove(best).and_then(|()| if kept.exists() { copy(&kept, best) } else { Ok(()) });
    restored.map_err(|e| StageError::io("restore", best, &e))
}

fn name(step: u64) -> String {
    format!("step-{step:010}")
}

/// Returns the checkpoints, the newest first.
fn all(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("step-"))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found.reverse();
    found
}

/// Reads how far a checkpoint is, once its files are what they were.
fn read(place: &Path) -> Result<Progress, String> {
    let text = |name: &str| fs::read(place.join(name)).map_err(|e| format!("`{name}`: {e}"));
    let wanted: Sums = serde_json::from_slice(&text(SUMS)?).map_err(|e| format!("`{SUMS}`: {e}"))?;
    let found = sums(place).map_err(|e| e.to_string())?;
    if let Some(name) = wanted.keys().chain(found.keys()).find(|name| wanted.get(*name) != found.get(*name)) {
        return Err(format!("`{name}` is not what was written"));
    }
    serde_json::from_slice(&text(PROGRESS)?).map_err(|e| format!("`{PROGRESS}`: {e}"))
}

fn seal(place: &Path) -> std::io::Result<()> {
    let sums = serde_json::to_vec(&sums(place)?).expect("digests have text keys only");
    fs::write(place.join(SUMS), sums)
}

fn sums(place: &Path) -> std::io::Result<Sums> {
    let mut sums = Sums::new();
    for path in files(place)? {
        let name = path.strip_prefix(place).unwrap_or(&path).to_string_lossy().into_owned();
        if name != SUMS {
            sums.insert(name, blake3::hash(&fs::read(&path)?).to_hex().to_string());
        }
    }
    Ok(sums)
}

fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

/// Removes whatever lies there.
fn remove(place: &Path) -> std::io::Result<()> {
    match fs::symlink_metadata(place) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(place),
        Ok(_) => fs::remove_file(place),
        Err(_) => Ok(()),
    }
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

    /// A folder with checkpoints of these updates.
    fn with(steps: &[u64]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for &step in steps {
            let progress = Progress { step, ..Progress::default() };
            let write =
                |path: &Path| fs::write(path, format!("state {step}")).map_err(|e| StageError::failed(e.to_string()));
            save(folder.path(), &progress, &folder.path().join("none"), write).unwrap();
        }
        folder
    }

    /// The update that is taken up, and what is told of others.
    fn taken(folder: &Path) -> (Option<u64>, Vec<String>) {
        let mut told = Vec::new();
        let found =
            take_up(folder, |_, state| fs::read(state).map(drop).map_err(|e| e.to_string()), |text| told.push(text));
        (found.unwrap().map(|(progress, _)| progress.step), told)
    }

    #[test]
    fn two_newest_are_kept_and_the_newest_is_taken_up() {
        let folder = with(&[3, 9, 12]);
        fs::create_dir(folder.path().join("unfinished")).unwrap();
        assert_eq!((newest(folder.path()), taken(folder.path())), (Some(12), (Some(12), vec![])));
        let names: Vec<PathBuf> = [12, 9].map(|step| folder.path().join(name(step))).to_vec();
        assert_eq!(all(folder.path()), names);
    }

    #[test]
    fn damage_of_any_file_leads_to_the_one_before_and_then_to_none() {
        let spoil: [fn(&Path); 5] = [
            |place| fs::remove_dir_all(place).and_then(|()| fs::write(place, "a file")).unwrap(),
            |place| fs::write(place.join(STATE), "state 9x").unwrap(),
            |place| fs::write(place.join(PROGRESS), "{}").unwrap(),
            |place| fs::remove_file(place.join(SUMS)).unwrap(),
            |place| fs::remove_file(place.join(STATE)).unwrap(),
        ];
        for spoil in spoil {
            let folder = with(&[4, 8]);
            spoil(&folder.path().join(name(8)));
            let (step, told) = taken(folder.path());
            assert_eq!((step, told.len(), all(folder.path()).len()), (Some(4), 1, 1), "{told:?}");
            spoil(&folder.path().join(name(4)));
            assert_eq!((taken(folder.path()).0, all(folder.path()).len()), (None, 0));
        }
    }

    #[test]
    fn state_that_does_not_fit_leads_to_the_one_before() {
        let folder = with(&[4, 8]);
        let fits = |_: &Progress, state: &Path| {
            if fs::read(state).unwrap() == b"state 4" { Ok(()) } else { Err("other rank".to_string()) }
        };
        let mut told = String::new();
        let (progress, _) = take_up(folder.path(), fits, |text| told = text).unwrap().unwrap();
        assert!(progress.step == 4 && told.contains("step-0000000008") && told.contains("other rank"), "{told}");
    }
}
