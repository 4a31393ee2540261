//! Which actions stood behind a stage before: the candidates for "why does it run".
//!
//! Kept per project in a disposable file that grows by a line for each key that is new behind a stage, and is written anew when
//! most of it is out of date; losing it makes reasons read `first run` until the next run. A stage is compared with its own former
//! actions; one without any with its sibling cases and the plain stage, and one whose name is new with stages that are no longer
//! in the pipeline. Among these the action with the fewest differing leaves is the nearest, and a reason tells whose it is when
//! it is not the stage's own.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io::Write;
use std::ops::Bound::{Excluded, Included};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use watershed_cache::{Digest, Store};

use crate::event::Reason;
use crate::graph::{Graph, Node};
use crate::key::Manifest;
use crate::reason::{self, Made};
use crate::record::Provenance;

/// Keys remembered for each stage: enough to find the nearest after trying a few values.
const DEPTH: usize = 8;

/// Siblings looked at on either side: names that sort together share their first parameters, so the nearest are there.
const SIBLINGS: usize = 8;

/// Stages no longer in the pipeline that are looked at.
const GONE: usize = 32;

/// Former action keys by pipeline, stage and case, newest first.
#[derive(Debug, Default)]
pub struct History {
    file: PathBuf,
    keys: BTreeMap<String, Vec<Digest>>,
    /// The same of names that were new in this session: a run's own nodes are no former ones of each other.
    added: BTreeMap<String, Vec<Digest>>,
    /// Names of stages that are no longer in the pipeline.
    gone: OnceLock<Vec<String>>,
    records: Mutex<HashMap<Digest, Arc<Provenance>>>,
    /// Lines in the file.
    lines: usize,
    /// Lines that are not in the file yet.
    unsaved: String,
}

impl History {
    /// Loads the history kept in `file`; what is damaged or missing is not remembered.
    pub fn load(file: &Path) -> History {
        let mut history = History { file: file.to_path_buf(), ..History::default() };
        let text = String::from_utf8(fs::read(file).unwrap_or_default()).unwrap_or_default();
        for line in text.lines() {
            history.lines += 1;
            if let Some((key, name)) = line.split_once(' ').and_then(|(key, name)| Some((Digest::parse(key)?, name))) {
                put(&mut history.keys, name, key);
            }
        }
        history
    }

    /// Remembers that `key` stands behind a node now.
    pub fn remember(&mut self, pipeline: &str, node: &Node, key: Digest) {
        let name = name(pipeline, node);
        let map = if self.keys.contains_key(&name) { &mut self.keys } else { &mut self.added };
        if put(map, &name, key) {
            self.unsaved.push_str(&line(&name, &key));
        }
    }

    /// Returns the keys that stood behind a node, newest first.
    pub fn keys(&self, pipeline: &str, node: &Node) -> &[Digest] {
        self.named(&name(pipeline, node))
    }

    /// Returns the keys that stood behind a stage last, in any of its cases.
    pub fn keys_of_stage<'h>(&'h self, pipeline: &str, stage: &str) -> impl Iterator<Item = Digest> + use<'h> {
        let (plain, cases) = (format!("{pipeline}/{stage}"), format!("{pipeline}/{stage}@"));
        let plain = self.keys.get(&plain).into_iter().flatten();
        let of_cases = self.keys.range(cases.clone()..).take_while(move |(name, _)| name.starts_with(&cases));
        plain.chain(of_cases.filter_map(|(_, keys)| keys.first())).copied()
    }

    fn named(&self, name: &str) -> &[Digest] {
        self.keys.get(name).or_else(|| self.added.get(name)).map_or(&[], Vec::as_slice)
    }

    /// Returns why a node is new: the fewest differing leaves to a former record, newest first among equals.
    pub fn reasons(&self, question: &Question<'_>, store: &Store) -> Vec<Reason> {
        let own = name(question.pipeline, question.node);
        let beside = |(name, old): (&str, _)| (Some(title_in(question.pipeline, name)), old);
        let found = self
            .nearest(&[own.as_str()], question, store)
            .map(|(_, old)| (None, old))
            .or_else(|| self.nearest(&self.siblings(question, &own), question, store).map(beside))
            .or_else(|| self.nearest(&self.gone(question), question, store).map(beside));
        let Some((beside, old)) = found else { return vec![reason::first_run(question.node)] };
        let reasons = reason::differences(question.node, &old, question.manifest);
        reasons.into_iter().map(|reason| Reason { beside: beside.clone(), ..reason }).collect()
    }

    /// Returns the nearest record of these names. An equal one is no reason: its record stands, but cannot be used; and under
    /// another stage's name only an action of the same kind is a former one.
    fn nearest<'n>(
        &self,
        names: &[&'n str],
        question: &Question<'_>,
        store: &Store,
    ) -> Option<(&'n str, Arc<Provenance>)> {
        let stage = &question.node.stage;
        let now = Made { manifest: question.manifest, params: &stage.params };
        let keys = names.iter().flat_map(|name| self.named(name).iter().map(move |key| (*name, key)));
        let records = keys.filter_map(|(name, key)| Some((name, self.record(store, key)?)));
        let akin = |name: &str, old: &Provenance| {
            stage_of(&title_in(question.pipeline, name)) == stage.name || old.manifest.kind == question.manifest.kind
        };
        let records = records.filter(|(name, old)| akin(name, old));
        let measured = records.map(|(name, old)| (reason::leaves(&stage.name, Made::of(&old), now).len(), name, old));
        let nearest = measured.filter(|(leaves, ..)| *leaves > 0).min_by_key(|(leaves, ..)| *leaves);
        nearest.map(|(_, name, old)| (name, old))
    }

    /// Many nodes are compared with the same few records, so each is read once.
    fn record(&self, store: &Store, key: &Digest) -> Option<Arc<Provenance>> {
        let mut records = self.records.lock().expect("no thread panics while it holds this lock");
        if let Some(known) = records.get(key) {
            return Some(known.clone());
        }
        let read = Arc::new(Provenance::of(&store.peek(key)?)?);
        records.insert(*key, read.clone());
        Some(read)
    }

    /// Returns other cases of the stage and the stage outside sweeps, of the cases those whose names sort next to its own.
    fn siblings(&self, question: &Question<'_>, own: &str) -> Vec<&str> {
        let plain = format!("{}/{}", question.pipeline, question.node.stage.name);
        // `A` comes right after `@`.
        let (first, last) = (format!("{plain}@"), format!("{plain}A"));
        let middle = own.clamp(first.as_str(), last.as_str());
        let before = self
            .keys
            .range::<str, _>((Included(first.as_str()), Excluded(middle)))
            .rev()
            .map(|(name, _)| name.as_str());
        let after =
            self.keys.range::<str, _>((Included(middle), Excluded(last.as_str()))).map(|(name, _)| name.as_str());
        let plain = self.keys.get_key_value(&plain).map(|(name, _)| name.as_str());
        plain.into_iter().chain(before.take(SIBLINGS)).chain(after.take(SIBLINGS)).collect()
    }

    /// Returns the names of stages that are no longer in the pipeline: one of them may be the node's former name.
    fn gone(&self, question: &Question<'_>) -> Vec<&str> {
        let find = || {
            let pipeline = format!("{}/", question.pipeline);
            let stages: HashSet<&str> = question.graph.nodes.iter().map(|node| node.stage.name.as_str()).collect();
            let own = self.keys.keys().filter_map(|name| Some((name, stage_of(name.strip_prefix(&pipeline)?))));
            own.filter(|(_, stage)| !stages.contains(stage)).map(|(name, _)| name.clone()).take(GONE).collect()
        };
        self.gone.get_or_init(find).iter().map(String::as_str).collect()
    }

    /// Writes what was remembered. Failure costs reasons only, so it is not an error.
    pub fn save(&mut self) {
        if self.unsaved.is_empty() {
            return;
        }
        let kept: usize = self.keys.values().chain(self.added.values()).map(Vec::len).sum();
        let lines = self.lines + self.unsaved.lines().count();
        let written = if lines > 2 * kept + 1000 { self.rewrite() } else { self.append() };
        if written.is_ok() {
            self.unsaved.clear();
        }
    }

    fn append(&self) -> std::io::Result<()> {
        fs::create_dir_all(self.file.parent().unwrap_or(Path::new("")))?;
        File::options().create(true).append(true).open(&self.file)?.write_all(self.unsaved.as_bytes())
    }

    fn rewrite(&self) -> std::io::Result<()> {
        let all = self.keys.iter().chain(&self.added);
        let oldest_first = all.flat_map(|(name, keys)| keys.iter().rev().map(move |key| line(name, key)));
        let temporary = self.file.with_extension(format!("{}.tmp", std::process::id()));
        fs::write(&temporary, oldest_first.collect::<String>())?;
        fs::rename(&temporary, &self.file)
    }
}

/// Puts a key first; says whether it was not.
fn put(keys: &mut BTreeMap<String, Vec<Digest>>, name: &str, key: Digest) -> bool {
    if !keys.contains_key(name) {
        keys.insert(name.to_string(), Vec::new());
    }
    let Some(list) = keys.get_mut(name).filter(|list| list.first() != Some(&key)) else { return false };
    list.retain(|k| *k != key);
    list.insert(0, key);
    list.truncate(DEPTH);
    true
}

fn line(name: &str, key: &Digest) -> String {
    format!("{} {name}\n", key.hex())
}

/// A node that has to run, and what it is made from now.
pub struct Question<'a> {
    /// Name of the pipeline.
    pub pipeline: &'a str,
    /// All nodes.
    pub graph: &'a Graph,
    /// The node.
    pub node: &'a Node,
    /// Its manifest.
    pub manifest: &'a Manifest,
}

/// A merged node goes by its first case, however many others there are. No line breaks, since a line holds the name.
fn name(pipeline: &str, node: &Node) -> String {
    let name = match node.cases.first() {
        Some(case) => format!("{pipeline}/{}@{case}", node.stage.name),
        None => format!("{pipeline}/{}", node.stage.name),
    };
    name.replace(['\n', '\r'], " ")
}

fn title_in(pipeline: &str, name: &str) -> String {
    name.strip_prefix(pipeline).map_or(name, |rest| rest.trim_start_matches('/')).to_string()
}

fn stage_of(title: &str) -> &str {
    title.split_once('@').map_or(title, |(stage, _)| stage)
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
            if put(&mut history.keys, "p/stage", key) {
                history.unsaved.push_str(&line("p/stage", &key));
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
