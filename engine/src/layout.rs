//! Where the stages of a pipeline stand in its text, and what they had become: enough to see, without reading the others,
//! that an edit lies inside one of them, and to cut out what it concerns.
//!
//! The rule that makes this safe: YAML reads a text from the front, so two texts that agree up to one stage's name are in the
//! same state there, and again from the next stage's name on if that is read as a stage's name. An excerpt therefore always
//! holds the stage behind the edited one, and whoever loads it compares the names it finds with those that it wanted.
//! Anchors reach across stages and are left to the long way.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use watershed_cache::Digest;

use crate::sealed;
use crate::session::Session;
use crate::study::{Source, StageDef};
use crate::walk::Tally;

/// A pipeline's text with the places of its stages, in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// The run that it describes.
    pub run: String,
    /// The text.
    pub text: String,
    /// The stages.
    pub stages: Vec<Place>,
}

/// One stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Where its first line begins, in bytes.
    pub start: usize,
    /// Where the next stage, or what follows the last one, begins.
    pub end: usize,
    /// Indices of the stages that it reads.
    pub reads: Vec<usize>,
    /// Its action key.
    pub key: Digest,
}

/// What is written of a layout ahead of its keys and its text: of each stage start, end, and what it reads.
#[derive(Serialize, Deserialize)]
struct Head {
    run: String,
    stages: Vec<(usize, usize, Vec<usize>)>,
}

impl Layout {
    /// Describes a run that left nothing undone; `None` for a pipeline whose stages depend on more than their own text: sweeps,
    /// thresholds, fetched inputs, anchors, stages that are not written one below the other.
    pub fn of(session: &Session, tally: &Tally, run: &str) -> Option<Layout> {
        let study = &session.study;
        let [case] = study.cases.as_slice() else { return None };
        let plain = study.sweep.is_none() && study.named.is_empty() && study.expect.is_empty();
        (plain && case.stages.len() > 1 && !has_anchors(&study.text)).then_some(())?;
        let ends = ends(&study.text, &case.stages)?;
        let index = index(case.stages.iter().map(|stage| stage.name.as_str()));
        let places = case.stages.iter().zip(ends).map(|(stage, (start, end))| {
            let key = tally.keys[session.graph.find(&stage.name, None)?]?;
            Some(Place { start, end, reads: reads(stage, &index)?, key })
        });
        Some(Layout { run: run.into(), text: study.text.clone(), stages: places.collect::<Option<_>>()? })
    }

    /// Reads the layout of a run.
    pub fn load(path: &Path, run: &str) -> Option<Layout> {
        let bytes = sealed::read(path)?;
        let end = bytes.iter().position(|&byte| byte == b'\n')?;
        let head: Head = serde_json::from_slice(&bytes[..end]).ok().filter(|head: &Head| head.run == run)?;
        let (keys, text) = bytes[end + 1..].split_at_checked(head.stages.len() * 32)?;
        let keys = keys.chunks_exact(32).map(|key| key.try_into().map(Digest::from_bytes).ok());
        let place = |((start, end, reads), key): (_, Option<Digest>)| Some(Place { start, end, reads, key: key? });
        let stages = head.stages.into_iter().zip(keys).map(place).collect::<Option<_>>()?;
        Some(Layout { run: head.run, text: String::from_utf8(text.to_vec()).ok()?, stages })
    }

    /// Writes it. Failure costs time only.
    pub fn save(&self, path: &Path) {
        let stages = self.stages.iter().map(|place| (place.start, place.end, place.reads.clone())).collect();
        let mut bytes = serde_json::to_vec(&Head { run: self.run.clone(), stages }).unwrap_or_default();
        bytes.push(b'\n');
        self.stages.iter().for_each(|place| bytes.extend_from_slice(place.key.as_bytes()));
        bytes.extend_from_slice(self.text.as_bytes());
        sealed::index(path, bytes);
    }

    /// Returns the name of a stage.
    pub fn name(&self, stage: usize) -> &str {
        self.text[self.stages[stage].start..].trim_start_matches(' ').split(':').next().unwrap_or_default()
    }

    /// Returns the stage outside which `text` is this text.
    pub fn edited(&self, text: &str) -> Option<usize> {
        let (old, new) = (self.text.as_bytes(), text.as_bytes());
        let ahead = old.iter().zip(new).take_while(|(a, b)| a == b).count();
        let shorter = old.len().min(new.len()) - ahead;
        let behind = old.iter().rev().zip(new.iter().rev()).take(shorter).take_while(|(a, b)| a == b).count();
        let after = self.stages.partition_point(|stage| stage.start <= ahead);
        let stage = after.checked_sub(1)?;
        (old.len() - behind <= self.stages[stage].end).then_some(stage)
    }

    /// Returns the layout of `text`, which differs inside one stage only; `None` when the change may reach beyond it.
    pub fn moved(&self, text: String, edited: usize) -> Option<Layout> {
        let grown = |at: usize| (at + text.len()).checked_sub(self.text.len());
        let mut stages = self.stages.clone();
        stages[edited].end = grown(stages[edited].end)?;
        for stage in &mut stages[edited + 1..] {
            (stage.start, stage.end) = (grown(stage.start)?, grown(stage.end)?);
        }
        let own = text.get(stages[edited].start..stages[edited].end)?;
        let leaves = |line: &str| !line.starts_with([' ', '#', '\r', '\n']);
        (!own.is_empty() && !own.split_inclusive('\n').any(leaves) && !has_anchors(own)).then_some(())?;
        let moved = Layout { run: self.run.clone(), text, stages };
        (moved.name(edited) == self.name(edited)).then_some(moved)
    }

    /// Returns a stage and all that read it, directly or not, in the order of the file.
    pub fn below(&self, stage: usize) -> Vec<usize> {
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); self.stages.len()];
        for (reader, place) in self.stages.iter().enumerate() {
            place.reads.iter().for_each(|&read| readers[read].push(reader));
        }
        let (mut found, mut open) = (vec![false; self.stages.len()], vec![stage]);
        while let Some(stage) = open.pop() {
            if !std::mem::replace(&mut found[stage], true) {
                open.extend(&readers[stage]);
            }
        }
        (0..found.len()).filter(|&stage| found[stage]).collect()
    }

    /// Returns the text without the stages that are not wanted; `wanted` is in the order of the file.
    pub fn excerpt(&self, wanted: &[usize]) -> String {
        let first = self.stages.first().map_or(self.text.len(), |stage| stage.start);
        let last = self.stages.last().map_or(self.text.len(), |stage| stage.end);
        let stages = wanted.iter().map(|&stage| &self.text[self.stages[stage].start..self.stages[stage].end]);
        std::iter::once(&self.text[..first]).chain(stages).chain([&self.text[last..]]).collect()
    }

    /// Returns the indices of what a stage reads now; `None` when one of them is new.
    pub fn reads_of(&self, stage: &StageDef) -> Option<Vec<usize>> {
        reads(stage, &index((0..self.stages.len()).map(|at| self.name(at))))
    }
}

fn index<'a>(names: impl Iterator<Item = &'a str>) -> HashMap<&'a str, usize> {
    names.enumerate().map(|(at, name)| (name, at)).collect()
}

fn reads(stage: &StageDef, index: &HashMap<&str, usize>) -> Option<Vec<usize>> {
    let writers = stage.inputs.iter().filter_map(|input| match &input.source {
        Source::Output { stage, .. } => Some(index.get(stage.as_str()).copied()),
        Source::Path { .. } => None,
    });
    let mut found: Vec<usize> = writers.collect::<Option<_>>()?;
    found.sort_unstable();
    found.dedup();
    Some(found)
}

/// Returns where each stage begins and ends, if they stand one below the other under `stages:`, indented alike.
fn ends(text: &str, stages: &[std::sync::Arc<StageDef>]) -> Option<Vec<(usize, usize)>> {
    let lines: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let starts: Vec<usize> =
        stages.iter().map(|stage| lines.get((stage.line as usize).checked_sub(1)?).copied()).collect::<Option<_>>()?;
    let indent = |at: usize| text[at..].len() - text[at..].trim_start_matches(' ').len();
    let depth = indent(*starts.first()?);
    let alike = |(stage, &at): (&std::sync::Arc<StageDef>, &usize)| {
        indent(at) == depth && text[at + depth..].strip_prefix(&stage.name).is_some_and(|rest| rest.starts_with(':'))
    };
    (depth > 0 && starts.is_sorted() && stages.iter().zip(&starts).all(alike)).then_some(())?;
    let heading = text[..starts[0]].lines().rev().find(|line| !line.trim().is_empty() && !line.trim().starts_with('#'));
    heading.filter(|line| line.split('#').next().unwrap_or_default().trim_end() == "stages:")?;
    let behind = lines.iter().copied().filter(|at| at > starts.last().expect("there is a first"));
    let leaves = |at: &usize| text[*at..].chars().next().is_some_and(|c| !matches!(c, ' ' | '#' | '\r' | '\n'));
    let end = behind.into_iter().find(leaves).unwrap_or(text.len());
    let next = starts[1..].iter().copied().chain([end]);
    Some(starts.iter().copied().zip(next).collect())
}

/// Says whether a text may define an anchor. `a && b` of a shell is none, unless somebody refers to it.
fn has_anchors(text: &str) -> bool {
    let bytes = text.as_bytes();
    let begins = |at: usize| at == 0 || matches!(bytes[at - 1], b' ' | b'\t' | b'\n' | b'[' | b'{' | b',' | b':');
    let named = |at: usize| bytes.get(at + 1).is_some_and(|next| !next.is_ascii_whitespace());
    let of_shell = |at: usize| bytes[at..].starts_with(b"&& ") || bytes[at..].starts_with(b"&&\n");
    text.contains("*&") || text.match_indices('&').any(|(at, _)| begins(at) && named(at) && !of_shell(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "stages:\n  a: {x: 1}\n  b:\n    x: 2\n  c: {x: 3}\nrun: {}\n";

    fn layout() -> Layout {
        let place = |start, end, reads: &[usize]| Place { start, end, reads: reads.to_vec(), key: Digest::of(b"key") };
        let stages = vec![place(8, 20, &[]), place(20, 34, &[0]), place(34, 46, &[1])];
        Layout { run: "r".into(), text: TEXT.into(), stages }
    }

    #[test]
    fn an_edit_is_found_in_its_stage() {
        assert_eq!(layout().edited(&TEXT.replace("x: 2", "x: 22")), Some(1));
        assert_eq!(layout().edited(&TEXT.replace("x: 3", "x: 4")), Some(2));
        assert_eq!(layout().edited(&TEXT.replace("run: {}", "run: {cpus: 2}")), None);
        assert_eq!(layout().edited(&TEXT.replace("stages:", "stages: # all")), None);
        assert_eq!(layout().edited(&TEXT.replace("x: 1", "x: 2").replace("x: 3", "x: 4")), None, "two stages");
    }

    #[test]
    fn an_excerpt_is_what_is_wanted_and_all_around_the_stages() {
        assert_eq!(layout().excerpt(&[1]), "stages:\n  b:\n    x: 2\nrun: {}\n");
        assert_eq!(layout().excerpt(&[0, 1, 2]), TEXT);
        let moved = layout().moved(TEXT.replace("x: 2", "x: 222"), 1).unwrap();
        assert_eq!(moved.excerpt(&[1, 2]), "stages:\n  b:\n    x: 222\n  c: {x: 3}\nrun: {}\n");
    }

    #[test]
    fn what_leaves_its_stage_goes_the_long_way() {
        assert_eq!(layout().moved(TEXT.replace("    x: 2\n", "params: {}\n"), 1), None);
        assert_eq!(layout().moved(TEXT.replace("x: 2", "x: &two 2"), 1), None);
        assert_eq!(layout().moved(TEXT.replace("  b:", "  c:"), 1), None);
        assert!(layout().moved(TEXT.replace("x: 2", "x: a && b"), 1).is_some());
    }

    #[test]
    fn what_was_written_is_read_for_its_own_run_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layout");
        layout().save(&path);
        assert_eq!(Layout::load(&path, "r"), Some(layout()));
        assert_eq!(Layout::load(&path, "q"), None);
        assert_eq!((layout().name(0), layout().name(2)), ("a", "c"));
    }

    #[test]
    fn readers_of_readers_lie_below() {
        assert_eq!(layout().below(1), [1, 2]);
        assert_eq!(layout().below(2), [2]);
    }
}
