//! Which actions stood behind a stage before: the candidates for "why does it run".
//!
//! Kept per project in a disposable file that grows by a line for each key that is new behind a stage, and is written anew when
//! most of it is out of date; losing it makes reasons read `first run` until the next run.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
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
    lines: usize,
    added: String,
}

impl History {
    /// Loads the history kept in `file`; what is damaged or missing is not remembered.
    pub fn load(file: &Path) -> History {
        let mut history = History { file: file.to_path_buf(), ..History::default() };
        let text = String::from_utf8(fs::read(file).unwrap_or_default()).unwrap_or_default();
        for line in text.lines() {
            history.lines += 1;
            if let Some((key, name)) = line.split_once(' ').and_then(|(key, name)| Some((Digest::parse(key)?, name))) {
                history.put(name, key);
            }
        }
        history
    }

    /// Remembers that `key` stands behind a node now.
    pub fn remember(&mut self, pipeline: &str, node: &Node, key: Digest) {
        let name = name(pipeline, node);
        if self.put(&name, key) {
            self.added.push_str(&line(&name, &key));
        }
    }

    /// Puts a key first; says whether it was not.
    fn put(&mut self, name: &str, key: Digest) -> bool {
        if !self.keys.contains_key(name) {
            self.keys.insert(name.to_string(), Vec::new());
        }
        let Some(list) = self.keys.get_mut(name).filter(|list| list.first() != Some(&key)) else { return false };
        list.retain(|k| *k != key);
        list.insert(0, key);
        list.truncate(DEPTH);
        true
    }

    /// Returns the keys that stood behind a node, newest first.
    pub fn keys(&self, pipeline: &str, node: &Node) -> &[Digest] {
        self.keys.get(&name(pipeline, node)).map_or(&[], Vec::as_slice)
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
        if self.added.is_empty() {
            return;
        }
        let kept: usize = self.keys.values().map(Vec::len).sum();
        let lines = self.lines + self.added.lines().count();
        let written = if lines > 2 * kept + 1000 { self.rewrite() } else { self.append() };
        if written.is_ok() {
            self.added.clear();
        }
    }

    fn append(&self) -> std::io::Result<()> {
        fs::create_dir_all(self.file.parent().unwrap_or(Path::new("")))?;
        File::options().create(true).append(true).open(&self.file)?.write_all(self.added.as_bytes())
    }

    fn rewrite(&self) -> std::io::Result<()> {
        let oldest_first = self.keys.iter().flat_map(|(name, keys)| keys.iter().rev().map(move |key| line(name, key)));
        let temporary = self.file.with_extension(format!("{}.tmp", std::process::id()));
        fs::write(&temporary, oldest_first.collect::<String>())?;
        fs::rename(&temporary, &self.file)
    }
}

fn line(name: &str, key: &Digest) -> String {
    format!("{} {name}\n", key.hex())
}

/// Names a node among those of all pipelines; no line breaks, since a line holds it.
fn name(pipeline: &str, node: &Node) -> String {
    format!("{pipeline}/{}", node.title()).replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_read_back_newest_first_also_behind_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("index/history");
        for turn in 0..2000_u32 {
            let mut history = History::load(&file);
            let key = Digest::of(&(turn % 11).to_le_bytes());
            if history.put("p/stage", key) {
                history.added.push_str(&line("p/stage", &key));
            }
            history.save();
        }
        let mut torn = fs::read(&file).unwrap();
        assert!(torn.len() < 100 * 2000, "it is written anew now and then");
        torn.truncate(torn.len() - 3);
        fs::write(&file, torn).unwrap();
        let keys = &History::load(&file).keys["p/stage"];
        assert_eq!(keys.len(), DEPTH);
        assert_eq!(keys[0], Digest::of(&((1999 % 11) as u32 - 1).to_le_bytes()), "the torn line is left out");
    }
}
