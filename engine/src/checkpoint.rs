//! Whose checkpoint a folder holds: a header beside it names the work and the program.
//!
//! The folder is named by an action's key, but several actions can be of one work (see [`crate::key::Manifest::work`]), a
//! folder can be copied, and a program of another build may write its state in another form. So a job that wants its
//! checkpoint claims the folder first; what the header does not own up to is moved to `refused/` inside it, where it goes
//! with the folder.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use watershed_cache::Digest;

use crate::job::JobSpec;
use crate::worker::BUILD;

const HEADER: &str = "header.json";
const REFUSED: &str = "refused";
const LOCK: &str = "lock";
/// Between two looks at a folder that another process works in.
const PAUSE: Duration = Duration::from_millis(50);

/// What a checkpoint is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Digest of the work, hex.
    pub work: String,
    /// The kind.
    pub kind: String,
    /// Its version.
    pub version: u32,
    /// The build of the program.
    pub build: String,
}

impl Header {
    /// Returns the header of a job's checkpoint.
    pub fn of(spec: &JobSpec) -> Header {
        let (work, kind, version) = (spec.work.clone(), spec.kind.clone(), spec.version);
        Header { work, kind, version, build: BUILD.into() }
    }

    /// Says whether a job with this header would go on from what lies in a folder; whether that is whole, only the job finds out.
    pub fn finds(&self, folder: &Path) -> bool {
        Header::read(folder).as_ref() == Some(self) && items(folder).is_ok_and(|paths| !paths.is_empty())
    }

    fn read(folder: &Path) -> Option<Header> {
        serde_json::from_slice(&fs::read(folder.join(HEADER)).ok()?).ok()
    }

    /// By rename, so that no kill leaves half a header, by which a good checkpoint would be refused.
    fn write(&self, folder: &Path) -> io::Result<()> {
        let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut temporary, self)?;
        temporary.persist(folder.join(HEADER)).map(drop).map_err(|e| e.error)
    }

    fn difference(&self, found: Option<&Header>) -> String {
        let Some(found) = found else { return "does not say of which work it is".into() };
        if (&found.kind, found.version) != (&self.kind, self.version) {
            return format!(
                "is of `{}` version {}, not `{}` version {}",
                found.kind, found.version, self.kind, self.version
            );
        }
        if found.work != self.work {
            return format!("is of the work {:.8}, not {:.8}", found.work, self.work);
        }
        format!("was written by build {}, this is {}", found.build, self.build)
    }
}

/// Says whether a folder holds a checkpoint of this work.
pub fn is_of(folder: &Path, work: &Digest) -> bool {
    Header::read(folder).is_some_and(|header| header.work == work.hex())
}

/// Keeps other processes out of `folder` until the returned file is closed: a worker outlives a killed engine until its
/// checkpoint is written, while the engine's own lock on the action is free at once. `wait` is asked between two looks, with
/// the number of those before, and ends the wait by returning false; then there is no file.
///
/// # Errors
/// When the folder cannot be written.
pub fn hold(folder: &Path, mut wait: impl FnMut(u64) -> bool) -> io::Result<Option<File>> {
    fs::create_dir_all(folder)?;
    let file = File::options().create(true).truncate(false).write(true).open(folder.join(LOCK))?;
    for looks in 0.. {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if wait(looks) => std::thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => break,
        }
    }
    Ok(None)
}

/// Says whether no process works in a folder.
pub fn is_free(folder: &Path) -> bool {
    hold(folder, |_| false).is_ok_and(|lock| lock.is_some())
}

/// Makes `folder` the place of this header's checkpoint. Returns what was wrong with one that lay there, now moved aside.
///
/// # Errors
/// When the folder cannot be written.
pub fn claim(folder: &Path, header: &Header) -> io::Result<Option<String>> {
    let found = Header::read(folder);
    if found.as_ref() == Some(header) {
        return Ok(None);
    }
    fs::create_dir_all(folder)?;
    let is_foreign = move_aside(folder)?;
    header.write(folder)?;
    Ok(is_foreign.then(|| format!("the checkpoint in `{}` {}", folder.display(), header.difference(found.as_ref()))))
}

/// Says whether there was anything to move.
fn move_aside(folder: &Path) -> io::Result<bool> {
    let refused = folder.join(REFUSED);
    let mut items = items(folder)?;
    items.extend(Some(folder.join(HEADER)).filter(|header| header.exists()));
    if items.is_empty() {
        return Ok(false);
    }
    if refused.exists() {
        fs::remove_dir_all(&refused)?;
    }
    fs::create_dir(&refused)?;
    items.iter().try_for_each(|item| fs::rename(item, refused.join(item.file_name().unwrap_or_default())))?;
    Ok(true)
}

/// Returns what a folder holds of the work itself.
fn items(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let names: Vec<_> = fs::read_dir(folder)?.map(|item| Ok(item?.file_name())).collect::<io::Result<_>>()?;
    let is_ours = |name: &OsString| [HEADER, REFUSED, LOCK].iter().any(|ours| name == ours);
    Ok(names.into_iter().filter(|name| !is_ours(name)).map(|name| folder.join(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(work: &str) -> Header {
        Header { work: work.into(), kind: "train".into(), version: 1, build: BUILD.into() }
    }

    #[test]
    fn a_folder_is_one_process_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let first = hold(folder.path(), |_| panic!("nobody holds it")).unwrap();
        assert!(hold(folder.path(), |looks| looks < 2).unwrap().is_none());
        let mut first = Some(first);
        assert!(hold(folder.path(), |_| first.take().is_some()).unwrap().is_some());
        assert_eq!(claim(folder.path(), &header("a")).unwrap(), None, "a lock is no checkpoint");
    }

    #[test]
    fn a_checkpoint_is_claimed_by_its_own_work_only() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("key");
        assert_eq!(claim(&place, &header("a")).unwrap(), None);
        fs::write(place.join("step-1"), "state").unwrap();
        assert_eq!(claim(&place, &header("a")).unwrap(), None);
        assert!(place.join("step-1").exists());
        assert!(claim(&place, &header("b")).unwrap().unwrap().contains("is of the work a, not b"));
        assert!(!place.join("step-1").exists() && place.join("refused/step-1").exists());
    }

    #[test]
    fn a_job_goes_on_from_what_its_own_header_stands_beside() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("key");
        assert!(!header("a").finds(&place));
        claim(&place, &header("a")).unwrap();
        hold(&place, |_| false).unwrap();
        assert!(!header("a").finds(&place), "a header alone is no work done");
        fs::write(place.join("step-1"), "state").unwrap();
        assert!(header("a").finds(&place) && !header("b").finds(&place));
        assert!(!Header { build: "0.0.0".into(), ..header("a") }.finds(&place));
    }

    #[test]
    fn what_another_version_or_build_wrote_or_nobody_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |own: &Header| claim(folder.path(), own).unwrap().unwrap();
        fs::write(folder.path().join("step-1"), "state").unwrap();
        assert!(refused(&header("a")).contains("does not say"));
        assert!(
            refused(&Header { version: 2, ..header("a") }).contains("is of `train` version 1, not `train` version 2")
        );
        let other = Header { version: 2, build: "0.0.0".into(), ..header("a") };
        assert!(refused(&other).contains("was written by build"));
    }
}
