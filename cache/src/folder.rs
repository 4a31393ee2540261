//! Folders of the store. Below a folder that a group may write, new ones are the group's too, as in git's shared repositories.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Group may write, and what is made inside keeps the group.
const SHARED: u32 = 0o2775;

/// Makes a folder and those above it.
///
/// # Errors
/// When one cannot be made.
pub fn make(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make(parent)?;
    let is_shared = fs::metadata(parent)?.mode() & 0o020 != 0;
    let made = if is_shared { make_shared(parent, path) } else { fs::create_dir(path) };
    made.or_else(|error| if path.is_dir() { Ok(()) } else { Err(error) })
}

/// By rename, so that no other user meets the folder before its permissions are right.
fn make_shared(parent: &Path, path: &Path) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let temporary = parent.join(format!(".folder-{}-{number}", std::process::id()));
    fs::create_dir(&temporary)?;
    let placed =
        fs::set_permissions(&temporary, Permissions::from_mode(SHARED)).and_then(|()| fs::rename(&temporary, path));
    if placed.is_err() {
        let _ = fs::remove_dir(&temporary);
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn folders_below_a_groups_folder_are_the_groups() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(SHARED)).unwrap();
        make(&folder.path().join("a/b")).unwrap();
        assert_eq!([mode(&folder.path().join("a")), mode(&folder.path().join("a/b"))], [SHARED; 2]);
        make(&folder.path().join("a/b")).unwrap();
    }

    #[test]
    fn folders_below_a_users_own_are_not() {
        let folder = tempfile::tempdir().unwrap();
        make(&folder.path().join("a/b")).unwrap();
        assert_eq!(mode(&folder.path().join("a/b")) & 0o020, 0);
    }
}
