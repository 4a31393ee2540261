//! Where an answer names products: quoted strings, list lines, and what follows `recommend` and its like.
//!
//! Works on text in normal form (see [`super::normalise`]), so letters are lower case. Spans nest but never cross: a quoted
//! string and what follows a verb both end with their line, and a full stop inside quotes ends nothing.

use std::ops::Range;

use super::normalise::is_word;

/// Words after which a product is named.
const VERBS: [&str; 5] = ["recommend", "suggest", "consider", "buy", "try"];

/// Words whose full stop ends no sentence; product names begin with some of them.
const ABBREVIATIONS: [&str; 14] =
    ["mr", "mrs", "ms", "dr", "st", "jr", "sr", "no", "vol", "inc", "co", "ltd", "oz", "vs"];

/// Returns the byte ranges of the spans in `text`, outer before inner, each with at least one word.
///
/// A text with words but without any mark is one span.
pub fn spans(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let quoted = quotes(line);
        found.extend(list_entry(line).map(|r| shift(r, start)));
        found.extend(after_verbs(line, &quoted).into_iter().map(|r| shift(r, start)));
        found.extend(quoted.into_iter().map(|r| shift(r, start)));
        start += line.len();
    }
    if !found.iter().any(|r| text[r.clone()].contains(is_word)) {
        found.clear();
        found.push(0..text.len());
    }
    found.retain(|r| text[r.clone()].contains(is_word));
    found.sort_by_key(|r| (r.start, std::cmp::Reverse(r.end)));
    found.dedup();
    found
}

fn shift(range: Range<usize>, by: usize) -> Range<usize> {
    range.start + by..range.end + by
}

/// Returns what stands after `1.`, `1)`, `-`, `*` or a bullet at the start of a line.
fn list_entry(line: &str) -> Option<Range<usize>> {
    let trimmed = line.trim_start();
    let digits = trimmed.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = match trimmed.len() - digits.len() {
        0 => trimmed.strip_prefix(['-', '*', '\u{2022}'])?,
        1..=3 => digits.strip_prefix(['.', ')'])?,
        _ => return None,
    };
    rest.starts_with(char::is_whitespace).then(|| line.len() - rest.len()..line.trim_end().len())
}

/// Returns the insides of quoted strings; an apostrophe or an inch sign inside a word or after a digit is no quote.
fn quotes(line: &str) -> Vec<Range<usize>> {
    let chars: Vec<(usize, char)> = line.char_indices().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        match closing_marks(chars[at].1).filter(|_| opens(&chars, at)).and_then(|marks| closing(&chars, at, marks)) {
            Some(end) => {
                found.push(chars[at + 1].0..chars[end].0);
                at = end + 1;
            }
            None => at += 1,
        }
    }
    found
}

fn closing_marks(open: char) -> Option<&'static [char]> {
    match open {
        '\'' | '\u{2018}' => Some(&['\'', '\u{2019}']),
        '"' | '\u{201c}' => Some(&['"', '\u{201d}']),
        _ => None,
    }
}

fn opens(chars: &[(usize, char)], at: usize) -> bool {
    let free_before = at == 0
        || !is_word(chars[at - 1].1) && !chars[at - 1].1.is_ascii_punctuation()
        || matches!(chars[at.saturating_sub(1)].1, '(' | '[' | ':' | ',' | '-' | '/' | '*');
    free_before && chars.get(at + 1).is_some_and(|(_, next)| !next.is_whitespace())
}

fn closes(chars: &[(usize, char)], at: usize) -> bool {
    !chars[at - 1].1.is_whitespace() && chars.get(at + 1).is_none_or(|(_, next)| !is_word(*next))
}

/// Returns the place of the mark that closes a quote opened at `open`.
///
/// `"lodge 10.25" skillet"` and `'kids' toys'` hold a mark that looks closing but is an inch or a plural: after a digit or
/// an s, a later closing mark wins if no quote opens before it.
fn closing(chars: &[(usize, char)], open: usize, marks: &[char]) -> Option<usize> {
    let mut best = None;
    for at in open + 2..chars.len() {
        if !marks.contains(&chars[at].1) {
            continue;
        }
        if best.is_some() && opens(chars, at) {
            break;
        }
        if closes(chars, at) {
            best = Some(at);
            if !(chars[at - 1].1 == 's' || chars[at - 1].1.is_ascii_digit()) {
                break;
            }
        }
    }
    best
}

/// Returns what follows each verb, up to `because`, `since`, `as it` or the end of the sentence.
fn after_verbs(line: &str, quoted: &[Range<usize>]) -> Vec<Range<usize>> {
    let words = words_in(line);
    let verbs = words.iter().enumerate().filter(|(_, word)| VERBS.contains(&&line[(*word).clone()]));
    verbs
        .map(|(index, verb)| {
            let reason =
                words[index + 1..].windows(2).find(|pair| is_reason(line, pair) && !inside(quoted, pair[0].start));
            let limit = reason.map_or(line.trim_end().len(), |pair| pair[0].start);
            verb.end..sentence_end(line, verb.end, limit, quoted)
        })
        .collect()
}

fn words_in(line: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for (at, c) in line.char_indices().filter(|(_, c)| is_word(*c)) {
        match found.last_mut() {
            Some(last) if last.end == at => last.end += c.len_utf8(),
            _ => found.push(at..at + c.len_utf8()),
        }
    }
    found
}

fn is_reason(line: &str, pair: &[Range<usize>]) -> bool {
    match &line[pair[0].clone()] {
        "because" | "since" => true,
        "as" => &line[pair[1].clone()] == "it",
        _ => false,
    }
}

fn inside(quoted: &[Range<usize>], at: usize) -> bool {
    quoted.iter().any(|range| range.contains(&at))
}

fn sentence_end(line: &str, start: usize, limit: usize, quoted: &[Range<usize>]) -> usize {
    let ends = |at: usize| {
        let after = &line[at + 1..];
        let before = line[..at].rsplit(|c| !is_word(c)).next().unwrap_or("");
        (after.is_empty() || after.starts_with(char::is_whitespace))
            && !inside(quoted, at)
            && !ABBREVIATIONS.contains(&before)
    };
    let stop = line[start..limit].match_indices(['.', '!', '?']).map(|(at, _)| start + at).find(|&at| ends(at));
    stop.unwrap_or(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        spans(text).into_iter().map(|r| text[r].trim()).collect()
    }

    #[test]
    fn quoted_strings_are_spans_and_apostrophes_are_not() {
        assert_eq!(
            found("burt's bees: 'kids' toys' or \"lodge 10.25\" skillet\", \u{201c}a cup\u{201d}"),
            ["kids' toys", "lodge 10.25\" skillet", "a cup"]
        );
        assert_eq!(found("'one', 'two'"), ["one", "two"]);
    }

    #[test]
    fn list_lines_are_spans() {
        assert_eq!(
            found("here:\n1. blue mug\n 2) red pot\n- a funnel\n* a bottle\n1.5 kg"),
            ["blue mug", "red pot", "a funnel", "a bottle"]
        );
    }

    #[test]
    fn verbs_open_a_span_that_a_reason_or_a_full_stop_ends() {
        assert_eq!(
            found("i recommend the mr. coffee 1.2-inch maker because it fits. bye"),
            ["the mr. coffee 1.2-inch maker"]
        );
        assert_eq!(found("you could buy a cup as it is red"), ["a cup"]);
        assert_eq!(found("try 'dr. who. a book' now. then rest"), ["'dr. who. a book' now", "dr. who. a book"]);
    }

    #[test]
    fn a_text_without_marks_is_one_span_and_an_empty_one_has_none() {
        assert_eq!(found("a blue mug"), ["a blue mug"]);
        assert!(found("").is_empty() && found(" ...\n").is_empty());
    }
}
