//! Parroting: how much of an answer is copied from the prompt's own input, or from itself.
//!
//! A model that was tuned badly continues the customer's text instead of answering it, or repeats one phrase until it is
//! cut off. Both show as counts over words (see [`tokens`]): of the input in the answer, and of the answer in itself. Names
//! of bought products are copied with good reason, so the flag has thresholds that good answers stay below, and means are
//! to be read beside the teacher's. Fragments follow Grusky et al. 2018 (Newsroom, section 3).

use std::collections::{HashMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::normalise::tokens;

/// How one answer repeats its input. Shares are in `[0, 1]`; `None` where the answer has too few words to tell.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Parroting {
    /// Words in the answer.
    pub words: usize,
    /// Share of the answer's words that occur in the input.
    pub copy_1: Option<f64>,
    /// Share of the answer's word pairs that occur in the input.
    pub copy_2: Option<f64>,
    /// Share of the answer's runs of 4 words that occur in the input.
    pub copy_4: Option<f64>,
    /// Share of the answer's runs of 8 words that occur in the input.
    pub copy_8: Option<f64>,
    /// Length, in words, of the longest run that stands in both.
    pub longest_copied_span: usize,
    /// That length over the answer's.
    pub longest_copied_span_ratio: Option<f64>,
    /// Longest common subsequence over the answer's length (ROUGE-L precision with the input as reference).
    pub lcs_precision: Option<f64>,
    /// Share of words inside copied fragments.
    pub coverage: Option<f64>,
    /// Mean length of the copied fragment that a word stands in.
    pub density: Option<f64>,
    /// Share of the answer's words that do not occur in the input.
    pub novel_1: Option<f64>,
    /// Share of runs of 4 words that stood in the answer before: the answer is stuck in a loop.
    pub rep_4: Option<f64>,
    /// The answer begins with 8 words that stand so in the input.
    pub echo_start: bool,
}

/// When an answer counts as parroting: any of the three suffices.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Words in the longest copied run, from which on the answer is flagged.
    #[schemars(range(min = 1))]
    pub longest_copied_span: usize,
    /// Share of copied runs of 4 words, from which on the answer is flagged.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub copy_4: f64,
    /// Share of repeated runs of 4 words, from which on the answer is flagged.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub rep_4: f64,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds { longest_copied_span: 16, copy_4: 0.5, rep_4: 0.5 }
    }
}

impl Parroting {
    /// Says whether the answer parrots.
    pub fn is_parrot(&self, thresholds: &Thresholds) -> bool {
        self.longest_copied_span >= thresholds.longest_copied_span
            || self.copy_4.is_some_and(|share| share >= thresholds.copy_4)
            || self.rep_4.is_some_and(|share| share >= thresholds.rep_4)
    }
}

/// How many words at its start make an answer an echo.
const ECHO_WORDS: usize = 8;

/// Measures how `output` repeats `input`, the `input` field of its prompt alone. Takes time in `O(input x output)` words.
pub fn parroting(input: &str, output: &str) -> Parroting {
    let mut ids = HashMap::new();
    let x = intern(&tokens(input), &mut ids);
    let y = intern(&tokens(output), &mut ids);
    let over_words = |count: f64| (!y.is_empty()).then(|| count / y.len() as f64);
    let copy_1 = copied_share(&x, &y, 1);
    let fragments = fragments(&x, &y);
    let longest = longest_run(&x, &y);
    Parroting {
        words: y.len(),
        copy_1,
        copy_2: copied_share(&x, &y, 2),
        copy_4: copied_share(&x, &y, 4),
        copy_8: copied_share(&x, &y, 8),
        longest_copied_span: longest,
        longest_copied_span_ratio: over_words(longest as f64),
        lcs_precision: over_words(common_subsequence(&x, &y) as f64),
        coverage: over_words(fragments.iter().sum::<usize>() as f64),
        density: over_words(fragments.iter().map(|f| f * f).sum::<usize>() as f64),
        novel_1: copy_1.map(|share| 1.0 - share),
        rep_4: repeated_share(&y, 4),
        echo_start: y.len() >= ECHO_WORDS && x.windows(ECHO_WORDS).any(|run| run == &y[..ECHO_WORDS]),
    }
}

/// Returns the length, in words, of the longest run that stands in both texts.
pub fn longest_shared_run(a: &str, b: &str) -> usize {
    let mut ids = HashMap::new();
    longest_run(&intern(&tokens(a), &mut ids), &intern(&tokens(b), &mut ids))
}

/// Gives equal words equal numbers, so that runs compare as integers.
fn intern(words: &[String], ids: &mut HashMap<String, u32>) -> Vec<u32> {
    words
        .iter()
        .map(|word| {
            let next = ids.len() as u32;
            *ids.entry(word.clone()).or_insert(next)
        })
        .collect()
}

fn copied_share(x: &[u32], y: &[u32], n: usize) -> Option<f64> {
    let known: HashSet<&[u32]> = x.windows(n).collect();
    let runs = y.windows(n).len();
    let copied = y.windows(n).filter(|run| known.contains(run)).count();
    (runs > 0).then(|| copied as f64 / runs as f64)
}

fn repeated_share(y: &[u32], n: usize) -> Option<f64> {
    let runs = y.windows(n).len();
    let unique = y.windows(n).collect::<HashSet<_>>().len();
    (runs > 0).then(|| 1.0 - unique as f64 / runs as f64)
}

/// Returns the longest common contiguous run, by rows of the usual table; it may begin inside an earlier fragment.
fn longest_run(x: &[u32], y: &[u32]) -> usize {
    let mut row = vec![0; x.len() + 1];
    let mut longest = 0;
    for word in y {
        for (i, other) in x.iter().enumerate().rev() {
            row[i + 1] = if word == other { row[i] + 1 } else { 0 };
            longest = longest.max(row[i + 1]);
        }
    }
    longest
}

/// Returns the lengths of the copied fragments: from left to right, each the longest run that starts there.
fn fragments(x: &[u32], y: &[u32]) -> Vec<usize> {
    let mut lengths = Vec::new();
    let mut at = 0;
    while at < y.len() {
        let length = longest_run_at(x, &y[at..]);
        if length > 0 {
            lengths.push(length);
        }
        at += length.max(1);
    }
    lengths
}

fn longest_run_at(x: &[u32], y: &[u32]) -> usize {
    (0..x.len()).map(|start| x[start..].iter().zip(y).take_while(|(a, b)| a == b).count()).max().unwrap_or(0)
}

/// Returns the length of the longest common subsequence, by rows of the usual table.
fn common_subsequence(x: &[u32], y: &[u32]) -> usize {
    let mut row = vec![0; x.len() + 1];
    for word in y {
        let mut diagonal = 0;
        for (i, other) in x.iter().enumerate() {
            let above = row[i + 1];
            row[i + 1] = if word == other { diagonal + 1 } else { above.max(row[i]) };
            diagonal = above;
        }
    }
    row[x.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::reference;

    #[test]
    fn every_number_equals_the_reference() {
        let Some(all) = reference::load() else { return };
        let tolerance = reference::tolerance(&all, "fractions");
        for case in reference::list(&all, "/parroting") {
            let ours = parroting(case["input"].as_str().unwrap(), case["output"].as_str().unwrap());
            let ours = serde_json::to_value(&ours).unwrap();
            for (name, theirs) in case.as_object().unwrap() {
                let name = if name == "n_tokens" { "words" } else { name };
                if let Some(number) = ours.get(name) {
                    reference::assert_close(number.as_f64(), theirs, tolerance, name);
                }
            }
            assert_eq!(ours["words"], case["n_tokens"]);
        }
    }

    #[test]
    fn the_longest_run_may_begin_inside_an_earlier_fragment() {
        let found = parroting("a b c x b c d e f", "a b c d e f");
        assert_eq!(found.longest_copied_span, 5);
    }

    #[test]
    fn a_copy_and_a_loop_are_flagged_and_a_plain_answer_is_not() {
        let input =
            "I bought the following products: a red kettle, a blue mug and a green plate for my kitchen at home.";
        let flag = |output: &str| parroting(input, output).is_parrot(&Thresholds::default());
        assert!(flag(input));
        assert!(flag("very good very good very good very good very good very good"));
        assert!(!flag("I recommend a steel teapot because you like to drink tea."));
        assert!(!flag(""));
    }

    #[test]
    fn thresholds_are_reached_at_equality() {
        let mut found =
            Parroting { longest_copied_span: 15, copy_4: Some(0.49), rep_4: Some(0.49), ..Parroting::default() };
        assert!(!found.is_parrot(&Thresholds::default()));
        found.longest_copied_span = 16;
        assert!(found.is_parrot(&Thresholds::default()));
    }
}
