//! HTML character references, as Python's `html.unescape` reads them.
//!
//! The reference numbers for text metrics were made with that function, so its leniency is part of the contract: a missing
//! semicolon is forgiven (`&ampB` is `&B`), C1 numbers mean windows-1252, and what is no reference stays as it stands.
//! `html_entities.txt` holds the names of the HTML5 standard with their code points in hexadecimal.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

static ENTITIES: LazyLock<HashMap<&'static str, String>> =
    LazyLock::new(|| include_str!("html_entities.txt").lines().filter_map(entity).collect());

/// What the numbers 0x80 to 0x9f mean in practice (WHATWG HTML, "numeric character reference end state").
const WINDOWS_1252: [u32; 32] = [
    0x20ac, 0x81, 0x201a, 0x192, 0x201e, 0x2026, 0x2020, 0x2021, 0x2c6, 0x2030, 0x160, 0x2039, 0x152, 0x8d, 0x17d,
    0x8f, 0x90, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x2dc, 0x2122, 0x161, 0x203a, 0x153, 0x9d,
    0x17e, 0x178,
];

/// Longest name that is looked up, as in Python.
const LONGEST_NAME: usize = 32;

/// Replaces character references once; `&amp;lt;` becomes `&lt;`.
pub fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let used = numeric(after, &mut out).or_else(|| named(after, &mut out)).unwrap_or_else(|| {
            out.push('&');
            0
        });
        rest = &after[used..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Reads `#38;` or `#x26;`, writes its character and returns the bytes used.
fn numeric(text: &str, out: &mut String) -> Option<usize> {
    let body = text.strip_prefix('#')?;
    let (digits, radix, mark) = match body.strip_prefix(['x', 'X']) {
        Some(hex) => (hex, 16, 2),
        None => (body, 10, 1),
    };
    let len = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    if len == 0 {
        return None;
    }
    let number = u32::from_str_radix(&digits[..len], radix).unwrap_or(u32::MAX);
    out.extend(character(number));
    Some(mark + len + usize::from(digits[len..].starts_with(';')))
}

/// Returns the character of a number; control characters that HTML forbids give none.
fn character(number: u32) -> Option<char> {
    match number {
        0 => Some('\u{fffd}'),
        0x80..=0x9f => char::from_u32(WINDOWS_1252[(number - 0x80) as usize]),
        1..=8 | 0xb | 0xe..=0x1f | 0x7f | 0xfdd0..=0xfdef => None,
        _ if number <= 0x10_ffff && number & 0xfffe == 0xfffe => None,
        _ => Some(char::from_u32(number).unwrap_or('\u{fffd}')),
    }
}

/// Reads the longest known name, writes its characters and returns the bytes used.
fn named(text: &str, out: &mut String) -> Option<usize> {
    let mut ends = Vec::new();
    for (at, c) in text.char_indices().take(LONGEST_NAME + 1) {
        if matches!(c, '\t' | '\n' | '\x0c' | ' ' | '<' | '&' | '#') {
            break;
        }
        ends.push(at + c.len_utf8());
        if c == ';' {
            break;
        }
    }
    let end = *ends.iter().rev().find(|&&end| ENTITIES.contains_key(&text[..end]))?;
    out.push_str(&ENTITIES[&text[..end]]);
    Some(end)
}

fn entity(line: &'static str) -> Option<(&'static str, String)> {
    let (name, points) = line.split_once(' ')?;
    let value = points.split(' ').filter_map(|p| u32::from_str_radix(p, 16).ok().and_then(char::from_u32)).collect();
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_read_as_python_reads_them() {
        // html.unescape of CPython 3.11.7.
        for (raw, want) in [
            ("Black &amp; Decker", "Black & Decker"),
            ("&amp;lt;", "&lt;"),
            ("&#34;&#x27;&#X41", "\"'A"),
            ("&#146;&#0;&#xD800;&#1;", "\u{2019}\u{fffd}\u{fffd}"),
            ("&ampB &notit; &notin;", "&B \u{ac}it; \u{2209}"),
            ("a & b &; &unknown; &", "a & b &; &unknown; &"),
            ("&eacute&Eacute;", "éÉ"),
        ] {
            assert_eq!(unescape(raw), want, "{raw}");
        }
    }
}
