//! Checkpoints of unfinished actions, a folder each: what an action left that was ended, or whose result was refused at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{CacheError, Digest, Store};

impl Store {
    /// Returns the checkpoint folder of an action; it may not exist.
    pub fn partial(&self, key: &Digest) -> PathBuf {
        self.partials().join(key.hex())
    }

    /// Gives an action that has no checkpoint the first one that is of its work and whose owner nobody executes now. The caller
    /// holds the action's lock.
    ///
    /// # Errors
    /// When the lock folder cannot be written.
    pub fn take_over(&self, key: &Digest, is_of_its_work: &dyn Fn(&Path) -> bool) -> Result<(), CacheError> {
        let own = self.partial(key);
        if own.exists() {
            return Ok(());
        }
        for other in fs::read_dir(self.partials()).into_iter().flatten().flatten().map(|item| item.path()) {
            let owner = other.file_name().and_then(|name| name.to_str()).and_then(Digest::parse);
            let Some(owner) = owner.filter(|_| is_of_its_work(&other)) else { continue };
            let lock = self.lock(&owner, Duration::ZERO, &mut || false)?;
            if lock.is_some() && fs::rename(&other, &own).is_ok() {
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
    fn an_action_takes_a_checkpoint_of_its_work_over_unless_the_owner_runs() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let [owner, heir] = ["owner", "heir"].map(|text| Digest::of(text.as_bytes()));
        fs::create_dir_all(store.partial(&owner)).unwrap();
        fs::write(store.partial(&owner).join("step-1"), "state").unwrap();
        let takes = |is_of_its_work: bool| {
            store.take_over(&heir, &|_| is_of_its_work).unwrap();
            store.partial(&heir).exists()
        };
        assert!(!takes(false));
        let running = store.lock(&owner, Duration::ZERO, &mut || false).unwrap();
        assert!(!takes(true));
        drop(running);
        assert!(takes(true));
        assert_eq!(fs::read_to_string(store.partial(&heir).join("step-1")).unwrap(), "state");
        assert!(!store.partial(&owner).exists());
    }
}
