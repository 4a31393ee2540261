//! Folder outputs laid out for previews and `peek`, each once a session: to be read only.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use watershed_cache::sandbox::Sandbox;
use watershed_cache::{CacheError, Digest, Store};

/// The folders that are laid out; they go with it.
#[derive(Default)]
pub struct Shelf(Mutex<Laid>);

#[derive(Default)]
struct Laid {
    sandbox: Option<Sandbox>,
    folders: HashMap<Digest, PathBuf>,
}

impl Shelf {
    /// Returns where a folder artifact of `store` lies as a folder.
    ///
    /// # Errors
    /// When a blob is missing, or the store cannot be written.
    pub fn folder(&self, store: &Store, digest: &Digest) -> Result<PathBuf, CacheError> {
        let mut laid = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = laid.folders.get(digest) {
            return Ok(path.clone());
        }
        let sandbox = match &mut laid.sandbox {
            Some(sandbox) => sandbox,
            none => none.insert(store.sandbox(&[])?),
        };
        let path = sandbox.path().join(digest.hex());
        store.lay_out(digest, &path)?;
        laid.folders.insert(*digest, path.clone());
        Ok(path)
    }
}
