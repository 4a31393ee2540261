//! Inputs that are files: relative to the pipeline, or below a root.

use std::path::{Component, PathBuf};

use super::{Binder, Found};
use crate::code;
use crate::diagnostic::Diagnostic;
use crate::language::nearest::did_you_mean;
use crate::node::Node;
use crate::port::{InPort, RecordType};
use crate::study::Source;

impl Binder<'_, '_> {
    /// Finds a path that is relative to the file it is written in.
    pub(super) fn file(&mut self, port: &InPort, path: &str, text: &str, node: &Node) -> Option<Found> {
        let path = self.all.place.absolute(path, node.base);
        self.checked_file(port, path, text, node)
    }

    /// Finds `ROOT:PATH`.
    pub(super) fn rooted(&mut self, port: &InPort, root: &str, path: &str, text: &str, node: &Node) -> Option<Found> {
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
        if path.components().any(|c| c == Component::ParentDir) {
            let message = format!("`{text}` leaves its root");
            self.faults.push(Diagnostic::at(code::OUTSIDE_ROOT, node.span, message).help("leave out `..`"));
            return None;
        }
        self.checked_file(port, path, text, node)
    }

    fn checked_file(&mut self, port: &InPort, path: PathBuf, text: &str, node: &Node) -> Option<Found> {
        if let Some(fault) = self.all.place.check(&path, text, node.span) {
            self.faults.push(fault);
            return None;
        }
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("file");
        let stem = name.split('.').find(|part| !part.is_empty()).unwrap_or(name).to_string();
        let record = port.accepts.first().copied().unwrap_or(RecordType::Bytes);
        Some((stem, Source::Path { path, text: text.to_string() }, record))
    }
}
