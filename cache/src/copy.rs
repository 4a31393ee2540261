//! Copies of blobs: a clone of the file's extents where the file system has them, else the bytes.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Copies `from` to `to`, which is replaced.
///
/// # Errors
/// When either cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let source = File::open(from)?;
    if clone_into(&source, &File::create(to)?) {
        return Ok(());
    }
    fs::copy(from, to).map(drop)
}

/// Shares the extents (btrfs, XFS, bcachefs); says whether the file system could.
pub(crate) fn clone_into(source: &File, target: &File) -> bool {
    // SAFETY: both descriptors are open for the length of the call, which reads no memory of ours.
    unsafe { libc::ioctl(target.as_raw_fd(), libc::FICLONE as _, source.as_raw_fd()) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_same_bytes_and_another_life() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, "bytes").unwrap();
        fs::write(&to, "something longer that was there").unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"bytes");
        fs::write(&to, "other").unwrap();
        assert_eq!(fs::read(&from).unwrap(), b"bytes");
    }
}
