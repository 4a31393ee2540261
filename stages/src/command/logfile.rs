//! What a child prints, in one file for both streams, followed while it grows.
//!
//! A file instead of pipes: no thread has to read, nothing blocks when the child prints much, and its grandchildren cannot
//! keep the stage waiting by holding a pipe open.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use watershed_engine::{Job, StageError};

/// Lines kept for an error.
const KEPT: usize = 50;

/// Characters of a line that are kept.
const LONGEST_LINE: usize = 2000;

/// Lines that reach the stage's log; the rest is counted.
const MOST_LINES: u64 = 20_000;

/// The file, and how far it was read.
#[derive(Debug)]
pub struct LogFile {
    reader: File,
    writer: File,
    half_line: Vec<u8>,
    lines: u64,
    last: VecDeque<String>,
}

impl LogFile {
    /// Creates the file.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &Path) -> Result<LogFile, StageError> {
        let fail = |e| StageError::io("write", path, &e);
        let writer = File::options().create_new(true).append(true).open(path).map_err(fail)?;
        let reader = File::open(path).map_err(fail)?;
        Ok(LogFile { reader, writer, half_line: Vec::new(), lines: 0, last: VecDeque::new() })
    }

    /// Returns an end for the child to print to.
    ///
    /// # Errors
    /// When there are too many open files.
    pub fn stdio(&self) -> Result<Stdio, StageError> {
        let file = self.writer.try_clone();
        file.map(Stdio::from).map_err(|e| StageError::Environment(format!("cannot open the command's log: {e}")))
    }

    /// Passes on the lines that were completed since the last call.
    pub fn follow(&mut self, job: &Job) {
        let mut chunk = [0; 16 << 10];
        // An error of reading ends the following, not the stage: the lines are help, not data.
        while let Ok(read @ 1..) = self.reader.read(&mut chunk) {
            for piece in chunk[..read].split_inclusive(|byte| *byte == b'\n') {
                let room = (4 * LONGEST_LINE).saturating_sub(self.half_line.len());
                self.half_line.extend(&piece[..piece.len().min(room)]);
                if piece.ends_with(b"\n") {
                    self.pass_on(job);
                }
            }
        }
    }

    /// Passes on what is left, a last line without its end included.
    pub fn finish(&mut self, job: &Job) {
        self.follow(job);
        if !self.half_line.is_empty() {
            self.pass_on(job);
        }
        if self.lines > MOST_LINES {
            job.log(format!("… and {} more lines", self.lines - MOST_LINES));
        }
    }

    /// Returns the last `n` lines.
    pub fn last(&self, n: usize) -> Vec<&str> {
        self.last.iter().skip(self.last.len().saturating_sub(n)).map(String::as_str).collect()
    }

    fn pass_on(&mut self, job: &Job) {
        let bytes = std::mem::take(&mut self.half_line);
        let line: String = String::from_utf8_lossy(&bytes).trim_end().chars().take(LONGEST_LINE).collect();
        self.lines += 1;
        if self.lines <= MOST_LINES {
            job.log(line.clone());
        }
        self.last.push_back(line);
        if self.last.len() > KEPT {
            self.last.pop_front();
        }
    }
}
