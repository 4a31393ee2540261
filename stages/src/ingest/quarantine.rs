//! Rows that could not be read, kept with their reasons, and the limit on how many a stage bears.

use std::path::{Path, PathBuf};

use serde::Serialize;
use watershed_engine::StageError;

use super::source::Break;
use crate::amount::Amount;

/// Characters of a bad row that are kept.
const KEPT_CHARS: usize = 200;
/// Reasons that an error quotes.
const QUOTED: usize = 3;

/// One row that could not be read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BadRow {
    /// Label of the input.
    pub file: String,
    /// Line in the unpacked file, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
    /// How it begins.
    pub text: String,
}

/// The bad rows of one file, and a count of all of them.
pub struct Quarantine {
    label: String,
    path: PathBuf,
    /// Rows looked at, good and bad.
    pub rows: u64,
    /// The bad ones.
    pub bad: Vec<BadRow>,
    broken: Option<Break>,
}

impl Quarantine {
    /// Starts with nothing for one file.
    pub fn new(label: &str, path: &Path) -> Quarantine {
        Quarantine { label: label.into(), path: path.into(), rows: 0, bad: Vec::new(), broken: None }
    }

    /// Returns how many rows were good.
    pub fn good(&self) -> u64 {
        self.rows - self.bad.len() as u64
    }

    /// Keeps a bad row.
    pub fn add(&mut self, line: u64, reason: impl Into<String>, text: &str) {
        let text = text.chars().take(KEPT_CHARS).collect();
        self.bad.push(BadRow { file: self.label.clone(), line, reason: reason.into(), text });
    }

    /// Keeps the tail of a file that breaks off: one bad row, behind which an unknown number are lost.
    pub fn add_break(&mut self, line: u64, found: Break) {
        self.rows += 1;
        self.add(line, format!("{} at byte {}", found.reason, found.offset), &found.text);
        self.broken = Some(found);
    }

    /// Ends the stage when there are more bad rows than it bears.
    ///
    /// A file that breaks off exceeds every percentage, for nobody knows of how many rows; a count is the user's word that
    /// the rest shall do.
    ///
    /// # Errors
    /// Names the file, the numbers, and the first reasons.
    pub fn enforce(&self, max_bad: Amount) -> Result<(), StageError> {
        let bad = self.bad.len() as u64;
        match (&self.broken, max_bad) {
            (Some(found), Amount::Percent(_)) => Err(self.broken_error(found)),
            _ if max_bad.is_exceeded_by(bad, self.rows) => Err(self.too_many(bad, max_bad)),
            _ => Ok(()),
        }
    }

    fn broken_error(&self, found: &Break) -> StageError {
        StageError::failed(format!(
            "`{}`: {} at byte {}, after {} whole rows; nobody knows how many are lost: fetch the file again, or write \
             `max_bad: {}` to go on with these",
            self.path.display(),
            found.reason,
            found.offset,
            self.good(),
            self.bad.len()
        ))
    }

    fn too_many(&self, bad: u64, max_bad: Amount) -> StageError {
        let reasons: Vec<String> =
            self.bad.iter().take(QUOTED).map(|b| format!("line {}: {}", b.line, b.reason)).collect();
        StageError::failed(format!(
            "`{}`: {bad} of {} rows cannot be read, more than `max_bad: {max_bad}` allows ({}{}); mend the rows or raise \
             `max_bad`",
            self.path.display(),
            self.rows,
            reasons.join("; "),
            if bad as usize > QUOTED { "; …" } else { "" }
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_bad(rows: u64, bad: u64) -> Quarantine {
        let mut quarantine = Quarantine::new("reviews", Path::new("reviews.json"));
        quarantine.rows = rows;
        (0..bad).for_each(|line| quarantine.add(line + 1, "not JSON", "{"));
        quarantine
    }

    #[test]
    fn one_percent_bears_two_of_two_hundred_and_not_three() {
        assert!(with_bad(200, 2).enforce(Amount::Percent(1.0)).is_ok());
        let error = with_bad(200, 5).enforce(Amount::Percent(1.0)).unwrap_err().to_string();
        assert!(
            error.contains("5 of 200 rows") && error.contains("line 1: not JSON") && error.contains('…'),
            "{error}"
        );
    }

    #[test]
    fn a_broken_file_exceeds_every_percentage_but_not_a_count() {
        let mut quarantine = with_bad(1000, 0);
        quarantine.add_break(1001, Break { offset: 77, reason: "ends".into(), text: "{".into() });
        let error = quarantine.enforce(Amount::Percent(100.0)).unwrap_err().to_string();
        assert!(
            error.contains("byte 77") && error.contains("1000 whole rows") && error.contains("`max_bad: 1`"),
            "{error}"
        );
        assert!(quarantine.enforce(Amount::Rows(1)).is_ok());
        assert!(quarantine.enforce(Amount::Rows(0)).is_err());
    }

    #[test]
    fn only_the_start_of_a_bad_row_is_kept() {
        let mut quarantine = with_bad(1, 0);
        quarantine.add(1, "long", &"é".repeat(5000));
        assert_eq!(quarantine.bad[0].text.chars().count(), KEPT_CHARS);
    }
}
