//! The run log: one JSON line an event, appended while the run goes, never rewritten.
//!
//! Whoever writes it holds a kernel lock on it, which ends with the process: so a reader tells a run that goes on from one
//! that was killed.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::event::Event;

/// Name of the log in its run's folder.
const FILE: &str = "events.jsonl";

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// Milliseconds since the run began.
    pub t_ms: u64,
}

/// A log being written.
pub struct RunLog {
    id: String,
    begun: Instant,
    file: Mutex<File>,
    listener: Box<dyn Fn(&Entry) + Send + Sync>,
}

impl RunLog {
    /// Starts the log of a new run in a folder of runs; `listener` sees every line.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn create(runs: &Path, listener: Box<dyn Fn(&Entry) + Send + Sync>) -> std::io::Result<RunLog> {
        let (id, file) = begin(runs)?;
        // Readers hold it for an instant only. Where there are no locks, a run that goes on looks like a killed one, no more.
        let _ = file.lock();
        Ok(RunLog { id, begun: Instant::now(), file: Mutex::new(file), listener })
    }

    /// Returns the run's id: sortable by time.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns milliseconds since the run began.
    pub fn elapsed_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    /// Appends an event. A full disk must not end a run that could still publish, so failures are dropped.
    pub fn emit(&self, event: Event) {
        let entry = Entry { event, t_ms: self.elapsed_ms() };
        let mut line = serde_json::to_vec(&entry).unwrap_or_default();
        line.push(b'\n');
        let _ = self.file.lock().expect("no thread panics while it holds this lock").write_all(&line);
        (self.listener)(&entry);
    }
}

/// Makes the folder and the file of a new run, of which there may be several in one millisecond and, from containers, of one pid.
fn begin(runs: &Path) -> std::io::Result<(String, File)> {
    loop {
        let id = new_id();
        let folder = runs.join(&id);
        watershed_cache::folder::make(&folder)?;
        match File::options().create_new(true).append(true).open(folder.join(FILE)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => std::thread::sleep(Duration::from_millis(1)),
            opened => return Ok((id, opened?)),
        }
    }
}

/// Reads a log; torn and damaged lines and those of newer engines are skipped.
///
/// # Errors
/// When the file cannot be read.
pub fn read(folder: &Path) -> std::io::Result<Vec<Entry>> {
    let bytes = fs::read(folder.join(FILE))?;
    Ok(bytes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

/// Says whether the process that writes a log still lives.
pub fn is_live(folder: &Path) -> bool {
    let file = File::open(folder.join(FILE));
    file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Returns the length of a log in bytes; 0 when it is not there.
pub fn size(folder: &Path) -> u64 {
    fs::metadata(folder.join(FILE)).map_or(0, |meta| meta.len())
}

/// Returns the run folders, newest first.
pub fn list(runs: &Path) -> Vec<PathBuf> {
    let Ok(items) = fs::read_dir(runs) else { return Vec::new() };
    let mut folders: Vec<PathBuf> = items.flatten().map(|i| i.path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    folders.reverse();
    folders
}

/// Returns milliseconds since 1970 UTC.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// Returns `YYYYMMDD-HHMMSS-mmm-pid` in UTC.
fn new_id() -> String {
    let ms = now_ms();
    let (days, seconds) = ((ms / 86_400_000) as i64, ms / 1000 % 86_400);
    let (y, m, d) = civil(days);
    let (h, min, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{y:04}{m:02}{d:02}-{h:02}{min:02}{s:02}-{:03}-{:05}", ms % 1000, std::process::id())
}

/// Returns year, month and day of a day count since 1970 (Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
    }

    #[test]
    fn runs_of_one_millisecond_have_logs_of_their_own() {
        let runs = tempfile::tempdir().unwrap();
        let logs: Vec<RunLog> = (0..20).map(|_| RunLog::create(runs.path(), Box::new(|_| ())).unwrap()).collect();
        let ids: std::collections::BTreeSet<&str> = logs.iter().map(RunLog::id).collect();
        assert_eq!(ids.len(), 20);
    }

    #[test]
    fn a_torn_last_line_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let whole = r#"{"event":"log","stage":"a","case":null,"level":"info","text":"x","t_ms":1}"#;
        fs::write(folder.path().join("events.jsonl"), format!("{whole}\n{{\"event\":\"lo")).unwrap();
        assert_eq!(read(folder.path()).unwrap().len(), 1);
    }
}
