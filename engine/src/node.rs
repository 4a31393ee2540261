//! The tree of a YAML text: every value and every key knows where it stands.
//!
//! Everything the language does (overrides, `${}`, sweeps, checks) works on this tree, so that each fault can be shown at
//! the text that caused it, however far from there it was found.

use serde_json::{Map, Number, Value};

/// Where a piece of text stands.
///
/// Line 0 means the command line: `column` then counts the `--set` options from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Characters to underline; at least 1 where something is shown.
    pub width: u32,
}

impl Span {
    /// Returns the place of the `index`th `--set`.
    pub fn command_line(index: usize) -> Span {
        Span { line: 0, column: index as u32, width: 0 }
    }
}

/// What relative paths in a text are relative to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Base {
    /// The folder of the pipeline file.
    #[default]
    File,
    /// The current folder: the text was typed in `--set`.
    CurrentFolder,
}

/// A key of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The key.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// A value without its place.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A finite number.
    Number(Number),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the text; its keys are unique.
    Map(Vec<(Key, Node)>),
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub data: Data,
    /// Where it is used.
    pub span: Span,
    /// What paths in it are relative to.
    pub base: Base,
}

impl Node {
    /// Returns a value that stands at `span` in the pipeline file.
    pub fn new(data: Data, span: Span) -> Node {
        Node { data, span, base: Base::File }
    }

    /// Returns the text, if it is text.
    pub fn as_text(&self) -> Option<&str> {
        if let Data::Text(text) = &self.data { Some(text) } else { None }
    }

    /// Returns the entries, if it is a map.
    pub fn as_map(&self) -> Option<&[(Key, Node)]> {
        if let Data::Map(entries) = &self.data { Some(entries) } else { None }
    }

    /// Returns the elements, if it is a list.
    pub fn as_list(&self) -> Option<&[Node]> {
        if let Data::List(elements) = &self.data { Some(elements) } else { None }
    }

    /// Says whether there is no value.
    pub fn is_null(&self) -> bool {
        self.data == Data::Null
    }

    /// Says whether some text in it holds `${`.
    pub fn has_reference(&self) -> bool {
        match &self.data {
            Data::Text(text) => text.contains("${"),
            Data::List(elements) => elements.iter().any(Node::has_reference),
            Data::Map(entries) => entries.iter().any(|(_, value)| value.has_reference()),
            Data::Null | Data::Bool(_) | Data::Number(_) => false,
        }
    }

    /// Returns the value of `key` in a map.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_map()?.iter().find(|(k, _)| k.text == key).map(|(_, value)| value)
    }

    /// Returns the deepest value on `path` that there is, and whether it is the path's end.
    pub fn along<'a>(&'a self, path: &str) -> (&'a Node, bool) {
        let mut node = self;
        for segment in path.split('.').filter(|s| !s.is_empty()) {
            match node.child(segment) {
                Some(next) => node = next,
                None => return (node, false),
            }
        }
        (node, true)
    }

    fn child(&self, segment: &str) -> Option<&Node> {
        match &self.data {
            Data::Map(_) => self.get(segment),
            Data::List(elements) => elements.get(segment.parse::<usize>().ok()?),
            _ => None,
        }
    }

    /// Moves the value and all in it to `span`, as if it stood there.
    pub fn moved_to(mut self, span: Span, base: Base) -> Node {
        self.move_to(span, base);
        self
    }

    fn move_to(&mut self, span: Span, base: Base) {
        (self.span, self.base) = (span, base);
        match &mut self.data {
            Data::List(elements) => elements.iter_mut().for_each(|e| e.move_to(span, base)),
            Data::Map(entries) => entries.iter_mut().for_each(|(key, value)| {
                key.span = span;
                value.move_to(span, base);
            }),
            _ => {}
        }
    }

    /// Returns the value as JSON.
    pub fn to_json(&self) -> Value {
        match &self.data {
            Data::Null => Value::Null,
            Data::Bool(flag) => Value::Bool(*flag),
            Data::Number(number) => Value::Number(number.clone()),
            Data::Text(text) => Value::String(text.clone()),
            Data::List(elements) => Value::Array(elements.iter().map(Node::to_json).collect()),
            Data::Map(entries) => {
                let pairs = entries.iter().map(|(key, value)| (key.text.clone(), value.to_json()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }

    /// Returns a text in backticks, and what else it is otherwise.
    pub fn quoted(&self) -> String {
        self.as_text().map_or_else(|| self.describe(), |text| format!("`{}`", shorten(text)))
    }

    /// Returns what the value is, for messages: `the number 3`, `a map`.
    pub fn describe(&self) -> String {
        match &self.data {
            Data::Null => "nothing".into(),
            Data::Bool(flag) => format!("`{flag}`"),
            Data::Number(number) => format!("the number `{number}`"),
            Data::Text(text) => format!("the text `{}`", shorten(text)),
            Data::List(_) => "a list".into(),
            Data::Map(_) => "a map".into(),
        }
    }
}

/// Cuts a text for a message: first line, at most 60 characters.
pub fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= 60 && line.len() == text.trim_end().len() {
        return line.to_string();
    }
    line.chars().take(57).chain("...".chars()).collect()
}
