//! Which actions stood behind a stage before: the candidates for "why does it run".
//!
//! Kept per project in a disposable file; losing it makes reasons read `first run` until the next run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use watershed_cache::{Digest, Store};

use crate::event::Reason;
use crate::graph::Node;
use crate::key::Manifest;
use crate::reason;
use crate::record::Provenance;

/// Keys remembered for each stage: enough to find the nearest after trying a few values.
const DEPTH: usize = 8;

/// Former action keys by pipeline, stage and case, newest first.
#[derive(Debug, Default)]
pub struct History {
    file: PathBuf,
    keys: BTreeMap<String, Vec<Digest>>,
    changed: bool,
}

impl History {
    /// Loads the history kept in `file`; a damaged or missing file is empty.
    pub fn load(file: &Path) -> History {
        let keys = std::fs::read(file).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
        History { file: file.to_path_buf(), keys, changed: false }
    }

    /// Remembers that `key` stands behind a node now.
    pub fn remember(&mut self, pipeline: &str, node: &Node, key: Digest) {
        let list = self.keys.entry(name(pipeline, node)).or_default();
        if list.first() == Some(&key) {
            return;
        }
        list.retain(|k| *k != key);
        list.insert(0, key);
        list.truncate(DEPTH);
        self.changed = true;
    }

    /// Returns the keys that stood behind a node, newest first.
    pub fn keys(&self, pipeline: &str, node: &Node) -> &[Digest] {
        self.keys.get(&name(pipeline, node)).map_or(&[], Vec::as_slice)
    }

    /// Returns the keys that stood behind a stage last, in any of its cases.
    pub fn keys_of_stage<'h>(&'h self, pipeline: &str, stage: &str) -> impl Iterator<Item = Digest> + use<'h> {
        let (plain, cases) = (format!("{pipeline}/{stage}"), format!("{pipeline}/{stage}@"));
        let plain = self.keys.get(&plain).into_iter().flatten();
        let of_cases = self.keys.range(cases.clone()..).take_while(move |(name, _)| name.starts_with(&cases));
        plain.chain(of_cases.filter_map(|(_, keys)| keys.first())).copied()
    }

    /// Returns why `manifest` is new: the fewest differing leaves to a former record, newest first among equals.
    pub fn reasons(&self, pipeline: &str, node: &Node, manifest: &Manifest, store: &Store) -> Vec<Reason> {
        self.keys(pipeline, node)
            .iter()
            .filter_map(|key| Provenance::of(&store.peek(key)?))
            .map(|old| reason::differences(node, &old, manifest))
            .filter(|reasons| !reasons.is_empty())
            .min_by_key(Vec::len)
            .unwrap_or_else(|| vec![reason::first_run(node)])
    }

    /// Writes what was remembered. Failure costs reasons only, so it is not an error.
    pub fn save(&mut self) {
        if !self.changed {
            return;
        }
        let Some(parent) = self.file.parent() else { return };
        let temporary = self.file.with_extension(format!("{}.tmp", std::process::id()));
        let text = serde_json::to_vec(&self.keys).unwrap_or_default();
        let written = std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&temporary, text))
            .and_then(|()| std::fs::rename(&temporary, &self.file));
        self.changed = written.is_err();
    }
}

fn name(pipeline: &str, node: &Node) -> String {
    format!("{pipeline}/{}", node.title())
}
