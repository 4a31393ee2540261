//! Inputs of a stage: short forms spelled out, types compared, files looked at.

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

    fn file(&mut self, port: &InPort, path: &str, text: &str, node: &Node) -> Option<(String, Source, RecordType)> {
        let path = self.all.place.absolute(path, node.base);
        self.checked_file(port, path, text, node)
    }

    fn rooted(
        &mut self,
        port: &InPort,
        root: &str,
        path: &str,
        text: &str,
        node: &Node,
    ) -> Option<(String, Source, RecordType)> {
        let roots = &self.all.place.roots;
        let Some(folder) = roots.get(root) else {
            if self.all.place.broken_roots.contains(root) {
                return None;
            }
            let fault = Diagnostic::at(code::UNKNOWN_SOURCE, node.span, format!("there is no root `{root}`"));
            let near = did_you_mean(root, roots.keys().map(String::as_str));
            let help = if path.starts_with('\\') {
                "write paths with `/`, beginning with `./`, `../` or `/`".to_string()
            } else {
                format!("add `roots: {{{root}: {{default: ./{root}}}}}`, or begin a path with `./`")
            };
            self.faults.push(fault.label(near).help(help));
            return None;
        };
        let path = folder.join(path.trim_start_matches('/'));
        if path.components().any(|c| c == std::path::Component::ParentDir) {
            let message = format!("`{text}` leaves its root");
            self.faults.push(Diagnostic::at(code::OUTSIDE_ROOT, node.span, message).help("leave out `..`"));
            return None;
        }
        self.checked_file(port, path, text, node)
    }

    fn checked_file(
        &mut self,
        port: &InPort,
        path: std::path::PathBuf,
        text: &str,
        node: &Node,
    ) -> Option<(String, Source, RecordType)> {
        if let Some(fault) = self.all.place.check(&path, text, node.span) {
            self.faults.push(fault);
            return None;
        }
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("file");
        let stem = name.split('.').find(|part| !part.is_empty()).unwrap_or(name).to_string();
        let record = port.accepts.first().copied().unwrap_or(RecordType::Bytes);
        Some((stem, Source::Path { path, text: text.to_string() }, record))
    }

    fn output(
        &mut self,
        port: &InPort,
        named: &OutputRef<'_>,
        text: &str,
        node: &Node,
    ) -> Option<(String, Source, RecordType)> {
        let writer = self.writer(named.stage, node.span, text)?;
        self.check_case(port, named, node)?;
        let ports = writer.ports.as_ref()?;
        let out = match named.port {
            Some(name) => self.named_output(writer, ports, name, node)?,
            None => self.chosen_output(writer, ports, port, text, node)?,
        };
        let record = if named.inside.is_some() { RecordType::Bytes } else { out.record };
        if let Some(inside) = named.inside.filter(|i| i.split('/').any(|part| matches!(part, "" | "." | ".."))) {
            let message = format!("`{inside}` is no path inside an output");
            self.faults.push(
                Diagnostic::at(code::UNKNOWN_SOURCE, node.span, message).help("write it without `.`, `..` and `//`"),
            );
            return None;
        }
        if !port.accepts.iter().any(|wanted| record.satisfies(*wanted)) {
            self.wrong_record(port, writer, ports, out, node);
            return None;
        }
        let source = Source::Output {
            stage: named.stage.to_string(),
            port: out.name.to_string(),
            inside: named.inside.map(str::to_string),
            case: named.case.clone(),
        };
        Some((named.stage.to_string(), source, record))
    }

    fn writer(&mut self, stage: &str, span: Span, text: &str) -> Option<&'a Writer> {
        if let Some(index) = self.all.by_name.get(stage) {
            return Some(&self.all.stages[*index]);
        }
        let names = || self.all.stages.iter().map(|s| s.name.as_str());
        let message = format!("stage `{}` reads `{text}`, which no stage writes", self.reader.name);
        let looks_like_file = text.contains('/') || text.starts_with('~') || self.all.place.folder.join(text).exists();
        let help = if let Some(rest) = text.strip_prefix("~/") {
            format!("`~` stands for nothing here: write `roots: {{home: {{env: HOME}}}}` and `home:{rest}`")
        } else if looks_like_file {
            format!("a path begins with `./`, `../` or `/`: write `./{text}`")
        } else {
            listed("stages", names())
        };
        let near = did_you_mean(stage, names());
        let label = if near.is_empty() { "unknown stage".to_string() } else { near };
        self.faults.push(Diagnostic::at(code::UNKNOWN_SOURCE, span, message).label(label).help(help));
        None
    }

    fn check_case(&mut self, port: &InPort, named: &OutputRef<'_>, node: &Node) -> Option<()> {
        match &named.case {
            CaseRef::Same => Some(()),
            CaseRef::All if port.arity.is_many() || self.ports.open_inputs => Some(()),
            CaseRef::All => {
                let message =
                    format!("input `{}` of stage `{}` takes one input, found all cases", port.name, self.reader.name);
                let help = "name one case: `STAGE@SWEEP/CASE`";
                self.faults.push(Diagnostic::at(code::WRONG_SHAPE, node.span, message).help(help));
                None
            }
            CaseRef::Named { sweep, case } => {
                let (message, near, help) = match self.all.sweeps.get(sweep) {
                    Some(cases) if cases.contains(case) => return Some(()),
                    Some(cases) => {
                        let names = || cases.iter().map(String::as_str);
                        (
                            format!("sweep `{sweep}` has no case `{case}`"),
                            did_you_mean(case, names()),
                            listed("cases", names()),
                        )
                    }
                    None => {
                        let names = || self.all.sweeps.keys().map(String::as_str);
                        (
                            format!("there is no sweep `{sweep}`"),
                            did_you_mean(sweep, names()),
                            listed("sweeps", names()),
                        )
                    }
                };
                self.faults.push(Diagnostic::at(code::UNKNOWN_SWEEP, node.span, message).label(near).help(help));
                None
            }
        }
    }

    /// `S.port`.
    fn named_output(&mut self, writer: &'a Writer, ports: &'a Ports, name: &str, node: &Node) -> Option<&'a OutPort> {
        let names = || ports.outputs.iter().filter(|o| o.class == Class::Data).map(|o| o.name.as_ref());
        let (code, message, label) = match ports.find_output(name) {
            Some(out) if out.class == Class::Data => return Some(out),
            Some(_) => {
                let message = format!("`{}.{name}` is a report, which no stage may read", writer.name);
                (code::REPORT_AS_INPUT, message, "a report".to_string())
            }
            None => {
                let message =
                    format!("stage `{}` reads `{}.{name}`, which no stage writes", self.reader.name, writer.name);
                let near = did_you_mean(name, names());
                (code::UNKNOWN_SOURCE, message, if near.is_empty() { "unknown output".to_string() } else { near })
            }
        };
        let help = listed(&format!("outputs of `{}`", writer.name), names());
        self.faults.push(Diagnostic::at(code, node.span, message).label(label).help(help));
        None
    }

    /// `S`: the output of the port's name, else the only one of exactly its type, else the only one that will do.
    fn chosen_output(
        &mut self,
        writer: &'a Writer,
        ports: &'a Ports,
        port: &InPort,
        text: &str,
        node: &Node,
    ) -> Option<&'a OutPort> {
        if let Some(out) = data_output(writer, &port.name) {
            return Some(out);
        }
        let only = |fits: &dyn Fn(&OutPort) -> bool| {
            let mut found = ports.outputs.iter().filter(|out| out.class == Class::Data && fits(out));
            found.next().filter(|_| found.next().is_none())
        };
        let will_do = |out: &OutPort| port.accepts.iter().any(|wanted| out.record.satisfies(*wanted));
        if let Some(out) = only(&|out| port.accepts.contains(&out.record)).or_else(|| only(&will_do)) {
            return Some(out);
        }
        let candidates: Vec<String> = ports
            .outputs
            .iter()
            .filter(|o| o.class == Class::Data && will_do(o))
            .map(|o| format!("{}.{}", writer.name, o.name))
            .collect();
        let wanted = types(port);
        let (message, help) = if candidates.is_empty() {
            let message = format!(
                "input `{}` of stage `{}` takes {wanted}, and `{text}` writes none",
                port.name, self.reader.name
            );
            (message, typed_outputs(writer, ports))
        } else {
            let message =
                format!("`{text}` could be several outputs for input `{}` of stage `{}`", port.name, self.reader.name);
            (message, listed("name one of them", candidates.iter().map(String::as_str)))
        };
        let code = if candidates.is_empty() { code::WRONG_RECORD } else { code::AMBIGUOUS_INPUT };
        self.faults.push(Diagnostic::at(code, node.span, message).also(writer.span, described(writer)).help(help));
        None
    }

    fn wrong_record(&mut self, port: &InPort, writer: &Writer, ports: &Ports, out: &OutPort, node: &Node) {
        let message = format!(
            "input `{}` of stage `{}` takes {}, found `{}` from `{}.{}`",
            port.name,
            self.reader.name,
            types(port),
            out.record,
            writer.name,
            out.name
        );
        let fault = Diagnostic::at(code::WRONG_RECORD, node.span, message).label(format!("`{}`", out.record));
        self.faults.push(fault.also(writer.span, described(writer)).help(typed_outputs(writer, ports)));
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

fn described(writer: &Writer) -> String {
    format!("written by this `{}`", writer.kind.unwrap_or("?"))
}

fn typed_outputs(writer: &Writer, ports: &Ports) -> String {
    let data = ports.outputs.iter().filter(|o| o.class == Class::Data);
    let names: Vec<String> = data.map(|o| format!("{} ({})", o.name, o.record)).collect();
    listed(&format!("outputs of `{}`", writer.name), names.iter().map(String::as_str))
}

fn data_output<'w>(writer: &'w Writer, name: &str) -> Option<&'w OutPort> {
    writer.ports.as_ref()?.find_output(name).filter(|out| out.class == Class::Data)
}
