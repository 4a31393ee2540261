//! Carries a choice out: into the trash by rename, and out of it for good when nobody can want it back.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Choice, DAY_NS};
use crate::inventory::{Room, amount, files, touched_ns};
use crate::{CacheError, Digest, Store, folder};

/// Trash that is older is deleted even while runs share the store.
const WEEK_NS: i128 = 7 * DAY_NS;

/// What a sweep did.
#[derive(Debug, Default, Clone, Copy)]
pub struct Swept {
    /// Bytes deleted.
    pub freed_bytes: u64,
    /// Bytes that wait in the trash until no run shares the store.
    pub trash_bytes: u64,
}

impl Store {
    /// Moves a choice into the trash, then empties the trash as far as may be. May be cut short anywhere and repeated.
    ///
    /// # Errors
    /// When a file cannot be moved or deleted.
    pub fn sweep(&self, choice: &Choice, is_alone: bool, now_ns: i128) -> Result<Swept, CacheError> {
        for (room, object) in &choice.objects {
            self.throw(&object.path, &self.trash(*room, &object.digest))?;
        }
        for key in &choice.partials {
            self.throw_partial(key)?;
        }
        for (number, path) in choice.memos.iter().chain(&choice.debris).enumerate() {
            let name = format!("loose-{}-{number}", std::process::id());
            self.throw(path, &self.root().join("trash").join(name))?;
        }
        self.empty_trash(is_alone, now_ns)
    }

    /// Takes an object back that gc threw away while this process may have counted on it.
    pub(crate) fn take_back(&self, room: Room, digest: &Digest, place: &Path) -> bool {
        let trash = self.trash(room, digest);
        fs::rename(&trash, place).is_ok()
    }

    fn trash(&self, room: Room, digest: &Digest) -> PathBuf {
        self.root().join("trash").join(format!("{}-{digest}", room.folder()))
    }

    fn throw(&self, path: &Path, trash: &Path) -> Result<(), CacheError> {
        let folder = self.root().join("trash");
        folder::make(&folder).map_err(CacheError::io("make", &folder))?;
        match fs::rename(path, trash) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(CacheError::io("move to the trash", path)(e)),
            _ => Ok(()),
        }
    }

    /// A checkpoint goes only while nobody executes its action.
    fn throw_partial(&self, key: &Digest) -> Result<(), CacheError> {
        let Some(_lock) = self.lock(key, Duration::ZERO, &mut || false)? else { return Ok(()) };
        self.throw(&self.partial(key), &self.root().join("trash").join(format!("partial-{key}-{}", std::process::id())))
    }

    fn empty_trash(&self, is_alone: bool, now_ns: i128) -> Result<Swept, CacheError> {
        let folder = self.root().join("trash");
        let mut swept = Swept::default();
        for path in files(&folder)? {
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            if is_alone || touched_ns(&meta) < now_ns - WEEK_NS {
                fs::remove_file(&path).map_err(CacheError::io("delete", &path))?;
                swept.freed_bytes += meta.len();
            }
        }
        for item in fs::read_dir(&folder).into_iter().flatten().flatten().filter(|_| is_alone) {
            let _ = fs::remove_dir_all(item.path());
        }
        swept.trash_bytes = amount(&folder).bytes;
        Ok(swept)
    }
}
