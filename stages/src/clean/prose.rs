//! Plain text: white space, missing words, and cutting at a sensible place.

use std::borrow::Cow;

use unicode_general_category::{GeneralCategory, get_general_category};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// What programs write for nothing.
const MISSING: [&str; 7] = ["nan", "none", "null", "n/a", "unknown", "undefined", "(null)"];

/// Turns controls and every kind of space into single spaces, removes invisible characters, and trims.
pub fn mend_whitespace(text: &str) -> Cow<'_, str> {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let is_space = c.is_whitespace() || c.is_control();
        if is_space {
            if !out.is_empty() && !out.ends_with(' ') {
                out.push(' ');
            }
        } else if c.is_ascii() || get_general_category(c) != GeneralCategory::Format {
            out.push(c);
        }
    }
    out.truncate(out.trim_end().len());
    if out == text { Cow::Borrowed(text) } else { Cow::Owned(out) }
}

/// Composes characters and their accents (Unicode NFC).
pub fn compose(text: &str) -> Cow<'_, str> {
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => Cow::Borrowed(text),
        _ => Cow::Owned(text.nfc().collect()),
    }
}

/// Empties a field that only says that there is nothing.
pub fn drop_missing_word(text: &str) -> Cow<'_, str> {
    let is_missing = text.len() <= 10 && MISSING.contains(&text.trim().to_ascii_lowercase().as_str());
    if is_missing { Cow::Borrowed("") } else { Cow::Borrowed(text) }
}

/// Says whether UTF-8 was read as windows-1252 somewhere on the way (`â€™` for an apostrophe).
pub fn is_mojibake(text: &str) -> bool {
    text.contains("â€") || text.contains("Ã©") || text.contains("Ã¨") || text.contains("Â\u{a0}")
}

/// Cuts to at most `max` characters, after a word.
pub fn cut_at_word(text: &str, max: usize) -> Cow<'_, str> {
    let Some((end, next)) = text.char_indices().nth(max) else { return Cow::Borrowed(text) };
    let head = &text[..end];
    let head = if next.is_whitespace() { head } else { head.rfind(char::is_whitespace).map_or(head, |at| &head[..at]) };
    Cow::Borrowed(head.trim_end_matches(|c: char| c.is_whitespace() || matches!(c, ',' | '-' | ';' | ':' | '(')))
}

/// Cuts to at most `max` characters, after a sentence if one ends in the second half, else after a word.
pub fn cut_at_sentence(text: &str, max: usize) -> Cow<'_, str> {
    let Some((end, _)) = text.char_indices().nth(max) else { return Cow::Borrowed(text) };
    let head = &text[..end];
    let mut ends = head.char_indices().filter(|(at, c)| {
        matches!(c, '.' | '!' | '?') && text[at + c.len_utf8()..].chars().next().is_none_or(char::is_whitespace)
    });
    match ends.next_back() {
        Some((at, c)) if at >= head.len() / 2 => Cow::Borrowed(&text[..at + c.len_utf8()]),
        _ => cut_at_word(text, max),
    }
}

/// Cuts at the first of `marks`, as the paper's cleaning seems to have done with hyphens and commas.
pub fn cut_at_marks<'a>(text: &'a str, marks: &str) -> Cow<'a, str> {
    let head = text.split(|c| marks.contains(c)).next().unwrap_or(text).trim();
    if head.is_empty() { Cow::Borrowed(text) } else { Cow::Borrowed(head) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_and_runs_of_spaces_go() {
        assert_eq!(mend_whitespace(" a\r\n\tb\u{a0}\u{200b}c\u{ad}d\0e\u{feff} "), "a b cd e");
        assert_eq!(mend_whitespace("as it is"), "as it is");
    }

    #[test]
    fn accents_are_composed() {
        assert_eq!(compose("e\u{301}"), "é");
    }

    #[test]
    fn words_for_nothing_are_nothing_and_others_stay() {
        for word in ["nan", "None", "NULL", "N/A", "Unknown"] {
            assert_eq!(drop_missing_word(word), "");
        }
        assert_eq!(drop_missing_word("None Better"), "None Better");
    }

    #[test]
    fn cuts_fall_after_words_and_sentences() {
        assert_eq!(cut_at_word("Sylvania SCR1053 1.2-Inch Lamp", 18), "Sylvania SCR1053");
        assert_eq!(cut_at_word("Oil, Vinegar", 5), "Oil");
        assert_eq!(cut_at_word("short", 5), "short");
        assert_eq!(cut_at_sentence("One two. Three 1.5 four five", 20), "One two. Three 1.5");
        assert_eq!(cut_at_sentence("One two three. Four five", 20), "One two three.");
        assert_eq!(cut_at_sentence("éééééééééé", 4), "éééé");
    }

    #[test]
    fn the_papers_cut_gives_the_titles_it_printed() {
        assert_eq!(cut_at_marks("AmazonBasics 6-Feet HDMI Cable", "-,"), "AmazonBasics 6");
        assert_eq!(cut_at_marks("Wilton Easy Pour Funnel, 2 Pack", "-,"), "Wilton Easy Pour Funnel");
        assert_eq!(cut_at_marks("- odd", "-,"), "- odd");
    }

    #[test]
    fn mojibake_is_seen() {
        assert!(is_mojibake("donâ€™t") && !is_mojibake("don’t"));
    }
}
