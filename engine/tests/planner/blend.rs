//! The only kind of the stories: it writes a digest of its number and of what it reads, in a file or a folder.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_cache::Digest;
use watershed_engine::port::RecordType::Bytes;
use watershed_engine::stage::NoRunKeys;
use watershed_engine::{Job, Ports, Stage, StageError};

/// Blends what it reads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Blend {
    /// Goes into what it writes, unless it writes the same.
    pub number: u64,
    /// Whether it writes the same whatever it reads.
    pub same: bool,
    /// Whether it writes a folder with the files `a` and `b`; `b` is the same in all.
    pub folder: bool,
    /// Whether it fails.
    pub fails: bool,
}

/// Names and texts of the files that a stage wrote; a single file has no name.
pub type Files = Vec<(&'static str, String)>;

impl Blend {
    /// Returns what it writes, given label and contents of what it reads.
    pub fn writes(&self, read: &[(String, String)]) -> Files {
        let text = if self.same { "same".to_string() } else { format!("{} {read:?}", self.number) };
        if self.folder { vec![("a", padded(&text)), ("b", padded("b"))] } else { vec![("", padded(&text))] }
    }
}

/// Returns a digest of a text, long enough that no store keeps it inside a record.
pub fn padded(text: &str) -> String {
    format!("{:9000}", Digest::of(text.as_bytes()).hex())
}

/// Returns the contents of a file, or of the files of a folder.
fn contents(path: &Path) -> String {
    let text = |path: &Path| std::fs::read_to_string(path).unwrap();
    if path.is_dir() { ["a", "b"].map(|name| text(&path.join(name))).concat() } else { text(path) }
}

impl Stage for Blend {
    const KIND: &'static str = "blend";
    const VERSION: u32 = 1;
    type Run = NoRunKeys;

    fn ports(&self) -> Ports {
        Ports::new().may_read_many("of", &[Bytes]).writes("out", Bytes)
    }

    fn run(&self, _run: &NoRunKeys, job: &Job) -> Result<(), StageError> {
        if self.fails {
            return Err(StageError::failed("as it was told"));
        }
        let read: Vec<(String, String)> =
            job.inputs("of").iter().map(|input| (input.label.clone(), contents(&input.path))).collect();
        for (name, text) in self.writes(&read) {
            let path = if name.is_empty() { job.output("out").to_path_buf() } else { job.output("out").join(name) };
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Ok(())
    }
}
