//! The sealed environment of a command: what kinds.md lists, and nothing else.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use watershed_engine::fault::ParamFault;
use watershed_engine::{Job, StageError};

use super::places::Places;
use super::room::Room;
use super::{Command, CommandRun};

/// Variables by which libraries choose their number of threads.
const THREADS: [&str; 6] = [
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
];

/// Returns what is wrong with `env`.
pub fn check(env: &BTreeMap<String, Value>) -> Vec<ParamFault> {
    let fault =
        |name: &str, what: &str, help: &str| ParamFault::new(format!("env.{name}"), format!("`{name}` {what}"), help);
    let mut faults = Vec::new();
    for (name, value) in env {
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !plain || name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            faults.push(fault(name, "is no name for a variable", "letters, digits and `_`, not a digit first"));
        } else if name.starts_with("IN_") || name.starts_with("OUT_") || name == "WATERSHED_SEED" {
            faults.push(fault(name, "is set by the engine", "choose another name"));
        }
        if text_of(value).is_none() {
            faults.push(fault(name, "is neither text, number nor boolean", "write it as one text"));
        }
    }
    faults
}

/// Clears the environment of `process` and sets what belongs in it; what `env` declares comes last and wins.
///
/// # Errors
/// When a variable of `pass_env` is not set.
pub fn seal(
    process: &mut Process,
    command: &Command,
    run: &CommandRun,
    room: &Room,
    places: &Places,
    job: &Job,
) -> Result<(), StageError> {
    let limits = &job.spec().limits;
    let gpus: Vec<String> = limits.gpus.iter().map(u32::to_string).collect();
    process.env_clear();
    process
        .env("PATH", path(run, &job.spec().folder, std::env::var_os("PATH")))
        .env("HOME", &room.home)
        .env("TMPDIR", &room.home)
        .env("LANG", "C.UTF-8");
    process.env("WATERSHED_SEED", job.seed().to_string()).env("PYTHONDONTWRITEBYTECODE", "1");
    process.env("CUDA_VISIBLE_DEVICES", gpus.join(","));
    process.envs(THREADS.map(|name| (name, limits.cpus.to_string())));
    process.envs(places.inputs.iter().map(|(name, path)| (variable("IN", name), path)));
    process.envs(places.outputs.iter().map(|(name, path)| (variable("OUT", name), path)));
    for name in &run.pass_env {
        let value = std::env::var_os(name).ok_or_else(|| {
            StageError::failed(format!("`run.pass_env` names `{name}`, which is not set here: export it"))
        })?;
        process.env(name, value);
    }
    process.envs(command.env.iter().filter_map(|(name, value)| Some((name, text_of(value)?))));
    Ok(())
}

/// Returns the variable that holds a port's path; characters that a shell cannot name become `_`.
pub fn variable(kind: &str, port: &str) -> String {
    let port: String = port.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("{kind}_{port}")
}

/// Returns the user's PATH, `inherited`, with `run.path` before it. `folder` is where relative entries begin; an entry with `:`
/// in it is several, as in any PATH.
pub fn path(run: &CommandRun, folder: &Path, inherited: Option<OsString>) -> OsString {
    let inherited = inherited.unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let own = run.path.iter().flat_map(|entry| entry.split(':')).map(|entry| tidy(&folder.join(entry)));
    let mut path: Vec<OsString> = own.map(OsString::from).collect();
    path.push(inherited);
    path.join(OsStr::new(":"))
}

/// Leaves out `.` in a path, for messages of programs that print where they lie.
fn tidy(path: &Path) -> PathBuf {
    path.components().collect()
}

/// Reads the variables: numbers and booleans become the texts that the child sees, so that `1` and `1.0` differ in the key too.
///
/// # Errors
/// When there is no map.
pub fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Value>, D::Error> {
    let map: BTreeMap<String, Value> = BTreeMap::deserialize(from)?;
    let text = |value: Value| text_of(&value).map_or(value, Value::String);
    Ok(map.into_iter().map(|(name, value)| (name, text(value))).collect())
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
