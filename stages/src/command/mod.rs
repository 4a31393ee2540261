//! `command`: any program as a stage, in a private folder with a sealed environment.
//!
//! What the child can see is what the key holds: its inputs, what `env` declares, and nothing of the user's shell. There is
//! no sandbox against malice; the seal is against forgetting an input.

mod child;
mod environment;
mod guard;
mod interpreter;
mod logfile;
mod outputs;
mod places;
mod room;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command as Process;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use watershed_engine::code;
use watershed_engine::fault::ParamFault;
use watershed_engine::preview::{Lint, Preview, PreviewInputs, Severity};
use watershed_engine::probe::Probe;
use watershed_engine::{Job, Ports, RecordType, Stage, StageError};

use child::Ended;
use logfile::LogFile;
use outputs::Outputs;
use places::Places;
use room::Room;

/// Last lines of the log that an error shows.
const SHOWN_LINES: usize = 12;

/// Exit code by which a program says that trying again may help (EX_TEMPFAIL of sysexits.h).
const TEMPORARY: i32 = 75;

/// Runs a program. Its inputs and outputs have any names.
///
/// Input `x` lies at `$IN_x`, with the suffixes of its file, and output `y` belongs at `$OUT_y`; in `shell` and `argv`, `${in.x}` and
/// `${out.y}` are the same places. Of several inputs, and of all cases of a sweep (`x: STAGE@*`), `$IN_x` is a folder with
/// an entry under each label or case. Of a folder its files count: empty folders are in no key and are not kept.
///
/// Who reads `STAGE@*` also finds `$IN_cases`, a JSON list of the cases: for each its `name`, its
/// `overrides` (path to value) and `in`, the ports in which it has an entry. A failed case skips its readers, unless the stage says
/// `allow_missing: true`; then it has no entry.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Command {
    /// Text for `sh -c`; `${in.x}` and `${out.y}` are paths, any other `${` is the shell's own. Either this or `argv`.
    pub shell: Option<String>,
    /// Program and arguments, without a shell; `${in.x}` and `${out.y}` are paths.
    pub argv: Option<Vec<String>>,
    /// Outputs, as names (their type is `bytes`) or as `{name: type}` (`[out]`).
    pub out: Outputs,
    /// Environment variables of the child: strings, numbers or booleans.
    #[serde(deserialize_with = "environment::texts")]
    pub env: BTreeMap<String, Value>,
    /// Programs whose version matters, as `{name: [program, argument, …]}`; what each prints is in the key, so another version runs the stage again.
    pub tools: BTreeMap<String, Vec<String>>,
}

/// How the program is run.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CommandRun {
    /// Variables of the user's environment that the child may see; they are in no key.
    pub pass_env: Vec<String>,
    /// Folders put before PATH, for example `./.venv/bin`; relative ones begin at the pipeline's folder.
    pub path: Vec<String>,
}

impl Command {
    /// Returns the words to execute, places filled in.
    fn words(&self, places: &Places) -> Result<Vec<String>, StageError> {
        match (&self.shell, &self.argv) {
            (Some(text), None) => Ok(vec!["/bin/sh".into(), "-c".into(), places.fill(text)?]),
            (None, Some(argv)) if !argv.is_empty() => argv.iter().map(|word| places.fill(word)).collect(),
            _ => Err(StageError::failed("`command` needs either `shell` or `argv`")),
        }
    }

    fn check_program(&self) -> Option<ParamFault> {
        let help = "for example `shell: wc -l < \"${in.data}\" > \"${out.out}\"`";
        match (&self.shell, &self.argv) {
            (Some(_), Some(_)) => Some(ParamFault::new("argv", "`shell` and `argv` exclude each other", "keep one")),
            (None, None) => Some(ParamFault::new("", "a command needs `shell` or `argv`", help)),
            (None, Some(argv)) if argv.is_empty() => Some(ParamFault::new("argv", "`argv` is empty", help)),
            _ => None,
        }
    }

    fn check_places(&self) -> Vec<ParamFault> {
        let argv = self.argv.iter().flatten().map(|word| ("argv", word));
        let texts = self.shell.iter().map(|text| ("shell", text)).chain(argv);
        let unknown =
            texts.flat_map(|(path, text)| places::names(text, "out").into_iter().map(move |name| (path, name)));
        let unknown = unknown.filter(|(_, name)| !self.out.names().any(|n| n == *name));
        let fault = |(path, name): (&str, &str)| {
            ParamFault::new(path, format!("`${{out.{name}}}` is no output"), format!("add `{name}` to `out`"))
        };
        unknown.map(fault).collect()
    }
}

impl Stage for Command {
    const KIND: &'static str = "command";
    const VERSION: u32 = 1;
    type Run = CommandRun;

    fn ports(&self) -> Ports {
        let ports = Ports::new().with_open_inputs().told_cases();
        self.out.typed().fold(ports, |ports, (name, record)| ports.writes(name.to_string(), record))
    }

    fn check(&self) -> Vec<ParamFault> {
        let mut faults: Vec<ParamFault> = self.check_program().into_iter().collect();
        faults.extend(self.out.check());
        faults.extend(environment::check(&self.env));
        faults.extend(self.check_places());
        let empty = self.tools.iter().filter(|(_, probe)| probe.first().is_none_or(String::is_empty));
        let help = "a program and its arguments, for example `[python3, -V]`";
        faults.extend(empty.map(|(name, _)| ParamFault::new(format!("tools.{name}"), "the probe is empty", help)));
        faults
    }

    fn probes(&self, run: &CommandRun, folder: &Path) -> Vec<Probe> {
        if self.tools.is_empty() {
            return Vec::new();
        }
        let path = environment::path(run, folder, watershed_engine::environment::read_os("PATH"));
        let probe = |(tool, argv): (&String, &Vec<String>)| Probe {
            tool: tool.clone(),
            argv: argv.clone(),
            path: path.clone(),
        };
        self.tools.iter().map(probe).collect()
    }

    fn preview(&self, _inputs: &PreviewInputs) -> Result<Preview, StageError> {
        let mut preview = Preview::default();
        let words = self.shell.iter().chain(self.argv.iter().flatten());
        if let Some(name) = words.filter_map(|text| interpreter::find(text)).next().filter(|_| self.tools.is_empty()) {
            let message =
                format!("runs `{name}`, whose version is in no key: add `tools: {{{name}: [{name}, --version]}}`");
            preview.lints.push(Lint { code: code::UNPINNED_TOOL.into(), severity: Severity::Warn, message });
        }
        Ok(preview)
    }

    fn run(&self, run: &CommandRun, job: &Job) -> Result<(), StageError> {
        let room = Room::make(job)?;
        let places = Places::new(&room, job);
        let words = self.words(&places)?;
        let (program, arguments) = words.split_first().ok_or_else(|| StageError::failed("`argv` is empty"))?;
        let mut process = Process::new(program);
        environment::seal(&mut process, self, run, &room, &places, job)?;
        process.args(arguments).current_dir(&room.work);
        let mut log = LogFile::create(&room.log)?;
        let ended = child::run(process, program, &mut log, job)?;
        judge(ended, &log).map_err(|e| room.explain(e))?;
        self.out.names().try_for_each(|name| self.check_output(name, job.output(name)))
    }
}

impl Command {
    /// Looks whether an output is there and, if it is of type `metrics`, one flat object of numbers.
    fn check_output(&self, name: &str, path: &Path) -> Result<(), StageError> {
        if path.symlink_metadata().is_err() {
            let variable = environment::variable("OUT", name);
            return Err(StageError::failed(format!(
                "the command wrote no output `{name}`: it belongs at `${variable}`"
            )));
        }
        if self.out.typed().any(|(n, record)| n == name && record == RecordType::Metrics) {
            outputs::check_metrics(name, path)?;
        }
        Ok(())
    }
}

fn judge(ended: Ended, log: &LogFile) -> Result<(), StageError> {
    let what = match ended {
        Ended::Exit(0) => return Ok(()),
        Ended::Exit(code) => format!("the command ended with exit code {code}"),
        Ended::Signal(signal) => format!("the command was killed by signal {signal}"),
    };
    let lines = log.last(SHOWN_LINES);
    let why = match lines.as_slice() {
        [] => format!("{what} and printed nothing"),
        lines => format!("{what}; its last lines:\n  {}", lines.join("\n  ")),
    };
    Err(if matches!(ended, Ended::Exit(TEMPORARY)) { StageError::Retry(why) } else { StageError::Failed(why) })
}
