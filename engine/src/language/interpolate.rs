//! `${params.x}` and `${env.X}`: what they stand for, put into values.
//!
//! A reference that is the whole value keeps its type; inside a text it is written out. `$${` is a plain `${`. In a
//! parameter called `shell` every other `${` belongs to the shell; `${in.x}` and `${out.y}` there and in `argv` are filled
//! in when the command runs.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};

use crate::code;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::language::nearest::{did_you_mean, listed};
use crate::node::{Base, Data, Key, Node, Span};

/// Longest text that `${}` may make.
const MAX_TEXT: usize = 64 << 10;
/// Most bytes that all `${}` of a pipeline may make; a map or list counts 16 a value.
const MAX_TOTAL: usize = 4 << 20;
/// Longest chain of parameters made of parameters.
const MAX_CHAIN: usize = 64;

/// Declared environment: name to default.
pub type EnvNames = BTreeMap<String, Option<String>>;

/// Environment that a value used, name to value.
pub type EnvUsed = BTreeMap<String, String>;

/// What `${}` may name.
pub struct Scope<'a> {
    params: Option<&'a Node>,
    env: &'a EnvNames,
    lookup: fn(&str) -> Option<String>,
    known: RefCell<HashMap<String, Option<(Node, EnvUsed)>>>,
    chain: RefCell<Vec<String>>,
    made: Cell<usize>,
    is_too_long: Cell<bool>,
}

/// Which `${` are ours in a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// All of them.
    All,
    /// All but `${in.` and `${out.`.
    Argv,
    /// `${params.` and `${env.` only.
    Shell,
}

/// A piece of a text.
enum Piece<'t> {
    Plain(&'t str),
    /// Name within `${}`, and where the `$` is, in bytes.
    Reference(&'t str, usize),
}

impl<'a> Scope<'a> {
    /// Returns the scope of a pipeline; `lookup` reads the environment.
    pub fn new(params: Option<&'a Node>, env: &'a EnvNames, lookup: fn(&str) -> Option<String>) -> Scope<'a> {
        let (known, chain) = (RefCell::default(), RefCell::default());
        Scope { params, env, lookup, known, chain, made: Cell::new(0), is_too_long: Cell::new(false) }
    }

    /// Replaces every `${}` in `node`. What cannot be replaced is reported and becomes nothing.
    pub fn fill(&self, node: &Node, used: &mut EnvUsed, faults: &mut Diagnostics) -> Node {
        self.value(node, Manner::All, used, faults)
    }

    /// The same for the parameters of a stage, where `shell` and `argv` have their own manner.
    pub fn fill_params(&self, with: &Node, used: &mut EnvUsed, faults: &mut Diagnostics) -> Node {
        let Data::Map(entries) = &with.data else { return self.fill(with, used, faults) };
        let filled = entries.iter().map(|(key, value)| {
            let manner = match key.text.as_str() {
                "shell" => Manner::Shell,
                "argv" => Manner::Argv,
                _ => Manner::All,
            };
            (key.clone(), self.value(value, manner, used, faults))
        });
        Node { data: Data::Map(filled.collect()), ..*with }
    }

    fn value(&self, node: &Node, manner: Manner, used: &mut EnvUsed, faults: &mut Diagnostics) -> Node {
        let data = match &node.data {
            Data::Text(text) if text.contains("${") => return self.text(node, text, manner, used, faults),
            Data::List(elements) => Data::List(elements.iter().map(|e| self.value(e, manner, used, faults)).collect()),
            Data::Map(entries) => {
                let filled = entries.iter().map(|(key, value)| (key.clone(), self.value(value, manner, used, faults)));
                Data::Map(filled.collect::<Vec<(Key, Node)>>())
            }
            other => other.clone(),
        };
        Node { data, ..*node }
    }

    fn text(&self, node: &Node, text: &str, manner: Manner, used: &mut EnvUsed, faults: &mut Diagnostics) -> Node {
        let nothing = Node { data: Data::Null, ..*node };
        let pieces = match pieces(text, manner) {
            Ok(pieces) => pieces,
            Err(at) => {
                faults.push(
                    Diagnostic::at(code::UNKNOWN_NAME, within(node.span, text, at, 2), "this `${` is never closed")
                        .help("close it with `}`, or write `$${` for a plain `${`"),
                );
                return nothing;
            }
        };
        if let [Piece::Reference(name, at)] = pieces[..] {
            let place = within(node.span, text, at, name.chars().count() + 3);
            let found = self.look_up(name, place, used, faults);
            return found.map_or(nothing, |n| Node { span: node.span, ..n });
        }
        let (mut base, mut written) = (node.base, String::new());
        for piece in &pieces {
            match piece {
                Piece::Plain(plain) => written.push_str(plain),
                Piece::Reference(name, at) => {
                    let place = within(node.span, text, *at, name.chars().count() + 3);
                    let Some(found) = self.look_up(name, place, used, faults) else { return nothing };
                    if written.is_empty() {
                        base = found.base;
                    }
                    let Some(words) = write_out(&found) else {
                        let message =
                            format!("`${{{name}}}` is {}, which cannot stand inside a text", found.describe());
                        let help = "make it the whole value, or name one of its values";
                        faults.push(Diagnostic::at(code::WRONG_TYPE, place, message).help(help));
                        return nothing;
                    };
                    written.push_str(&words);
                    if written.len() > MAX_TEXT || !self.may_make(words.len()) {
                        self.report_too_long(place, faults);
                        return nothing;
                    }
                }
            }
        }
        Node { data: Data::Text(written), base, span: node.span }
    }

    fn look_up(&self, name: &str, place: Span, used: &mut EnvUsed, faults: &mut Diagnostics) -> Option<Node> {
        let found = match name.split_once('.') {
            Some(("params", path)) => self.param(path, place, faults),
            Some(("env", variable)) => self.variable(variable, place, faults),
            _ => {
                let message = format!("`${{{name}}}` names nothing");
                let near = did_you_mean(name, self.param_names().iter().map(String::as_str));
                let help = "write `${params.NAME}` or `${env.NAME}`, and `$${` for a plain `${`";
                faults.push(Diagnostic::at(code::UNKNOWN_NAME, place, message).label(near).help(help));
                None
            }
        };
        let (node, env) = found?;
        used.extend(env);
        if !self.may_make(16 * size_of_tree(&node)) {
            self.report_too_long(place, faults);
            return None;
        }
        Some(node)
    }

    fn param_names(&self) -> Vec<String> {
        let entries = self.params.and_then(Node::as_map).unwrap_or_default();
        entries.iter().map(|(key, _)| format!("params.{}", key.text)).collect()
    }

    fn variable(&self, name: &str, place: Span, faults: &mut Diagnostics) -> Option<(Node, EnvUsed)> {
        let Some(default) = self.env.get(name) else {
            let near = did_you_mean(name, self.env.keys().map(String::as_str));
            let fault = Diagnostic::at(code::UNKNOWN_NAME, place, format!("`{name}` is not declared in `env:`"));
            faults
                .push(fault.label(near).help(format!("add `env: [{name}]`; its value is then part of what is cached")));
            return None;
        };
        let Some(value) = (self.lookup)(name).or(default.clone()) else {
            let message = format!("the environment variable `{name}` is not set");
            let help = format!("set it, or give a default: `env: {{{name}: value}}`");
            faults.push(Diagnostic::at(code::ENV_NOT_SET, place, message).help(help));
            return None;
        };
        let node = Node { data: Data::Text(value.clone()), span: place, base: Base::File };
        Some((node, BTreeMap::from([(name.to_string(), value)])))
    }

    /// Finds a parameter by its dotted path, with all `${}` in it replaced; each is worked out once.
    fn param(&self, path: &str, place: Span, faults: &mut Diagnostics) -> Option<(Node, EnvUsed)> {
        if let Some(found) = self.known.borrow().get(path) {
            return found.clone();
        }
        if let Some(start) = self.chain.borrow().iter().position(|p| p == path) {
            faults.push(self.params_cycle(start, path, place));
            return None;
        }
        if self.chain.borrow().len() >= MAX_CHAIN {
            let message = format!("`params.{path}` is at the end of a chain of more than {MAX_CHAIN} references");
            faults.push(Diagnostic::at(code::TEXT_TOO_LONG, place, message).help("write the value out"));
            return None;
        }
        self.chain.borrow_mut().push(path.to_string());
        let found = self.work_out(path, place, faults);
        self.chain.borrow_mut().pop();
        self.known.borrow_mut().insert(path.to_string(), found.clone());
        found
    }

    fn work_out(&self, path: &str, place: Span, faults: &mut Diagnostics) -> Option<(Node, EnvUsed)> {
        let (mut node, mut walked, mut used) = (self.params.cloned()?, String::new(), EnvUsed::new());
        if self.params.is_none_or(|p| p.as_map().is_none()) {
            return None;
        }
        for segment in path.split('.') {
            // A parameter may itself be a reference to a map that the rest of the path goes into.
            if node.as_text().is_some_and(|t| t.contains("${")) {
                let (whole, env) = self.param(&walked, place, faults)?;
                used.extend(env);
                node = whole;
            }
            let Some(next) = node.get(segment) else {
                faults.push(unknown_param(path, segment, &node, place));
                return None;
            };
            node = next.clone();
            walked = crate::language::shape::join(&walked, segment);
        }
        let count = faults.errors.len();
        let filled = self.fill(&node, &mut used, faults);
        (faults.errors.len() == count).then_some((filled, used))
    }

    fn params_cycle(&self, start: usize, path: &str, place: Span) -> Diagnostic {
        let chain = self.chain.borrow();
        let mut names: Vec<&str> = chain[start..].iter().map(String::as_str).collect();
        names.push(path);
        let message = format!("parameters are made of each other: {}", names.join(" -> "));
        Diagnostic::at(code::PARAMS_CYCLE, place, message).help("give one of them a value of its own")
    }

    fn may_make(&self, bytes: usize) -> bool {
        self.made.set(self.made.get().saturating_add(bytes));
        self.made.get() <= MAX_TOTAL
    }

    /// Once is enough: behind the first everything is too long.
    fn report_too_long(&self, place: Span, faults: &mut Diagnostics) {
        if !self.is_too_long.replace(true) {
            let message =
                format!("`${{}}` makes more than {} KiB here, or {} MiB in all", MAX_TEXT >> 10, MAX_TOTAL >> 20);
            let help = "keep long texts in files and name their paths";
            faults.push(Diagnostic::at(code::TEXT_TOO_LONG, place, message).help(help));
        }
    }
}

fn unknown_param(path: &str, segment: &str, parent: &Node, place: Span) -> Diagnostic {
    let names: Vec<&str> = parent.as_map().unwrap_or_default().iter().map(|(key, _)| key.text.as_str()).collect();
    Diagnostic::at(code::UNKNOWN_NAME, place, format!("there is no parameter `params.{path}`"))
        .label(did_you_mean(segment, names.iter().copied()))
        .help(listed("parameters", names.iter().copied()))
}

/// Cuts a text at its references.
///
/// # Errors
/// The byte at which a `${` begins that is never closed.
fn pieces(text: &str, manner: Manner) -> Result<Vec<Piece<'_>>, usize> {
    let (mut pieces, mut from, mut at) = (Vec::new(), 0, 0);
    while let Some(found) = text[at..].find("${").map(|i| i + at) {
        if text[..found].ends_with('$') && found > from {
            pieces.push(Piece::Plain(&text[from..found - 1]));
            (from, at) = (found, found + 2);
            continue;
        }
        let inner = &text[found + 2..];
        if !is_ours(inner, manner) {
            at = found + 2;
            continue;
        }
        let end = inner.find('}').ok_or(found)?;
        if found > from {
            pieces.push(Piece::Plain(&text[from..found]));
        }
        pieces.push(Piece::Reference(inner[..end].trim(), found));
        from = found + 2 + end + 1;
        at = from;
    }
    if from < text.len() {
        pieces.push(Piece::Plain(&text[from..]));
    }
    Ok(pieces)
}

fn is_ours(inner: &str, manner: Manner) -> bool {
    let begins = |heads: &[&str]| heads.iter().any(|head| inner.trim_start().starts_with(head));
    match manner {
        Manner::All => true,
        Manner::Argv => !begins(&["in.", "out."]),
        Manner::Shell => begins(&["params.", "env."]),
    }
}

/// Returns the place of a part of a text, where the text stands on one line without escapes; else that of the text.
fn within(span: Span, text: &str, at: usize, width: usize) -> Span {
    let length = text.chars().count() as u32;
    let quote = match span.width.checked_sub(length) {
        Some(0) if span.line > 0 => 0,
        Some(2) if span.line > 0 => 1,
        _ => return span,
    };
    let before = text[..at].chars().count() as u32;
    Span { column: span.column + quote + before, width: width as u32, ..span }
}

fn write_out(node: &Node) -> Option<String> {
    match &node.data {
        Data::Text(text) => Some(text.clone()),
        Data::Bool(flag) => Some(flag.to_string()),
        Data::Number(number) => Some(format_number(number)),
        Data::Null | Data::List(_) | Data::Map(_) => None,
    }
}

/// Writes a number as people do: `0.0003`, not `3e-4`.
pub fn format_number(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => format!("{float}"),
        _ => number.to_string(),
    }
}

fn size_of_tree(node: &Node) -> usize {
    match &node.data {
        Data::List(elements) => 1 + elements.iter().map(size_of_tree).sum::<usize>(),
        Data::Map(entries) => 1 + entries.iter().map(|(_, value)| size_of_tree(value)).sum::<usize>(),
        Data::Text(text) => 1 + text.len() / 16,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::yaml;

    /// Fills in `value`, where `env:` declares `SET` (which is `yes`) and `UNSET`.
    fn filled(params: &str, value: &str) -> (Value, Vec<&'static str>) {
        let params = yaml::parse(params).unwrap();
        let env = EnvNames::from([("SET".into(), None), ("UNSET".into(), None), ("GIVEN".into(), Some("d".into()))]);
        let scope = Scope::new(Some(&params), &env, |name| (name == "SET").then(|| "yes".to_string()));
        let mut faults = Diagnostics::default();
        let value = scope.fill_params(&yaml::parse(value).unwrap(), &mut EnvUsed::new(), &mut faults);
        (value.to_json(), faults.errors.iter().map(|e| e.code).collect())
    }

    #[test]
    fn a_whole_reference_keeps_its_type() {
        let params = "{lr: 3.0e-4, n: 5, m: {k: [1, 2]}, again: \"${params.m}\"}";
        let (value, faults) = filled(params, "{a: \"${params.lr}\", b: \"${params.m.k}\", c: \"${params.again.k}\"}");
        assert_eq!((value, faults), (json!({"a": 3e-4, "b": [1, 2], "c": [1, 2]}), vec![]));
    }

    #[test]
    fn inside_a_text_values_are_written_out() {
        let (value, faults) =
            filled("{lr: 3.0e-4, n: 5}", "{a: \"lr=${params.lr}, n=${params.n}, $${x}, ${env.SET}${env.GIVEN}\"}");
        assert_eq!((value, faults), (json!({"a": "lr=0.0003, n=5, ${x}, yesd"}), vec![]));
    }

    #[test]
    fn the_shell_keeps_its_own_braces() {
        let text = "{shell: \"run ${in.x} ${HOME} ${params.n} ${out.y}\", argv: [\"${in.x}\", \"${params.n}\"]}";
        let (value, faults) = filled("{n: 5}", text);
        assert_eq!(value, json!({"shell": "run ${in.x} ${HOME} 5 ${out.y}", "argv": ["${in.x}", 5]}));
        assert_eq!(faults, Vec::<&str>::new());
    }

    #[test]
    fn faults_are_told_apart() {
        let params = "{a: \"${params.b}\", b: \"x${params.a}\", m: {k: 1}}";
        let cases = [
            ("${params.a}", code::PARAMS_CYCLE),
            ("${params.c}", code::UNKNOWN_NAME),
            ("${lr}", code::UNKNOWN_NAME),
            ("${params.m", code::UNKNOWN_NAME),
            ("${env.HOME}", code::UNKNOWN_NAME),
            ("${env.UNSET}", code::ENV_NOT_SET),
            ("x ${params.m}", code::WRONG_TYPE),
        ];
        for (text, expected) in cases {
            assert_eq!(filled(params, &format!("{{v: \"{text}\"}}")).1, vec![expected], "{text}");
        }
    }

    #[test]
    fn bombs_end_at_the_cap() {
        let doubling =
            (1..40).map(|i| format!("p{i}: \"${{params.p{}}}${{params.p{}}}\"\n", i - 1, i - 1)).collect::<String>();
        let lists = (1..40)
            .map(|i| format!("q{i}: [\"${{params.q{}}}\", \"${{params.q{}}}\"]\n", i - 1, i - 1))
            .collect::<String>();
        let chain = (1..500).map(|i| format!("r{i}: \"${{params.r{}}}\"\n", i - 1)).collect::<String>();
        let params = format!("p0: xx\n{doubling}q0: [1]\n{lists}r0: 1\n{chain}");
        for name in ["p39", "q39", "r499"] {
            assert_eq!(
                filled(&params, &format!("{{v: \"${{params.{name}}}\"}}")).1,
                vec![code::TEXT_TOO_LONG],
                "{name}"
            );
        }
    }
}
