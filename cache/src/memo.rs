//! Replies of paid requests, kept by the request's digest.
//!
//! One small file a reply, written by rename, so that a kill loses at most the reply in flight and any number of processes
//! may share the folder. gc never removes them on its own.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A folder of replies; without a folder it remembers nothing.
#[derive(Debug, Clone)]
pub struct Memo {
    folder: Option<PathBuf>,
}

impl Memo {
    /// Returns the memo in `folder`.
    pub fn at(folder: Option<PathBuf>) -> Memo {
        Memo { folder }
    }

    /// Returns the reply kept for `request`, the canonical text of provider, body and sample number.
    pub fn get(&self, request: &str) -> Option<Vec<u8>> {
        let stored = std::fs::read(self.path(request)?).ok()?;
        reply_in(&stored).map(<[u8]>::to_vec)
    }

    /// Keeps `reply` for `request`.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn put(&self, request: &str, reply: &[u8]) -> io::Result<()> {
        let Some(path) = self.path(request) else { return Ok(()) };
        let parent = path.parent().unwrap_or(Path::new("."));
        crate::folder::make(parent)?;
        let mut file = tempfile::NamedTempFile::new_in(parent)?;
        io::Write::write_all(&mut file, blake3::hash(reply).as_bytes())?;
        io::Write::write_all(&mut file, reply)?;
        // A reply that one user paid for is every user's of a shared store.
        file.as_file().set_permissions(Permissions::from_mode(0o444))?;
        file.as_file().sync_data()?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    }

    fn path(&self, request: &str) -> Option<PathBuf> {
        let digest = blake3::derive_key("watershed/memo/v1", request.as_bytes());
        let hex = blake3::Hash::from(digest).to_hex();
        Some(self.folder.as_ref()?.join(&hex[..2]).join(&hex[2..]))
    }
}

/// Returns the reply in a file of a memo, if it agrees with the digest before it.
pub(crate) fn reply_in(stored: &[u8]) -> Option<&[u8]> {
    let (digest, reply) = stored.split_at_checked(32)?;
    (blake3::hash(reply).as_bytes() == digest).then_some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_reply_is_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let memo = Memo::at(Some(folder.path().into()));
        memo.put("a", b"reply").unwrap();
        assert_eq!(memo.get("a").unwrap(), b"reply");
        let path = memo.path("a").unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(memo.get("a"), None);
    }
}
