//! The fuzz targets' entries under mutations of their corpora: seeded, so that a failure is the same each time.
//!
//! Each input that panics or takes too long is printed with its number. `WATERSHED_CAMPAIGN=full` tries 25 times as many.

#[path = "../../fuzz/entries.rs"]
mod entries;

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::project::files;

/// Longest that one input may take. Measured: below 5 ms; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(3);

/// Inputs of each entry in a plain run, and how many times as many in the full campaign.
const TRIES: (usize, usize) = (4000, 25);

/// What the languages of the four entries are made of.
const WORDS: [&str; 36] = [
    "${params.a}",
    "${",
    "$${",
    "}",
    "${env.E}",
    "${params.params}",
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "\n",
    "  ",
    "\t",
    "&a ",
    "*a",
    "<<: *a\n",
    "\"",
    "'",
    "null",
    "-0",
    "1e999",
    "99999999999999999999",
    "0x1F",
    "@*",
    "@s/c",
    "../",
    "hf:",
    "https://",
    "#sha256=",
    "\u{feff}",
    "\u{202e}",
    "\0",
    ",",
    "\"record_version\":2",
];

/// A linear congruential generator (Knuth's MMIX constants), its high bits taken.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders: &[PathBuf] = &[root.join("fuzz/corpus").join(name), root.join("tests/diagnostics")];
    let folders = if name == "yaml" { folders } else { &folders[..1] };
    let all: Vec<Vec<u8>> = folders.iter().flat_map(|f| files(f)).map(|path| std::fs::read(path).unwrap()).collect();
    assert!(all.len() >= 2, "no corpus for {name}");
    all
}

/// Changes a text a few times: a byte flipped, a part taken out, doubled or moved in from another text, a word put in.
fn mutated(corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut text = corpus[dice.below(corpus.len())].clone();
    for _ in 0..=dice.below(6) {
        let (from, length) = (dice.below(text.len() + 1), dice.below(40));
        let part = from..(from + length).min(text.len());
        let piece: Vec<u8> = match dice.below(5) {
            0 => text[part.clone()].iter().map(|byte| byte ^ (1 << dice.below(8))).collect(),
            1 => Vec::new(),
            2 => text[part.clone()].repeat(2 + dice.below(20)),
            3 => {
                let other = &corpus[dice.below(corpus.len())];
                let start = dice.below(other.len());
                other[start..(start + length).min(other.len())].to_vec()
            }
            _ => [&text[part.clone()], WORDS[dice.below(WORDS.len())].as_bytes()].concat(),
        };
        text.splice(part, piece);
    }
    text
}

fn try_all(name: &str, entry: fn(&[u8])) {
    let corpus = corpus(name);
    let is_full = std::env::var("WATERSHED_CAMPAIGN").is_ok_and(|value| value == "full");
    let tries = TRIES.0 * if is_full { TRIES.1 } else { 1 };
    let mut dice = Dice(name.len() as u64);
    for number in 0..corpus.len() + tries {
        let bytes = corpus.get(number).cloned().unwrap_or_else(|| mutated(&corpus, &mut dice));
        let begun = Instant::now();
        let ended = catch_unwind(|| entry(&bytes));
        let took = begun.elapsed();
        let is_fine = ended.is_ok() && took < PATIENCE;
        assert!(is_fine, "{name} {number}, after {took:?}: {:?}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn no_pipeline_breaks_the_language() {
    try_all("yaml", entries::yaml);
}

#[test]
fn no_text_breaks_the_references_in_it() {
    try_all("interpolation", entries::interpolation);
}

#[test]
fn no_bytes_break_the_reading_of_records() {
    try_all("record", entries::record);
}

#[test]
fn no_bytes_break_the_reading_of_run_logs() {
    try_all("run_log", entries::run_log);
}
