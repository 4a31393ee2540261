//! How much a system's answers differ from each other.
//!
//! A model that collapsed gives every customer the same text; each answer alone may look fine.

use std::collections::HashSet;

/// Returns the share of distinct word n-grams among all n-grams of all texts (Li et al. 2016); `None` without an n-gram.
///
/// Takes the words of each text, as [`super::normalise::tokens`] gives them.
pub fn distinct(words: &[Vec<String>], n: usize) -> Option<f64> {
    let all = words.iter().map(|w| w.windows(n).len()).sum::<usize>();
    let unique = words.iter().flat_map(|w| w.windows(n)).collect::<HashSet<_>>().len();
    (all > 0).then(|| unique as f64 / all as f64)
}

/// Returns the share of distinct texts; `None` without a text.
pub fn unique_fraction(texts: &[&str]) -> Option<f64> {
    (!texts.is_empty()).then(|| texts.iter().collect::<HashSet<_>>().len() as f64 / texts.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::normalise::tokens;
    use crate::metrics::reference;

    #[test]
    fn diversity_equals_the_reference() {
        let Some(all) = reference::load() else { return };
        let block = &all["corpus"]["diversity"];
        let owned = reference::list(block, "/texts");
        if owned.is_empty() {
            return;
        }
        let texts: Vec<&str> = owned.iter().map(|t| t.as_str().unwrap()).collect();
        let tolerance = reference::tolerance(&all, "fractions");
        let words: Vec<Vec<String>> = texts.iter().map(|text| tokens(text)).collect();
        for n in 1..=3 {
            reference::assert_close(distinct(&words, n), &block[format!("distinct_{n}")], tolerance, "distinct");
        }
        reference::assert_close(unique_fraction(&texts), &block["unique_fraction"], tolerance, "unique_fraction");
    }

    #[test]
    fn equal_texts_are_not_diverse() {
        assert_eq!(unique_fraction(&["a", "a"]), Some(0.5));
        assert_eq!(distinct(&[tokens("a b"), tokens("a b")], 2), Some(0.5));
        assert_eq!(distinct(&[tokens("a")], 2), None);
    }
}
