//! Faults as annotations of a GitHub workflow: `::error file=...,line=...,col=...,title=...::message`.
//!
//! The escapes are those of actions/toolkit, `packages/core/src/command.ts`.

use crate::diagnostic::Diagnostic;

/// Returns the line that makes GitHub show a fault at its place.
pub fn annotation(fault: &Diagnostic) -> String {
    let place =
        |name: &str, value: Option<String>| value.map(|v| format!("{name}={},", property(&v))).unwrap_or_default();
    let file = place("file", fault.file.as_ref().map(|file| file.display().to_string()));
    let line = place("line", fault.line.map(|line| line.to_string()));
    let column = place("col", fault.column.map(|column| column.to_string()));
    let help = fault.full_help().map(|help| format!("\nhelp: {help}")).unwrap_or_default();
    format!("::error {file}{line}{column}title={}::{}", fault.code, data(&format!("{}{help}", fault.message)))
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Span;

    #[test]
    fn a_fault_is_one_line_with_its_place() {
        let span = Span { line: 3, column: 7, width: 2 };
        let fault = Diagnostic::at("E010", span, "100% too much").help("write less");
        let fault = Diagnostic { file: Some("a,b.yaml".into()), ..fault };
        assert_eq!(
            annotation(&fault),
            "::error file=a%2Cb.yaml,line=3,col=7,title=E010::100%25 too much%0Ahelp: write less"
        );
        assert_eq!(annotation(&Diagnostic::nowhere("E030", "no")), "::error title=E030::no");
    }
}
