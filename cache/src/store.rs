//! The store: publish by rename with the record last, look up, hand out.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::artifact::{Artifact, Entry, Tree};
use crate::digest::Digest;
use crate::inventory::Room;
use crate::lock::{self, Lock};
use crate::record::ActionResult;
use crate::sandbox::{Sandbox, Sandboxes};
use crate::{CacheError, Memo, folder};

const LAYOUT: &str = "v1";

/// [`crate::record::RECORD_VERSION`] as text.
const KNOWN_RECORDS: &str = "1";

/// A store in a folder.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    boot: Option<String>,
    sandboxes: Sandboxes,
}

impl Store {
    /// Opens the store in `root`; nothing is written until something is published.
    ///
    /// # Errors
    /// When the folder holds a newer layout.
    pub fn open(root: &Path) -> Result<Store, CacheError> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|s| s.trim().to_string());
        if let Ok(found) = fs::read_to_string(root.join("layout")) {
            let found = found.trim().to_string();
            if found != LAYOUT {
                return Err(CacheError::Newer { path: root.to_path_buf(), found, known: LAYOUT });
            }
        }
        Ok(Store { root: root.to_path_buf(), boot, sandboxes: Sandboxes::below(root.join("tmp")) })
    }

    /// Returns the folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns what names the machine's present boot; `None` where it has no name.
    pub fn boot(&self) -> Option<&str> {
        self.boot.as_deref()
    }

    /// Returns the folder of everything that all stores of this layout share.
    pub fn versioned(&self) -> PathBuf {
        self.root.join(LAYOUT)
    }

    /// Returns the folder of run logs.
    pub fn runs(&self) -> PathBuf {
        self.root.join(LAYOUT).join("run")
    }

    /// Returns the folder of all kinds' replies to paid requests.
    pub fn memo_root(&self) -> PathBuf {
        self.root.join(LAYOUT).join("rows")
    }

    /// Returns the folder in which replies of paid requests are kept.
    pub fn memo_folder(&self, kind: &str) -> PathBuf {
        self.memo_root().join(kind)
    }

    /// Opens the memo of a kind.
    pub fn memo(&self, kind: &str) -> Memo {
        Memo::at(Some(self.memo_folder(kind)))
    }

    /// Returns a private folder on the store's file system; it holds the empty folders `inside` and nothing else.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn sandbox(&self, inside: &'static [&'static str]) -> Result<Sandbox, CacheError> {
        self.mark_layout()?;
        self.sandboxes.take(inside)
    }

    /// Removes sandboxes whose process is gone.
    pub fn sweep_sandboxes(&self) {
        self.sandboxes.sweep();
    }

    /// Takes the lock of an action, so that one process executes it; `waiting` says whether to go on waiting.
    ///
    /// # Errors
    /// When patience ends, or the lock folder cannot be written.
    pub fn lock(
        &self,
        key: &Digest,
        patience: Duration,
        waiting: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Lock>, CacheError> {
        let folder = self.root.join("locks");
        folder::make(&folder).map_err(CacheError::io("make", &folder))?;
        lock::acquire(&folder.join(key.hex()), patience, waiting)
    }

    /// Moves a file or folder into the store and returns its identity. With `durable`, blobs are synced.
    ///
    /// # Errors
    /// When it is missing, holds links that leave it, or the disk is full.
    pub fn publish(&self, path: &Path, durable: bool) -> Result<Artifact, CacheError> {
        let kind = fs::symlink_metadata(path).map_err(CacheError::io("publish", path))?.file_type();
        if kind.is_file() {
            let (digest, size) = self.publish_file(path, durable)?;
            return Ok(Artifact { digest, size, folder: false });
        }
        if !kind.is_dir() {
            return Err(CacheError::Refused { path: path.to_path_buf(), why: "is neither a file nor a folder" });
        }
        refuse_links(path)?;
        let tree = Tree::scan(path, None, &|_| true)?;
        for entry in &tree.entries {
            self.publish_file(&path.join(&entry.path), durable)?;
        }
        let artifact = tree.artifact();
        self.write_once(&self.place("tree", &artifact.digest), &tree.to_bytes(), durable)?;
        Ok(artifact)
    }

    fn publish_file(&self, path: &Path, durable: bool) -> Result<(Digest, u64), CacheError> {
        let (digest, size) = Digest::of_file(path)?;
        let place = self.place("cas", &digest);
        let fail = CacheError::io("publish", path);
        if fs::metadata(&place).is_ok_and(|m| m.len() == size) && self.verify_blob(&digest).is_ok() {
            fs::remove_file(path).map_err(fail)?;
            return Ok((digest, size));
        }
        let publish = || -> std::io::Result<()> {
            if durable {
                File::open(path)?.sync_data()?;
            }
            fs::set_permissions(path, Permissions::from_mode(0o444))?;
            folder::make(place.parent().unwrap_or(&self.root))?;
            fs::rename(path, &place)
        };
        publish().map_err(fail)?;
        Ok((digest, size))
    }

    /// Writes the record of an action, replacing an older one. Its blobs must be published already.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn record(&self, key: &Digest, mut result: ActionResult, durable: bool) -> Result<(), CacheError> {
        result.unsynced_boot = if durable { None } else { self.boot.clone() };
        self.replace(&self.place("ac", key), &result.to_bytes(), durable)
    }

    /// Returns the record of an action if it can be relied on: it is whole and every data output is present.
    pub fn look_up(&self, key: &Digest) -> Option<ActionResult> {
        let result = ActionResult::parse(&self.read(Room::Records, key).ok()?)?;
        let other_boot = result.unsynced_boot.is_some() && result.unsynced_boot != self.boot;
        let reliable = |stored: &crate::Stored| {
            let there = self.is_present(&stored.artifact);
            there && (!other_boot || self.verify(&stored.artifact).is_ok())
        };
        result.outputs.values().filter(|s| !s.report).all(reliable).then_some(result)
    }

    /// Returns the record of an action as it stands, whether or not its blobs are there.
    pub fn peek(&self, key: &Digest) -> Option<ActionResult> {
        ActionResult::parse(&fs::read(self.place("ac", key)).ok()?)
    }

    /// Says whether all blobs are there with the right size. Reads no blob.
    pub fn is_present(&self, artifact: &Artifact) -> bool {
        let sized = |digest: &Digest, size: u64| {
            let place = self.place("cas", digest);
            let there = fs::metadata(&place).or_else(|e| match self.take_back(Room::Blobs, digest, &place) {
                true => fs::metadata(&place),
                false => Err(e),
            });
            there.is_ok_and(|m| m.len() == size)
        };
        if !artifact.folder {
            return sized(&artifact.digest, artifact.size);
        }
        self.tree(&artifact.digest).is_ok_and(|tree| tree.entries.iter().all(|e| sized(&e.digest, e.size)))
    }

    /// Reads all blobs and compares them with their names; a damaged one is moved out of the way.
    ///
    /// # Errors
    /// [`CacheError::Missing`] or [`CacheError::Damaged`].
    pub fn verify(&self, artifact: &Artifact) -> Result<(), CacheError> {
        if !artifact.folder {
            return self.verify_blob(&artifact.digest);
        }
        self.tree(&artifact.digest)?.entries.iter().try_for_each(|e| self.verify_blob(&e.digest))
    }

    pub(crate) fn verify_blob(&self, digest: &Digest) -> Result<(), CacheError> {
        let path = self.place("cas", digest);
        if !path.exists() && !self.take_back(Room::Blobs, digest, &path) {
            return Err(CacheError::Missing(*digest));
        }
        let found = match Digest::of_file(&path) {
            Ok((found, _)) if found == *digest => return Ok(()),
            Ok((found, _)) => CacheError::Damaged { path: path.clone(), expected: *digest, found },
            // A disk that cannot read a blob back has lost it as surely as one that alters it.
            Err(error) if is_unreadable(&error) => error,
            Err(error) => return Err(error),
        };
        self.set_aside(&path, &digest.hex());
        Err(found)
    }

    /// Moves a damaged file out of the way, so that it reads as absent and is made anew.
    pub(crate) fn set_aside(&self, path: &Path, name: &str) {
        let evidence = self.root.join("quarantine");
        let _ = folder::make(&evidence);
        let _ = fs::rename(path, evidence.join(name));
    }

    /// Refuses to go on where a newer version has kept a result that this one cannot read.
    ///
    /// # Errors
    /// [`CacheError::Newer`].
    pub fn refuse_newer(&self, key: &Digest) -> Result<(), CacheError> {
        let path = self.place("ac", key);
        let found = fs::read(&path).ok().and_then(|bytes| ActionResult::newer_version(&bytes));
        found.map_or(Ok(()), |found| Err(CacheError::Newer { path, found: found.to_string(), known: KNOWN_RECORDS }))
    }

    /// Reads the listing of a folder artifact.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn tree(&self, digest: &Digest) -> Result<Tree, CacheError> {
        let path = self.place("tree", digest);
        let bytes = self.read(Room::Trees, digest).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => CacheError::Missing(*digest),
            _ => CacheError::io("read", &path)(e),
        })?;
        let found = Digest::of(&bytes);
        match Tree::parse(&bytes) {
            Some(tree) if found == *digest => Ok(tree),
            _ => {
                self.set_aside(&path, &digest.hex());
                Err(CacheError::Damaged { path, expected: *digest, found })
            }
        }
    }

    /// Returns the path of a file artifact's bytes, to be read only.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.place("cas", digest)
    }

    /// Lays a folder artifact out at `target` as hard links, or copies where links do not work; to be read only.
    ///
    /// # Errors
    /// When a blob is missing or `target` cannot be written.
    pub fn lay_out(&self, digest: &Digest, target: &Path) -> Result<(), CacheError> {
        fs::create_dir_all(target).map_err(CacheError::io("make", target))?;
        for entry in self.tree(digest)?.entries {
            let (blob, path) = (self.blob(&entry.digest), target.join(&entry.path));
            make_parent(&path)?;
            if entry.executable || fs::hard_link(&blob, &path).is_err() {
                copy(&blob, &path, &entry)?;
            }
        }
        Ok(())
    }

    /// Copies an artifact to `target` as ordinary writable files, verified while reading.
    ///
    /// # Errors
    /// When a blob is missing or damaged, or `target` cannot be written.
    pub fn copy_out(&self, artifact: &Artifact, target: &Path) -> Result<(), CacheError> {
        self.verify(artifact)?;
        if !artifact.folder {
            make_parent(target)?;
            let entry = Entry { path: String::new(), digest: artifact.digest, size: artifact.size, executable: false };
            return copy(&self.blob(&artifact.digest), target, &entry);
        }
        fs::create_dir_all(target).map_err(CacheError::io("make", target))?;
        for entry in self.tree(&artifact.digest)?.entries {
            let path = target.join(&entry.path);
            make_parent(&path)?;
            copy(&self.blob(&entry.digest), &path, &entry)?;
        }
        Ok(())
    }

    /// Reads an object, out of the trash if gc took it.
    fn read(&self, room: Room, digest: &Digest) -> std::io::Result<Vec<u8>> {
        let path = self.place(room.folder(), digest);
        fs::read(&path).or_else(|e| if self.take_back(room, digest, &path) { fs::read(&path) } else { Err(e) })
    }

    fn place(&self, room: &str, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.root.join(LAYOUT).join(room).join(&hex[..2]).join(&hex[2..])
    }

    fn write_once(&self, path: &Path, bytes: &[u8], durable: bool) -> Result<(), CacheError> {
        if fs::read(path).is_ok_and(|there| there == bytes) { Ok(()) } else { self.replace(path, bytes, durable) }
    }

    fn replace(&self, path: &Path, bytes: &[u8], durable: bool) -> Result<(), CacheError> {
        let write = || -> std::io::Result<()> {
            let parent = path.parent().unwrap_or(&self.root);
            folder::make(parent)?;
            let mut temporary = tempfile::Builder::new().prefix(".new-").tempfile_in(parent)?;
            temporary.write_all(bytes)?;
            temporary.as_file().set_permissions(Permissions::from_mode(0o444))?;
            if durable {
                temporary.as_file().sync_data()?;
            }
            temporary.persist(path).map_err(|e| e.error)?;
            if durable { File::open(parent)?.sync_all() } else { Ok(()) }
        };
        write().map_err(CacheError::io("publish", path))
    }

    fn mark_layout(&self) -> Result<(), CacheError> {
        let marker = self.root.join("layout");
        if marker.exists() {
            return Ok(());
        }
        // Kinds make their checkpoint folders themselves, each below this one.
        let partial = self.partials();
        folder::make(&partial).map_err(CacheError::io("make", &partial))?;
        // By rename: a reader must never find a marker without its text.
        self.replace(&marker, format!("{LAYOUT}\n").as_bytes(), false)
    }
}

fn refuse_links(folder: &Path) -> Result<(), CacheError> {
    for item in fs::read_dir(folder).map_err(CacheError::io("list", folder))?.flatten() {
        let kind = item.file_type().map_err(CacheError::io("read", &item.path()))?;
        if kind.is_symlink() {
            return Err(CacheError::Refused {
                path: item.path(),
                why: "is a symbolic link, which an output may not hold",
            });
        }
        if kind.is_dir() {
            refuse_links(&item.path())?;
        }
    }
    Ok(())
}

fn is_unreadable(error: &CacheError) -> bool {
    matches!(error, CacheError::Io { source, .. } if source.raw_os_error() == Some(libc::EIO))
}

fn make_parent(path: &Path) -> Result<(), CacheError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    if parent.as_os_str().is_empty() {
        return Ok(());
    }
    fs::create_dir_all(parent).map_err(CacheError::io("make", parent))
}

fn copy(blob: &Path, target: &Path, entry: &Entry) -> Result<(), CacheError> {
    let temporary = target.with_extension("watershed-part");
    let copy = || -> std::io::Result<()> {
        crate::copy::copy(blob, &temporary)?;
        fs::set_permissions(&temporary, Permissions::from_mode(if entry.executable { 0o755 } else { 0o644 }))?;
        fs::rename(&temporary, target)
    };
    copy().inspect_err(|_| drop(fs::remove_file(&temporary))).map_err(CacheError::io("write", target))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Stored;

    fn published(store: &Store, text: &str) -> Artifact {
        let sandbox = store.sandbox(&[]).unwrap();
        let path = sandbox.path().join("out");
        fs::write(&path, text).unwrap();
        store.publish(&path, false).unwrap()
    }

    fn record_of(artifact: &Artifact) -> ActionResult {
        let stored = Stored { artifact: artifact.clone(), report: false };
        let outputs = BTreeMap::from([("out".to_string(), stored)]);
        ActionResult { record_version: 1, outputs, unsynced_boot: None, detail: serde_json::Value::Null }
    }

    #[test]
    fn a_record_without_its_blob_is_a_miss() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (key, artifact) = (Digest::of(b"key"), published(&store, "bytes"));
        store.record(&key, record_of(&artifact), false).unwrap();
        assert!(store.look_up(&key).is_some());
        fs::remove_file(store.blob(&artifact.digest)).unwrap();
        assert!(store.look_up(&key).is_none());
    }

    #[test]
    fn a_damaged_blob_is_found_and_replaced_by_the_next_publish() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let artifact = published(&store, "bytes");
        let blob = store.blob(&artifact.digest);
        fs::set_permissions(&blob, Permissions::from_mode(0o644)).unwrap();
        fs::write(&blob, "bytez").unwrap();
        assert!(store.is_present(&artifact));
        assert!(matches!(store.verify(&artifact), Err(CacheError::Damaged { .. })));
        assert!(!store.is_present(&artifact));
        assert_eq!(published(&store, "bytes"), artifact);
        store.verify(&artifact).unwrap();
    }

    #[test]
    fn copies_are_writable_and_blobs_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let artifact = published(&store, "bytes");
        let target = folder.path().join("copy");
        store.copy_out(&artifact, &target).unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&target), mode(&store.blob(&artifact.digest))), (0o644, 0o444));
    }
}
