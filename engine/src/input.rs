//! Digests of the user's own files and folders.

use std::path::Path;

use watershed_cache::{Artifact, CacheError, StatCache, Tree};

use crate::ignore::Ignore;
use crate::port::RecordType;

/// Names never taken from an input folder, at any depth.
const LEFT_OUT: [&str; 4] = [".git", ".watershed", "__pycache__", ".ipynb_checkpoints"];

/// Returns the identity of a file or folder where it lies; only ever reads it.
///
/// A model's identity covers configuration, tokenizer, chat template and weights, nothing else in its folder.
///
/// # Errors
/// When it is not there, or something in it cannot be read.
pub fn identify(path: &Path, record: RecordType, stats: &StatCache) -> Result<Artifact, CacheError> {
    let kind = std::fs::metadata(path).map_err(|source| CacheError::Io { verb: "read", path: path.into(), source })?;
    if kind.is_file() {
        let (digest, size) = stats.digest(path)?;
        return Ok(Artifact { digest, size, folder: false });
    }
    if !kind.is_dir() {
        return Err(CacheError::Refused { path: path.into(), why: "is neither a file nor a folder" });
    }
    Ok(Tree::scan(path, Some(stats), &counted(path, record))?.artifact())
}

/// Returns what says whether a path inside a folder counts for the folder's identity.
pub fn counted(folder: &Path, record: RecordType) -> impl Fn(&str) -> bool + use<> {
    let ignore = Ignore::of(folder);
    move |inner: &str| match record {
        RecordType::Model => is_of_model(inner),
        _ => is_kept(inner) && !ignore.holds(inner),
    }
}

fn is_kept(inner: &str) -> bool {
    let name = inner.rsplit('/').next().unwrap_or(inner);
    !LEFT_OUT.contains(&name) && !name.ends_with(".pyc")
}

fn is_of_model(inner: &str) -> bool {
    const NAMES: [&str; 12] = [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "tokenizer.model",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "chat_template.jinja",
        "chat_template.json",
        "model.safetensors.index.json",
    ];
    !inner.contains('/') && (NAMES.contains(&inner) || inner.ends_with(".safetensors"))
}
