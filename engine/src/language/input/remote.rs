//! Inputs from elsewhere: snapshots of the Hugging Face cache, files that are fetched, and what is not there yet.

use super::{Binder, Found};
use crate::code;
use crate::diagnostic::Diagnostic;
use crate::language::fetch::{self, Fetch};
use crate::language::hub::{self, Snapshot};
use crate::node::Node;
use crate::port::{InPort, RecordType};
use crate::study::{CaseRef, Source};

impl Binder<'_, '_> {
    /// Finds what `SCHEME:REST` names.
    pub(super) fn remote(&mut self, port: &InPort, scheme: &str, rest: &str, text: &str, node: &Node) -> Option<Found> {
        match scheme {
            "hf" => self.snapshot(port, rest, text, node),
            "https" | "http" => self.fetched(port, text, node),
            _ => self.not_available(scheme, node),
        }
    }

    fn snapshot(&mut self, port: &InPort, rest: &str, text: &str, node: &Node) -> Option<Found> {
        let hub = hub::folder(self.all.lookup);
        let snapshot = match Snapshot::parse(rest, &hub) {
            Ok(snapshot) => snapshot,
            Err(fault) => return self.unpinned(fault, node),
        };
        let path = snapshot.path(&hub);
        if !path.exists() {
            let message = format!("`{text}` is not in the Hugging Face cache");
            let help = format!("fetch it with `{}`; looked for `{}`", snapshot.command(), path.display());
            self.faults.push(Diagnostic::at(code::MISSING_FILE, node.span, message).help(help));
            return None;
        }
        if let Some(fault) = self.all.place.check_within(&snapshot.folder(&hub), &path, text, node.span) {
            self.faults.push(fault);
            return None;
        }
        Some((stem(snapshot.name()), Source::Path { path, text: text.to_string() }, first_type(port)))
    }

    fn fetched(&mut self, port: &InPort, text: &str, node: &Node) -> Option<Found> {
        let fetch = match Fetch::parse(text) {
            Ok(fetch) => fetch,
            Err(fault) => return self.unpinned(fault, node),
        };
        if !self.all.can_fetch {
            return self.not_available("https", node);
        }
        let source = Source::Output {
            stage: fetch.stage(),
            port: fetch::PORT.into(),
            inside: Some(fetch.file.clone()),
            case: CaseRef::Same,
        };
        let label = stem(&fetch.file);
        self.all.fetches.borrow_mut().entry(fetch.stage()).or_insert(fetch);
        Some((label, source, first_type(port)))
    }

    fn unpinned(&mut self, (message, help): hub::Fault, node: &Node) -> Option<Found> {
        self.faults.push(Diagnostic::at(code::UNPINNED, node.span, message).help(help));
        None
    }

    fn not_available(&mut self, scheme: &str, node: &Node) -> Option<Found> {
        let message = format!("`{scheme}:` inputs are not available yet");
        let help = "download it into the project and write its path, for example `./data/NAME`";
        self.faults.push(Diagnostic::at(code::NOT_AVAILABLE, node.span, message).help(help));
        None
    }
}

fn first_type(port: &InPort) -> RecordType {
    port.accepts.first().copied().unwrap_or(RecordType::Bytes)
}

fn stem(name: &str) -> String {
    name.split('.').find(|part| !part.is_empty()).unwrap_or(name).to_string()
}
