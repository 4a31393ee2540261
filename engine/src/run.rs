//! `run pipeline.yaml` on one page: open, walk, compare expectations, tell how it ended.

use watershed_cache::live::Share;
use watershed_cache::stat::now_ns;
use watershed_cache::{CacheError, Store};

use crate::compiled::Compiled;
use crate::determinism::Bench;
use crate::edit::Edit;
use crate::event::Event;
use crate::fault::StageError;
use crate::graph::NodeId;
use crate::runlog::{Entry, RunLog, now_ms};
use crate::session::{Session, store_error};
use crate::settings;
use crate::signal;
use crate::verdict::{self, Verdict};
use crate::walk::{self, Given, Options, Tally};

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// Id of the run.
    pub run: String,
    /// Process exit code.
    pub exit: i32,
    /// Nodes that failed, with their errors.
    pub failed: Vec<(NodeId, StageError)>,
    /// What has to be as it was for the next run to find nothing to do; after a run that left nothing undone.
    pub compiled: Option<Compiled>,
}

/// Runs the nodes that `targets` need; `listener` sees every line of the run log.
///
/// # Errors
/// When the run log cannot be written; nothing was executed then.
pub fn run(
    session: &Session,
    targets: &[NodeId],
    options: Options,
    listener: Box<dyn Fn(&Entry) + Send + Sync>,
) -> Result<Outcome, StageError> {
    let (log, _share) = begin(session, listener)?;
    let began_ns = now_ns();
    log.emit(started(session, session.graph.nodes.len(), &log));
    let (tally, verdicts, outcome) = perform(session, targets, options, 0, &log);
    let exit = exit_code(&tally, outcome);
    let compiled = if exit == 0 { Compiled::of(session, &tally, log.id(), verdicts, began_ns) } else { None };
    Ok(Outcome { run: log.id().to_string(), exit, failed: tally.failed, compiled })
}

/// Runs what an edit concerns; all other nodes are those of a former run.
///
/// # Errors
/// When the run log cannot be written; nothing was executed then.
pub fn run_edit(
    edit: Edit,
    mut options: Options,
    listener: Box<dyn Fn(&Entry) + Send + Sync>,
) -> Result<Outcome, StageError> {
    let session = &edit.session;
    let (log, _share) = begin(session, listener)?;
    let began_ns = now_ns();
    options.given.clone_from(&edit.given);
    log.emit(started(session, session.graph.nodes.len() - edit.given.len() + edit.others, &log));
    log.emit(Event::Unchanged { since: edit.since.clone() });
    let (tally, _, outcome) = perform(session, &[], options, edit.others, &log);
    let exit = exit_code(&tally, outcome);
    let compiled = if exit == 0 { edit.compiled(&tally, log.id(), began_ns) } else { None };
    Ok(Outcome { run: log.id().to_string(), exit, failed: tally.failed, compiled })
}

/// Walks, compares expectations and writes the end of the log; `others` are hits that were not walked.
fn perform(
    session: &Session,
    targets: &[NodeId],
    options: Options,
    others: usize,
    log: &RunLog,
) -> (Tally, Vec<Verdict>, &'static str) {
    announce(session, &options.given, log);
    let cancel = options.cancel.clone();
    let needed = session.graph.needed(targets);
    let mut tally = walk::walk(session, &needed, options, log);
    tally.hit += others;
    let verdicts = if cancel.is_cancelled() { Vec::new() } else { verdict::all(session, &tally, &needed) };
    verdicts.iter().for_each(|verdict| log.emit(Event::Expectation(verdict.clone())));
    let missed = verdicts.iter().any(|verdict| !verdict.held);
    session.save_index();
    let outcome = finish(&tally, cancel.is_cancelled(), missed, log);
    (tally, verdicts, outcome)
}

/// What `--check-determinism` is about.
pub struct Doubt {
    /// Nodes that are executed twice and compared.
    pub checked: Vec<NodeId>,
    /// Nodes that are left out.
    pub spared: Vec<NodeId>,
}

/// Executes what the checked nodes read as any run does, then each of them twice from nothing, and compares.
///
/// # Errors
/// When the run log cannot be written; nothing was executed then.
pub fn check_determinism(
    session: &Session,
    doubt: &Doubt,
    options: Options,
    listener: Box<dyn Fn(&Entry) + Send + Sync>,
) -> Result<Outcome, StageError> {
    let (log, _share) = begin(session, listener)?;
    log.emit(started(session, session.graph.nodes.len(), &log));
    announce(session, &options.given, &log);
    let (slots, offline, cancel) = (options.slots.clone(), options.offline, options.cancel.clone());
    let mut tally = walk::walk(session, &session.graph.above(&doubt.checked), options, &log);
    let bench = Bench { session, outputs: &tally, slots, offline, cancel: cancel.clone(), log: &log };
    bench.skip(&doubt.spared, "its kind does not promise equal bytes; name the stage to check it all the same");
    let failed = bench.check(&doubt.checked);
    tally.failed.extend(failed);
    session.save_index();
    let outcome = finish(&tally, cancel.is_cancelled(), false, &log);
    let exit = exit_code(&tally, outcome);
    Ok(Outcome { run: log.id().to_string(), exit, failed: tally.failed, compiled: None })
}

/// Starts the log of a run that shares the store with others for as long as it lasts, so that gc beside it deletes nothing.
fn begin(session: &Session, listener: Box<dyn Fn(&Entry) + Send + Sync>) -> Result<(RunLog, Share), StageError> {
    let log = create_log(&session.store, listener)?;
    let share = session.store.share().map_err(store_error)?;
    session.store.sweep_sandboxes();
    Ok((log, share))
}

/// Logs the run that a compiled plan stands for: nothing to do. Check first that it holds.
///
/// # Errors
/// When the run log cannot be written.
pub fn stand_still(
    compiled: Compiled,
    store: &Store,
    listener: Box<dyn Fn(&Entry) + Send + Sync>,
) -> Result<(), StageError> {
    let log = create_log(store, listener)?;
    // Also a run with nothing to do clears away what a killed one beside it left.
    store.sweep_sandboxes();
    let run = log.id().to_string();
    log.emit(Event::RunStarted {
        run: run.clone(),
        pipeline: compiled.pipeline,
        file: compiled.file,
        sweep: compiled.sweep,
        nodes: compiled.nodes,
        started_ms: now_ms(),
        version: env!("CARGO_PKG_VERSION").into(),
    });
    log.emit(Event::Unchanged { since: compiled.since });
    compiled.held.into_iter().for_each(|verdict| log.emit(Event::Expectation(verdict)));
    let (ran, hit, failed, skipped) = (0, compiled.done, 0, 0);
    log.emit(Event::RunFinished { run, outcome: "ok".into(), ran, hit, failed, skipped, wall_ms: log.elapsed_ms() });
    Ok(())
}

fn create_log(store: &Store, listener: Box<dyn Fn(&Entry) + Send + Sync>) -> Result<RunLog, StageError> {
    let runs = store.runs();
    RunLog::create(&runs, listener).map_err(|source| store_error(CacheError::Io { verb: "write", path: runs, source }))
}

fn started(session: &Session, nodes: usize, log: &RunLog) -> Event {
    let study = &session.study;
    Event::RunStarted {
        run: log.id().to_string(),
        pipeline: study.name.clone(),
        file: study.file_in_root(),
        sweep: study.sweep.clone(),
        nodes,
        started_ms: now_ms(),
        version: env!("CARGO_PKG_VERSION").into(),
    }
}

fn announce(session: &Session, given: &Given, log: &RunLog) {
    for (case, set) in settings::of(&session.study) {
        log.emit(Event::CasePlanned { case, set });
    }
    let walked = session.graph.nodes.iter().enumerate().filter(|(id, _)| !given.contains_key(id));
    for (id, node) in walked {
        let mut reads: Vec<String> = session.graph.parents(id).map(|p| session.graph.nodes[p].title()).collect();
        reads.dedup();
        log.emit(Event::StagePlanned {
            stage: node.stage.name.clone(),
            case: node.case().map(str::to_string),
            cases: node.cases.clone(),
            kind: node.stage.kind.name.into(),
            params: node.stage.differing.clone(),
            reads,
        });
    }
}

fn finish(tally: &Tally, cancelled: bool, missed: bool, log: &RunLog) -> &'static str {
    let outcome = match (cancelled, tally.failed.is_empty(), missed) {
        (true, ..) => "cancelled",
        (_, false, _) => "failed",
        (.., true) => "expectation_failed",
        _ => "ok",
    };
    log.emit(Event::RunFinished {
        run: log.id().to_string(),
        outcome: outcome.into(),
        ran: tally.ran,
        hit: tally.hit,
        failed: tally.failed.len(),
        skipped: tally.skipped,
        wall_ms: log.elapsed_ms(),
    });
    outcome
}

/// Signal first, then the environment, then a lock that was not to be had, then failures.
fn exit_code(tally: &Tally, outcome: &str) -> i32 {
    if let Some(signal) = signal::received() {
        return 128 + signal;
    }
    let environment = tally.failed.iter().any(|(_, e)| matches!(e, StageError::Environment(_)));
    let busy = tally.failed.iter().any(|(_, e)| matches!(e, StageError::Busy(_)));
    match outcome {
        _ if environment => 6,
        _ if busy => 5,
        "ok" => 0,
        "cancelled" => 130,
        _ => 1,
    }
}
