//! The private folder of one execution.
//!
//! `work` is empty and the child's current folder; `in` holds links to the inputs, so that a program which looks at a
//! file's suffix sees the user's; the folder around both is `HOME` and `TMPDIR`. The engine lends it and clears it. Only `work`
//! is new each time: a program that has outlived its stage may still be in the old one.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use watershed_engine::suffix::suffixes;
use watershed_engine::{Job, JobInput, StageError};

/// A disk with less is called full when a command has failed on it: below one write of a usual buffer.
const FULL: u64 = 64 << 10;

/// The folder and its parts.
#[derive(Debug)]
pub struct Room {
    /// Current folder of the child.
    pub work: PathBuf,
    /// `HOME` and `TMPDIR` of the child.
    pub home: PathBuf,
    /// Where the child's output goes, standard and error in one.
    pub log: PathBuf,
    /// Input to the path that the child sees.
    pub inputs: BTreeMap<String, PathBuf>,
}

impl Room {
    /// Returns the disk's fault in place of the command's when there is no room left: a program that cannot write often
    /// cannot say so either, for its log lies on the same disk.
    pub fn explain(&self, error: StageError) -> StageError {
        match free_bytes(&self.home) {
            Some(free) if free < FULL => StageError::Environment(format!(
                "no room left on the disk of `{}` ({free} bytes free): free some space or choose another disk with \
                 `--cache`, then run again; {error}",
                self.home.display()
            )),
            _ => error,
        }
    }

    /// Furnishes the job's scratch folder.
    ///
    /// # Errors
    /// When the disk is full or a folder cannot be made.
    pub fn make(job: &Job) -> Result<Room, StageError> {
        let home = &job.spec().scratch;
        furnish(home, job).map_err(|e| StageError::io("furnish the private folder", home, &e))
    }
}

fn free_bytes(folder: &Path) -> Option<u64> {
    let path = CString::new(folder.as_os_str().as_bytes()).ok()?;
    // SAFETY: `statvfs` is plain data, for which zeroes are a value; the call reads a C string and fills it in.
    let (answer, found) = unsafe {
        let mut found: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &mut found), found)
    };
    // a file system without a size, as some network mounts are, cannot be full
    (answer == 0 && found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(found.f_frsize))
}

fn furnish(home: &Path, job: &Job) -> io::Result<Room> {
    let home = std::path::absolute(home)?;
    let (work, links) = (home.join("work"), home.join("in"));
    std::fs::create_dir_all(&links)?;
    std::fs::create_dir(&work)?;
    let mut inputs = BTreeMap::new();
    for (port, sources) in &job.spec().inputs {
        inputs.insert(port.clone(), link(&links, port, sources)?);
    }
    Ok(Room { work, log: home.join(".log"), home, inputs })
}

/// Links a port: one input as `in/PORT` with its suffixes, several and those of all cases as a folder of their labels.
fn link(links: &Path, port: &str, sources: &[JobInput]) -> io::Result<PathBuf> {
    if let [source] = sources
        && !source.gathered
    {
        let place = links.join(format!("{port}{}", suffixes(&source.path)));
        symlink(std::path::absolute(&source.path)?, &place)?;
        return Ok(place);
    }
    let folder = links.join(port);
    std::fs::create_dir(&folder)?;
    for source in sources {
        let label = source.label.replace('/', "_");
        symlink(std::path::absolute(&source.path)?, folder.join(format!("{label}{}", suffixes(&source.path))))?;
    }
    Ok(folder)
}
