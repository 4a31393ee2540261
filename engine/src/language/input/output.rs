//! Inputs that another stage writes: which stage, which case, which of its outputs, and whether the port takes it.

use super::{Binder, Found, Writer, data_output, types};
use crate::code;
use crate::diagnostic::Diagnostic;
use crate::language::nearest::{did_you_mean, listed};
use crate::language::reference::OutputRef;
use crate::node::{Node, Span};
use crate::port::{Class, InPort, OutPort, Ports, RecordType};
use crate::study::{CaseRef, Source};

impl<'a> Binder<'a, '_> {
    /// Finds what `STAGE.port/inside@CASE` names.
    pub(super) fn output(&mut self, port: &InPort, named: &OutputRef<'_>, text: &str, node: &Node) -> Option<Found> {
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

    /// Finds the stage of this name; `text` is the input as written.
    pub(super) fn writer(&mut self, stage: &str, span: Span, text: &str) -> Option<&'a Writer> {
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
}

fn described(writer: &Writer) -> String {
    format!("written by this `{}`", writer.kind.unwrap_or("?"))
}

fn typed_outputs(writer: &Writer, ports: &Ports) -> String {
    let data = ports.outputs.iter().filter(|o| o.class == Class::Data);
    let names: Vec<String> = data.map(|o| format!("{} ({})", o.name, o.record)).collect();
    listed(&format!("outputs of `{}`", writer.name), names.iter().map(String::as_str))
}
