//! What `stat` said of the store's files behind a set of results: enough to see, without reading them, that all still stand.
//!
//! A record or blob is written once and replaced only by rename, so one whose size and mtime are what they were holds what it
//! held. That is stricter than a look-up, which compares sizes only.
//!
//! Blobs are many, and their presence is all that is asked: nothing leaves or enters a shelf without touching the shelf, so one
//! that rested since stands for all that lie on it. That halves the calls at 10,000 results. What somebody cuts short in place is
//! then found by whoever reads it, as a flipped bit is.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, open, stat, statat};

use crate::artifact::Artifact;
use crate::digest::Digest;
use crate::stat::{TICK_NS, now_ns};
use crate::{Store, Stored};

/// Rooms in which results lie: records, blobs, listings of folders.
const ROOMS: [&str; 3] = ["ac", "cas", "tree"];

/// The room of records, each of which is looked at.
const RECORDS: u8 = 0;

/// Bytes of one sighting on disk: room, digest, size, mtime.
const WIDTH: usize = 1 + 32 + 8 + 8;

/// Bytes of one shelf on disk: room, first byte, inode, mtime, ctime.
const SHELF_WIDTH: usize = 1 + 1 + 8 + 8 + 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Sighting {
    room: u8,
    digest: Digest,
    size: u64,
    mtime_ns: i64,
}

/// A folder of a room, which holds what begins with the same byte, as it was when it had rested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shelf {
    room: u8,
    first: u8,
    inode: u64,
    mtime_ns: i64,
    ctime_ns: i64,
}

/// Outputs of an action by port.
pub type Outputs = BTreeMap<String, Stored>;

/// Sightings of the files behind some results, each once, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sightings {
    shelves: Vec<Shelf>,
    files: Vec<Sighting>,
}

impl Sightings {
    /// Looks at the record of each key and at the files of its outputs; `None` when one is missing, or is no longer the result
    /// that the caller knows.
    pub fn of<'a>(store: &Store, results: impl Iterator<Item = (Digest, &'a Outputs)>) -> Option<Sightings> {
        let mut wanted: Vec<(u8, Digest)> = Vec::new();
        for (key, outputs) in results {
            wanted.push((RECORDS, key));
            for stored in outputs.values().filter(|stored| !stored.report) {
                want(store, &stored.artifact, &mut wanted)?;
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        // Shelves before what lies on them: a file that goes meanwhile leaves its shelf other than it was seen.
        let shelves = rested_shelves(store, &wanted);
        let mut eye = Eye::of(store);
        let files = wanted.into_iter().map(|(room, digest)| eye.see(room, digest)).collect::<Option<_>>()?;
        Some(Sightings { shelves, files })
    }

    /// Says whether every file is still there as it was seen.
    pub fn hold(&self, store: &Store) -> bool {
        let mut rests = [[false; 256]; ROOMS.len()];
        for shelf in self.shelves.iter().filter(|s| Shelf::see(store, s.room, s.first).as_ref() == Some(*s)) {
            rests[usize::from(shelf.room)][usize::from(shelf.first)] = true;
        }
        let rests = |seen: &&Sighting| rests[usize::from(seen.room)][usize::from(seen.digest.as_bytes()[0])];
        let mut eye = Eye::of(store);
        self.files.iter().filter(|seen| !rests(seen)).all(|seen| eye.see(seen.room, seen.digest).as_ref() == Some(seen))
    }

    /// Returns the keys whose record was written at or after a time, in nanoseconds since 1970.
    pub fn records_since(&self, time_ns: i128) -> impl Iterator<Item = Digest> {
        let young = move |seen: &&Sighting| seen.room == RECORDS && i128::from(seen.mtime_ns) >= time_ns;
        self.files.iter().filter(young).map(|seen| seen.digest)
    }

    /// Returns the sightings without some records, and with those of other results.
    pub fn exchanged(mut self, gone: &[Digest], new: Sightings) -> Sightings {
        self.files.retain(|seen| seen.room != RECORDS || !gone.contains(&seen.digest));
        for seen in new.files {
            match self.files.binary_search_by_key(&(seen.room, seen.digest), |other| (other.room, other.digest)) {
                Ok(at) => self.files[at] = seen,
                Err(at) => self.files.insert(at, seen),
            }
        }
        self
    }

    /// Returns the bytes on disk.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.shelves.len() * SHELF_WIDTH + self.files.len() * WIDTH);
        bytes.extend_from_slice(&(self.shelves.len() as u64).to_le_bytes());
        for shelf in &self.shelves {
            bytes.extend_from_slice(&[shelf.room, shelf.first]);
            bytes.extend_from_slice(&shelf.inode.to_le_bytes());
            bytes.extend_from_slice(&shelf.mtime_ns.to_le_bytes());
            bytes.extend_from_slice(&shelf.ctime_ns.to_le_bytes());
        }
        for seen in &self.files {
            bytes.push(seen.room);
            bytes.extend_from_slice(seen.digest.as_bytes());
            bytes.extend_from_slice(&seen.size.to_le_bytes());
            bytes.extend_from_slice(&seen.mtime_ns.to_le_bytes());
        }
        bytes
    }

    /// Reads them; `None` for bytes that are none.
    pub fn parse(bytes: &[u8]) -> Option<Sightings> {
        let (count, rest) = bytes.split_at_checked(8)?;
        let length = usize::try_from(u64::from_le_bytes(count.try_into().ok()?)).ok()?.checked_mul(SHELF_WIDTH)?;
        let (shelves, files) = rest.split_at_checked(length)?;
        files.len().is_multiple_of(WIDTH).then_some(())?;
        let shelves = shelves.chunks_exact(SHELF_WIDTH).map(shelf).collect::<Option<_>>()?;
        let files = files.chunks_exact(WIDTH).map(sighting).collect::<Option<_>>()?;
        Some(Sightings { shelves, files })
    }
}

impl Shelf {
    fn see(store: &Store, room: u8, first: u8) -> Option<Shelf> {
        let found = stat(store.versioned().join(ROOMS[usize::from(room)]).join(format!("{first:02x}"))).ok()?;
        let ns = |seconds: i64, rest: u64| seconds.checked_mul(1_000_000_000)?.checked_add(rest as i64);
        let mtime_ns = ns(found.st_mtime, found.st_mtime_nsec)?;
        let ctime_ns = ns(found.st_ctime, found.st_ctime_nsec)?;
        Some(Shelf { room, first, inode: found.st_ino, mtime_ns, ctime_ns })
    }
}

/// Returns the shelves of blobs and listings that were last touched so long ago that whatever touches them next shows.
fn rested_shelves(store: &Store, wanted: &[(u8, Digest)]) -> Vec<Shelf> {
    let mut names: Vec<(u8, u8)> = wanted.iter().map(|(room, digest)| (*room, digest.as_bytes()[0])).collect();
    names.dedup();
    let rests = |shelf: &Shelf| i128::from(shelf.mtime_ns.max(shelf.ctime_ns)) + TICK_NS < now_ns();
    let shelves = names.into_iter().filter(|(room, _)| *room != RECORDS);
    shelves.filter_map(|(room, first)| Shelf::see(store, room, first)).filter(rests).collect()
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

fn shelf(bytes: &[u8]) -> Option<Shelf> {
    let (room, first) = (*bytes.first()?, *bytes.get(1)?);
    let inode = u64::from_le_bytes(bytes.get(2..10)?.try_into().ok()?);
    let mtime_ns = i64::from_le_bytes(bytes.get(10..18)?.try_into().ok()?);
    let ctime_ns = i64::from_le_bytes(bytes.get(18..26)?.try_into().ok()?);
    (room != RECORDS && usize::from(room) < ROOMS.len()).then_some(Shelf { room, first, inode, mtime_ns, ctime_ns })
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
