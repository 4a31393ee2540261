//! What a folder's file system offers to a store: found by trying, not by its name.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::copy;

/// What was found out about a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ground {
    /// Name of the file system, or its number.
    pub file_system: String,
    /// Bytes that this user may still write.
    pub free_bytes: u64,
    /// Whether copies can share their extents.
    pub clones: bool,
    /// Whether a file can have two names.
    pub links: bool,
    /// Whether a second holder of a lock is refused.
    pub locks: bool,
}

impl Ground {
    /// Tries a folder, in a folder of its own that is gone afterwards.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub fn of(folder: &Path) -> io::Result<Ground> {
        let trial = tempfile::Builder::new().prefix(".watershed-trial-").tempdir_in(folder)?;
        let (first, second) = (trial.path().join("first"), trial.path().join("second"));
        fs::write(&first, [1; 8192])?;
        let clones = copy::clone_into(&File::open(&first)?, &File::create(&second)?);
        let links = fs::hard_link(&first, trial.path().join("link")).is_ok();
        let (holder, other) = (File::open(&first)?, File::open(&first)?);
        let locks = holder.try_lock().is_ok() && other.try_lock().is_err();
        Ok(Ground { file_system: name_of(folder)?, free_bytes: free(folder)?, clones, links, locks })
    }
}

/// Names by the magic numbers of `linux/magic.h` and of the file systems' own sources.
fn name_of(folder: &Path) -> io::Result<String> {
    const NAMES: [(u32, &str); 17] = [
        (0xEF53, "ext4"),
        (0x9123_683E, "btrfs"),
        (0x5846_5342, "xfs"),
        (0x0102_1994, "tmpfs"),
        (0x794C_7630, "overlay"),
        (0x6969, "nfs"),
        (0x2FC1_2FC1, "zfs"),
        (0xFF53_4D42, "cifs"),
        (0xFE53_4D42, "smb"),
        (0x0BD0_0BD0, "lustre"),
        (0x4750_4653, "gpfs"),
        (0x1983_0326, "beegfs"),
        (0x6573_5546, "fuse"),
        (0xCA45_1A4E, "bcachefs"),
        (0x0102_1997, "9p"),
        (0x00C3_6400, "ceph"),
        (0xF2F5_2010, "f2fs"),
    ];
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes())?;
    // SAFETY: the path ends in a zero byte, a zeroed statfs is valid, and the call fills it.
    let (code, found) = unsafe {
        let mut found: libc::statfs = std::mem::zeroed();
        (libc::statfs(path.as_ptr(), &mut found), found)
    };
    if code != 0 {
        return Err(io::Error::last_os_error());
    }
    let magic = found.f_type as u32;
    Ok(NAMES
        .iter()
        .find(|(number, _)| *number == magic)
        .map_or(format!("file system {magic:#x}"), |(_, n)| n.to_string()))
}

fn free(folder: &Path) -> io::Result<u64> {
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes())?;
    // SAFETY: as above, for statvfs.
    let (code, found) = unsafe {
        let mut found: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &mut found), found)
    };
    if code == 0 { Ok(found.f_bavail * found.f_frsize) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_tried_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let ground = Ground::of(folder.path()).unwrap();
        assert!(ground.links && ground.locks && ground.free_bytes > 0, "{ground:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(Ground::of(Path::new("/proc")).is_err());
    }
}
