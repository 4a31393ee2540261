//! Digests of the user's own files, remembered by what `stat` says of them.
//!
//! A digest is reused while device, inode, size, mtime and ctime are unchanged (ctime catches an edit that puts the old
//! mtime back). The racy-clean rule of git holds: a file touched within a clock tick of being hashed may have changed again
//! unseen, so such an entry is never trusted. Losing the cache costs time only.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::CacheError;
use crate::digest::Digest;

/// Nanoseconds within which a file system may give two writes the same time (a jiffy at 100 Hz, doubled).
pub(crate) const TICK_NS: i128 = 20_000_000;

/// What `stat` says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    dev: u64,
    ino: u64,
    size: u64,
    mtime_ns: i128,
    ctime_ns: i128,
}

impl Stat {
    /// Reads it, following links.
    ///
    /// # Errors
    /// When the file is not there.
    pub fn of(path: &Path) -> Result<Stat, CacheError> {
        let m = std::fs::metadata(path).map_err(CacheError::io("read", path))?;
        let ns = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        let (mtime_ns, ctime_ns) = (ns(m.mtime(), m.mtime_nsec()), ns(m.ctime(), m.ctime_nsec()));
        Ok(Stat { dev: m.dev(), ino: m.ino(), size: m.size(), mtime_ns, ctime_ns })
    }

    /// Says whether the file was last touched so long before a time, in nanoseconds since 1970, that nothing written since
    /// can hide behind the same `stat` (the racy-clean rule).
    pub fn is_settled_at(&self, time_ns: i128) -> bool {
        self.mtime_ns.max(self.ctime_ns) + TICK_NS < time_ns
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    stat: Stat,
    hashed_ns: i128,
    digest: Digest,
}

/// Remembered digests, shared between threads.
#[derive(Debug, Default)]
pub struct StatCache {
    file: Option<PathBuf>,
    known: Mutex<(HashMap<PathBuf, Known>, bool)>,
}

impl StatCache {
    /// Loads what `file` remembers; a damaged or missing file remembers nothing.
    pub fn load(file: &Path) -> StatCache {
        let known = std::fs::read(file).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
        StatCache { file: Some(file.to_path_buf()), known: Mutex::new((known, false)) }
    }

    /// Returns digest and size of a file, reading it only when it may have changed.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn digest(&self, path: &Path) -> Result<(Digest, u64), CacheError> {
        let stat = Stat::of(path)?;
        if let Some(digest) = self.trusted(path, &stat) {
            return Ok((digest, stat.size));
        }
        let hashed_ns = now_ns();
        let (digest, size) = Digest::of_file(path)?;
        let mut guard = self.known.lock().expect("no thread panics while it holds this lock");
        guard.0.insert(path.to_path_buf(), Known { stat, hashed_ns, digest });
        guard.1 = true;
        Ok((digest, size))
    }

    fn trusted(&self, path: &Path, stat: &Stat) -> Option<Digest> {
        let guard = self.known.lock().expect("no thread panics while it holds this lock");
        let known = guard.0.get(path)?;
        (known.stat == *stat && stat.is_settled_at(known.hashed_ns)).then_some(known.digest)
    }

    /// Writes what was learned, if anything was. Failure costs time only, so it is not an error.
    pub fn save(&self) {
        let mut guard = self.known.lock().expect("no thread panics while it holds this lock");
        let Some(file) = self.file.as_ref().filter(|_| guard.1) else { return };
        let Some(parent) = file.parent() else { return };
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(parent)?;
            let temporary = tempfile::NamedTempFile::new_in(parent)?;
            std::fs::write(temporary.path(), serde_json::to_vec(&guard.0)?)?;
            temporary.persist(file).map(drop).map_err(|e| e.error)
        };
        if write().is_ok() {
            guard.1 = false;
        }
    }
}

/// Returns nanoseconds since 1970 UTC.
pub fn now_ns() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_changed_within_a_tick_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let cache = StatCache::default();
        std::fs::write(&path, "one").unwrap();
        let first = cache.digest(&path).unwrap();
        std::fs::write(&path, "two").unwrap();
        assert_ne!(cache.digest(&path).unwrap(), first);
    }
}
