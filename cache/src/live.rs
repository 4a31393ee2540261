//! Who uses the store now: runs share a kernel lock, and gc asks for it alone.
//!
//! The lock decides only how thorough gc may be, never whether a result is right: whatever gc moved to the trash is moved
//! back when a run asks for it, and what is gone for good is a miss.

use std::fs::{File, TryLockError};
use std::path::PathBuf;

use crate::{CacheError, Store, folder, lock};

/// A run's share in the store; dropping it, or dying, gives it back.
#[derive(Debug)]
pub struct Share {
    _file: File,
}

impl Store {
    /// Takes a share in the store for the length of a run; waits while gc has it alone.
    ///
    /// # Errors
    /// When the lock cannot be made.
    pub fn share(&self) -> Result<Share, CacheError> {
        let (file, path) = self.live_file()?;
        file.lock_shared().map_err(CacheError::io("lock", &path))?;
        Ok(Share { _file: file })
    }

    /// Takes the store alone, or returns `None` while a run has a share in it.
    ///
    /// # Errors
    /// When the lock cannot be made.
    pub fn alone(&self) -> Result<Option<Share>, CacheError> {
        let (file, path) = self.live_file()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Share { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(CacheError::io("lock", &path)(e)),
        }
    }

    fn live_file(&self) -> Result<(File, PathBuf), CacheError> {
        let folder = self.root().join("locks");
        folder::make(&folder).map_err(CacheError::io("make", &folder))?;
        let path = folder.join("live");
        Ok((lock::open(&path)?, path))
    }
}
