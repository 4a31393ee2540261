//! What the text of an input says: a path, an output of a stage, or something from elsewhere.

use crate::study::CaseRef;

/// What stands before `:` in inputs from elsewhere, so that no root is called so.
pub const REMOTE: [&str; 7] = ["hf", "http", "https", "ftp", "gs", "s3", "az"];

/// A text of `in:`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference<'t> {
    /// `./x`, `../x`, `/x`.
    Path(&'t str),
    /// `ROOT:path`.
    Rooted(&'t str, &'t str),
    /// `hf:...`, `https:...`: what stands before and behind the colon.
    Remote(&'t str, &'t str),
    /// `S`, `S.port`, `S.port/path`, each perhaps with `@*` or `@SWEEP/CASE`.
    Output(OutputRef<'t>),
}

/// A reference to a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputRef<'t> {
    /// The stage.
    pub stage: &'t str,
    /// The output, if named.
    pub port: Option<&'t str>,
    /// A file of a folder output.
    pub inside: Option<&'t str>,
    /// Which case of the stage.
    pub case: CaseRef,
}

/// Takes a text apart. `is_case(sweep, case)` tells known cases from a case followed by `.port`, since both hold dots.
pub fn parse<'t>(text: &'t str, is_case: impl Fn(&str, &str) -> bool) -> Reference<'t> {
    if text.starts_with("./") || text.starts_with("../") || text.starts_with('/') || text == "." || text == ".." {
        return Reference::Path(text);
    }
    if let Some((head, rest)) = text.split_once(':').filter(|(head, _)| !head.contains(['.', '@', '/'])) {
        return if REMOTE.contains(&head) { Reference::Remote(head, rest) } else { Reference::Rooted(head, rest) };
    }
    let Some((left, right)) = text.split_once('@') else {
        let (stage, port, inside) = split_port(text);
        return Reference::Output(OutputRef { stage, port, inside, case: CaseRef::Same });
    };
    let (case, tail) = split_case(right, is_case);
    let (stage, mut port, mut inside) = split_port(left);
    if let Some(tail) = tail {
        (port, inside) = split_inside(tail);
    }
    Reference::Output(OutputRef { stage, port, inside, case })
}

fn split_port(text: &str) -> (&str, Option<&str>, Option<&str>) {
    match text.split_once('.') {
        Some((stage, rest)) => {
            let (port, inside) = split_inside(rest);
            (stage, port, inside)
        }
        None => (text, None, None),
    }
}

fn split_inside(text: &str) -> (Option<&str>, Option<&str>) {
    match text.split_once('/') {
        Some((port, inside)) => (Some(port), Some(inside)),
        None => (Some(text), None),
    }
}

fn split_case(text: &str, is_case: impl Fn(&str, &str) -> bool) -> (CaseRef, Option<&str>) {
    if let Some(rest) = text.strip_prefix('*') {
        return (CaseRef::All, rest.strip_prefix('.'));
    }
    let (sweep, rest) = text.split_once('/').unwrap_or((text, ""));
    let named = |case: &str| CaseRef::Named { sweep: sweep.into(), case: case.into() };
    if is_case(sweep, rest) {
        return (named(rest), None);
    }
    let ends = rest.match_indices('.').map(|(at, _)| at).collect::<Vec<_>>();
    match ends.into_iter().rev().find(|at| is_case(sweep, &rest[..*at])) {
        Some(at) => (named(&rest[..at]), Some(&rest[at + 1..])),
        None => (named(rest), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(text: &str) -> OutputRef<'_> {
        match parse(text, |sweep, case| sweep == "s" && matches!(case, "c" | "lr=0.1")) {
            Reference::Output(found) => found,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn outputs_are_taken_apart() {
        let plain = |stage, port, inside, case| OutputRef { stage, port, inside, case };
        let named = |case: &str| CaseRef::Named { sweep: "s".into(), case: case.into() };
        assert_eq!(output("a"), plain("a", None, None, CaseRef::Same));
        assert_eq!(output("a.b/c/d.json"), plain("a", Some("b"), Some("c/d.json"), CaseRef::Same));
        assert_eq!(output("a@*"), plain("a", None, None, CaseRef::All));
        assert_eq!(output("a.b@*"), plain("a", Some("b"), None, CaseRef::All));
        assert_eq!(output("a@s/lr=0.1"), plain("a", None, None, named("lr=0.1")));
        assert_eq!(output("a@s/lr=0.1.b"), plain("a", Some("b"), None, named("lr=0.1")));
        assert_eq!(output("a@s/other.b"), plain("a", None, None, named("other.b")));
    }

    #[test]
    fn paths_and_later_forms_are_told_apart() {
        let parse = |text| parse(text, |_, _| false);
        assert_eq!(parse("../a.b"), Reference::Path("../a.b"));
        assert_eq!(parse("hf:org/name@abc"), Reference::Remote("hf", "org/name@abc"));
        assert_eq!(parse("https://x/y"), Reference::Remote("https", "//x/y"));
        assert_eq!(parse("models:llama/1.gguf"), Reference::Rooted("models", "llama/1.gguf"));
    }
}
