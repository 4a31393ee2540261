//! Faults of a pipeline as people and programs read them: code, message, place, help.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::node::Span;

/// One fault, with its place where it has one (a fault in `--set` has none).
///
/// As JSON it has the six fields of the contract; `help` then also holds what stands under the caret for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable code, for example `E012`.
    pub code: &'static str,
    /// What is wrong, lower case, no full stop.
    pub message: String,
    /// File of the fault.
    pub file: Option<PathBuf>,
    /// Line, from 1.
    pub line: Option<usize>,
    /// Column in characters, from 1.
    pub column: Option<usize>,
    /// How to mend it.
    pub help: Option<String>,
    /// Short text under the caret.
    pub label: String,
    /// Characters to underline.
    pub width: usize,
    /// Which `--set` the fault stands in, counted from 0.
    pub set: Option<usize>,
    /// A second place that belongs to the fault, with its label.
    pub also: Option<(Span, String)>,
}

impl Diagnostic {
    /// Returns a fault at a place.
    pub fn at(code: &'static str, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic { code, message: message.into(), ..Diagnostic::default() }.moved_to(span)
    }

    /// Returns a fault that stands nowhere in the text.
    pub fn nowhere(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { code, message: message.into(), ..Diagnostic::default() }
    }

    /// Says how to mend it; an empty text says nothing.
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into()).filter(|h| !h.is_empty());
        self
    }

    /// Writes under the caret.
    pub fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = label.into();
        self
    }

    /// Shows a second place; one on the command line is left out.
    pub fn also(mut self, span: Span, label: impl Into<String>) -> Diagnostic {
        self.also = Some((span, label.into())).filter(|(span, _)| span.line > 0);
        self
    }

    /// Returns the help, led by the label where that is a question: `did you mean ...?`.
    pub fn full_help(&self) -> Option<String> {
        match (self.label.ends_with('?'), &self.help) {
            (true, Some(help)) => Some(format!("{} {help}", self.label)),
            (true, None) => Some(self.label.clone()),
            (false, help) => help.clone(),
        }
    }

    /// Moves the fault to another place.
    pub fn moved_to(mut self, span: Span) -> Diagnostic {
        let in_file = span.line > 0;
        self.line = in_file.then_some(span.line as usize);
        self.column = in_file.then_some(span.column as usize);
        self.set = (!in_file).then_some(span.column as usize);
        self.width = span.width as usize;
        self
    }
}

impl Serialize for Diagnostic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Diagnostic", 6)?;
        fields.serialize_field("code", self.code)?;
        fields.serialize_field("message", &self.message)?;
        fields.serialize_field("file", &self.file)?;
        fields.serialize_field("line", &self.line)?;
        fields.serialize_field("column", &self.column)?;
        fields.serialize_field("help", &self.full_help())?;
        fields.end()
    }
}

/// All faults of a pipeline, in file order.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostics {
    /// The faults.
    pub errors: Vec<Diagnostic>,
    /// Text that the places refer to, for snippets.
    #[serde(skip)]
    pub text: String,
    /// The `--set` options, for faults that stand in them.
    #[serde(skip)]
    pub overrides: Vec<String>,
    /// There were more than are kept.
    #[serde(skip)]
    pub is_cut: bool,
}

/// Most faults that are told: nobody mends more at once, and a text of 4 MiB can hold 100,000.
const MOST: usize = 1000;

impl Diagnostics {
    /// Says whether looking for more is of no use.
    pub fn is_full(&self) -> bool {
        self.errors.len() >= MOST
    }

    /// Adds a fault.
    pub fn push(&mut self, fault: Diagnostic) {
        self.errors.push(fault);
    }

    /// Says whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// Puts the faults in file order, once each, and names the file. The command line comes first.
    pub fn finished(mut self, file: &Path, text: &str, overrides: &[String]) -> Diagnostics {
        for error in &mut self.errors {
            error.file = error.line.map(|_| file.to_path_buf()).or(error.file.take());
        }
        let place = |e: &Diagnostic| (e.line, e.column, e.set, e.code);
        self.errors.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.message.cmp(&b.message)));
        self.errors.dedup();
        self.is_cut = self.errors.len() >= MOST;
        self.errors.truncate(MOST);
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Diagnostics { text: text.to_string(), overrides: overrides.to_vec(), ..self }
    }
}

/// Lines of a text wider than this are cut around the caret.
const MAX_WIDTH: usize = 140;

/// The form for people: message, place, the text itself with carets, and the mend.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<&str> = self.text.lines().collect();
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            self.write_one(f, error, &lines)?;
        }
        if self.is_cut {
            writeln!(f, "\nonly the first {MOST} faults are shown: mend these, then check again")?;
        }
        Ok(())
    }
}

impl Diagnostics {
    fn write_one(&self, f: &mut fmt::Formatter<'_>, error: &Diagnostic, lines: &[&str]) -> fmt::Result {
        writeln!(f, "error[{}]: {}", error.code, error.message)?;
        if let (Some(file), Some(line), Some(column)) = (&error.file, error.line, error.column) {
            let also = error.also.as_ref().map(|(span, label)| (*span, label.as_str()));
            let margin = line.max(also.map_or(0, |(span, _)| span.line as usize)).to_string().len();
            writeln!(f, "{:margin$}--> {}:{line}:{column}", "", file.display())?;
            let span = Span { line: line as u32, column: column as u32, width: error.width as u32 };
            write_snippet(f, lines, span, &error.label, margin, '^')?;
            if let Some((span, label)) = also {
                writeln!(f, "{:margin$}::: {}:{}:{}", "", file.display(), span.line, span.column)?;
                write_snippet(f, lines, span, label, margin, '-')?;
            }
        } else if let Some(text) = error.set.and_then(|index| self.overrides.get(index)) {
            writeln!(f, " --> --set {}", printable(text))?;
        }
        let help = if error.line.is_some() { error.help.clone() } else { error.full_help() };
        help.map_or(Ok(()), |help| writeln!(f, "help: {help}"))
    }
}

fn write_snippet(
    f: &mut fmt::Formatter<'_>,
    lines: &[&str],
    span: Span,
    label: &str,
    margin: usize,
    mark: char,
) -> fmt::Result {
    let Some(line) = lines.get(span.line.saturating_sub(1) as usize) else { return Ok(()) };
    let text: Vec<char> = printable(line).chars().collect();
    let start = (span.column.max(1) as usize - 1).min(text.len());
    let width = (span.width as usize).clamp(1, (text.len() - start).max(1));
    let (from, to) = window(text.len(), start, width);
    let (lead, trail) = (if from > 0 { "…" } else { "" }, if to < text.len() { "…" } else { "" });
    let shown: String = text[from..to].iter().collect();
    let marks: String = std::iter::repeat_n(mark, width.min(to - start.min(to)).max(1)).collect();
    writeln!(f, "{:margin$} |", "")?;
    writeln!(f, "{:>margin$} | {lead}{}{trail}", span.line, shown.trim_end())?;
    let indent = start - from + lead.chars().count();
    writeln!(f, "{}", format!("{:margin$} | {:indent$}{marks} {label}", "", "").trim_end())
}

fn window(len: usize, start: usize, width: usize) -> (usize, usize) {
    if len <= MAX_WIDTH {
        return (0, len);
    }
    let middle = start + width.min(MAX_WIDTH) / 2;
    let from = middle.saturating_sub(MAX_WIDTH / 2).min(start);
    (from, (from + MAX_WIDTH).min(len))
}

/// Replaces what a terminal would obey (escapes, bidirectional marks) by a visible sign, and tabs by a space.
fn printable(text: &str) -> String {
    let is_odd = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .map(|c| {
            if c == '\t' {
                ' '
            } else if is_odd(c) {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_shows_its_text_with_carets() {
        let text = "stages:\n  tuned:\n    in: {train: mixed.exmples}\n";
        let span = Span { line: 3, column: 17, width: 13 };
        let fault = Diagnostic::at("E014", span, "stage `tuned` reads `mixed.exmples`, which no stage writes")
            .label("unknown output")
            .help("stage `mixed` writes `examples`");
        let all =
            Diagnostics { errors: vec![fault], ..Diagnostics::default() }.finished(Path::new("p.yaml"), text, &[]);
        let expected = "\
error[E014]: stage `tuned` reads `mixed.exmples`, which no stage writes
 --> p.yaml:3:17
  |
3 |     in: {train: mixed.exmples}
  |                 ^^^^^^^^^^^^^ unknown output
help: stage `mixed` writes `examples`
";
        assert_eq!(all.to_string(), expected);
    }

    #[test]
    fn terminal_escapes_in_the_text_are_not_passed_on() {
        assert_eq!(printable("a\u{1b}[31mb\u{202e}\tc"), "a\u{fffd}[31mb\u{fffd} c");
    }

    #[test]
    fn long_lines_are_cut_around_the_caret() {
        let text = format!("{}BAD{}", "x".repeat(500), "y".repeat(500));
        let fault = Diagnostic::at("E001", Span { line: 1, column: 501, width: 3 }, "bad");
        let all =
            Diagnostics { errors: vec![fault], ..Diagnostics::default() }.finished(Path::new("p.yaml"), &text, &[]);
        let shown = all.to_string();
        assert!(shown.lines().all(|line| line.chars().count() < 160) && shown.contains("BAD"), "{shown}");
    }
}
