//! Private folders of executions, emptied and used again, each time under a new name: who survived the execution before and
//! remembers a path writes nowhere.
//!
//! On ext4 a file or folder that is made looks past every one that went in the last minutes, so that folders made and
//! removed for each of a thousand small stages cost as much as the stages do (bench/README.md).

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{CacheError, folder};

/// Of each folder; whoever changed it finds a new one next time.
const MODE: u32 = 0o700;

/// The sandboxes of one process below one folder; those that nobody uses go with it.
#[derive(Debug)]
pub struct Sandboxes {
    folder: PathBuf,
    idle: Arc<Idle>,
}

/// A private folder with the empty folders that its user asked for; cleared when dropped.
#[derive(Debug)]
pub struct Sandbox {
    path: PathBuf,
    inside: &'static [&'static str],
    idle: Arc<Idle>,
}

/// Cleared sandboxes, each with the folders inside it.
#[derive(Debug, Default)]
struct Idle(Mutex<Vec<(PathBuf, &'static [&'static str])>>);

impl Sandboxes {
    /// Knows of none in `folder`, which is made when it is needed.
    pub fn below(folder: PathBuf) -> Sandboxes {
        Sandboxes { folder, idle: Arc::default() }
    }

    /// Returns a sandbox that holds the folders `inside` and nothing else. A folder stands after those it lies in.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn take(&self, inside: &'static [&'static str]) -> Result<Sandbox, CacheError> {
        let path = self.new_path();
        match self.idle.take(inside) {
            Some(used) => fs::rename(&used, &path).map_err(CacheError::io("rename", &used))?,
            None => self.make(&path, inside)?,
        }
        Ok(Sandbox { path, inside, idle: self.idle.clone() })
    }

    fn new_path(&self) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        self.folder.join(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    fn make(&self, path: &Path, inside: &[&str]) -> Result<(), CacheError> {
        folder::make(&self.folder).map_err(CacheError::io("make", &self.folder))?;
        let _ = remove_tree(path);
        let make = |path: &Path| fs::DirBuilder::new().mode(MODE).create(path).map_err(CacheError::io("make", path));
        make(path)?;
        inside.iter().try_for_each(|name| make(&path.join(name)))
    }

    /// Removes sandboxes whose process is gone.
    pub fn sweep(&self) {
        let Ok(items) = fs::read_dir(&self.folder) else { return };
        for path in items.flatten().map(|i| i.path()) {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if name.split('-').next().and_then(|p| p.parse().ok()).is_some_and(is_gone) {
                let _ = remove_tree(&path);
            }
        }
    }
}

fn is_gone(pid: i32) -> bool {
    // SAFETY: signal 0 only asks whether the process exists.
    let answer = unsafe { libc::kill(pid, 0) };
    answer == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

impl Idle {
    fn list(&self) -> std::sync::MutexGuard<'_, Vec<(PathBuf, &'static [&'static str])>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, inside: &[&str]) -> Option<PathBuf> {
        let mut idle = self.list();
        let position = idle.iter().position(|(_, has)| *has == inside)?;
        Some(idle.swap_remove(position).0)
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        for (path, _) in self.list().drain(..) {
            let _ = remove_tree(&path);
        }
    }
}

impl Sandbox {
    /// Returns the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes everything but the folders inside; says whether those are as they were made.
    fn clear(&self, place: &Path, inside: &Path) -> io::Result<bool> {
        let mut left = self.inside.iter().filter(|name| Path::new(name).parent() == Some(inside)).count();
        for item in fs::read_dir(place)? {
            let item = item?;
            let (path, inside) = (item.path(), inside.join(item.file_name()));
            let is_kept = self.inside.iter().any(|name| Path::new(name) == inside);
            match item.file_type()?.is_dir() {
                true if is_kept && is_as_made(&path)? && self.clear(&path, &inside)? => left -= 1,
                true if is_kept => return Ok(false),
                true => remove_tree(&path)?,
                false => fs::remove_file(&path)?,
            }
        }
        Ok(left == 0)
    }
}

fn is_as_made(folder: &Path) -> io::Result<bool> {
    Ok(fs::symlink_metadata(folder)?.permissions().mode() & 0o777 == MODE)
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.clear(&self.path, Path::new("")).unwrap_or(false) {
            self.idle.list().push((std::mem::take(&mut self.path), self.inside));
        } else {
            let _ = remove_tree(&self.path);
        }
    }
}

/// Removes a folder, making folders that a stage left read-only writable first.
fn remove_tree(path: &Path) -> io::Result<()> {
    if fs::remove_dir_all(path).is_ok() || !path.exists() {
        return Ok(());
    }
    for item in fs::read_dir(path)?.flatten() {
        if item.file_type()?.is_dir() {
            fs::set_permissions(item.path(), Permissions::from_mode(0o700))?;
            remove_tree(&item.path())?;
        }
    }
    fs::remove_dir_all(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    const INSIDE: &[&str] = &["out", "scratch", "scratch/work"];

    /// Returns all there is, sorted.
    fn listed(folder: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for item in fs::read_dir(folder).unwrap().flatten() {
            let name = item.file_name().into_string().unwrap();
            if item.file_type().unwrap().is_dir() {
                found.extend(listed(&item.path()).into_iter().map(|inner| format!("{name}/{inner}")));
            }
            found.push(name);
        }
        found.sort();
        found
    }

    /// Returns the next sandbox after one in which `leave` left something: whether it is the same folder, and what it holds.
    fn next(leave: impl Fn(&Path)) -> (bool, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let sandboxes = Sandboxes::below(folder.path().join("tmp"));
        let first = sandboxes.take(INSIDE).unwrap();
        let (path, inode) = (first.path().to_path_buf(), inode(first.path()));
        let _held = fs::File::open(&path).unwrap();
        leave(&path);
        drop(first);
        let next = sandboxes.take(INSIDE).unwrap();
        assert!(!path.exists(), "no path leads to two executions");
        (inode == self::inode(next.path()), listed(next.path()))
    }

    fn inode(path: &Path) -> u64 {
        fs::metadata(path).unwrap().ino()
    }

    #[test]
    fn what_a_stage_leaves_is_gone_when_the_next_one_gets_its_folder() {
        let (is_same, found) = next(|path| {
            fs::write(path.join("scratch/.log"), "text").unwrap();
            fs::create_dir_all(path.join("scratch/work").join("a/b")).unwrap();
            std::os::unix::fs::symlink("/nowhere", path.join("out/link")).unwrap();
        });
        assert_eq!(found, ["out", "scratch", "scratch/work"]);
        assert!(is_same);
    }

    #[test]
    fn a_folder_that_a_stage_changed_is_not_used_again() {
        let changes: [fn(&Path); 3] = [
            |path| fs::set_permissions(path.join("scratch/work"), Permissions::from_mode(0o500)).unwrap(),
            |path| fs::remove_dir(path.join("scratch/work")).unwrap(),
            |path| {
                fs::remove_dir(path.join("out")).unwrap();
                std::os::unix::fs::symlink(path.join("scratch"), path.join("out")).unwrap();
            },
        ];
        for change in changes {
            let (is_same, found) = next(change);
            assert_eq!((is_same, found.len()), (false, INSIDE.len()));
        }
    }

    #[test]
    fn idle_ones_go_with_their_process_s_last_store() {
        let folder = tempfile::tempdir().unwrap();
        let sandboxes = Sandboxes::below(folder.path().join("tmp"));
        drop((sandboxes.take(INSIDE).unwrap(), sandboxes.take(INSIDE).unwrap()));
        assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 2);
        drop(sandboxes);
        assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
    }
}
