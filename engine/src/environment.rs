//! The process's environment, and a note of what was read of it: a compiled plan asks the same again.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::Mutex;

use watershed_cache::Digest;

static NOTED: Mutex<BTreeMap<String, Option<String>>> = Mutex::new(BTreeMap::new());

/// Variables that were read, with the digests of what they held, which may be secret; `None` for those that were not set.
pub type Noted = BTreeMap<String, Option<String>>;

/// Reads a variable and notes it. Values that are not Unicode count as not set.
pub fn read(name: &str) -> Option<String> {
    read_os(name)?.into_string().ok()
}

/// Reads a variable as the system holds it and notes it.
pub fn read_os(name: &str) -> Option<OsString> {
    let value = std::env::var_os(name);
    let digest = value.as_deref().map(digest);
    NOTED.lock().expect("no thread panics while it holds this lock").insert(name.into(), digest);
    value
}

/// Returns what this process has read so far.
pub fn noted() -> Noted {
    NOTED.lock().expect("no thread panics while it holds this lock").clone()
}

/// Says whether all variables hold what they held.
pub fn is_as(noted: &Noted) -> bool {
    noted.iter().all(|(name, old)| std::env::var_os(name).as_deref().map(digest) == *old)
}

fn digest(value: &OsStr) -> String {
    Digest::in_context("watershed 2026-11-24 environment", value.as_bytes()).hex()
}
