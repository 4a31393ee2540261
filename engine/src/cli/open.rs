//! From the words of the command line to an open session.

use std::path::{Path, PathBuf};

use super::{Choice, Common, Format, github, out};
use crate::code;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::graph::{Graph, NodeId};
use crate::language::{self, Kinds, LoadRequest};
use crate::session::Session;
use crate::stage::Kind;
use crate::study::Study;

/// Exit code of an invalid pipeline.
pub const INVALID: i32 = 3;

/// Loads the pipeline that a command names, and tells what is wrong with it.
///
/// # Errors
/// The exit code, after the diagnostics were printed.
pub fn study(choice: &Choice, common: &Common, kinds: fn() -> Vec<Kind>, check_all: bool) -> Result<Study, i32> {
    request(choice, common, kinds, check_all).map(|(_, study)| study)
}

/// The same, with what was asked for.
///
/// # Errors
/// The exit code, after the diagnostics were printed.
pub fn request(
    choice: &Choice,
    common: &Common,
    kinds: fn() -> Vec<Kind>,
    check_all: bool,
) -> Result<(LoadRequest, Study), i32> {
    let is_piped = file_of(&choice.words) == Path::new("-");
    let text = if is_piped { Some(std::io::read_to_string(std::io::stdin()).unwrap_or_default()) } else { None };
    let request = load_request(choice, text, check_all);
    let study = language::load(&request, &Kinds::new(kinds())).map_err(|faults| refuse(&faults, common))?;
    Ok((request, study))
}

/// Returns what a command asks to load.
pub fn load_request(choice: &Choice, text: Option<String>, check_all: bool) -> LoadRequest {
    LoadRequest {
        text,
        overrides: choice.set.clone(),
        sweep: choice.sweep.clone().or_else(|| stages_of(&choice.words).iter().find_map(|word| sweep_in(word))),
        cases: choice.cases.clone(),
        max_cases: choice.max_cases,
        check_all,
        ..LoadRequest::new(file_of(&choice.words))
    }
}

/// Opens the pipeline that a command names on its store.
///
/// # Errors
/// The exit code, after the fault was printed.
pub fn session(choice: &Choice, common: &Common, kinds: fn() -> Vec<Kind>) -> Result<Session, i32> {
    let study = study(choice, common, kinds, false)?;
    let cache = cache_of(&study.root, common);
    Session::open(study, &cache).map_err(|error| {
        out::complain(format!("error: {error}"));
        4
    })
}

/// Finds the nodes that the words after FILE name.
///
/// # Errors
/// Exit code 3 for a name that there is not.
pub fn targets(session: &Session, choice: &Choice, common: &Common) -> Result<Vec<NodeId>, i32> {
    let mut nodes = Vec::new();
    for word in stages_of(&choice.words) {
        nodes.extend(nodes_named(session, word, common)?);
    }
    Ok(nodes)
}

/// Finds the nodes called `stage`, `stage@case` or `stage@sweep/case`.
///
/// # Errors
/// Exit code 3 for a name that there is not.
pub fn nodes_named(session: &Session, word: &str, common: &Common) -> Result<Vec<NodeId>, i32> {
    let found = find(&session.graph, &session.study, word);
    if found.is_empty() { Err(unknown_stage(word, &session.study, common)) } else { Ok(found) }
}

/// Says whether the words after FILE all name something, for commands that open no store.
///
/// # Errors
/// Exit code 3 for a name that there is not.
pub fn check_words(study: &Study, choice: &Choice, common: &Common) -> Result<(), i32> {
    let words = stages_of(&choice.words);
    if words.is_empty() {
        return Ok(());
    }
    let graph = Graph::build(study);
    let unknown = words.iter().find(|word| find(&graph, study, word).is_empty());
    unknown.map_or(Ok(()), |word| Err(unknown_stage(word, study, common)))
}

/// Finds the nodes that a word names, if there are any.
fn find(graph: &Graph, study: &Study, word: &str) -> Vec<NodeId> {
    let Some((stage, case)) = word.split_once('@') else { return graph.nodes_of(word) };
    let find = |case: &str| graph.find(stage, Some(case));
    find(case).or_else(|| find(own_case(study, case)?)).into_iter().collect()
}

/// Returns the case that `sweep/case` names, if it is of the study's sweep.
fn own_case<'w>(study: &Study, case: &'w str) -> Option<&'w str> {
    case.strip_prefix(study.sweep.as_deref()?)?.strip_prefix('/')
}

/// Says whether `stage`, `stage@case` or `stage@sweep/case` names a stage of a case.
pub fn names(word: &str, study: &Study, stage: &str, case: Option<&str>) -> bool {
    match word.split_once('@') {
        None => word == stage,
        Some((name, wanted)) => {
            name == stage && case.is_some_and(|c| c == wanted || own_case(study, wanted) == Some(c))
        }
    }
}

/// Returns the sweep that `stage@sweep/case` names.
pub fn sweep_in(word: &str) -> Option<String> {
    let (sweep, _) = word.split_once('@')?.1.split_once('/')?;
    Some(sweep.to_string())
}

/// Tells that there is no such stage; returns the exit code.
pub fn unknown_stage(word: &str, study: &Study, common: &Common) -> i32 {
    let stages = study.cases.iter().flat_map(|case| &case.stages).filter(|stage| !stage.kind.fetches);
    let mut names: Vec<&str> = stages.map(|stage| stage.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let (stage, case) = word.split_once('@').map_or((word, None), |(stage, case)| (stage, Some(case)));
    let help = match case.filter(|_| names.contains(&stage)) {
        Some(_) if study.sweep.is_none() => "cases need `--sweep NAME`".to_string(),
        Some(case) => {
            let cases = || study.cases.iter().filter_map(|case| case.name.as_deref());
            language::nearest(case, cases())
                .map_or_else(|| language::listed("cases", cases()), |near| format!("did you mean `{stage}@{near}`?"))
        }
        None => language::nearest(stage, names.iter().copied()).map_or_else(
            || language::listed("stages", names.iter().copied()),
            |near| format!("did you mean `{near}`?"),
        ),
    };
    let message = format!("there is no stage `{word}` in `{}`", study.name);
    tell(Diagnostic::nowhere(code::UNKNOWN_STAGE, message).help(help), common)
}

/// Tells that a word of the command line names nothing; returns the exit code.
pub fn refuse_word(code: &'static str, message: String, common: &Common) -> i32 {
    tell(Diagnostic::nowhere(code, message), common)
}

fn tell(fault: Diagnostic, common: &Common) -> i32 {
    refuse(&Diagnostics { errors: vec![fault], ..Diagnostics::default() }, common)
}

/// Returns the store's folder for commands that need no pipeline: of the project around the current folder.
pub fn cache_here(common: &Common) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    cache_of(&language::project_root(&here), common)
}

/// Returns the store's folder of a project.
pub fn cache_of(root: &Path, common: &Common) -> PathBuf {
    common.cache.clone().unwrap_or_else(|| root.join(".watershed"))
}

/// Prints diagnostics in the form asked for; returns the exit code.
fn refuse(faults: &Diagnostics, common: &Common) -> i32 {
    match common.format {
        Format::Json => out::json(faults),
        Format::Github => faults.errors.iter().for_each(|fault| out::say(github::annotation(fault))),
        _ => out::complain(faults.to_string().trim_end()),
    }
    INVALID
}

fn is_file(word: &str) -> bool {
    word == "-" || word.ends_with(".yaml") || word.ends_with(".yml")
}

/// Returns the pipeline file that the words name.
pub fn file_of(words: &[String]) -> PathBuf {
    words.first().filter(|w| is_file(w)).map_or_else(|| PathBuf::from("watershed.yaml"), PathBuf::from)
}

/// Returns the words after the pipeline file.
pub fn stages_of(words: &[String]) -> &[String] {
    if words.first().is_some_and(|w| is_file(w)) { &words[1..] } else { words }
}
