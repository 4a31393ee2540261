//! A study opened on a store: what `plan`, `why` and `run` share.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use watershed_cache::{Artifact, CacheError, StatCache, Store};

use crate::fault::StageError;
use crate::graph::Graph;
use crate::history::History;
use crate::input;
use crate::port::RecordType;
use crate::preview::Shared;
use crate::probe::Probe;
use crate::shelf::Shelf;
use crate::study::Study;

/// A checked study, its graph, and the store that its results live in.
pub struct Session {
    /// The study.
    pub study: Study,
    /// Its graph.
    pub graph: Graph,
    /// The store.
    pub store: Store,
    /// Former keys, for reasons.
    pub history: Mutex<History>,
    /// What previews hand on to each other.
    pub previewed: Shared,
    /// Folder outputs that somebody reads before anything runs.
    pub(crate) shelf: Shelf,
    stats: StatCache,
    identified: Mutex<HashMap<(PathBuf, RecordType), Artifact>>,
    asked: Mutex<HashMap<Probe, String>>,
}

impl Session {
    /// Opens `study` on the store in `cache`. The disposable index stays with the project, wherever the store is.
    ///
    /// # Errors
    /// When the store was written by a newer version.
    pub fn open(study: Study, cache: &Path) -> Result<Session, CacheError> {
        let index = study.root.join(".watershed").join("index");
        let stats = StatCache::load(&index.join("stat.json"));
        let history = Mutex::new(History::load(&index.join("history")));
        let graph = Graph::build(&study);
        let store = Store::open(cache)?;
        let (previewed, shelf) = (Shared::default(), Shelf::default());
        let (identified, asked) = (Mutex::default(), Mutex::default());
        Ok(Session { study, graph, store, history, previewed, shelf, stats, identified, asked })
    }

    /// Returns the identity of one of the user's files or folders, as it was when this session first looked.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn identify(&self, path: &Path, record: RecordType) -> Result<Artifact, StageError> {
        if let Some(artifact) = self.identified(path, record) {
            return Ok(artifact);
        }
        let artifact = self.identify_now(path, record)?;
        self.identified
            .lock()
            .expect("no thread panics while it holds this lock")
            .insert((path.into(), record), artifact.clone());
        Ok(artifact)
    }

    /// Returns the identity of one of the user's files or folders as a port of this type takes it, if this session has looked.
    pub fn identified(&self, path: &Path, record: RecordType) -> Option<Artifact> {
        self.identified.lock().expect("no thread panics while it holds this lock").get(&(path.into(), record)).cloned()
    }

    /// Returns the identity of one of the user's files or folders as it is now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn identify_now(&self, path: &Path, record: RecordType) -> Result<Artifact, StageError> {
        input::identify(path, record, &self.stats).map_err(store_error)
    }

    /// Returns what the machine answers to a probe; each is asked once a session.
    ///
    /// # Errors
    /// See [`Probe::answer`].
    pub fn ask(&self, probe: Probe) -> Result<String, StageError> {
        let known = self.asked.lock().expect("no thread panics while it holds this lock").get(&probe).cloned();
        if let Some(answer) = known {
            return Ok(answer);
        }
        let answer = probe.answer()?;
        self.asked.lock().expect("no thread panics while it holds this lock").insert(probe, answer.clone());
        Ok(answer)
    }

    /// Returns the probes asked so far, with their answers.
    pub fn asked(&self) -> Vec<(Probe, String)> {
        self.asked.lock().expect("no thread panics while it holds this lock").clone().into_iter().collect()
    }

    /// Writes the disposable index.
    pub fn save_index(&self) {
        self.stats.save();
        self.history.lock().expect("no thread panics while it holds this lock").save();
    }
}

/// Returns a store's error as a stage's: a machine without room is the environment's fault.
pub fn store_error(error: CacheError) -> StageError {
    match error {
        _ if error.is_environment() => StageError::Environment(format!(
            "{error}; free some space or check the folder's permissions, then run again"
        )),
        CacheError::Busy { .. } => StageError::Busy(error.to_string()),
        _ => StageError::Failed(error.to_string()),
    }
}
