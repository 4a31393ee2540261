//! Scrubbing: every record and listing read, and blobs compared with their names.
//!
//! What is damaged moves to `quarantine/` as evidence, so that it reads as absent and the next run makes it anew.

use std::fs;

use rayon::prelude::*;

use crate::inventory::{Object, Room};
use crate::{ActionResult, CacheError, Digest, Store, memo};

/// What a scrub reads.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// Whether blobs are read; else only their presence and size are compared.
    pub read_data: bool,
    /// Share of the blobs to read, 0 to 1.
    pub share: f64,
    /// Decides which share: another salt, other blobs.
    pub salt: u64,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Folder of the store.
    pub room: &'static str,
    /// Name within it.
    pub name: String,
    /// What is wrong.
    pub what: String,
}

/// What a scrub found.
#[derive(Debug, Default)]
pub struct Verified {
    /// Records read.
    pub records: usize,
    /// Listings read.
    pub trees: usize,
    /// Blobs there.
    pub blobs: usize,
    /// Blobs read.
    pub blobs_read: usize,
    /// Bytes of blobs read.
    pub bytes_read: u64,
    /// Kept replies read.
    pub memos: usize,
    /// What was wrong, sorted.
    pub damage: Vec<Damage>,
    /// Keys of records whose data outputs are not all there: misses, made anew by the next run that needs them.
    pub incomplete: Vec<Digest>,
}

impl Store {
    /// Scrubs the store.
    ///
    /// # Errors
    /// When it cannot be listed, or holds a record of a newer version.
    pub fn scrub(&self, scope: Scope) -> Result<Verified, CacheError> {
        let mut found = Verified::default();
        self.scrub_blobs(scope, &mut found)?;
        self.scrub_trees(&mut found)?;
        self.scrub_records(&mut found)?;
        self.scrub_memos(&mut found)?;
        found.damage.sort_by(|a, b| (a.room, &a.name).cmp(&(b.room, &b.name)));
        Ok(found)
    }

    fn scrub_blobs(&self, scope: Scope, found: &mut Verified) -> Result<(), CacheError> {
        let blobs = self.objects(Room::Blobs)?;
        found.blobs = blobs.len();
        let chosen: Vec<&Object> = blobs.iter().filter(|blob| scope.read_data && is_chosen(blob, scope)).collect();
        found.blobs_read = chosen.len();
        found.bytes_read = chosen.iter().map(|blob| blob.size).sum();
        let bad = chosen.par_iter().filter_map(|blob| Some((blob.digest, self.verify_blob(&blob.digest).err()?)));
        let bad: Vec<(Digest, CacheError)> = bad.collect();
        found.damage.extend(bad.into_iter().map(|(digest, error)| damage("cas", digest, error)));
        Ok(())
    }

    fn scrub_trees(&self, found: &mut Verified) -> Result<(), CacheError> {
        for tree in self.objects(Room::Trees)? {
            found.trees += 1;
            if let Err(error) = self.tree(&tree.digest) {
                found.damage.push(damage("tree", tree.digest, error));
            }
        }
        Ok(())
    }

    fn scrub_records(&self, found: &mut Verified) -> Result<(), CacheError> {
        for record in self.objects(Room::Records)? {
            found.records += 1;
            self.refuse_newer(&record.digest)?;
            match fs::read(&record.path).ok().and_then(|bytes| ActionResult::parse(&bytes)) {
                Some(result) if self.is_complete(&result) => {}
                Some(_) => found.incomplete.push(record.digest),
                None => {
                    self.set_aside(&record.path, &format!("ac-{}", record.digest));
                    let what = "torn or altered".to_string();
                    found.damage.push(Damage { room: "ac", name: record.digest.hex(), what });
                }
            }
        }
        Ok(())
    }

    fn scrub_memos(&self, found: &mut Verified) -> Result<(), CacheError> {
        for path in crate::inventory::files(&self.memo_root())? {
            found.memos += 1;
            if fs::read(&path).is_ok_and(|bytes| memo::reply_in(&bytes).is_none()) {
                let name = path.strip_prefix(self.memo_root()).unwrap_or(&path).display().to_string();
                self.set_aside(&path, &format!("rows-{}", name.replace('/', "-")));
                found.damage.push(Damage { room: "rows", name, what: "torn or altered".into() });
            }
        }
        Ok(())
    }

    fn is_complete(&self, result: &ActionResult) -> bool {
        result.outputs.values().filter(|stored| !stored.report).all(|stored| self.is_present(&stored.artifact))
    }
}

fn is_chosen(blob: &Object, scope: Scope) -> bool {
    let salted = [blob.digest.as_bytes().as_slice(), &scope.salt.to_le_bytes()].concat();
    let hash = Digest::of(&salted);
    let number = u32::from_le_bytes(hash.as_bytes()[..4].try_into().expect("a digest has 32 bytes"));
    scope.share >= 1.0 || f64::from(number) < scope.share * f64::from(u32::MAX)
}

fn damage(room: &'static str, digest: Digest, error: CacheError) -> Damage {
    let what = match error {
        CacheError::Damaged { found, .. } => format!("its bytes have the digest {found}"),
        other => other.to_string(),
    };
    Damage { room, name: digest.hex(), what }
}
