//! `run`: executes what is not in the store yet.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use clap::Args;
use watershed_cache::Store;

use super::{Choice, Common, Format, open, out, plan};
use crate::backoff::Backoff;
use crate::compiled::{Compiled, Question};
use crate::fault::StageError;
use crate::graph::NodeId;
use crate::language;
use crate::plan::State;
use crate::progress::Progress;
use crate::run as engine;
use crate::runlog::Entry;
use crate::session::Session;
use crate::signal;
use crate::slots::{self, Slots};
use crate::stage::Kind;
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
    /// Uses no network.
    #[arg(long)]
    offline: bool,
    /// CUDA devices that stages may use, for example 0,2 (default: those of CUDA_VISIBLE_DEVICES, else all).
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    gpus: Option<Vec<u32>>,
    /// Where stages run; this version has `local` only.
    #[arg(long, default_value = "local", value_parser = ["local"])]
    executor: String,
}

/// How long a run waits for another process that executes the same action.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

pub fn run(options: &Options, common: &Common, kinds: fn() -> Vec<Kind>) -> i32 {
    let standing = Standing::of(options, common);
    if let Some(code) = standing.as_ref().and_then(|standing| standing.run(options, common)) {
        return code;
    }
    let opened = open::session(&options.choice, common, kinds);
    let (session, targets) = match opened.and_then(|s| open::targets(&s, &options.choice, common).map(|t| (s, t))) {
        Ok(opened) => opened,
        Err(code) => return code,
    };
    if options.frozen {
        return frozen(options, &session, &targets, common);
    }
    let walk_options = match walk_options(options, &session, common) {
        Ok(walk_options) => walk_options,
        Err(code) => return code,
    };
    match engine::run(&session, &targets, walk_options, listener(options, common)) {
        Ok(outcome) => {
            if let (Some(standing), Some(compiled)) = (standing, &outcome.compiled) {
                compiled.save(&standing.place);
            }
            outcome.exit
        }
        Err(error) => complain(&error),
    }
}

/// The way past everything for a run with nothing to do: see [`crate::compiled`].
struct Standing {
    place: PathBuf,
    cache: PathBuf,
}

impl Standing {
    /// Finds it; `None` for a pipeline from standard input.
    fn of(options: &Options, common: &Common) -> Option<Standing> {
        let choice = &options.choice;
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

    /// Ends the run at once if its compiled plan holds and nothing else is asked for.
    fn run(&self, options: &Options, common: &Common) -> Option<i32> {
        let plain = common.format == Format::Human && options.force.is_empty() && !options.frozen;
        let compiled = Compiled::load(&self.place).filter(|_| plain)?;
        let store = Store::open(&self.cache).ok().filter(|store| compiled.holds(store))?;
        engine::stand_still(compiled, &store, listener(options, common)).ok().map(|()| 0)
    }
}

fn frozen(options: &Options, session: &Session, targets: &[NodeId], common: &Common) -> i32 {
    let forced = match forced(options, session, common) {
        Ok(forced) => forced,
        Err(code) => return code,
    };
    let lines = crate::plan::plan(session, targets, &forced);
    let pending = lines.iter().any(|l| !matches!(l.state, State::Hit(..)));
    match common.format {
        Format::Json => out::json(&plan::document(session, &lines)),
        Format::Human if pending => out::say(plan::text(session, &lines)),
        _ => out::say(format!("{} in the store, nothing to run", lines.len())),
    }
    if pending { plan::PENDING } else { 0 }
}

fn forced(options: &Options, session: &Session, common: &Common) -> Result<Vec<NodeId>, i32> {
    let mut forced = Vec::new();
    for word in &options.force {
        forced.extend(open::nodes_named(session, word, common)?);
    }
    Ok(forced)
}

fn walk_options(options: &Options, session: &Session, common: &Common) -> Result<walk::Options, i32> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(walk::Options {
        slots: Slots::new(options.jobs.map_or(processors, |j| j as usize), devices(options)?),
        keep_going: options.keep_going || (session.study.sweep.is_some() && !options.fail_fast),
        forced: forced(options, session, common)?,
        offline: options.offline,
        patience: PATIENCE,
        backoff: Backoff::default(),
        cancel: signal::cancel_on_termination(),
    })
}

/// Returns the CUDA devices that stages may use. The user's word counts, also where no device node is seen: a stage that then
/// finds no device fails.
fn devices(options: &Options) -> Result<Vec<u32>, i32> {
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let named = options.gpus.clone().map(Ok);
    named.unwrap_or_else(|| slots::granted_devices(visible.as_deref())).map_err(|error| complain(&error))
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
