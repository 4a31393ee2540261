//! The kinds that a pipeline may use, by name, with what the checks need of them computed once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::language::params::leaves;
use crate::stage::Kind;

/// All kinds of the program.
pub struct Kinds {
    entries: Vec<KindEntry>,
    by_name: HashMap<&'static str, usize>,
    fetcher: Option<Arc<Kind>>,
}

/// One kind and its schemas.
pub struct KindEntry {
    /// The kind.
    pub kind: Arc<Kind>,
    schema: OnceLock<Value>,
    run_schema: OnceLock<Value>,
    defaults: OnceLock<BTreeMap<String, Value>>,
    presets: OnceLock<Vec<(&'static str, Value)>>,
}

impl Kinds {
    /// Takes the kinds in the order of the documentation.
    pub fn new(kinds: Vec<Kind>) -> Kinds {
        let (fetchers, named): (Vec<Kind>, Vec<Kind>) = kinds.into_iter().partition(|kind| kind.fetches);
        let entries: Vec<KindEntry> = named.into_iter().map(KindEntry::new).collect();
        let by_name = entries.iter().enumerate().map(|(index, entry)| (entry.kind.name, index)).collect();
        Kinds { entries, by_name, fetcher: fetchers.into_iter().next().map(Arc::new) }
    }

    /// Returns the kind that fetches `https:` inputs, if the program has one.
    pub fn fetcher(&self) -> Option<&Arc<Kind>> {
        self.fetcher.as_ref()
    }

    /// Returns the kind called `name`.
    pub fn get(&self, name: &str) -> Option<&Arc<Kind>> {
        self.entry(name).map(|entry| &entry.kind)
    }

    /// Returns all kinds in their order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.entries.iter().map(|entry| &entry.kind)
    }

    /// Returns the names of all kinds in their order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.entries.iter().map(|entry| entry.kind.name)
    }

    pub(crate) fn entry(&self, name: &str) -> Option<&KindEntry> {
        self.by_name.get(name).map(|index| &self.entries[*index])
    }

    pub(crate) fn entries(&self) -> &[KindEntry] {
        &self.entries
    }
}

impl KindEntry {
    fn new(kind: Kind) -> KindEntry {
        KindEntry {
            kind: Arc::new(kind),
            schema: OnceLock::new(),
            run_schema: OnceLock::new(),
            defaults: OnceLock::new(),
            presets: OnceLock::new(),
        }
    }

    /// Returns the schema of `with`.
    pub fn schema(&self) -> &Value {
        self.schema.get_or_init(self.kind.schema)
    }

    /// Returns the schema of the kind's own `run` keys.
    pub fn run_schema(&self) -> &Value {
        self.run_schema.get_or_init(self.kind.run_schema)
    }

    /// Returns the default parameters, dotted path to value.
    pub fn defaults(&self) -> &BTreeMap<String, Value> {
        self.defaults.get_or_init(|| leaves(&(self.kind.defaults)(), self.schema()))
    }

    /// Returns the presets.
    pub fn presets(&self) -> &[(&'static str, Value)] {
        self.presets.get_or_init(self.kind.presets)
    }
}
