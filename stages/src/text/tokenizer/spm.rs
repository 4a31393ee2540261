//! SentencePiece as LLaMA 1 and 2 use it: pairs merge by highest score, unknown characters fall back to bytes.
//!
//! Follows llama.cpp `src/llama-vocab.cpp` (`llm_tokenizer_spm`), whose 47 cases the tests run: spaces become U+2581, one is
//! put before non-empty text, and of two pairs of equal score the left one merges first.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

/// Stands for a space inside a piece.
const SPACE: char = '\u{2581}';

/// `tokenizer.ggml.token_type` of byte pieces `<0x0A>`.
const BYTE: i32 = 6;

/// A vocabulary of scored pieces.
#[derive(Debug, Clone)]
pub struct Spm {
    ids: HashMap<String, u32>,
    pieces: Vec<String>,
    scores: Vec<f32>,
    bytes: Vec<Option<u32>>,
    byte_of: HashMap<u32, u8>,
    unknown: u32,
    prefix_space: bool,
}

impl Spm {
    /// Builds the vocabulary; `kinds` are GGUF token types, empty when the file has none.
    pub fn new(pieces: Vec<String>, scores: Vec<f32>, kinds: &[i32], unknown: u32, prefix_space: bool) -> Spm {
        let mut spm = Spm {
            ids: HashMap::with_capacity(pieces.len()),
            scores,
            bytes: vec![None; 256],
            byte_of: HashMap::new(),
            unknown,
            prefix_space,
            pieces,
        };
        for (id, piece) in (0u32..).zip(&spm.pieces) {
            let is_byte = kinds.get(id as usize).is_none_or(|&kind| kind == BYTE);
            match byte_of(piece).filter(|_| is_byte) {
                Some(byte) => {
                    spm.bytes[usize::from(byte)] = Some(id);
                    spm.byte_of.insert(id, byte);
                }
                None => {
                    spm.ids.entry(piece.clone()).or_insert(id);
                }
            }
        }
        spm
    }

    /// Returns the ids of `text`; `at_start` says that a text begins here, so that a space is put before it.
    pub fn encode(&self, text: &str, at_start: bool) -> Vec<u32> {
        if text.is_empty() {
            return Vec::new();
        }
        let prefix = if at_start && self.prefix_space { " " } else { "" };
        let text: String = prefix.chars().chain(text.chars()).map(|c| if c == ' ' { SPACE } else { c }).collect();
        Merge::new(self, &text).run().iter().flat_map(|piece| self.ids_of(piece)).collect()
    }

    /// Returns the bytes of the pieces `ids`.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut bytes = Vec::new();
        for id in ids {
            match self.byte_of.get(id) {
                Some(byte) => bytes.push(*byte),
                None => {
                    bytes.extend(self.piece(*id).replace(SPACE, " ").bytes());
                }
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let cut = if self.prefix_space { text.strip_prefix(' ') } else { None };
        cut.unwrap_or(&text).to_string()
    }

    /// Returns the piece of an id; empty when there is none.
    pub fn piece(&self, id: u32) -> &str {
        self.pieces.get(id as usize).map_or("", String::as_str)
    }

    fn score_of(&self, piece: &str) -> Option<f32> {
        self.ids.get(piece).map(|&id| self.scores.get(id as usize).copied().unwrap_or(0.0))
    }

    fn ids_of(&self, piece: &str) -> Vec<u32> {
        match self.ids.get(piece) {
            Some(id) => vec![*id],
            None => piece.bytes().map(|byte| self.bytes[usize::from(byte)].unwrap_or(self.unknown)).collect(),
        }
    }
}

fn byte_of(piece: &str) -> Option<u8> {
    let hex = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    (hex.len() == 2).then(|| u8::from_str_radix(hex, 16).ok()).flatten()
}

/// A pair of neighbours that may merge.
#[derive(Debug, PartialEq)]
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Bytes of both when the pair was found; a pair whose symbols grew since is stale.
    len: usize,
}

impl Eq for Pair {}

impl Ord for Pair {
    fn cmp(&self, other: &Pair) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Pair) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A run of the text that is one symbol now; an empty one was merged into its left neighbour.
struct Symbol {
    start: usize,
    len: usize,
    before: Option<usize>,
    after: Option<usize>,
}

/// The merging of one text.
struct Merge<'a> {
    spm: &'a Spm,
    text: &'a str,
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Pair>,
}

impl<'a> Merge<'a> {
    fn new(spm: &'a Spm, text: &'a str) -> Merge<'a> {
        let count = text.chars().count();
        let symbol = |(i, (start, c)): (usize, (usize, char))| Symbol {
            start,
            len: c.len_utf8(),
            before: i.checked_sub(1),
            after: Some(i + 1).filter(|&next| next < count),
        };
        let symbols = text.char_indices().enumerate().map(symbol).collect();
        Merge { spm, text, symbols, queue: BinaryHeap::new() }
    }

    fn run(mut self) -> Vec<&'a str> {
        for left in 0..self.symbols.len() {
            self.offer(Some(left), self.symbols[left].after);
        }
        while let Some(pair) = self.queue.pop() {
            self.merge(&pair);
        }
        self.symbols.iter().filter(|s| s.len > 0).map(|s| &self.text[s.start..s.start + s.len]).collect()
    }

    fn offer(&mut self, left: Option<usize>, right: Option<usize>) {
        let (Some(left), Some(right)) = (left, right) else { return };
        let (start, len) = (self.symbols[left].start, self.symbols[left].len + self.symbols[right].len);
        if let Some(score) = self.spm.score_of(&self.text[start..start + len]) {
            self.queue.push(Pair { score, left, right, len });
        }
    }

    fn merge(&mut self, pair: &Pair) {
        let (left, right) = (&self.symbols[pair.left], &self.symbols[pair.right]);
        if left.len == 0 || right.len == 0 || left.len + right.len != pair.len {
            return;
        }
        let after = right.after;
        self.symbols[pair.right].len = 0;
        self.symbols[pair.left].len = pair.len;
        self.symbols[pair.left].after = after;
        if let Some(after) = after {
            self.symbols[after].before = Some(pair.left);
        }
        self.offer(self.symbols[pair.left].before, Some(pair.left));
        self.offer(Some(pair.left), after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Spm {
        let pieces = ["<unk>", "<0x0A>", "▁", "a", "b", "ab", "▁ab"].map(String::from).to_vec();
        Spm::new(pieces, vec![0.0, 0.0, -4.0, -3.0, -3.0, -1.0, -2.0], &[2, 6, 1, 1, 1, 1, 1], 0, true)
    }

    #[test]
    fn a_continuation_has_no_space_before_it() {
        assert_eq!(tiny().encode("ab", true), [6]);
        assert_eq!(tiny().encode("ab", false), [5]);
    }

    #[test]
    fn unknown_characters_fall_back_to_bytes_or_to_unknown() {
        assert_eq!(tiny().encode("a\nz", false), [3, 1, 0]);
        assert_eq!(tiny().decode(&[6, 1, 3]), "ab\na");
    }
}
