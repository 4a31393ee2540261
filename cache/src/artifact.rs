//! What a port carries: one file, or a folder as a sorted listing of files.

use std::path::{Component, Path};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::{CacheError, StatCache};

/// The identity of a port's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Artifact {
    /// Digest of the file's bytes, or of the folder's listing.
    pub digest: Digest,
    /// Bytes in all.
    pub size: u64,
    /// Whether it is a folder.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub folder: bool,
}

/// One file of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Path inside the folder, `/` between names.
    pub path: String,
    /// Digest of its bytes.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// Whether the owner may execute it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

/// The listing of a folder: its files, sorted by path. Empty folders, owners and times are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// The files.
    pub entries: Vec<Entry>,
}

impl Tree {
    /// Lists a folder, following links; files for which `wanted` says no are left out.
    ///
    /// # Errors
    /// When something in it cannot be read, is no file, or has a name that is not UTF-8.
    pub fn scan(folder: &Path, stats: Option<&StatCache>, wanted: &dyn Fn(&str) -> bool) -> Result<Tree, CacheError> {
        let mut paths = Vec::new();
        walk(folder, "", wanted, &mut paths, 0)?;
        paths.sort();
        let entries = paths.into_par_iter().map(|path| entry(folder, path, stats)).collect::<Result<_, _>>()?;
        Ok(Tree { entries })
    }

    /// Returns the canonical text whose digest names the folder: one JSON document with sorted files.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a listing has no map keys that JSON lacks")
    }

    /// Returns the folder's identity.
    pub fn artifact(&self) -> Artifact {
        let size = self.entries.iter().map(|e| e.size).sum();
        Artifact { digest: Digest::of(&self.to_bytes()), size, folder: true }
    }

    /// Reads a listing, refusing paths that leave the folder.
    pub fn parse(bytes: &[u8]) -> Option<Tree> {
        let tree: Tree = serde_json::from_slice(bytes).ok()?;
        tree.entries.iter().all(|e| is_inside(&e.path)).then_some(tree)
    }
}

fn is_inside(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|c| matches!(c, Component::Normal(_)))
}

fn walk(
    folder: &Path,
    prefix: &str,
    wanted: &dyn Fn(&str) -> bool,
    paths: &mut Vec<String>,
    depth: usize,
) -> Result<(), CacheError> {
    let refuse = |path: &Path, why| Err(CacheError::Refused { path: path.to_path_buf(), why });
    if depth > 64 {
        return refuse(folder, "is nested more than 64 folders deep, perhaps by a link to itself");
    }
    for item in std::fs::read_dir(folder).map_err(CacheError::io("list", folder))? {
        let path = item.map_err(CacheError::io("list", folder))?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
            return refuse(&path, "has a name that is not UTF-8");
        };
        let inner = if prefix.is_empty() { name.to_string() } else { format!("{prefix}/{name}") };
        if !wanted(&inner) {
            continue;
        }
        let kind = std::fs::metadata(&path).map_err(CacheError::io("read", &path))?.file_type();
        if kind.is_dir() {
            walk(&path, &inner, wanted, paths, depth + 1)?;
        } else if kind.is_file() {
            paths.push(inner);
        } else {
            return refuse(&path, "is neither a file nor a folder");
        }
    }
    Ok(())
}

fn entry(folder: &Path, path: String, stats: Option<&StatCache>) -> Result<Entry, CacheError> {
    use std::os::unix::fs::PermissionsExt;
    let full = folder.join(&path);
    let (digest, size) = match stats {
        Some(stats) => stats.digest(&full)?,
        None => Digest::of_file(&full)?,
    };
    let mode = std::fs::metadata(&full).map_err(CacheError::io("read", &full))?.permissions().mode();
    Ok(Entry { path, digest, size, executable: mode & 0o100 != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listing_does_not_depend_on_the_order_of_the_file_system() {
        let a = tempfile::tempdir().unwrap();
        let b = tempfile::tempdir().unwrap();
        for (folder, names) in [(&a, ["x", "y/z"]), (&b, ["y/z", "x"])] {
            std::fs::create_dir(folder.path().join("y")).unwrap();
            for name in names {
                std::fs::write(folder.path().join(name), name).unwrap();
            }
        }
        let scan = |d: &tempfile::TempDir| Tree::scan(d.path(), None, &|_| true).unwrap();
        assert_eq!(scan(&a).artifact(), scan(&b).artifact());
    }

    #[test]
    fn listing_that_leaves_its_folder_is_refused() {
        let text = br#"{"entries":[{"path":"../x","digest":"0000000000000000000000000000000000000000000000000000000000000000","size":0}]}"#;
        assert_eq!(Tree::parse(text), None);
    }
}
