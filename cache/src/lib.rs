//! Bytes by digest, and what actions left: the store.
//!
//! One layout for a local folder, a shared folder and a remote:
//!
//! ```text
//! STORE/v1/cas/ab/cdef…     one file per BLAKE3 digest, mode 0444, its name is its content
//! STORE/v1/tree/ab/cdef…    the listing of a folder artifact, itself named by its digest
//! STORE/v1/ac/ab/cdef…      action key to action result; written last, so a result implies its blobs
//! STORE/v1/rows/KIND/…      replies of paid requests, by request ([`memo`])
//! STORE/v1/run/ID/…         run logs
//! STORE/tmp/PID-N/          sandboxes ([`sandbox`]); a rename away from the CAS, garbage after a kill
//! STORE/partial/KEY/        checkpoints of unfinished actions
//! STORE/quarantine/NAME     damaged objects, kept as evidence
//! STORE/trash/NAME          what gc took while runs share the store; a look-up takes it back
//! STORE/locks/KEY           empty files for `flock`; they never hold state
//! ```
//!
//! The truth is in files that any tool can copy; no database, no daemon, no lock that outlives its process.

pub mod artifact;
pub mod copy;
pub mod digest;
pub mod folder;
pub mod gc;
pub mod ground;
mod hash;
pub mod inventory;
pub mod live;
pub mod lock;
pub mod memo;
mod partial;
pub mod record;
pub mod sandbox;
pub mod sighting;
pub mod stat;
pub mod store;
pub mod verify;

pub use artifact::{Artifact, Tree};
pub use digest::Digest;
pub use ground::Ground;
pub use memo::Memo;
pub use record::{ActionResult, Stored};
pub use sighting::Sightings;
pub use stat::{Stat, StatCache};
pub use store::Store;

use std::io;
use std::path::{Path, PathBuf};

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The file system refused.
    #[error("cannot {verb} `{}`: {source}", path.display())]
    Io {
        /// What was tried, for example `publish`.
        verb: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Bytes are not what their name says.
    #[error("`{}` is damaged: expected {expected}, found {found}", path.display())]
    Damaged {
        /// The blob.
        path: PathBuf,
        /// Digest in its name.
        expected: Digest,
        /// Digest of its bytes.
        found: Digest,
    },
    /// A blob or listing is not there.
    #[error("{0} is not in the store")]
    Missing(Digest),
    /// An input or output is something that cannot be kept.
    #[error("`{}` {why}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Another process holds a lock for too long.
    #[error("another process has held `{}` for {waited_s} s; end it, or wait longer with `--lock-timeout`", path.display())]
    Busy {
        /// The lock.
        path: PathBuf,
        /// How long this process waited.
        waited_s: u64,
    },
    /// The folder was written by a newer version.
    #[error("`{}` has layout {found}, this program reads layout {known}; use a newer watershed", path.display())]
    Newer {
        /// The store, or a record in it.
        path: PathBuf,
        /// Layout found.
        found: String,
        /// Layout known.
        known: &'static str,
    },
}

impl CacheError {
    pub(crate) fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
        let path = path.to_path_buf();
        move |source| CacheError::Io { verb, path, source }
    }

    /// Says whether the machine is at fault: no room, no right to write.
    pub fn is_environment(&self) -> bool {
        let CacheError::Io { source, .. } = self else { return false };
        matches!(
            source.kind(),
            io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::ReadOnlyFilesystem
                | io::ErrorKind::PermissionDenied
        )
    }
}
