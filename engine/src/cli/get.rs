//! `get`: copies an output out of the store as ordinary writable files.

use std::path::{Path, PathBuf};

use clap::Args;
use watershed_cache::{ActionResult, Store, Stored};

use super::landing::{self, Refusal};
use super::{Choice, Common, open, out, pick};
use crate::code;
use crate::plan::{self, State};
use crate::port::Class;
use crate::record::Provenance;
use crate::stage::Kind;

/// Options of `get`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    choice: Choice,
    /// Where to write; `-` prints a single file.
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    /// Takes the output of a former run instead of the pipeline as it stands.
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
}

pub fn get(options: &Options, common: &Common, kinds: fn() -> Vec<Kind>) -> i32 {
    match find(options, common, kinds).and_then(|found| write(&found, &options.output)) {
        Ok(()) => 0,
        Err(Fault::Told(exit)) => exit,
        Err(Fault::Exit(exit, text)) => {
            out::complain(format!("error: {text}"));
            exit
        }
        Err(Fault::Name(code, message)) => open::refuse_word(code, message, common),
    }
}

/// An output of the store, and the project's folder.
struct Found {
    store: Store,
    stored: Stored,
    root: PathBuf,
}

/// Why there is nothing to copy.
enum Fault {
    /// It was told already; the exit code.
    Told(i32),
    /// Exit code and words.
    Exit(i32, String),
    /// The name of the output is wrong: the fault's code and words.
    Name(&'static str, String),
}

fn find(options: &Options, common: &Common, kinds: fn() -> Vec<Kind>) -> Result<Found, Fault> {
    let Some(word) = options.choice.words.last().filter(|w| !w.ends_with(".yaml") && !w.ends_with(".yml")) else {
        return Err(Fault::Exit(2, "name the output: STAGE or STAGE.PORT".into()));
    };
    let (stage, port) = split(word);
    match &options.run {
        Some(run) => from_run(common, kinds, run, &stage, port.as_deref()),
        None => from_pipeline(options, common, kinds, &stage, port.as_deref()),
    }
}

/// Splits `stage.port`, `stage.port@case` and `stage@case.port`.
fn split(word: &str) -> (String, Option<String>) {
    let (name, case) = word.split_once('@').map_or((word, ""), |(n, c)| (n, c));
    if let Some((stage, port)) = name.split_once('.') {
        let stage = if case.is_empty() { stage.to_string() } else { format!("{stage}@{case}") };
        return (stage, Some(port.to_string()));
    }
    match word.rsplit_once('.') {
        Some((stage, port)) if case.contains('.') => (stage.to_string(), Some(port.to_string())),
        _ => (word.to_string(), None),
    }
}

fn from_run(
    common: &Common,
    kinds: fn() -> Vec<Kind>,
    run: &str,
    stage: &str,
    port: Option<&str>,
) -> Result<Found, Fault> {
    let store = Store::open(&open::cache_here(common)).map_err(|e| Fault::Exit(4, e.to_string()))?;
    let (_, run) = pick::located(&store.runs(), run).map_err(|e| Fault::Exit(1, e))?;
    let mut nodes = run.nodes.iter().filter(|n| n.title() == stage || n.stage == stage);
    let missing = || Fault::Name(code::UNKNOWN_STAGE, format!("run {} has no stage `{stage}`", run.id));
    let node = nodes.next().ok_or_else(missing)?;
    if nodes.next().is_some() {
        let message = format!("run {} has several cases of `{stage}`; write `{stage}@CASE`", run.id);
        return Err(Fault::Name(code::UNKNOWN_STAGE, message));
    }
    let empty = || Fault::Exit(1, format!("`{stage}` left nothing in the store"));
    let record = node.record(&store).ok_or_else(empty)?;
    let all = kinds();
    let stored = choose(&record, all.iter().find(|kind| kind.name == node.kind), stage, port)?;
    // a run names no project; its store lies in one, unless it was put elsewhere
    let root = store.root().parent().unwrap_or(Path::new(".")).to_path_buf();
    Ok(Found { store, stored, root })
}

fn from_pipeline(
    options: &Options,
    common: &Common,
    kinds: fn() -> Vec<Kind>,
    stage: &str,
    port: Option<&str>,
) -> Result<Found, Fault> {
    let mut choice = options.choice.clone();
    choice.words.pop();
    choice.sweep = choice.sweep.or_else(|| open::sweep_in(stage));
    let session = open::session(&choice, common, kinds).map_err(Fault::Told)?;
    let nodes = open::nodes_named(&session, stage, common).map_err(Fault::Told)?;
    let [node] = nodes.as_slice() else {
        let message = format!("there are several cases of `{stage}`; write `{stage}@CASE`");
        return Err(Fault::Name(code::UNKNOWN_STAGE, message));
    };
    let lines = plan::plan(&session, &[*node], &[]);
    let state = lines.into_iter().find(|l| l.node == *node).map(|l| l.state);
    let Some(State::Hit(_, record)) = state else {
        let text = format!(
            "`{stage}` is not in the store as the pipeline stands; `watershed run` makes it, `--run last` takes what the last run made"
        );
        return Err(Fault::Exit(10, text));
    };
    let stored = choose(&record, Some(&session.graph.nodes[*node].stage.kind), stage, port)?;
    Ok(Found { root: session.study.root, store: session.store, stored })
}

/// Chooses the output: the one named, else the only data output, else the kind's first if it is named like its type.
fn choose(record: &ActionResult, kind: Option<&Kind>, stage: &str, port: Option<&str>) -> Result<Stored, Fault> {
    let names: Vec<&str> = record.outputs.keys().map(String::as_str).collect();
    if let Some(port) = port {
        let missing = || {
            let message = format!("`{stage}` has no output `{port}`; it has {}", names.join(", "));
            Fault::Name(code::UNKNOWN_SOURCE, message)
        };
        return record.outputs.get(port).cloned().ok_or_else(missing);
    }
    let data: Vec<(&String, &Stored)> = record.outputs.iter().filter(|(_, s)| !s.report).collect();
    if let [(_, only)] = data.as_slice() {
        return Ok((*only).clone());
    }
    let main = kind.and_then(|kind| main_output(record, kind));
    main.and_then(|name| record.outputs.get(&name).cloned()).ok_or_else(|| {
        let name = kind.map_or("?", |kind| kind.name);
        let message = format!("`{stage}` ({name}) has several outputs; write {}", alternatives(stage, &data));
        Fault::Name(code::AMBIGUOUS_INPUT, message)
    })
}

/// Returns a kind's first data output where its name says that it is the main one: an `adapter` of type `adapter`.
fn main_output(record: &ActionResult, kind: &Kind) -> Option<String> {
    let params = Provenance::of(record)?.params;
    let ports = (kind.ports)(&params);
    let first = ports.outputs.iter().find(|out| out.class == Class::Data)?;
    (first.name == first.record.name()).then(|| first.name.to_string())
}

fn alternatives(stage: &str, data: &[(&String, &Stored)]) -> String {
    data.iter().map(|(name, _)| format!("`{stage}.{name}`")).collect::<Vec<_>>().join(" or ")
}

fn write(found: &Found, target: &Path) -> Result<(), Fault> {
    if target == Path::new("-") {
        return print(&found.store, &found.stored);
    }
    landing::land(&found.store, &found.stored.artifact, target, &found.root).map_err(|refusal| match refusal {
        Refusal::Place(text) => Fault::Exit(2, text),
        Refusal::Copy(error) => Fault::Exit(if error.is_environment() { 6 } else { 4 }, error.to_string()),
    })
}

fn print(store: &Store, stored: &Stored) -> Result<(), Fault> {
    if stored.artifact.folder {
        return Err(Fault::Exit(2, "a folder cannot be printed; give a path instead of `-`".into()));
    }
    store.verify(&stored.artifact).map_err(|e| Fault::Exit(4, e.to_string()))?;
    let bytes = std::fs::read(store.blob(&stored.artifact.digest)).map_err(|e| Fault::Exit(4, e.to_string()))?;
    out::copy(&bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stage_port_and_case_are_told_apart() {
        let some = |p: &str| Some(p.to_string());
        assert_eq!(split("a"), ("a".into(), None));
        assert_eq!(split("a.p"), ("a".into(), some("p")));
        assert_eq!(split("a@c.p"), ("a@c".into(), some("p")));
        assert_eq!(split("a.p@c"), ("a@c".into(), some("p")));
        assert_eq!(split("a@c"), ("a@c".into(), None));
    }
}
