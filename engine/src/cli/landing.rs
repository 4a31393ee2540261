//! Where `get` writes: what it must not replace, and that what is replaced goes only when the new bytes are whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use watershed_cache::{Artifact, CacheError, Store, Tree};

/// Why nothing was written.
#[derive(Debug)]
pub enum Refusal {
    /// The place is not one to write to; why, and how to mend it.
    Place(String),
    /// The store could not give the bytes, or the disk not take them.
    Copy(CacheError),
}

/// Copies an artifact to `target`, replacing what an earlier copy left there. `root` is the project's folder.
///
/// # Errors
/// Before anything has changed: when `target` holds the project, the store, the current folder, or files that are not the
/// artifact's, or when a blob is damaged.
pub fn land(store: &Store, artifact: &Artifact, target: &Path, root: &Path) -> Result<(), Refusal> {
    check_place(target, root, store.root())?;
    if !artifact.folder {
        return store.copy_out(artifact, target).map_err(Refusal::Copy);
    }
    check_strangers(store, artifact, target)?;
    let fresh = beside(target, "new");
    let landed = store.copy_out(artifact, &fresh).and_then(|()| swap(&fresh, target));
    if landed.is_err() {
        let _ = fs::remove_dir_all(&fresh);
    }
    landed.map_err(Refusal::Copy)
}

fn check_place(target: &Path, root: &Path, store: &Path) -> Result<(), Refusal> {
    let refuse = |what: &str| Err(Refusal::Place(format!("`{}` {what}; name another path", target.display())));
    let whole = |path: &Path| fs::canonicalize(path).ok();
    let holds = |inner: &Path| whole(target).zip(whole(inner)).is_some_and(|(outer, inner)| inner.starts_with(outer));
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if whole(parent).zip(whole(store)).is_some_and(|(parent, store)| parent.starts_with(store)) {
        return refuse("lies in the store");
    }
    if holds(store) {
        return refuse("holds the store");
    }
    if holds(root) {
        return refuse("holds the project");
    }
    if holds(Path::new(".")) { refuse("holds the current folder") } else { Ok(()) }
}

/// A folder may be replaced when all that lies in it is of the artifact, as an earlier `get` left it.
fn check_strangers(store: &Store, artifact: &Artifact, target: &Path) -> Result<(), Refusal> {
    if !target.is_dir() {
        return Ok(());
    }
    let ours = store.tree(&artifact.digest).map_err(Refusal::Copy)?;
    let there = Tree::scan(target, None, &|_| true).map_err(Refusal::Copy)?;
    let stranger = there.entries.iter().find(|entry| ours.entries.iter().all(|our| our.path != entry.path));
    stranger.map_or(Ok(()), |entry| {
        let (target, path) = (target.display(), &entry.path);
        Err(Refusal::Place(format!(
            "`{target}` holds `{path}`, which is not of the output and would be lost; name another path, or remove it first"
        )))
    })
}

/// Puts `fresh` in the place of `target`.
fn swap(fresh: &Path, target: &Path) -> Result<(), CacheError> {
    let swapped = replace(fresh, target);
    swapped.map_err(|source| CacheError::Io { verb: "write", path: target.into(), source })
}

fn replace(fresh: &Path, target: &Path) -> io::Result<()> {
    let Ok(there) = fs::symlink_metadata(target) else { return fs::rename(fresh, target) };
    let old = beside(target, "old");
    fs::rename(target, &old)?;
    if let Err(error) = fs::rename(fresh, target) {
        fs::rename(&old, target)?;
        return Err(error);
    }
    if there.is_dir() { fs::remove_dir_all(&old) } else { fs::remove_file(&old) }
}

fn beside(target: &Path, what: &str) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{what}-{}", std::process::id()))
}
