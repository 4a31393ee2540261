//! The naive planner: what the promise says of a pipeline and a store, computed in the plainest way.

use std::collections::{BTreeMap, BTreeSet};

use crate::blend::{Blend, Files};

/// What a stage reads: a file of the user's, or an output or a file in it.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Number of a file.
    File(usize),
    /// Number of a stage, and the file inside its folder.
    Stage(usize, Option<&'static str>),
}

/// A stage: what it does and what it reads, by label.
#[derive(Debug, Clone)]
pub struct NaiveStage {
    pub blend: Blend,
    pub reads: BTreeMap<String, Source>,
}

/// A store: results by key, and whether each text that it keeps is still good.
#[derive(Debug, Default)]
pub struct NaiveStore {
    pub records: BTreeMap<String, Files>,
    pub blobs: BTreeMap<String, bool>,
}

/// What a stage would do.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    Hit,
    Run,
    Depends(BTreeSet<usize>),
}

/// A pipeline, its files and its store. A stage reads stages of lower numbers only.
#[derive(Debug, Default)]
pub struct Naive {
    pub stages: Vec<NaiveStage>,
    pub files: Vec<String>,
    pub store: NaiveStore,
}

/// How a run ended: what was executed, in order, what was served, what failed; what each stage wrote.
#[derive(Debug, Default)]
pub struct Ended {
    pub ran: Vec<usize>,
    pub hit: BTreeSet<usize>,
    pub failed: BTreeSet<usize>,
    pub wrote: BTreeMap<usize, Files>,
}

impl Naive {
    /// Returns the stages that a target needs; all without one.
    pub fn needed(&self, target: Option<usize>) -> BTreeSet<usize> {
        let Some(target) = target else { return (0..self.stages.len()).collect() };
        let above = self.parents(target).into_iter().flat_map(|parent| self.needed(Some(parent)));
        above.chain([target]).collect()
    }

    fn parents(&self, stage: usize) -> BTreeSet<usize> {
        let parent = |source: &Source| if let Source::Stage(stage, _) = source { Some(*stage) } else { None };
        self.stages[stage].reads.values().filter_map(parent).collect()
    }

    /// Returns, by label, the files that each input is; all writers are in `wrote`.
    fn inputs(&self, stage: usize, wrote: &BTreeMap<usize, Files>) -> Vec<(String, Files)> {
        let files = |source: &Source| match source {
            Source::File(number) => vec![("", self.files[*number].clone())],
            Source::Stage(writer, None) => wrote[writer].clone(),
            Source::Stage(writer, Some(inside)) => {
                let (_, text) = wrote[writer].iter().find(|(name, _)| name == inside).unwrap();
                vec![("", text.clone())]
            }
        };
        self.stages[stage].reads.iter().map(|(label, source)| (label.clone(), files(source))).collect()
    }

    fn key(&self, stage: usize, wrote: &BTreeMap<usize, Files>) -> String {
        format!("{:?} {:?}", self.stages[stage].blend, self.inputs(stage, wrote))
    }

    fn look_up(&self, key: &str) -> Option<&Files> {
        let files = self.store.records.get(key)?;
        files.iter().all(|(_, text)| self.store.blobs.contains_key(text)).then_some(files)
    }

    /// Returns what each needed stage would do.
    pub fn plan(&self, target: Option<usize>, forced: &BTreeSet<usize>) -> BTreeMap<usize, Verdict> {
        let (mut verdicts, mut wrote) = (BTreeMap::new(), BTreeMap::new());
        for stage in self.needed(target) {
            let unknown: BTreeSet<usize> = self.parents(stage).into_iter().filter(|p| !wrote.contains_key(p)).collect();
            let found = if unknown.is_empty() { self.look_up(&self.key(stage, &wrote)).cloned() } else { None };
            let verdict = match found {
                _ if !unknown.is_empty() => Verdict::Depends(unknown),
                Some(files) if !forced.contains(&stage) => {
                    wrote.insert(stage, files);
                    Verdict::Hit
                }
                _ => Verdict::Run,
            };
            verdicts.insert(stage, verdict);
        }
        verdicts
    }

    /// Returns the keys of the stages that would be hits.
    pub fn keys_of_hits(&self) -> Vec<(usize, String)> {
        let (mut keys, mut wrote) = (Vec::new(), BTreeMap::new());
        for stage in 0..self.stages.len() {
            if !self.parents(stage).iter().all(|parent| wrote.contains_key(parent)) {
                continue;
            }
            let key = self.key(stage, &wrote);
            if let Some(files) = self.look_up(&key).cloned() {
                wrote.insert(stage, files);
                keys.push((stage, key));
            }
        }
        keys
    }

    /// Runs one stage at a time, of those that may run the first in `order`.
    pub fn run(&mut self, target: Option<usize>, forced: &BTreeSet<usize>, order: &[usize]) -> Ended {
        let needed = self.needed(target);
        let order: Vec<usize> = order.iter().copied().filter(|stage| needed.contains(stage)).collect();
        let (mut ended, mut open, mut must) = (Ended::default(), needed, forced.clone());
        let mut waiting: BTreeSet<usize> = BTreeSet::new();
        loop {
            self.serve(&order, &mut open, &mut waiting, &must, &mut ended);
            let Some(&stage) = order.iter().find(|stage| waiting.contains(*stage)) else { return ended };
            if must.contains(&stage) || self.look_up(&self.key(stage, &ended.wrote)).is_none() {
                if let Some(writer) = self.damaged(stage, &ended.wrote) {
                    // Its writer is executed again, then the stage is looked up anew.
                    ended.wrote.remove(&writer);
                    ended.hit.remove(&writer);
                    waiting.extend([writer]);
                    waiting.remove(&stage);
                    open.insert(stage);
                    must.insert(writer);
                    continue;
                }
                self.execute(stage, &mut ended);
            } else {
                ended.hit.insert(stage);
                ended.wrote.insert(stage, self.look_up(&self.key(stage, &ended.wrote)).unwrap().clone());
            }
            must.remove(&stage);
            waiting.remove(&stage);
        }
    }

    /// Looks up every stage whose inputs are there, as long as that goes on.
    fn serve(
        &self,
        order: &[usize],
        open: &mut BTreeSet<usize>,
        waiting: &mut BTreeSet<usize>,
        must: &BTreeSet<usize>,
        ended: &mut Ended,
    ) {
        for &stage in order {
            let is_ready = open.contains(&stage) && self.parents(stage).iter().all(|p| ended.wrote.contains_key(p));
            if !is_ready {
                continue;
            }
            open.remove(&stage);
            match self.look_up(&self.key(stage, &ended.wrote)) {
                Some(files) if !must.contains(&stage) => {
                    ended.hit.insert(stage);
                    ended.wrote.insert(stage, files.clone());
                }
                _ => {
                    waiting.insert(stage);
                }
            }
        }
    }

    /// Returns the writer of an input whose bytes are gone or bad, and takes bad ones away.
    fn damaged(&mut self, stage: usize, wrote: &BTreeMap<usize, Files>) -> Option<usize> {
        for ((_, files), source) in self.inputs(stage, wrote).iter().zip(self.stages[stage].reads.values()) {
            let Source::Stage(writer, _) = source else { continue };
            let bad: Vec<&String> =
                files.iter().map(|(_, t)| t).filter(|t| self.store.blobs.get(*t) != Some(&true)).collect();
            if let Some(text) = bad.first() {
                self.store.blobs.remove(*text);
                return Some(*writer);
            }
        }
        None
    }

    fn execute(&mut self, stage: usize, ended: &mut Ended) {
        if self.stages[stage].blend.fails {
            ended.failed.insert(stage);
            return;
        }
        let read = self.inputs(stage, &ended.wrote);
        let read: Vec<(String, String)> =
            read.into_iter().map(|(label, files)| (label, files.into_iter().map(|(_, text)| text).collect())).collect();
        let files = self.stages[stage].blend.writes(&read);
        self.store.blobs.extend(files.iter().map(|(_, text)| (text.clone(), true)));
        self.store.records.insert(self.key(stage, &ended.wrote), files.clone());
        ended.ran.push(stage);
        ended.wrote.insert(stage, files);
    }
}
