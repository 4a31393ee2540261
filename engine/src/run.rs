//! `run pipeline.yaml` on one page: open, walk, compare expectations, tell how it ended.

use serde_json::Value;
use watershed_cache::CacheError;

use crate::event::Event;
use crate::fault::StageError;
use crate::graph::NodeId;
use crate::metrics;
use crate::runlog::{Entry, RunLog, now_ms};
use crate::session::{Session, store_error};
use crate::signal;
use crate::study::Expectation;
use crate::walk::{self, Options, Tally};

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// Id of the run.
    pub run: String,
    /// Process exit code.
    pub exit: i32,
    /// Nodes that failed, with their errors.
    pub failed: Vec<(NodeId, StageError)>,
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
    let runs = session.store.runs();
    let refused = |source| store_error(CacheError::Io { verb: "write", path: runs.clone(), source });
    let log = RunLog::create(&runs, listener).map_err(refused)?;
    // Shared with other runs for as long as this one lasts, so that gc beside it deletes nothing.
    let _share = session.store.share().map_err(store_error)?;
    session.store.sweep_sandboxes();
    announce(session, &log);
    let cancel = options.cancel.clone();
    let tally = walk::walk(session, &session.graph.needed(targets), options, &log);
    let missed = if cancel.is_cancelled() { false } else { compare(session, &tally, &log) };
    session.save_index();
    let outcome = finish(&tally, cancel.is_cancelled(), missed, &log);
    Ok(Outcome { run: log.id().to_string(), exit: exit_code(&tally, outcome), failed: tally.failed })
}

fn announce(session: &Session, log: &RunLog) {
    let study = &session.study;
    let file = study.file.strip_prefix(&study.root).unwrap_or(&study.file).display().to_string();
    log.emit(Event::RunStarted {
        run: log.id().to_string(),
        pipeline: study.name.clone(),
        file,
        sweep: study.sweep.clone(),
        nodes: session.graph.nodes.len(),
        started_ms: now_ms(),
        version: env!("CARGO_PKG_VERSION").into(),
    });
    for (id, node) in session.graph.nodes.iter().enumerate() {
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

/// Compares `expect:` with the metrics of the run; returns whether one was missed.
fn compare(session: &Session, tally: &Tally, log: &RunLog) -> bool {
    let mut missed = false;
    for expectation in &session.study.expect {
        for id in session.graph.nodes_of(&expectation.stage) {
            let Some(value) = metric(session, tally, id, &expectation.metric) else {
                continue;
            };
            let held = holds(expectation, value);
            missed |= !held;
            let bound = format!("{} {}", expectation.operator, expectation.bound);
            log.emit(Event::Expectation { path: expectation.path.clone(), bound, value: Some(value), held });
        }
    }
    missed
}

fn metric(session: &Session, tally: &Tally, id: NodeId, name: &str) -> Option<f64> {
    let record = session.store.peek(&tally.keys[id]?)?;
    metrics::of_record(&session.store, &record).get(name).and_then(Value::as_f64)
}

fn holds(expectation: &Expectation, value: f64) -> bool {
    match expectation.operator.as_str() {
        "<=" => value <= expectation.bound,
        "<" => value < expectation.bound,
        ">=" => value >= expectation.bound,
        ">" => value > expectation.bound,
        _ => value == expectation.bound,
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

/// Signal first, then the environment, then failures.
fn exit_code(tally: &Tally, outcome: &str) -> i32 {
    if let Some(signal) = signal::received() {
        return 128 + signal;
    }
    let environment = tally.failed.iter().any(|(_, e)| matches!(e, StageError::Environment(_)));
    match outcome {
        _ if environment => 6,
        "ok" => 0,
        "cancelled" => 130,
        _ => 1,
    }
}
