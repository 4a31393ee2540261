//! Checkpoints of unfinished actions, a folder each: what an action left that was ended, or whose result was refused at the end.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::{CacheError, Digest, Store, folder};

/// File that tells which work a checkpoint belongs to.
const WORK: &str = "work";

impl Store {
    /// Returns the checkpoint folder of an action; it may not exist.
    pub fn partial(&self, key: &Digest) -> PathBuf {
        self.partials().join(key.hex())
    }

    /// Returns the checkpoint folder of an action whose work has this digest. One that has none yet takes over that of an
    /// action of the same work which nobody executes now. The caller holds the action's lock.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn partial_of_work(&self, key: &Digest, work: &Digest) -> Result<PathBuf, CacheError> {
        let own = self.partial(key);
        if !own.exists() {
            self.take_over(key, work)?;
        }
        let mark = own.join(WORK);
        folder::make(&own).map_err(CacheError::io("make", &own))?;
        fs::write(&mark, work.hex()).map_err(CacheError::io("write", &mark))?;
        Ok(own)
    }

    /// Renames the first unattended checkpoint of the same work, if there is one.
    fn take_over(&self, key: &Digest, work: &Digest) -> Result<(), CacheError> {
        for other in fs::read_dir(self.partials()).into_iter().flatten().flatten() {
            let is_same = fs::read_to_string(other.path().join(WORK)).is_ok_and(|text| text == work.hex());
            let Some(owner) = other.file_name().to_str().and_then(Digest::parse).filter(|_| is_same) else { continue };
            let lock = self.lock(&owner, Duration::ZERO, &mut || false)?;
            if lock.is_some() && fs::rename(other.path(), self.partial(key)).is_ok() {
                return Ok(());
            }
        }
        Ok(())
    }

    pub(crate) fn partials(&self) -> PathBuf {
        self.root().join("partial")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_of_the_same_work_takes_a_checkpoint_over_unless_its_owner_runs() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let [first, second, third, work, other] =
            ["1", "2", "3", "work", "other"].map(|text| Digest::of(text.as_bytes()));
        let own = store.partial_of_work(&first, &work).unwrap();
        fs::write(own.join("step-1"), "state").unwrap();
        assert!(!store.partial_of_work(&second, &other).unwrap().join("step-1").exists());
        let running = store.lock(&first, Duration::ZERO, &mut || false).unwrap();
        assert!(!store.partial_of_work(&third, &work).unwrap().join("step-1").exists());
        drop(running);
        fs::remove_dir_all(store.partial(&third)).unwrap();
        let taken = store.partial_of_work(&third, &work).unwrap();
        assert_eq!(fs::read_to_string(taken.join("step-1")).unwrap(), "state");
        assert!(!own.exists());
    }
}
