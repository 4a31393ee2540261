//! `.watershedignore`: what an input folder leaves out beside what is always left out.
//!
//! A line is a name, or a path from the folder, in which `*` stands for any characters but `/`; `#` begins a comment. That is
//! the part of `.gitignore` that people use; its negations and double stars would make "is this file in the key?" a riddle.

use std::path::Path;

/// Name of the file.
const FILE: &str = ".watershedignore";

/// The patterns of one folder.
#[derive(Debug, Default)]
pub struct Ignore(Vec<String>);

impl Ignore {
    /// Reads the patterns of a folder; a folder without the file ignores nothing.
    pub fn of(folder: &Path) -> Ignore {
        let text = std::fs::read_to_string(folder.join(FILE)).unwrap_or_default();
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim().trim_matches('/'));
        Ignore(lines.filter(|line| !line.is_empty()).map(str::to_string).collect())
    }

    /// Says whether a file or folder is left out; `inner` is its path from the folder.
    pub fn holds(&self, inner: &str) -> bool {
        let name = inner.rsplit('/').next().unwrap_or(inner);
        self.0.iter().any(|pattern| matches(pattern, if pattern.contains('/') { inner } else { name }))
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(before) else { return false };
    let reach = rest.find('/').unwrap_or(rest.len());
    (0..=reach).filter(|&at| rest.is_char_boundary(at)).any(|at| matches(after, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_with_stars_are_left_out() {
        let ignore = Ignore(["*.tmp", "build", "data/raw*.csv"].map(str::to_string).to_vec());
        for inner in ["a.tmp", "x/y.tmp", "build", "x/build", "data/raw1.csv"] {
            assert!(ignore.holds(inner), "{inner}");
        }
        for inner in ["a.tmpl", "builder", "raw1.csv", "data/raw/1.csv", "é"] {
            assert!(!ignore.holds(inner), "{inner}");
        }
    }
}
