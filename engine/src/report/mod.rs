//! A run as one HTML page: no script, no font, no link to anywhere, so that it opens offline and in any browser.

pub mod chart;
pub mod curves;
pub mod dag;
pub mod generations;
pub mod html;
pub mod style;

/// Returns text that is inert inside HTML and attribute values.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Controls and bidirectional overrides can make text show what it is not.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_review_is_inert() {
        let text = escaped("</td><script>alert('x')</script>\u{202e}\u{1b}[31m");
        assert!(!text.contains('<') && !text.contains('\'') && !text.contains('\u{1b}') && !text.contains('\u{202e}'));
    }
}
