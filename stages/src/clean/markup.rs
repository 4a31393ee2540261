//! Markup and page code in texts that should be prose.

use std::borrow::Cow;

use crate::html;

/// Elements whose content is no text either.
const BLOCKS: [&str; 2] = ["script", "style"];
/// Names that make `<name …>` a tag; anything else in angle brackets is what somebody wrote.
const TAGS: [&str; 42] = [
    "a", "b", "i", "u", "p", "br", "hr", "li", "ul", "ol", "em", "td", "tr", "th", "h1", "h2", "h3", "h4", "h5", "h6",
    "div", "img", "span", "font", "strong", "small", "sub", "sup", "center", "table", "tbody", "thead", "script",
    "style", "iframe", "input", "form", "link", "meta", "html", "body", "label",
];
/// Pieces of code that no product is called.
const CODE: [&str; 6] = ["var aPageStart", ").getTime()", "function(", "function (", "document.", "window."];

/// Removes blocks of code and style, then turns tags into spaces; a field that is one picture becomes its description.
///
/// Runs before references are resolved: the other way round turns `a &lt; b` into a tag. A tag at the end that was cut off
/// (`<span class="a-size`) goes too.
pub fn strip_html(text: &str) -> Cow<'_, str> {
    if !text.contains('<') {
        return Cow::Borrowed(text);
    }
    if let Some(alt) = picture_text(text) {
        return Cow::Owned(alt);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        match tag_len(rest) {
            Some(len) => {
                out.push(' ');
                rest = &rest[len..];
            }
            None => {
                out.push('<');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Returns the length of the tag, block or comment that `text` begins with.
fn tag_len(text: &str) -> Option<usize> {
    if text.starts_with("<!--") {
        return Some(text.find("-->").map_or(text.len(), |at| at + 3));
    }
    let body = text[1..].strip_prefix('/').unwrap_or(&text[1..]);
    let name: String = body.chars().take_while(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let after = body[name.len()..].chars().next();
    if !TAGS.contains(&name.as_str()) || !after.is_none_or(|c| c.is_whitespace() || c == '>' || c == '/') {
        return None;
    }
    let is_opening = !text[1..].starts_with('/');
    if is_opening && BLOCKS.contains(&name.as_str()) {
        let end = format!("</{name}");
        let Some(at) = text.to_ascii_lowercase().find(&end) else { return Some(text.len()) };
        return Some(text[at..].find('>').map_or(text.len(), |close| at + close + 1));
    }
    match (text.find('>'), text[1..].find('<').map(|at| at + 1)) {
        (Some(close), next) if next.is_none_or(|next| close < next) => Some(close + 1),
        // A tag that is never closed is one only if it goes on like one.
        (_, next) if text[..next.unwrap_or(text.len())].contains('=') => Some(next.unwrap_or(text.len())),
        _ => None,
    }
}

fn picture_text(text: &str) -> Option<String> {
    let inner = text.trim().strip_prefix("<img ")?.strip_suffix('>')?;
    let alt = inner.split_once("alt=\"")?.1.split_once('"')?.0;
    (!inner.contains('<')).then(|| alt.to_string())
}

/// Removes markers such as `[[VIDEOID:…]]`; those of a product keep the text that names it.
pub fn strip_markers(text: &str) -> Cow<'_, str> {
    if !text.contains("[[") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("[[") {
        let Some(end) = rest[at..].find("]]").map(|end| at + end) else { break };
        let inner = &rest[at + 2..end];
        out.push_str(&rest[..at]);
        match inner.split_once(':') {
            Some(("VIDEOID", _)) => {}
            Some(("ASIN", product)) => out.push_str(product.split_once(' ').map_or("", |(_, name)| name)),
            _ => out.push_str(&rest[at..end + 2]),
        }
        rest = &rest[end + 2..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Empties a field of the shop's page that holds code, a style sheet or the tail of a tag instead of a text.
pub fn drop_code(text: &str) -> Cow<'_, str> {
    let trimmed = text.trim();
    let is_style_sheet = trimmed.starts_with(['.', '#']) && trimmed.contains('{') && trimmed.contains(':');
    let is_tail_of_tag = !trimmed.contains('<') && trimmed.ends_with("/>");
    let is_code = CODE.iter().any(|code| trimmed.contains(code));
    if is_style_sheet || is_tail_of_tag || is_code { Cow::Borrowed("") } else { Cow::Borrowed(text) }
}

/// Resolves character references until nothing changes, three times at most.
pub fn unescape(text: &str) -> Cow<'_, str> {
    let mut now = Cow::Borrowed(text);
    for _ in 0..3 {
        let next = html::unescape(&now).into_owned();
        if next == *now {
            break;
        }
        now = Cow::Owned(next);
    }
    now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_spaces_and_comparisons_stay() {
        assert_eq!(strip_html("one<br />two</b>"), "one two ");
        assert_eq!(strip_html("a < b and c > d, I <3 it, <Your Name>"), "a < b and c > d, I <3 it, <Your Name>");
        assert_eq!(strip_html("x<script>var a = \"<b>\";</script>y<STYLE>.a{}</STYLE>z"), "x y z");
        assert_eq!(strip_html("<a href=\"x\">here</a>"), " here ");
        assert_eq!(strip_html("a<!-- note -->b"), "a b");
    }

    #[test]
    fn a_tag_cut_off_at_the_end_goes() {
        assert_eq!(strip_html("<span class=\"a-size-medium a-color-secondary\"").trim(), "");
        assert_eq!(strip_html("\n\n<script"), "\n\n ");
        assert_eq!(strip_html("smaller <b"), "smaller <b");
    }

    #[test]
    fn a_picture_becomes_its_description() {
        assert_eq!(strip_html("<img src=\"x.png\" alt=\"Amazon Home\">"), "Amazon Home");
    }

    #[test]
    fn markers_go_and_a_product_keeps_its_name() {
        assert_eq!(strip_markers("[[VIDEOID:ab12]]Good"), "Good");
        assert_eq!(strip_markers("like [[ASIN:B000 the old one]] but [[x]] ["), "like the old one but [[x]] [");
        assert_eq!(strip_markers("open [[VIDEOID:"), "open [[VIDEOID:");
    }

    #[test]
    fn page_code_is_no_text() {
        for code in
            ["var aPageStart = (new Date()).getTime();", ".a-box-inner{background-color:#fff}", " Magazines\" />"]
        {
            assert_eq!(drop_code(code), "", "{code}");
        }
        assert_eq!(drop_code("Window.ly: #1 {really}"), "Window.ly: #1 {really}");
    }

    #[test]
    fn references_are_resolved_however_often_they_were_escaped() {
        assert_eq!(unescape("Black &amp; Decker"), "Black & Decker");
        assert_eq!(unescape("&amp;amp;amp; &#34;x&#x22;"), "& \"x\"");
        assert_eq!(unescape("a &lt; b"), "a < b");
    }
}
