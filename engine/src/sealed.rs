//! Files that are believed only whole: their bytes, then the digest of these. Each can be made again, so none is worth an error.

use std::fs;
use std::path::Path;

use watershed_cache::Digest;

/// Files of the disposable index kept in one folder; the oldest go first.
const KEPT: usize = 64;

/// Reads a sealed file; `None` when there is none, or it is torn or altered.
pub fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = fs::read(path).ok()?;
    let end = bytes.len().checked_sub(32)?;
    (Digest::of(&bytes[..end]).as_bytes() == &bytes[end..]).then_some(())?;
    bytes.truncate(end);
    Some(bytes)
}

/// Writes a sealed file by rename. Failure costs time only, so it is not an error.
pub fn write(path: &Path, mut bytes: Vec<u8>) {
    let Some(folder) = path.parent() else { return };
    let digest = Digest::of(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        let temporary = tempfile::NamedTempFile::new_in(folder)?;
        fs::write(temporary.path(), &bytes)?;
        temporary.persist(path).map(drop).map_err(|e| e.error)
    };
    let _ = write();
}

/// Writes a sealed file of the disposable index and forgets the oldest of its folder.
pub fn index(path: &Path, bytes: Vec<u8>) {
    write(path, bytes);
    if let Some(folder) = path.parent() {
        forget_oldest(folder);
    }
}

fn forget_oldest(folder: &Path) {
    let Ok(items) = fs::read_dir(folder) else { return };
    let items: Vec<_> = items.flatten().collect();
    if items.len() <= KEPT {
        return;
    }
    let aged = |item: fs::DirEntry| Some((item.metadata().ok()?.modified().ok()?, item.path()));
    let mut files: Vec<_> = items.into_iter().filter_map(aged).collect();
    files.sort();
    for (_, path) in files.iter().rev().skip(KEPT) {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_torn_or_altered_reads_as_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        write(&path, b"bytes".to_vec());
        assert_eq!(read(&path).as_deref(), Some(&b"bytes"[..]));
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(read(&path), None);
        let mut altered = whole;
        altered[0] ^= 1;
        fs::write(&path, altered).unwrap();
        assert_eq!(read(&path), None);
    }
}
