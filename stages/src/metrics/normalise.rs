//! The one normal form of text that every text metric and every title is compared in.
//!
//! Two writings of a product must meet (`Black &amp; Decker`, a zero-width space, a full-width digit), while nothing that
//! tells products apart may vanish: digits and accents stay, and words are never stemmed.

use unicode_general_category::{GeneralCategory as Category, get_general_category};
use unicode_normalization::UnicodeNormalization;

use crate::html;

/// Returns the normal form: HTML references read twice, NFKC, format characters dropped, lower case.
pub fn norm(text: &str) -> String {
    let once = html::unescape(text);
    let twice = html::unescape(&once);
    if twice.is_ascii() {
        // Nothing to compose and no format characters: the same result in a tenth of the time.
        return twice.to_ascii_lowercase();
    }
    twice.nfkc().filter(|&c| get_general_category(c) != Category::Format).collect::<String>().to_lowercase()
}

/// Returns the words of `text` in normal form: maximal runs of letters and numbers (general categories L and N).
pub fn tokens(text: &str) -> Vec<String> {
    words(&norm(text)).map(str::to_string).collect()
}

/// Returns the maximal runs of letters and numbers of a text that is in normal form already.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_word(c)).filter(|word| !word.is_empty())
}

/// Says whether a character is a letter or a number.
pub fn is_word(c: char) -> bool {
    use Category::*;
    if c.is_ascii() {
        return c.is_ascii_alphanumeric();
    }
    matches!(
        get_general_category(c),
        UppercaseLetter
            | LowercaseLetter
            | TitlecaseLetter
            | ModifierLetter
            | OtherLetter
            | DecimalNumber
            | LetterNumber
            | OtherNumber
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::reference;

    #[test]
    fn normal_forms_and_words_equal_the_reference() {
        let Some(all) = reference::load() else { return };
        for case in reference::list(&all, "/grounding/norm") {
            let raw = case["raw"].as_str().unwrap();
            assert_eq!(norm(raw), case["norm"].as_str().unwrap(), "norm of {raw:?}");
            let words: Vec<&str> = case["tokens"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
            assert_eq!(tokens(raw), words, "words of {raw:?}");
        }
        for case in reference::list(&all, "/text_pairs").iter().filter(|c| c["tokens"].is_array()) {
            let words: Vec<&str> = case["tokens"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
            assert_eq!(tokens(case["hyp"].as_str().unwrap()), words);
        }
    }
}
