//! What `stat` said of the store's files behind a set of results: enough to see, without reading them, that all still stand.
//!
//! A record or blob is written once and replaced only by rename, so one whose size and mtime are what they were holds what it
//! held. That is stricter than a look-up, which compares sizes only.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, open, statat};

use crate::artifact::Artifact;
use crate::digest::Digest;
use crate::{Store, Stored};

/// Rooms in which results lie: records, blobs, listings of folders.
const ROOMS: [&str; 3] = ["ac", "cas", "tree"];

/// Bytes of one sighting on disk: room, digest, size, mtime.
const WIDTH: usize = 1 + 32 + 8 + 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Sighting {
    room: u8,
    digest: Digest,
    size: u64,
    mtime_ns: i64,
}

/// Outputs of an action by port.
pub type Outputs = BTreeMap<String, Stored>;

/// Sightings of the files behind some results, each once.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sightings(Vec<Sighting>);

impl Sightings {
    /// Looks at the record of each key and at the files of its outputs; `None` when one is missing, or is no longer the result
    /// that the caller knows.
    pub fn of<'a>(store: &Store, results: impl Iterator<Item = (Digest, &'a Outputs)>) -> Option<Sightings> {
        let mut wanted: Vec<(u8, Digest)> = Vec::new();
        for (key, outputs) in results {
            wanted.push((0, key));
            for stored in outputs.values().filter(|stored| !stored.report) {
                want(store, &stored.artifact, &mut wanted)?;
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        let mut eye = Eye::of(store);
        wanted.into_iter().map(|(room, digest)| eye.see(room, digest)).collect::<Option<_>>().map(Sightings)
    }

    /// Says whether every file is still there as it was seen.
    pub fn hold(&self, store: &Store) -> bool {
        let mut eye = Eye::of(store);
        self.0.iter().all(|seen| eye.see(seen.room, seen.digest).as_ref() == Some(seen))
    }

    /// Returns the keys whose record was written at or after a time, in nanoseconds since 1970.
    pub fn records_since(&self, time_ns: i128) -> impl Iterator<Item = Digest> {
        let young = move |seen: &&Sighting| seen.room == 0 && i128::from(seen.mtime_ns) >= time_ns;
        self.0.iter().filter(young).map(|seen| seen.digest)
    }

    /// Returns the bytes on disk.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * WIDTH);
        for seen in &self.0 {
            bytes.push(seen.room);
            bytes.extend_from_slice(seen.digest.as_bytes());
            bytes.extend_from_slice(&seen.size.to_le_bytes());
            bytes.extend_from_slice(&seen.mtime_ns.to_le_bytes());
        }
        bytes
    }

    /// Reads them; `None` for bytes that are none.
    pub fn parse(bytes: &[u8]) -> Option<Sightings> {
        bytes.len().is_multiple_of(WIDTH).then_some(())?;
        bytes.chunks_exact(WIDTH).map(sighting).collect::<Option<_>>().map(Sightings)
    }
}

fn want(store: &Store, artifact: &Artifact, wanted: &mut Vec<(u8, Digest)>) -> Option<()> {
    if !artifact.folder {
        wanted.push((1, artifact.digest));
        return Some(());
    }
    wanted.push((2, artifact.digest));
    wanted.extend(store.tree(&artifact.digest).ok()?.entries.iter().map(|entry| (1, entry.digest)));
    Some(())
}

fn sighting(bytes: &[u8]) -> Option<Sighting> {
    let (room, digest) = (*bytes.first()?, Digest::from_bytes(bytes.get(1..33)?.try_into().ok()?));
    let size = u64::from_le_bytes(bytes.get(33..41)?.try_into().ok()?);
    let mtime_ns = i64::from_le_bytes(bytes.get(41..49)?.try_into().ok()?);
    (usize::from(room) < ROOMS.len()).then_some(Sighting { room, digest, size, mtime_ns })
}

/// Looks at files relative to the folder they lie in, which it opens once for each run of neighbours: half the time that
/// whole paths take.
struct Eye<'a> {
    store: &'a Store,
    folder: Option<(u8, u8, OwnedFd)>,
}

impl Eye<'_> {
    fn of(store: &Store) -> Eye<'_> {
        Eye { store, folder: None }
    }

    fn see(&mut self, room: u8, digest: Digest) -> Option<Sighting> {
        let hex = digest.hex();
        let first = digest.as_bytes()[0];
        if self.folder.as_ref().is_none_or(|(r, f, _)| (*r, *f) != (room, first)) {
            let path = self.store.versioned().join(ROOMS[usize::from(room)]).join(&hex[..2]);
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            self.folder = Some((room, first, open(path, flags, Mode::empty()).ok()?));
        }
        let found = statat(&self.folder.as_ref()?.2, &hex[2..], AtFlags::empty()).ok()?;
        let mtime_ns = found.st_mtime.checked_mul(1_000_000_000)?.checked_add(found.st_mtime_nsec as i64)?;
        Some(Sighting { room, digest, size: found.st_size as u64, mtime_ns })
    }
}
