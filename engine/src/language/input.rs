//! Inputs of a stage: short forms spelled out, types compared, files looked at.

mod file;
mod output;
mod remote;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use crate::cases;
use crate::code;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::language::fetch::Fetch;
use crate::language::nearest::{did_you_mean, listed, nearest};
use crate::language::place::Place;
use crate::language::reference::{self, OutputRef, Reference};
use crate::node::{Data, Node, Span};
use crate::port::{Arity, Class, InPort, OutPort, Ports, RecordType};
use crate::study::{Binding, CaseRef, Source};

/// What other stages need to know of a stage to read it.
pub struct Writer {
    /// Its name.
    pub name: String,
    /// Where its name stands.
    pub span: Span,
    /// Name of its kind, if known.
    pub kind: Option<&'static str>,
    /// What it reads and writes; nothing when that is not known.
    pub ports: Option<Ports>,
}

/// Everything that inputs may name.
pub struct Sources<'a> {
    /// The stages of the case.
    pub stages: &'a [Writer],
    /// Index of each stage by its name.
    pub by_name: &'a HashMap<&'a str, usize>,
    /// Sweeps and their cases.
    pub sweeps: &'a BTreeMap<String, Vec<String>>,
    /// Files.
    pub place: &'a Place,
    /// Reads the environment.
    pub lookup: fn(&str) -> Option<String>,
    /// Whether the program has a kind that fetches.
    pub can_fetch: bool,
    /// Files to fetch that inputs named so far, by the name of their stage.
    pub fetches: RefCell<BTreeMap<String, Fetch>>,
}

/// An input and where it is written.
pub type Bound = (Binding, Span);

/// What an input was found to be: the label that it has by itself, where its bytes come from, their type.
type Found = (String, Source, RecordType);

/// Binds the inputs of stage `reader`; `node` is its `in:` with `${}` replaced.
pub fn bind(reader: &Writer, node: Option<&Node>, all: &Sources<'_>, faults: &mut Diagnostics) -> Vec<Bound> {
    let Some(ports) = &reader.ports else { return Vec::new() };
    let mut binder = Binder { reader, ports, all, bound: Vec::new(), tried: Vec::new(), faults };
    match node.map(|n| (n, &n.data)) {
        None | Some((_, Data::Null)) => {}
        Some((_, Data::Map(entries))) => {
            for (key, value) in entries {
                binder.port(&key.text, key.span, value);
            }
        }
        Some((node, Data::Text(text))) => binder.whole(node, text),
        Some((node, _)) => {
            let message = format!(
                "`in` of stage `{}`: expected an input or a map of ports, found {}",
                reader.name,
                node.describe()
            );
            let help = "write `in: STAGE`, or `in: {PORT: STAGE.port}`";
            binder.faults.push(Diagnostic::at(code::WRONG_SHAPE, node.span, message).help(help));
            return Vec::new();
        }
    }
    binder.demand_required(reader.span);
    binder.keep_cases_free();
    let mut bound = binder.bound;
    bound.sort_by(|(a, _), (b, _)| (&a.port, &a.label).cmp(&(&b.port, &b.label)));
    bound
}

struct Binder<'a, 'f> {
    reader: &'a Writer,
    ports: &'a Ports,
    all: &'a Sources<'a>,
    bound: Vec<Bound>,
    /// Ports that the user wrote, bound or not, so that no second fault is reported for them.
    tried: Vec<String>,
    faults: &'f mut Diagnostics,
}

impl<'a> Binder<'a, '_> {
    /// `in: {PORT: value}`.
    fn port(&mut self, name: &str, key: Span, value: &Node) {
        let Some(port) = self.find_port(name, key) else { return };
        // An empty map gives a port nothing.
        if !value.as_map().is_some_and(<[_]>::is_empty) {
            self.tried.push(name.to_string());
        }
        match &value.data {
            Data::Text(text) => self.one(&port, None, value, text),
            Data::Map(entries) if port.arity.is_many() => {
                for (label, value) in entries {
                    match value.as_text() {
                        Some(text) => self.one(&port, Some(&label.text), value, text),
                        None => self.not_an_input(&port, value),
                    }
                }
            }
            Data::Null if !port.arity.is_required() => {}
            _ => self.not_an_input(&port, value),
        }
    }

    fn find_port(&mut self, name: &str, key: Span) -> Option<InPort> {
        if let Some(port) = self.ports.find_input(name) {
            return Some(port.clone());
        }
        if self.ports.open_inputs {
            let port = InPort { name: name.to_string().into(), accepts: vec![RecordType::Bytes], arity: Arity::One };
            return self.is_name(name, key).then_some(port);
        }
        let names = || self.ports.inputs.iter().map(|p| p.name.as_ref());
        let message =
            format!("stage `{}` ({}) has no input `{name}`", self.reader.name, self.reader.kind.unwrap_or("?"));
        let fault = Diagnostic::at(code::UNKNOWN_PORT, key, message);
        self.faults.push(fault.label(did_you_mean(name, names())).help(listed("inputs", names())));
        // The port that was meant is not missing as well.
        self.tried.extend(nearest(name, names()).map(str::to_string));
        None
    }

    /// Says whether an input may be called so: it becomes a file's name and, with `_` for `-`, a variable's.
    fn is_name(&mut self, name: &str, key: Span) -> bool {
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        let message = if !plain || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            format!("`{name}` is no name for an input")
        } else if let Some(twin) = self.tried.iter().find(|tried| tried.replace('-', "_") == name.replace('-', "_")) {
            format!("inputs `{twin}` and `{name}` would be the same variable")
        } else {
            return true;
        };
        let help = "a letter, then letters, digits, `_` or `-`; `-` and `_` count as one";
        self.faults.push(Diagnostic::at(code::UNKNOWN_PORT, key, message).help(help));
        false
    }

    fn not_an_input(&mut self, port: &InPort, node: &Node) {
        let (wanted, help) = if port.arity.is_many() {
            ("an input or a map of label to input", format!("write `{}: {{LABEL: STAGE.port}}`", port.name))
        } else {
            ("one input", format!("write `{}: STAGE.port` or a path that begins with `./`", port.name))
        };
        let message = format!(
            "input `{}` of stage `{}`: expected {wanted}, found {}",
            port.name,
            self.reader.name,
            node.describe()
        );
        self.faults.push(Diagnostic::at(code::WRONG_SHAPE, node.span, message).help(help));
    }

    /// `in: S`, `in: S.port` or `in: ./path`.
    fn whole(&mut self, node: &Node, text: &str) {
        let required: Vec<InPort> = self.ports.inputs.iter().filter(|p| p.arity.is_required()).cloned().collect();
        match self.parse(text) {
            Reference::Output(OutputRef { stage, port: None, inside: None, .. }) => {
                let Some(writer) = self.writer(stage, node.span, text) else { return self.tried_all() };
                let optional = self.ports.inputs.iter().filter(|p| !p.arity.is_required());
                let by_name: Vec<InPort> =
                    optional.filter(|p| data_output(writer, &p.name).is_some()).cloned().collect();
                if required.is_empty() && by_name.is_empty() && writer.ports.is_some() {
                    self.fills_nothing(node, text);
                }
                for port in required.iter().chain(&by_name) {
                    self.tried.push(port.name.to_string());
                    self.one(port, None, node, text);
                }
            }
            _ => match &required[..] {
                [port] => {
                    self.tried.push(port.name.to_string());
                    self.one(port, None, node, text);
                }
                _ => {
                    self.tried_all();
                    self.fills_nothing(node, text);
                }
            },
        }
    }

    fn tried_all(&mut self) {
        self.tried.extend(self.ports.inputs.iter().map(|p| p.name.to_string()));
    }

    fn fills_nothing(&mut self, node: &Node, text: &str) {
        let names: Vec<&str> = self.ports.inputs.iter().map(|p| p.name.as_ref()).collect();
        let required = self.ports.inputs.iter().filter(|p| p.arity.is_required()).count();
        let why = if required == 0 { "no required input" } else { "several required inputs" };
        let message =
            format!("`in: {text}` does not say which input of stage `{}` it is: its kind has {why}", self.reader.name);
        let help = match names.first() {
            Some(first) => format!("write `in: {{{first}: {text}}}`; {}", listed("inputs", names.iter().copied())),
            None if self.ports.open_inputs => format!("write `in: {{NAME: {text}}}`"),
            None => "this kind reads nothing: remove `in`".to_string(),
        };
        self.faults.push(Diagnostic::at(code::AMBIGUOUS_INPUT, node.span, message).help(help));
    }

    fn parse<'t>(&self, text: &'t str) -> Reference<'t> {
        let is_case =
            |sweep: &str, case: &str| self.all.sweeps.get(sweep).is_some_and(|cases| cases.iter().any(|c| c == case));
        reference::parse(text, is_case)
    }

    /// Binds one text to a port.
    fn one(&mut self, port: &InPort, label: Option<&str>, node: &Node, text: &str) {
        let found = match self.parse(text) {
            Reference::Path(path) => self.file(port, path, text, node),
            Reference::Rooted(root, path) => self.rooted(port, root, path, text, node),
            Reference::Remote(scheme, rest) => self.remote(port, scheme, rest, text, node),
            Reference::Output(output) => self.output(port, &output, text, node),
        };
        let Some((name, source, record)) = found else { return };
        let label = label.map_or(name, str::to_string);
        if self.bound.iter().any(|(b, _)| b.port == port.name && b.label == label) {
            return;
        }
        self.bound.push((Binding { port: port.name.to_string(), label, source, record }, node.span));
    }

    fn demand_required(&mut self, span: Span) {
        let missing =
            self.ports.inputs.iter().filter(|p| p.arity.is_required() && !self.tried.iter().any(|t| *t == p.name));
        for port in missing {
            let message = format!(
                "stage `{}` ({}) needs input `{}`",
                self.reader.name,
                self.reader.kind.unwrap_or("?"),
                port.name
            );
            let help = format!("add `in: {{{}: ...}}`, which takes {}", port.name, types(port));
            self.faults.push(Diagnostic::at(code::MISSING_INPUT, span, message).help(help));
        }
    }

    /// The port on which the stage is told of the cases is nobody else's.
    fn keep_cases_free(&mut self) {
        let is_all = |(b, _): &Bound| matches!(b.source, Source::Output { case: CaseRef::All, .. });
        if !self.ports.told_cases || !self.bound.iter().any(is_all) {
            return;
        }
        for (_, span) in self.bound.iter().filter(|(binding, _)| binding.port == cases::PORT) {
            let reader = &self.reader.name;
            let message = format!("input `{}` of stage `{reader}` is the list of the cases that it reads", cases::PORT);
            let fault = Diagnostic::at(code::WRONG_SHAPE, *span, message);
            self.faults.push(fault.help("call the input otherwise; a reader of `STAGE@*` gets `cases.json` there"));
        }
    }
}

fn types(port: &InPort) -> String {
    let names: Vec<String> = port.accepts.iter().map(|t| t.name().to_string()).collect();
    crate::language::shape::words_or(&names)
}

fn data_output<'w>(writer: &'w Writer, name: &str) -> Option<&'w OutPort> {
    writer.ports.as_ref()?.find_output(name).filter(|out| out.class == Class::Data)
}
