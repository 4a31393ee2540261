//! Gates that an answer must pass to become a label.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Gates; every one is off by default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Quality {
    /// Shortest answer in characters (0).
    pub min_chars: usize,
    /// Longest answer in characters (no limit).
    pub max_chars: Option<usize>,
    /// Longest run of words that the answer may copy from the prompt's input (no limit): a teacher parrots too.
    pub max_copied_words: Option<usize>,
    /// Texts that mark a refusal, compared without case, for example `as an ai language model`.
    pub refusals: Vec<String>,
}

impl Quality {
    /// Returns why `answer` to `input` fails a gate, if it does.
    pub fn fault(&self, input: &str, answer: &str) -> Option<String> {
        let chars = answer.chars().count();
        if chars < self.min_chars {
            return Some(format!("answer has {chars} characters, fewer than `quality.min_chars` {}", self.min_chars));
        }
        if let Some(max) = self.max_chars.filter(|max| chars > *max) {
            return Some(format!("answer has {chars} characters, more than `quality.max_chars` {max}"));
        }
        if let Some(max) = self.max_copied_words {
            let copied = longest_copied_run(input, answer);
            if copied > max {
                return Some(format!(
                    "answer copies {copied} words in a row, more than `quality.max_copied_words` {max}"
                ));
            }
        }
        let lower = answer.to_lowercase();
        let refusal = self.refusals.iter().find(|r| lower.contains(&r.to_lowercase()))?;
        Some(format!("answer contains the refusal `{refusal}`"))
    }
}

/// Returns the length of the longest run of words of `input` that `answer` repeats. O(words x words).
fn longest_copied_run(input: &str, answer: &str) -> usize {
    let words = |text: &str| text.to_lowercase().split_whitespace().map(str::to_string).collect::<Vec<_>>();
    let (input, answer) = (words(input), words(answer));
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, word) in input.iter().enumerate() {
        places.entry(word).or_default().push(at);
    }
    let mut longest = 0;
    let mut before: HashMap<usize, usize> = HashMap::new();
    for word in &answer {
        let mut now = HashMap::new();
        for &at in places.get(word.as_str()).into_iter().flatten() {
            let run = 1 + at.checked_sub(1).and_then(|b| before.get(&b)).copied().unwrap_or(0);
            longest = longest.max(run);
            now.insert(at, run);
        }
        before = now;
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_name_what_failed() {
        let quality = Quality {
            min_chars: 5,
            max_copied_words: Some(3),
            refusals: vec!["As an AI".into()],
            ..Quality::default()
        };
        assert!(quality.fault("", "abc").unwrap().contains("min_chars"));
        assert!(quality.fault("the red big car is", "buy THE red big car now").unwrap().contains("copies 4 words"));
        assert!(quality.fault("", "Sorry, as an ai I cannot").unwrap().contains("refusal"));
        assert_eq!(quality.fault("the red car", "buy the red bike"), None);
    }
}
