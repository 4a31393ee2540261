//! Chooses the next token from logits, with the penalties, bans and cuts of transformers in its order.

use std::cmp::Ordering;
use std::collections::HashSet;

use crate::draw::Draws;
use crate::{Error, GenerateConfig, Prompt, Result};

/// Tokens that are sorted before it is looked whether they reach `top_p`.
const FIRST_HEAD: usize = 128;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// The likeliest.
    Greedy,
    /// A draw, after these cuts in this order (transformers' order).
    Sample {
        /// Divides the logits; above 0.
        temperature: f64,
        /// Keeps the k likeliest; 0 keeps all.
        top_k: usize,
        /// Keeps the likeliest that together reach this probability; 1 keeps all.
        top_p: f64,
        /// Drops what is less likely than this times the likeliest; 0 keeps all.
        min_p: f64,
    },
    /// The likeliest sequence, by mean log-probability, that a search with so many beams finds.
    Beam {
        /// Sequences kept at each step; above 0.
        beams: usize,
    },
}

impl Mode {
    /// Checks the ranges.
    pub(crate) fn check(self) -> Result<()> {
        if self == (Mode::Beam { beams: 0 }) {
            return Err(Error::Input("beam search needs at least one beam".to_owned()));
        }
        let Mode::Sample { temperature, top_p, min_p, .. } = self else { return Ok(()) };
        if temperature > 0.0 && temperature.is_finite() && top_p > 0.0 && top_p <= 1.0 && (0.0..=1.0).contains(&min_p) {
            return Ok(());
        }
        Err(Error::Input(format!(
            "sampling needs `temperature` above 0, `top_p` in (0, 1] and `min_p` in [0, 1], not {temperature}, {top_p} and {min_p}"
        )))
    }
}

/// Returns the next token after `written` (prompt and answer); changes `logits` on the way.
pub(crate) fn pick(
    logits: &mut [f32],
    written: &[u32],
    prompt: &Prompt,
    config: &GenerateConfig,
    draws: &mut Draws,
) -> u32 {
    restrain(logits, written, prompt, config);
    match config.mode {
        Mode::Greedy | Mode::Beam { .. } => likeliest(logits),
        Mode::Sample { temperature, top_k, top_p, min_p } => {
            let kept = cut_small(cut_tail(candidates(logits, temperature, top_k, top_p), top_p), min_p);
            draw(&kept, draws.uniform())
        }
    }
}

/// Applies the penalty and the bans to the scores of the next token after `written`.
pub(crate) fn restrain(scores: &mut [f32], written: &[u32], prompt: &Prompt, config: &GenerateConfig) {
    penalise(scores, written, config.repetition_penalty as f32);
    for token in completions(written, written, config.no_repeat_ngram) {
        scores[token as usize] = f32::NEG_INFINITY;
    }
    for token in completions(&prompt.input, written, config.input_no_repeat_ngram) {
        scores[token as usize] = f32::NEG_INFINITY;
    }
}

/// Makes every token seen before less likely (Keskar et al. 2019; transformers `RepetitionPenaltyLogitsProcessor`).
fn penalise(logits: &mut [f32], written: &[u32], penalty: f32) {
    if penalty == 1.0 {
        return;
    }
    for token in written.iter().collect::<HashSet<_>>() {
        let logit = &mut logits[*token as usize];
        *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
    }
}

/// Returns the tokens that would complete an n-gram of `text` at the end of `written`.
fn completions<'a>(text: &'a [u32], written: &'a [u32], n: usize) -> impl Iterator<Item = u32> + 'a {
    let is_on = n > 0 && written.len() + 1 >= n;
    let begun = if is_on { &written[written.len() + 1 - n..] } else { &[] };
    let windows = if is_on { text } else { &[] }.windows(n.max(1));
    windows.filter(move |gram| gram[..n - 1] == *begun).map(move |gram| gram[n - 1])
}

/// Returns the first of the largest.
fn likeliest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

/// Returns tokens and probabilities, likeliest first and lower ids first among equals: those that `top_k` keeps, and of
/// these at least the head that reaches `top_p`. Sorting a whole vocabulary costs more than a small model's forward pass.
fn candidates(logits: &[f32], temperature: f64, top_k: usize, top_p: f64) -> Vec<(u32, f64)> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let finite = logits.iter().enumerate().filter(|(_, logit)| **logit > f32::NEG_INFINITY);
    let weigh = |(token, logit): (usize, &f32)| (token as u32, (f64::from(*logit - largest) / temperature).exp());
    let mut all: Vec<(u32, f64)> = finite.map(weigh).collect();
    if top_k > 0 && top_k < all.len() {
        all.select_nth_unstable_by(top_k - 1, likelier);
        all.truncate(top_k);
        all.sort_unstable_by(likelier);
    }
    let sum: f64 = all.iter().map(|(_, weight)| weight).sum();
    all.iter_mut().for_each(|(_, weight)| *weight /= sum);
    sort_head(all, top_p)
}

/// Orders by probability, then by id.
fn likelier(a: &(u32, f64), b: &(u32, f64)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Sorts the likeliest tokens and drops the others, as soon as those reach `top_p`.
fn sort_head(mut all: Vec<(u32, f64)>, top_p: f64) -> Vec<(u32, f64)> {
    let mut size = FIRST_HEAD;
    while size < all.len() {
        all.select_nth_unstable_by(size - 1, likelier);
        if all[..size].iter().map(|(_, probability)| probability).sum::<f64>() > top_p {
            all.truncate(size);
        }
        size *= 8;
    }
    all.sort_unstable_by(likelier);
    all
}

/// Keeps the smallest head that reaches `top_p`.
fn cut_tail(mut sorted: Vec<(u32, f64)>, top_p: f64) -> Vec<(u32, f64)> {
    let mut sum = 0.0;
    let reached = sorted.iter().position(|(_, probability)| {
        sum += probability;
        sum >= top_p
    });
    sorted.truncate(reached.map_or(sorted.len(), |last| last + 1));
    sorted
}

fn cut_small(mut sorted: Vec<(u32, f64)>, min_p: f64) -> Vec<(u32, f64)> {
    let floor = sorted.first().map_or(0.0, |first| first.1 * min_p);
    sorted.retain(|(_, probability)| *probability >= floor);
    sorted
}

fn draw(sorted: &[(u32, f64)], uniform: f64) -> u32 {
    let mut left = uniform * sorted.iter().map(|(_, probability)| probability).sum::<f64>();
    for (token, probability) in sorted {
        left -= probability;
        if left < 0.0 {
            return *token;
        }
    }
    sorted.last().map_or(0, |(token, _)| *token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ngrams_are_completed_only_after_their_beginning() {
        let found = |text: &[u32], written: &[u32], n| completions(text, written, n).collect::<Vec<_>>();
        assert_eq!(found(&[1, 2, 3, 1, 2, 4], &[9, 1, 2], 3), [3, 4]);
        assert!(found(&[1, 2, 3], &[2, 1], 3).is_empty());
        assert_eq!(found(&[5, 6], &[1], 1), [5, 6]);
        assert!(found(&[1, 2], &[1], 3).is_empty());
        assert!(found(&[1, 2], &[1], 0).is_empty());
    }

    #[test]
    fn cuts_keep_what_transformers_keeps() {
        let probabilities: [f32; 4] = [0.1, 0.4, 0.2, 0.3];
        let logits: Vec<f32> = probabilities.iter().map(|p| p.ln()).collect();
        let kept = |list: Vec<(u32, f64)>| list.into_iter().map(|(token, _)| token).collect::<Vec<_>>();
        assert_eq!(kept(candidates(&logits, 1.0, 3, 1.0)), [1, 3, 2]);
        assert_eq!(kept(cut_tail(candidates(&logits, 1.0, 0, 1.0), 0.65)), [1, 3]);
        assert_eq!(kept(cut_tail(candidates(&logits, 1.0, 0, 1.0), 0.01)), [1]);
        assert_eq!(kept(cut_small(candidates(&logits, 1.0, 0, 1.0), 0.45)), [1, 3, 2]);
    }

    #[test]
    fn a_sorted_head_is_the_beginning_of_the_sorted_whole() {
        // Flat enough that the head must grow, with ties.
        let logits: Vec<f32> = (0..5000u32).map(|token| ((token * 7919) % 997) as f32 * 0.004).collect();
        let whole = candidates(&logits, 1.0, 0, 1.0);
        for top_p in [0.01, 0.5, 0.9, 0.999] {
            let head = candidates(&logits, 1.0, 0, top_p);
            assert!(head.len() <= whole.len() && whole.starts_with(&head), "{top_p}");
            assert_eq!(cut_tail(head, top_p), cut_tail(whole.clone(), top_p));
        }
        assert!(candidates(&logits, 1.0, 0, 0.01).len() < whole.len());
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let sorted = [(7, 0.5), (3, 0.3), (1, 0.2)];
        assert_eq!([0.0, 0.49, 0.51, 0.79, 0.81, 0.999].map(|u| draw(&sorted, u)), [7, 7, 3, 3, 1, 1]);
    }

    #[test]
    fn impossible_cuts_are_refused() {
        let mode = |temperature, top_p, min_p| Mode::Sample { temperature, top_k: 0, top_p, min_p }.check();
        assert!(mode(0.7, 0.9, 0.0).is_ok());
        assert!(
            [mode(0.0, 0.9, 0.0), mode(1.0, 0.0, 0.0), mode(1.0, 1.0, 2.0), mode(f64::NAN, 1.0, 0.0)]
                .iter()
                .all(Result::is_err)
        );
    }
}
