//! Text to [`Node`] tree. The only module that names the YAML library.
//!
//! serde-saphyr gives positions, refuses duplicate keys and has budgets against bombs. Its scalar rules are set to those of
//! YAML 1.2 as `scalars_follow_yaml_1_2` pins them: `012`, `1_000`, `on` and `yes` are text, `1e-4` is a number. Sizes are
//! checked here first, because the library's own limit covers readers only.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::{Location, Options, Spanned};

use crate::code;
use crate::diagnostic::Diagnostic;
use crate::node::{Base, Data, Key, Node, Span};

/// Largest pipeline that is read.
pub const MAX_BYTES: usize = 4 << 20;
/// Deepest nesting that is read.
pub const MAX_DEPTH: usize = 32;

/// Most values that are read, those behind aliases included.
const MAX_NODES: usize = 400_000;

/// Most values that aliases may make: a bomb ends there, within 64 MB, and no pipeline comes near.
const MAX_REPLAYED: usize = 50_000;

/// Reads one YAML document. Empty text is an empty map.
///
/// # Errors
/// The first fault of the text; a parser cannot go on behind it.
pub fn parse(text: &str) -> Result<Node, Box<Diagnostic>> {
    if text.len() > MAX_BYTES {
        return Err(Box::new(too_large(text.len() as u64)));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(at) = text.find('\0') {
        return Err(Box::new(zero_byte(&text[..at])));
    }
    match serde_saphyr::from_str_with_options::<Node>(text, options()) {
        Ok(node) => Ok(node),
        Err(error) => Err(Box::new(explain(text, &error))),
    }
}

/// Reads the value of a `--set`; all of it stands at `span`, and its paths are relative to the current folder.
///
/// # Errors
/// When the value is not YAML.
pub fn parse_value(text: &str, span: Span) -> Result<Node, Box<Diagnostic>> {
    let node =
        if text.trim().is_empty() { Node::new(Data::Null, span) } else { parse(text).map_err(|e| e.moved_to(span))? };
    Ok(node.moved_to(span, Base::CurrentFolder))
}

/// Returns the fault of a text of so many bytes.
pub fn too_large(bytes: u64) -> Diagnostic {
    let message = format!("the text has {bytes} bytes, more than the {} MiB that are read", MAX_BYTES >> 20);
    Diagnostic::nowhere(code::TOO_LARGE, message).help("keep data in files of their own and name their paths")
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: MAX_NODES,
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_aliases: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPLAYED },
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_tagged_field_names: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

fn zero_byte(before: &str) -> Diagnostic {
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let span = Span { line: line as u32, column: column as u32, width: 1 };
    Diagnostic::at(code::NOT_YAML, span, "the text holds a zero byte").help("save the file as UTF-8 text")
}

fn explain(text: &str, error: &serde_saphyr::Error) -> Diagnostic {
    use serde_saphyr::Error;
    let error = error.without_snippet();
    let span = error.location().map(|l| span_of(&l)).unwrap_or(Span { line: 1, column: 1, width: 1 });
    match error {
        Error::DuplicateMappingKey { key, .. } => {
            let name = key.as_deref().unwrap_or("?");
            let span = Span { width: name.chars().count().max(1) as u32, ..span };
            Diagnostic::at(code::DUPLICATE_KEY, span, format!("the key `{name}` stands twice in one map"))
                .label("second time")
                .help("names are unique: remove or rename one of them")
        }
        Error::MultipleDocuments { .. } => {
            Diagnostic::at(code::NOT_YAML, span, "a pipeline is one YAML document, and here a second begins")
                .help("remove the `---`, or keep the second in a file of its own")
        }
        Error::NonFiniteFloat { .. } => {
            Diagnostic::at(code::NOT_YAML, span, "numbers are finite").help("quote it if it is meant as text")
        }
        _ => syntax_fault(text, span, &plain(error)),
    }
}

/// A fault of syntax or of a budget, which the library tells apart by words only; a tab in the indentation is what most of them come from, so it is looked for first.
fn syntax_fault(text: &str, span: Span, words: &str) -> Diagnostic {
    if ["budget", "nest", "depth", "recursion", "replay", "expansion"].iter().any(|word| words.contains(word)) {
        return Diagnostic::at(code::TOO_LARGE, span, "the text is nested or repeated more than is read").help(
            format!("nesting goes to depth {MAX_DEPTH}, aliases may be used 1000 times and make {MAX_REPLAYED} values"),
        );
    }
    let line = text.lines().nth(span.line.saturating_sub(1) as usize).unwrap_or_default();
    let fault = Diagnostic::at(code::NOT_YAML, span, format!("this is not YAML: {words}"));
    if line.len() > line.trim_start().len() && line[..line.len() - line.trim_start().len()].contains('\t') {
        return fault.help("indent with spaces: YAML allows no tabs there");
    }
    fault.help(mend(words))
}

/// How to mend what the library's words complain of.
fn mend(words: &str) -> &'static str {
    const MENDS: [(&str, &str); 9] = [
        ("expected string scalar", "quote a text that begins with `{` or `[`: bare, they begin a map or a list"),
        ("unclosed bracket", "close the bracket that is marked"),
        ("unclosed quote", "close it with the quote it begins with"),
        ("unexpected character", "quote a text that begins with one of `% @ & * ! | > {`"),
        ("flow mapping", "separate entries by `, ` and quote a text that holds `: `"),
        ("a key is empty", "give it a name"),
        ("unknown anchor", "write `&NAME` at a value before it, or quote a text that begins with `*`"),
        ("unsupported tag", "leave out the tag, or quote a text that begins with `!`"),
        ("expected key", "indent it like the keys it belongs to"),
    ];
    let known = MENDS.iter().find(|(sign, _)| words.contains(sign));
    known.map_or("look at the indentation and the quotes of this line and the one before", |(_, mend)| mend)
}

/// The library's words without its place, which the diagnostic has already, in our style: one line, lower case.
fn plain(error: &serde_saphyr::Error) -> String {
    let words = error.to_string();
    let words = words.lines().next().unwrap_or_default();
    let words = words.split(" at line ").next().unwrap_or_default();
    let words = words.strip_prefix("error: ").unwrap_or(words);
    let words = words
        .trim_start_matches(|c: char| c.is_ascii_digit() || c == ':' || c == ' ' || c == ',')
        .trim_start_matches("line ");
    words.trim_end_matches('.').to_string()
}

fn span_of(place: &Location) -> Span {
    let width = place.span().len().clamp(1, u64::from(u32::MAX)) as u32;
    Span { line: place.line() as u32, column: place.column() as u32, width }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        let found = Spanned::<Data>::deserialize(deserializer)?;
        let mut span = span_of(&found.referenced);
        if matches!(found.value, Data::List(_) | Data::Map(_)) {
            span.width = 1;
        }
        Ok(Node::new(found.value, span))
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Data, D::Error> {
        deserializer.deserialize_any(DataVisitor)
    }
}

struct DataVisitor;

impl<'de> Visitor<'de> for DataVisitor {
    type Value = Data;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Data, E> {
        Ok(Data::Null)
    }

    fn visit_none<E>(self) -> Result<Data, E> {
        Ok(Data::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Data, D::Error> {
        Data::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Data, E> {
        Ok(Data::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Data, E> {
        Ok(Data::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Data, E> {
        Ok(Data::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Data, E> {
        Number::from_f64(value).map(Data::Number).ok_or_else(|| E::custom("numbers are finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Data, E> {
        Ok(Data::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Data, E> {
        Ok(Data::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Data, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            elements.push(element);
        }
        Ok(Data::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Data, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            if key.value.is_empty() {
                return Err(A::Error::custom("a key is empty"));
            }
            let span = span_of(&key.referenced);
            entries.push((Key { text: key.value, span }, map.next_value()?));
        }
        Ok(Data::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_follow_yaml_1_2() {
        let text = "[012, 1_000, on, yes, 1e-4, 1.0e-4, 3, -0, true, ~, 0x1F, 0o17, '5', 1%, 6h, 123E45x]";
        let expected =
            json!(["012", "1_000", "on", "yes", 1e-4, 1e-4, 3, 0, true, null, 31, 15, "5", "1%", "6h", "123E45x"]);
        assert_eq!(parse(text).unwrap().to_json(), expected);
    }

    #[test]
    fn values_and_keys_know_their_place() {
        let tree = parse("a:\n  b: {c: hello, d: \"two\"}\n").unwrap();
        let b = tree.get("a").unwrap().get("b").unwrap();
        assert_eq!(b.get("c").unwrap().span, Span { line: 2, column: 10, width: 5 });
        assert_eq!(b.get("d").unwrap().span, Span { line: 2, column: 20, width: 5 });
        assert_eq!(b.as_map().unwrap()[1].0.span, Span { line: 2, column: 17, width: 1 });
        assert_eq!(b.span.line, 2);
    }

    #[test]
    fn anchors_and_merges_are_applied_and_shown_where_used() {
        let tree = parse("x: &x {r: 8}\ny: *x\nz: {<<: *x, s: 1}\n").unwrap();
        assert_eq!(tree.to_json(), json!({"x": {"r": 8}, "y": {"r": 8}, "z": {"s": 1, "r": 8}}));
        assert_eq!(tree.get("y").unwrap().span.line, 2);
    }

    #[test]
    fn bad_texts_are_refused_by_code() {
        let deep = "[".repeat(40) + &"]".repeat(40);
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
        let cases = [
            ("a: 1\na: 2\n", code::DUPLICATE_KEY),
            ("a: [1, 2\n", code::NOT_YAML),
            ("a:\n\t- b\n", code::NOT_YAML),
            ("a: 1e999\n", code::NOT_YAML),
            ("a: 1\n---\nb: 2\n", code::NOT_YAML),
            ("a: \0\n", code::NOT_YAML),
            (&deep, code::TOO_LARGE),
            (bomb, code::TOO_LARGE),
        ];
        for (text, expected) in cases {
            let fault = parse(text).expect_err(text);
            assert_eq!(fault.code, expected, "{text}: {fault:?}");
        }
    }

    #[test]
    fn bom_and_crlf_are_read() {
        let tree = parse("\u{feff}a: 1\r\nb: text\r\n").unwrap();
        assert_eq!(tree.to_json(), json!({"a": 1, "b": "text"}));
    }
}
