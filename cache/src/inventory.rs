//! What lies in a store: its objects, room by room, and how much each room holds.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::{ActionResult, CacheError, Digest, Store};

/// A room whose files are named by a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// Bytes of files.
    Blobs,
    /// Listings of folders.
    Trees,
    /// Action results.
    Records,
}

impl Room {
    /// All of them, in the order in which gc empties them: a record goes before what it refers to.
    pub const ALL: [Room; 3] = [Room::Records, Room::Trees, Room::Blobs];

    /// Returns the name of its folder.
    pub fn folder(self) -> &'static str {
        match self {
            Room::Blobs => "cas",
            Room::Trees => "tree",
            Room::Records => "ac",
        }
    }
}

/// One file of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its name.
    pub digest: Digest,
    /// Where it lies.
    pub path: PathBuf,
    /// Its bytes.
    pub size: u64,
    /// When it was last written, renamed or linked, in nanoseconds since 1970. A rename into the store moves ctime, not mtime.
    pub touched_ns: i128,
}

/// How much lies in one folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Lists a room, sorted by name. Files that are no objects, such as what a kill left half-written, are passed over.
    ///
    /// # Errors
    /// When a folder cannot be listed.
    pub fn objects(&self, room: Room) -> Result<Vec<Object>, CacheError> {
        let mut found = Vec::new();
        for shard in list(&self.room(room))?.into_iter().filter(|path| path.is_dir()) {
            found.extend(list(&shard)?.iter().filter_map(|path| object(&shard, path)));
        }
        found.sort_by_key(|object| object.digest);
        Ok(found)
    }

    /// Returns the folder of a room.
    pub fn room(&self, room: Room) -> PathBuf {
        self.versioned().join(room.folder())
    }

    /// Reads every record that can be read, sorted by key.
    ///
    /// # Errors
    /// When a folder cannot be listed.
    pub fn records(&self) -> Result<Vec<(Object, ActionResult)>, CacheError> {
        let read = |object: Object| {
            let result = ActionResult::parse(&fs::read(&object.path).ok()?)?;
            Some((object, result))
        };
        Ok(self.objects(Room::Records)?.into_iter().filter_map(read).collect())
    }
}

/// Counts all files below a folder; nothing there, or nothing that can be listed, is nothing.
pub fn amount(folder: &Path) -> Amount {
    let files = files(folder).unwrap_or_default();
    let metas = files.iter().filter_map(|path| fs::symlink_metadata(path).ok());
    metas.fold(Amount::default(), |sum, meta| Amount { files: sum.files + 1, bytes: sum.bytes + meta.len() })
}

/// Returns all files below a folder, sorted; links are not followed.
///
/// # Errors
/// When a folder cannot be listed.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let mut found = Vec::new();
    for path in list(folder)? {
        let is_folder = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
        if is_folder { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

/// Returns when a file was last written, renamed or linked, in nanoseconds since 1970.
pub fn touched_ns(meta: &fs::Metadata) -> i128 {
    let ns = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    ns(meta.mtime(), meta.mtime_nsec()).max(ns(meta.ctime(), meta.ctime_nsec()))
}

/// Lists a folder, sorted; a folder that is not there holds nothing.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let items = match fs::read_dir(folder) {
        Ok(items) => items,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(CacheError::io("list", folder)(e)),
    };
    let paths: Result<Vec<PathBuf>, _> = items.map(|item| item.map(|i| i.path())).collect();
    let mut paths = paths.map_err(CacheError::io("list", folder))?;
    paths.sort();
    Ok(paths)
}

fn object(shard: &Path, path: &Path) -> Option<Object> {
    let (head, rest) = (shard.file_name()?.to_str()?, path.file_name()?.to_str()?);
    let meta = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
    let digest = Digest::parse(&format!("{head}{rest}"))?;
    Some(Object { digest, path: path.to_path_buf(), size: meta.len(), touched_ns: touched_ns(&meta) })
}
