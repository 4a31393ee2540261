//! `${in.x}` and `${out.y}` in the words of a command.
//!
//! A path goes in as it is, without quotes: the author of `shell` knows whether it stands between quotes already.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use watershed_engine::{Job, StageError};

use super::room::Room;

/// Where each input and output lies for the child.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// Input to absolute path.
    pub inputs: BTreeMap<String, PathBuf>,
    /// Output to absolute path.
    pub outputs: BTreeMap<String, PathBuf>,
}

impl Places {
    /// Returns the places of a job in its private room.
    pub fn new(room: &Room, job: &Job) -> Places {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let outputs = job.spec().outputs.iter().map(|(name, path)| (name.clone(), absolute(path)));
        Places { inputs: room.inputs.clone(), outputs: outputs.collect() }
    }

    /// Replaces the places in `text`; every other `${` stays.
    ///
    /// # Errors
    /// Names a place that does not exist, and those that do.
    pub fn fill(&self, text: &str) -> Result<String, StageError> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, kind, name, after)) = next(rest) {
            let known = if kind == "in" { &self.inputs } else { &self.outputs };
            let path = known.get(name).ok_or_else(|| unknown(kind, name, known))?;
            filled.push_str(before);
            filled.push_str(&path.to_string_lossy());
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }
}

/// Returns the names that `text` uses as `${kind.NAME}`.
pub fn names<'a>(text: &'a str, kind: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, k, name, after)) = next(rest) {
        if k == kind {
            found.push(name);
        }
        rest = after;
    }
    found
}

/// Returns the text before the first place, its kind, its name, and the text after it.
fn next(text: &str) -> Option<(&str, &str, &str, &str)> {
    let mut from = 0;
    while let Some(at) = text[from..].find("${").map(|at| from + at) {
        let inner = &text[at + 2..];
        for kind in ["in", "out"] {
            let place = inner.strip_prefix(kind).and_then(|t| t.strip_prefix('.')).and_then(|t| t.split_once('}'));
            if let Some((name, after)) = place {
                return Some((&text[..at], kind, name, after));
            }
        }
        from = at + 2;
    }
    None
}

fn unknown(kind: &str, name: &str, known: &BTreeMap<String, PathBuf>) -> StageError {
    let known: Vec<String> = known.keys().map(|k| format!("`{k}`")).collect();
    let known = if known.is_empty() { "none".into() } else { known.join(", ") };
    let word = if kind == "in" { "input" } else { "output" };
    StageError::failed(format!("`${{{kind}.{name}}}` is no {word} of this command; it has {known}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_places_are_replaced() {
        let path = |p: &str| BTreeMap::from([("a".to_string(), PathBuf::from(p))]);
        let places = Places { inputs: path("/i"), outputs: path("/o") };
        assert_eq!(places.fill("${in.a} ${HOME} ${x:-${out.a}} $$ ${").unwrap(), "/i ${HOME} ${x:-/o} $$ ${");
        assert!(places.fill("${in.b}").unwrap_err().to_string().contains("it has `a`"));
        assert_eq!(names("${out.a}${in.b}${out.c}", "out"), ["a", "c"]);
    }
}
