//! Kernel locks: one file a name, freed by the kernel when the process ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::CacheError;

/// A held lock; dropping it frees it.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Opens the file behind a lock, making it if need be. Another user's is opened for reading, which is enough for `flock`.
pub(crate) fn open(path: &Path) -> Result<File, CacheError> {
    let own = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
    let any = own.or_else(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => File::open(path).map_err(|_| error),
        _ => Err(error),
    });
    any.map_err(CacheError::io("lock", path))
}

/// Takes the lock at `path`, waiting up to `patience`; `waiting` is called once when another process holds it.
///
/// # Errors
/// [`CacheError::Busy`] when patience ends.
pub fn acquire(path: &Path, patience: Duration, waiting: &mut dyn FnMut() -> bool) -> Result<Option<Lock>, CacheError> {
    let file = open(path)?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(Lock { _file: file })),
            Err(TryLockError::Error(e)) => return Err(CacheError::io("lock", path)(e)),
            Err(TryLockError::WouldBlock) if !waiting() => return Ok(None),
            Err(TryLockError::WouldBlock) if start.elapsed() > patience => {
                return Err(CacheError::Busy { path: path.to_path_buf(), waited_s: patience.as_secs() });
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
