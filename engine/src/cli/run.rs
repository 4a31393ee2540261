//! `run`: executes what is not in the store yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use watershed_cache::Store;

use super::{Choice, Common, Format, open, out, plan, price};
use crate::backoff::Backoff;
use crate::compiled::{Compiled, Question, layout_of};
use crate::edit::Edit;
use crate::fault::StageError;
use crate::graph::NodeId;
use crate::language::{self, Kinds};
use crate::plan::{Planned, State};
use crate::progress::{self, Progress};
use crate::run::{self as engine, Doubt, Outcome};
use crate::runlog::Entry;
use crate::session::Session;
use crate::signal;
use crate::slots::{Slots, granted_devices};
use crate::stage::{Kind, Reproducible};
use crate::verdict::{self, Verdict};
use crate::walk;

/// Options of `run`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    choice: Choice,
    /// Processors that stages may use at once (default: all).
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    jobs: Option<u32>,
    /// Prints failures only.
    #[arg(short, long)]
    quiet: bool,
    /// Goes on with unrelated stages after a failure (the default in sweeps).
    #[arg(long, conflicts_with = "fail_fast")]
    keep_going: bool,
    /// Starts nothing after a failure (the default outside sweeps).
    #[arg(long)]
    fail_fast: bool,
    /// Runs a stage whatever the store holds; may be given several times.
    #[arg(long, value_name = "STAGE")]
    force: Vec<String>,
    /// Executes nothing; ends with exit code 10 when something would run.
    #[arg(long)]
    frozen: bool,
    /// Executes each STAGE (without one: every stage that promises equal bytes) twice from nothing, without checkpoints,
    /// remembered replies or records, and compares the outputs; publishes nothing of them.
    #[arg(long, conflicts_with_all = ["frozen", "force"])]
    check_determinism: bool,
    /// First rest of a stage whose passing fault `run.retries` forgives, in seconds; it doubles with each try.
    #[arg(long, value_name = "SECONDS", default_value = "1", env = "WATERSHED_BACKOFF", value_parser = seconds)]
    backoff: Duration,
    /// Uses no network.
    #[arg(long)]
    offline: bool,
    /// CUDA devices that stages may use, for example 0,2 (default: those of CUDA_VISIBLE_DEVICES, else all).
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    gpus: Option<Vec<u32>>,
    /// Seconds to wait for another process that executes the same action, before the run ends with exit code 5 (default: a day).
    #[arg(long, value_name = "SECONDS", default_value_t = 24 * 3600)]
    lock_timeout: u64,
    /// Lets the cases of a sweep each pay for the same stage.
    #[arg(long)]
    yes: bool,
    /// Where stages run; this version has `local` only.
    #[arg(long, default_value = "local", value_parser = ["local"])]
    executor: String,
}

pub fn run(options: &Options, common: &Common, kinds: fn() -> Vec<Kind>) -> i32 {
    let choice = chosen(options);
    let standing = Standing::of(&choice, common);
    if let Some(code) = standing.as_ref().and_then(|standing| standing.run(options, &choice, common, kinds)) {
        return code;
    }
    let opened = open::session(&choice, common, kinds);
    let (session, targets) = match opened.and_then(|s| open::targets(&s, &choice, common).map(|t| (s, t))) {
        Ok(opened) => opened,
        Err(code) => return code,
    };
    if options.frozen {
        return frozen(options, &session, &targets, common);
    }
    if let Some(code) = price::refuse(&session, &targets, common).filter(|_| !options.yes) {
        return code;
    }
    let walk_options = match walk_options(options, &session, common) {
        Ok(walk_options) => walk_options,
        Err(code) => return code,
    };
    let listener = listener(options, common);
    if options.check_determinism {
        let checked = engine::check_determinism(&session, &doubt(&session, targets), walk_options, listener);
        return end(checked, None);
    }
    end(engine::run(&session, &targets, walk_options, listener), standing.as_ref())
}

/// Returns what is run: a sweep that only a word behind `--force` names, as `stage@sweep/case`, is meant like any other.
fn chosen(options: &Options) -> Choice {
    let mut words = open::stages_of(&options.choice.words).iter().chain(&options.force);
    let sweep = options.choice.sweep.clone().or_else(|| words.find_map(|word| open::sweep_in(word)));
    Choice { sweep, ..options.choice.clone() }
}

/// Keeps the compiled plan of a run; returns the exit code.
fn end(outcome: Result<Outcome, StageError>, standing: Option<&Standing>) -> i32 {
    match outcome {
        Ok(outcome) => {
            if let (Some(standing), Some(compiled)) = (standing, &outcome.compiled) {
                compiled.save(&standing.place);
            }
            outcome.exit
        }
        Err(error) => complain(&error),
    }
}

/// Stages that are named are checked whatever they promise; else those are spared that promise nothing, a paid teacher first.
fn doubt(session: &Session, targets: Vec<NodeId>) -> Doubt {
    if !targets.is_empty() {
        return Doubt { checked: targets, spared: Vec::new() };
    }
    let nodes = &session.graph.nodes;
    let own = (0..nodes.len()).filter(|&id| !nodes[id].stage.kind.fetches);
    let (spared, checked) = own.partition(|&id| nodes[id].stage.kind.reproducible == Reproducible::No);
    Doubt { checked, spared }
}

/// The way past everything for a run with nothing to do: see [`crate::compiled`].
struct Standing {
    place: PathBuf,
    cache: PathBuf,
}

impl Standing {
    /// Finds it; `None` for a pipeline from standard input.
    fn of(choice: &Choice, common: &Common) -> Option<Standing> {
        let file = open::file_of(&choice.words);
        let current = std::env::current_dir().ok().filter(|_| file != Path::new("-"))?;
        let root = language::root_of(&file).ok()?;
        let cache = open::cache_of(&root, common);
        let question = Question {
            file: &file,
            stages: open::stages_of(&choice.words),
            overrides: &choice.set,
            sweep: choice.sweep.as_deref(),
            cases: choice.cases.as_deref(),
            cache: &cache,
            current,
        };
        Some(Standing { place: question.place(&root), cache })
    }

    /// Ends the run at once if its compiled plan holds and nothing else is asked for, or after what one edit concerns.
    fn run(&self, options: &Options, choice: &Choice, common: &Common, kinds: fn() -> Vec<Kind>) -> Option<i32> {
        let plain =
            common.format == Format::Human && options.force.is_empty() && !options.frozen && !options.check_determinism;
        let compiled = Compiled::load(&self.place).filter(|_| plain)?;
        let store = Store::open(&self.cache).ok().filter(|store| compiled.holds(store))?;
        if compiled.has_text() {
            return engine::stand_still(compiled, &store, listener(options, common)).ok().map(|()| 0);
        }
        let whole = open::load_request(choice, None, false);
        let edit = Edit::find(compiled, &layout_of(&self.place), &whole, &self.cache, &Kinds::new(kinds()))?;
        let walk_options = walk_options(options, &edit.session, common).ok()?;
        Some(end(engine::run_edit(edit, walk_options, listener(options, common)), Some(self)))
    }
}

fn frozen(options: &Options, session: &Session, targets: &[NodeId], common: &Common) -> i32 {
    let forced = match forced(options, session, common) {
        Ok(forced) => forced,
        Err(code) => return code,
    };
    let lines = crate::plan::plan(session, targets, &forced);
    let pending = lines.iter().any(|l| !matches!(l.state, State::Hit(..)));
    let verdicts = if pending { Vec::new() } else { verdicts(session, targets, &lines) };
    match common.format {
        Format::Json => {
            let mut document = plan::document(session, &lines);
            document["expectations"] = json!(verdicts);
            out::json(&document);
        }
        Format::Human if pending => out::say(plan::text(session, &lines)),
        _ => {
            verdicts.iter().for_each(progress::tell_verdict);
            out::say(format!("{} in the store, nothing to run", lines.len()));
        }
    }
    match pending {
        true => plan::PENDING,
        false => i32::from(verdicts.iter().any(|verdict| !verdict.held)),
    }
}

/// Compares `expect:` with the numbers of a plan in which all is a hit.
fn verdicts(session: &Session, targets: &[NodeId], lines: &[Planned]) -> Vec<Verdict> {
    let mut tally = walk::Tally { keys: vec![None; session.graph.nodes.len()], ..walk::Tally::default() };
    for line in lines {
        if let State::Hit(key, _) = &line.state {
            tally.keys[line.node] = Some(*key);
        }
    }
    verdict::all(session, &tally, &session.graph.needed(targets))
}

fn forced(options: &Options, session: &Session, common: &Common) -> Result<Vec<NodeId>, i32> {
    let mut forced = Vec::new();
    for word in &options.force {
        forced.extend(open::nodes_named(session, word, common)?);
    }
    Ok(forced)
}

fn walk_options(options: &Options, session: &Session, common: &Common) -> Result<walk::Options, i32> {
    Ok(walk::Options {
        slots: slots(options),
        keep_going: options.keep_going || (session.study.sweep.is_some() && !options.fail_fast),
        forced: forced(options, session, common)?,
        given: BTreeMap::new(),
        offline: options.offline,
        patience: Duration::from_secs(options.lock_timeout),
        backoff: Backoff { base: options.backoff, ..Backoff::default() },
        cancel: signal::cancel_on_termination(),
    })
}

/// Returns what stages may use at once. The user's word on devices counts, also where no device node is seen: a stage that
/// then finds none fails.
fn slots(options: &Options) -> Slots {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = options.jobs.map_or(processors, |jobs| jobs as usize);
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let devices = options.gpus.clone().map_or_else(|| granted_devices(visible.as_deref()), Ok);
    devices.map_or_else(|why| Slots::without_devices(jobs, why), |ids| Slots::new(jobs, ids))
}

fn complain(error: &StageError) -> i32 {
    out::complain(format!("error: {error}"));
    if matches!(error, StageError::Environment(_)) { 6 } else { 1 }
}

fn listener(options: &Options, common: &Common) -> Box<dyn Fn(&Entry) + Send + Sync> {
    if common.format == Format::Json {
        return Box::new(|entry| out::json(&entry));
    }
    let progress = Mutex::new(Progress::new(options.quiet));
    Box::new(move |entry| progress.lock().expect("no thread panics while it holds this lock").show(entry))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|s| (0.0..=3600.0).contains(s));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "expected seconds from 0 to 3600, for example 0.5".into())
}
