//! The command line: one file a command. Only this house, `progress` and `report` print.

mod cache;
mod check;
mod columns;
mod completions;
mod config;
mod diff;
mod doctor;
mod explain;
mod get;
mod github;
mod graph;
mod init;
mod kinds;
mod landing;
mod log;
mod open;
pub(crate) mod out;
mod peek;
mod pick;
mod plan;
mod price;
mod report;
mod run;
mod runs;
mod schema;
mod show;
mod terminal;
mod why;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::stage::Kind;

/// A declarative workflow engine for fine-tuning and evaluating language models.
#[derive(Parser)]
#[command(name = "watershed", version, propagate_version = true, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

/// Options of every command.
#[derive(Args, Clone)]
struct Common {
    /// Folder of the store (default: `.watershed` in the project's root).
    #[arg(long, global = true, value_name = "DIR", env = "WATERSHED_CACHE")]
    cache: Option<PathBuf>,
    /// Form of what is printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Human)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Human,
    /// For programs: one JSON document, or one event a line for `run`.
    Json,
    /// Graphviz, for `graph`.
    Dot,
    /// Mermaid, for `graph`.
    Mermaid,
    /// A picture, for `graph`.
    Svg,
    /// A reference page, for `kinds`.
    Markdown,
    /// Annotations in a workflow of GitHub, for `check`.
    Github,
}

/// Which pipeline, with which changes.
#[derive(Args, Clone)]
struct Choice {
    /// Pipeline FILE (ends in .yaml or .yml, or is `-`; default watershed.yaml), then stages, `stage@case` in a sweep.
    #[arg(value_name = "FILE|STAGE")]
    words: Vec<String>,
    /// Sets a parameter for this command, for example `--set tuned.lora.r=16`.
    #[arg(long = "set", value_name = "PATH=VALUE", value_parser = with_equals_sign)]
    set: Vec<String>,
    /// Runs the cases of a sweep.
    #[arg(long, value_name = "NAME")]
    sweep: Option<String>,
    /// Only the cases whose names match, for example `config-*`.
    #[arg(long, value_name = "GLOB", requires = "sweep")]
    cases: Option<String>,
    /// Most cases that a sweep may have; larger ones are refused before anything is built.
    #[arg(long, value_name = "N", default_value_t = crate::language::MAX_CASES, value_parser = up_to_a_million)]
    max_cases: usize,
}

#[derive(Subcommand)]
enum Command {
    /// Writes a project that runs as it stands.
    Init(init::Options),
    /// Says everything that is wrong with a pipeline, without running it.
    Check(Choice),
    /// Shows the pipeline with everything filled in, and where each value comes from.
    Config(config::Options),
    /// Tells what `run` would do, and why.
    Plan(plan::Options),
    /// Shows one row as the model sees it: what it reads, learns, and never sees.
    Peek(peek::Options),
    /// Executes what is not in the store yet.
    Run(run::Options),
    /// Tells the chain of reasons for which a stage would run.
    Why(Choice),
    /// Shows stages, parameters and metrics of a run.
    Show(show::Options),
    /// Tells in what two runs differ, or two cases of runs.
    Diff(diff::Options),
    /// Lists runs, newest first.
    Runs,
    /// Prints what a stage logged.
    Log(log::Options),
    /// Copies an output out of the store.
    Get(get::Options),
    /// Writes a run as one HTML page.
    Report(report::Options),
    /// Looks into the store, checks it, and frees its room.
    Cache(cache::Options),
    /// Lists kinds of stages, or the parameters and ports of one.
    Kinds(kinds::Options),
    /// Explains a code of a fault or a lint, with examples.
    Explain(explain::Options),
    /// Prints the JSON Schema of pipelines.
    Schema,
    /// Prints the graph of a pipeline; of named stages, what they need.
    Graph(Choice),
    /// Tells what this machine offers and lacks.
    Doctor(doctor::Options),
    /// Prints what makes a shell complete commands and options.
    Completions(completions::Options),
}

impl Command {
    /// Returns the forms that the command can print.
    fn formats(&self) -> &'static [Format] {
        match self {
            Command::Graph(_) => &[Format::Human, Format::Json, Format::Dot, Format::Mermaid, Format::Svg],
            Command::Check(_) => &[Format::Human, Format::Json, Format::Github],
            Command::Kinds(_) => &[Format::Human, Format::Json, Format::Markdown],
            _ => &[Format::Human, Format::Json],
        }
    }
}

impl Format {
    /// Returns its name on the command line.
    fn name(&self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_string()).unwrap_or_default()
    }
}

/// A project that `init` writes.
pub struct Template {
    /// Name in `--template`.
    pub name: &'static str,
    /// What it shows, in a few words.
    pub about: &'static str,
    /// Its files: name and text.
    pub files: &'static [(&'static str, &'static str)],
}

/// Runs the command line of a program that ships these kinds and templates; returns the exit code.
pub fn main(kinds: fn() -> Vec<Kind>, templates: &[Template]) -> i32 {
    out::ended(run_command(kinds, templates))
}

fn run_command(kinds: fn() -> Vec<Kind>, templates: &[Template]) -> i32 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return out::usage(&error),
    };
    let common = &cli.common;
    if !cli.command.formats().contains(&common.format) {
        let names: Vec<String> = cli.command.formats().iter().map(Format::name).collect();
        out::complain(format!(
            "error: this command prints no {}; it prints {}",
            common.format.name(),
            names.join(", ")
        ));
        return 2;
    }
    match cli.command {
        Command::Completions(options) => completions::completions(&options, Cli::command()),
        Command::Init(options) => init::init(&options, common, templates),
        Command::Check(choice) => check::check(&choice, common, kinds),
        Command::Config(options) => config::config(&options, common, kinds),
        Command::Plan(options) => plan::plan(&options, common, kinds),
        Command::Peek(options) => peek::peek(&options, common, kinds),
        Command::Run(options) => run::run(&options, common, kinds),
        Command::Why(choice) => why::why(&choice, common, kinds),
        Command::Show(options) => show::show(&options, common),
        Command::Diff(options) => diff::diff(&options, common),
        Command::Runs => runs::runs(common),
        Command::Log(options) => log::log(&options, common),
        Command::Get(options) => get::get(&options, common, kinds),
        Command::Report(options) => report::report(&options, common),
        Command::Cache(options) => cache::cache(&options, common, kinds),
        Command::Doctor(options) => doctor::doctor(&options, common, kinds),
        Command::Kinds(options) => kinds::kinds(&options, common, kinds),
        Command::Explain(options) => explain::explain(&options, common),
        Command::Schema => schema::schema(kinds),
        Command::Graph(choice) => graph::graph(&choice, common, kinds),
    }
}

fn up_to_a_million(text: &str) -> Result<usize, String> {
    let count = text.parse::<usize>().ok().filter(|n| (1..=1_000_000).contains(n));
    count.ok_or_else(|| "expected a whole number from 1 to 1000000".into())
}

fn with_equals_sign(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((path, _)) if !path.trim().is_empty() => Ok(text.to_string()),
        _ => Err("expected PATH=VALUE, for example tuned.lora.r=16".into()),
    }
}
