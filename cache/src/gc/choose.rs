//! Chooses what a sweep takes: marks from the roots, then drops by age until the budget is met.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::DAY_NS;
use crate::inventory::{Object, Room, amount, files, list, touched_ns};
use crate::{ActionResult, CacheError, Digest, Store};

/// Checkpoints and evidence are kept this long after they were last written.
const PATIENCE_NS: i128 = 14 * DAY_NS;

/// Beside running runs, objects are kept this long after they were last touched: a stage's outputs are published one by
/// one, and the record that refers to them comes last.
const GRACE_NS: i128 = DAY_NS / 24;

/// What gc may take.
pub struct Policy<'a> {
    /// Keys of the actions that are kept with all that they refer to.
    pub roots: &'a BTreeSet<Digest>,
    /// Takes only as much as brings the store down to this many bytes, the oldest first.
    pub budget_bytes: Option<u64>,
    /// Takes replies of paid requests too.
    pub include_paid: bool,
    /// Says which results cost money or a GPU to make again: a budget takes them last.
    pub is_precious: &'a dyn Fn(&ActionResult) -> bool,
    /// Now, in nanoseconds since 1970.
    pub now_ns: i128,
    /// Whether no run shares the store.
    pub is_alone: bool,
}

/// What a sweep would take.
#[derive(Debug, Default)]
pub struct Choice {
    /// Files by room and name.
    pub objects: Vec<(Room, Object)>,
    /// Keys whose checkpoints are old.
    pub partials: Vec<Digest>,
    /// Replies of paid requests.
    pub memos: Vec<PathBuf>,
    /// Half-written files of killed processes, and old evidence.
    pub debris: Vec<PathBuf>,
    /// Bytes of all these.
    pub bytes: u64,
    /// Bytes of the store now, run logs and index apart.
    pub store_bytes: u64,
    /// Results kept.
    pub kept: usize,
}

impl Choice {
    /// Returns how many results would go.
    pub fn results(&self) -> usize {
        self.objects.iter().filter(|(room, _)| *room == Room::Records).count()
    }
}

impl Store {
    /// Chooses what a sweep takes; reads records and listings, writes nothing.
    ///
    /// # Errors
    /// When the store cannot be listed, or a newer version keeps results in it: what those refer to cannot be known.
    pub fn choose(&self, policy: &Policy) -> Result<Choice, CacheError> {
        let mut choice = Choice { store_bytes: self.bytes(), ..Choice::default() };
        self.choose_aside(policy, &mut choice)?;
        self.choose_objects(policy, &mut choice)?;
        Ok(choice)
    }

    fn bytes(&self) -> u64 {
        let rooms = Room::ALL.map(|room| amount(&self.room(room)).bytes);
        let aside = ["partial", "trash", "quarantine"].map(|name| amount(&self.root().join(name)).bytes);
        rooms.iter().sum::<u64>() + aside.iter().sum::<u64>() + amount(&self.memo_root()).bytes
    }

    /// Checkpoints, replies, evidence and what kills left.
    fn choose_aside(&self, policy: &Policy, choice: &mut Choice) -> Result<(), CacheError> {
        let old = |path: &PathBuf| is_older(path, policy.now_ns - PATIENCE_NS);
        let unwritten = |path: &PathBuf| is_unwritten_since(path, policy.now_ns - PATIENCE_NS);
        for folder in list(&self.partials())? {
            let key = folder.file_name().and_then(|name| name.to_str()).and_then(Digest::parse);
            let inside = files(&folder)?;
            if let Some(key) = key.filter(|_| inside.iter().all(unwritten)) {
                choice.bytes += amount(&folder).bytes;
                choice.partials.push(key);
            }
        }
        choice.debris = files(&self.root().join("quarantine"))?.into_iter().filter(old).collect();
        let left = files(&self.versioned())?.into_iter().filter(|path| is_half_written(path));
        choice.debris.extend(left.filter(|path| policy.is_alone || is_older(path, policy.now_ns - DAY_NS)));
        if policy.include_paid {
            let settled = |path: &PathBuf| policy.is_alone || is_older(path, policy.now_ns - GRACE_NS);
            choice.memos = files(&self.memo_root())?.into_iter().filter(settled).collect();
        }
        let loose = choice.debris.iter().chain(&choice.memos);
        choice.bytes += loose.filter_map(|path| fs::metadata(path).ok()).map(|m| m.len()).sum::<u64>();
        choice.partials.sort();
        Ok(())
    }

    fn choose_objects(&self, policy: &Policy, choice: &mut Choice) -> Result<(), CacheError> {
        let settled = |object: &Object| policy.is_alone || object.touched_ns < policy.now_ns - GRACE_NS;
        let mut references = References::default();
        let mut unrooted = Vec::new();
        for object in self.objects(Room::Records)? {
            self.refuse_newer(&object.digest)?;
            let bytes = fs::read(&object.path).map_err(CacheError::io("read", &object.path))?;
            let result = ActionResult::parse(&bytes);
            let refers = result.as_ref().map_or_else(|| Ok(BTreeSet::new()), |result| self.references(result))?;
            references.add(&refers);
            if policy.roots.contains(&object.digest) || !settled(&object) {
                choice.kept += 1;
            } else {
                let precious = result.is_some_and(|result| (policy.is_precious)(&result));
                unrooted.push((precious, object.touched_ns, object, refers));
            }
        }
        let sizes = self.sizes()?;
        let orphans = sizes.iter().filter(|(name, object)| !references.holds(name) && settled(object));
        for ((room, _), object) in orphans {
            choice.take(*room, object.clone());
        }
        unrooted.sort_by_key(|(precious, touched, object, _)| (*precious, *touched, object.digest));
        for (_, _, object, refers) in unrooted {
            if policy.budget_bytes.is_some_and(|budget| choice.store_bytes.saturating_sub(choice.bytes) <= budget) {
                choice.kept += 1;
                continue;
            }
            choice.take(Room::Records, object);
            for name in references.drop(&refers) {
                if let Some(object) = sizes.get(&name).filter(|object| settled(object)) {
                    choice.take(name.0, object.clone());
                }
            }
        }
        choice.objects.sort_by_key(|(room, object)| (position(*room), object.digest));
        Ok(())
    }

    /// Returns listings and blobs by name.
    fn sizes(&self) -> Result<BTreeMap<Name, Object>, CacheError> {
        let mut sizes = BTreeMap::new();
        for room in [Room::Trees, Room::Blobs] {
            sizes.extend(self.objects(room)?.into_iter().map(|object| ((room, object.digest), object)));
        }
        Ok(sizes)
    }

    /// Returns what a record refers to. A lost listing refers to nothing: its record is a miss.
    fn references(&self, result: &ActionResult) -> Result<BTreeSet<Name>, CacheError> {
        let mut names = BTreeSet::new();
        for artifact in result.outputs.values().map(|stored| &stored.artifact) {
            if !artifact.folder {
                names.insert((Room::Blobs, artifact.digest));
                continue;
            }
            names.insert((Room::Trees, artifact.digest));
            match self.tree(&artifact.digest) {
                Ok(tree) => names.extend(tree.entries.iter().map(|entry| (Room::Blobs, entry.digest))),
                Err(CacheError::Missing(_) | CacheError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(names)
    }
}

impl Choice {
    fn take(&mut self, room: Room, object: Object) {
        self.bytes += object.size;
        self.objects.push((room, object));
    }
}

/// A listing or blob.
type Name = (Room, Digest);

/// How many records refer to each listing and blob.
#[derive(Default)]
struct References(BTreeMap<Name, usize>);

impl References {
    fn add(&mut self, names: &BTreeSet<Name>) {
        names.iter().for_each(|name| *self.0.entry(*name).or_default() += 1);
    }

    fn holds(&self, name: &Name) -> bool {
        self.0.contains_key(name)
    }

    /// Takes one record's references away and returns what nothing refers to any more.
    fn drop(&mut self, names: &BTreeSet<Name>) -> Vec<Name> {
        let mut free = Vec::new();
        for name in names {
            let Some(count) = self.0.get_mut(name) else { continue };
            *count -= 1;
            if *count == 0 {
                free.push(*name);
            }
        }
        free
    }
}

fn position(room: Room) -> usize {
    Room::ALL.iter().position(|r| *r == room).unwrap_or_default()
}

fn is_older(path: &Path, than_ns: i128) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| touched_ns(&meta) < than_ns)
}

/// A checkpoint's age is that of its bytes.
fn is_unwritten_since(path: &Path, than_ns: i128) -> bool {
    let meta = fs::symlink_metadata(path);
    meta.is_ok_and(|meta| i128::from(meta.mtime()) * 1_000_000_000 < than_ns)
}

fn is_half_written(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with('.'))
}
