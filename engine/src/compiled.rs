//! A compiled plan: what has to be as it was for a run to find nothing to do, so that such a run loads no pipeline.
//!
//! It is written after a run whose nodes are all done, in the disposable index, one file for each [`Question`]: a JSON line
//! with everything that the run looked at outside the store, then the sightings of its records and blobs, then a digest. The
//! next run asks the machine the same again; whatever it cannot confirm sends it the long way, so a compiled plan can cost
//! milliseconds and never a wrong answer. Where only the pipeline's text is another one, [`crate::edit`] may know what it concerns.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use watershed_cache::sighting::Outputs;
use watershed_cache::{Digest, Sightings, Stat, Store};

use crate::environment;
use crate::graph::From;
use crate::layout::Layout;
use crate::probe::Probe;
use crate::sealed;
use crate::session::Session;
use crate::verdict::Verdict;
use crate::walk::Tally;

/// Entries of an input folder beyond which watching costs as much as looking.
const MOST_WATCHED: usize = 20_000;

/// What the command line asks: the same question has the same plan.
#[derive(Debug, Serialize)]
pub struct Question<'a> {
    /// The pipeline file as written.
    pub file: &'a Path,
    /// Stages asked for.
    pub stages: &'a [String],
    /// The `--set` options.
    pub overrides: &'a [String],
    /// The sweep.
    pub sweep: Option<&'a str>,
    /// Glob over its cases.
    pub cases: Option<&'a str>,
    /// The store.
    pub cache: &'a Path,
    /// The current folder.
    pub current: PathBuf,
}

impl Question<'_> {
    /// Returns the file that holds the plan of a project.
    pub fn place(&self, root: &Path) -> PathBuf {
        let text = serde_json::to_vec(self).unwrap_or_default();
        let name = Digest::in_context("watershed 2026-11-26 compiled plan", &text).hex();
        root.join(".watershed").join("index").join("plan").join(&name[..32])
    }
}

/// Returns the file that holds the layout of the pipeline whose plan is at `place`.
pub fn layout_of(place: &Path) -> PathBuf {
    place.with_file_name("").with_file_name("layout").join(place.file_name().unwrap_or_default())
}

/// What a run looked at, and what it found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Compiled {
    /// The pipeline's name.
    pub pipeline: String,
    /// The pipeline file as run logs name it.
    pub file: String,
    /// The sweep.
    pub sweep: Option<String>,
    /// Nodes of the graph.
    pub nodes: usize,
    /// Nodes that were needed, all done.
    pub done: usize,
    /// The run whose log names them.
    pub since: String,
    /// Expectations, all held.
    pub held: Vec<Verdict>,
    /// How many edits lie between that run and one that loaded the whole pipeline.
    pub depth: u32,
    began_ns: i128,
    version: String,
    boot: Option<String>,
    watched: Vec<(PathBuf, Stat)>,
    environment: environment::Noted,
    probes: Vec<(Probe, String)>,
    text: Text,
    #[serde(skip)]
    sightings: Sightings,
    #[serde(skip)]
    layout: Option<Layout>,
}

/// The pipeline's file as it was loaded.
#[derive(Debug, Serialize, Deserialize)]
struct Text {
    file: PathBuf,
    stat: Stat,
    digest: Digest,
}

impl Text {
    fn of(file: &Path, text: &str) -> Option<Text> {
        let file = std::path::absolute(file).ok()?;
        Some(Text { stat: Stat::of(&file).ok()?, file, digest: Digest::of(text.as_bytes()) })
    }
}

impl Compiled {
    /// Compiles what a run looked at that began at `began_ns` and left nothing undone; `None` when something changed meanwhile
    /// or cannot be watched.
    pub fn of(session: &Session, tally: &Tally, since: &str, held: Vec<Verdict>, began_ns: i128) -> Option<Compiled> {
        let done = done(tally);
        Some(Compiled {
            pipeline: session.study.name.clone(),
            file: session.study.file_in_root(),
            sweep: session.study.sweep.clone(),
            nodes: session.graph.nodes.len(),
            done: done.len(),
            since: since.to_string(),
            held,
            depth: 0,
            began_ns,
            version: env!("CARGO_PKG_VERSION").into(),
            boot: session.store.boot().map(str::to_string),
            watched: watched(session, tally)?,
            environment: environment::noted(),
            probes: session.asked(),
            text: Text::of(&session.study.file, &session.study.text)?,
            sightings: sightings(session, &done, began_ns)?,
            layout: Layout::of(session, tally, since),
        })
    }

    /// Compiles what stands after the run of an edit: `layout` describes it, and the results of the keys that are `gone` stand
    /// behind no stage any more.
    pub fn after_edit(
        mut self,
        session: &Session,
        tally: &Tally,
        layout: Layout,
        gone: &[Digest],
        began_ns: i128,
    ) -> Option<Compiled> {
        let done = done(tally);
        let kept: BTreeSet<Digest> = layout.stages.iter().map(|stage| stage.key).collect();
        let gone: Vec<Digest> = gone.iter().filter(|key| !kept.contains(key)).copied().collect();
        self.watched.extend(watched(session, tally)?);
        self.environment.extend(environment::noted());
        let asked = session.asked();
        self.probes.retain(|(probe, _)| !asked.iter().any(|(again, _)| again == probe));
        self.probes.extend(asked);
        Some(Compiled {
            since: layout.run.clone(),
            depth: self.depth + 1,
            text: Text::of(&session.study.file, &layout.text)?,
            sightings: self.sightings.exchanged(&gone, sightings(session, &done, began_ns)?),
            layout: Some(layout),
            ..self
        })
    }

    /// Reads a plan; `None` when there is none or it is damaged.
    pub fn load(place: &Path) -> Option<Compiled> {
        let body = sealed::read(place)?;
        let end = body.iter().position(|&byte| byte == b'\n')?;
        let mut compiled: Compiled = serde_json::from_slice(&body[..end]).ok()?;
        compiled.sightings = Sightings::parse(&body[end + 1..])?;
        Some(compiled)
    }

    /// Writes it. Failure costs time only, so it is not an error.
    pub fn save(&self, place: &Path) {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes.extend(self.sightings.to_bytes());
        sealed::index(place, bytes);
        if let Some(layout) = &self.layout {
            layout.save(&layout_of(place));
        }
    }

    /// Says whether all but the pipeline's text is as it was: files, environment, probes and results.
    pub fn holds(&self, store: &Store) -> bool {
        self.version == env!("CARGO_PKG_VERSION")
            && self.boot.as_deref() == store.boot()
            && environment::is_as(&self.environment)
            && self.watched.iter().all(|(path, stat)| self.is_unchanged(path, stat))
            && store.runs().join(&self.since).exists()
            && self.sightings.hold(store)
            && self.probes.iter().all(|(probe, answer)| probe.answer().is_ok_and(|now| now == *answer))
    }

    /// Says whether the pipeline's text is as it was.
    pub fn has_text(&self) -> bool {
        let Text { file, stat, digest } = &self.text;
        self.is_unchanged(file, stat) || fs::read(file).is_ok_and(|bytes| Digest::of(&bytes) == *digest)
    }

    fn is_unchanged(&self, path: &Path, stat: &Stat) -> bool {
        stat.is_settled_at(self.began_ns) && Stat::of(path).is_ok_and(|now| now == *stat)
    }
}

/// Returns key and outputs of the nodes that are done.
fn done(tally: &Tally) -> Vec<(Digest, &Outputs)> {
    tally.keys.iter().zip(&tally.outputs).filter_map(|(key, outputs)| Some(((*key)?, outputs.as_ref()?))).collect()
}

/// Looks at the files behind results. A record written since the run began must be the one that the run knows.
fn sightings(session: &Session, done: &[(Digest, &Outputs)], began_ns: i128) -> Option<Sightings> {
    let sightings = Sightings::of(&session.store, done.iter().copied())?;
    let young: BTreeSet<Digest> = sightings.records_since(began_ns).collect();
    let stands = |(key, outputs): &(Digest, &Outputs)| {
        !young.contains(key) || session.store.peek(key).is_some_and(|record| record.outputs == **outputs)
    };
    done.iter().all(stands).then_some(sightings)
}

/// Looks at the program and the user's own inputs, folders with all that is in them.
fn watched(session: &Session, tally: &Tally) -> Option<Vec<(PathBuf, Stat)>> {
    let mut paths = vec![std::env::current_exe().ok()?];
    let needed = session.graph.nodes.iter().zip(&tally.keys).filter(|(_, key)| key.is_some());
    for input in needed.flat_map(|(node, _)| &node.inputs) {
        if let From::Path { path, .. } = &input.from {
            paths.push(path.clone());
        }
    }
    paths.sort();
    paths.dedup();
    let mut seen = Vec::new();
    for path in paths {
        watch(path, &mut seen)?;
    }
    Some(seen)
}

fn watch(path: PathBuf, seen: &mut Vec<(PathBuf, Stat)>) -> Option<()> {
    (seen.len() < MOST_WATCHED).then_some(())?;
    let items = if path.is_dir() { Some(fs::read_dir(&path).ok()?) } else { None };
    let stat = Stat::of(&path).ok()?;
    seen.push((path, stat));
    items.into_iter().flatten().try_for_each(|item| watch(item.ok()?.path(), seen))
}
