//! `log`: what a stage said, at any time, also of a run that failed or still goes.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Common, Format, open, out, pick};
use crate::code;
use crate::event::Event;
use crate::runlog::Entry;
use crate::{graph, runlog};

/// Options of `log`.
#[derive(Args)]
pub struct Options {
    /// Stage, or `stage@case`.
    stage: String,
    /// Run: an id, a prefix, `last` or `last~1` (default: the newest in which the stage was more than a hit).
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
}

pub fn log(options: &Options, common: &Common) -> i32 {
    let runs = open::cache_here(common).join("v1").join("run");
    let found = folders(&runs, options.run.as_deref()).and_then(|folders| find(&folders, &options.stage));
    match found {
        Ok(Some(told)) => {
            tell(&told, common);
            0
        }
        Ok(None) => {
            let which = if options.run.is_some() { "the run has" } else { "the runs have" };
            open::refuse_word(code::UNKNOWN_STAGE, format!("{which} no stage `{}`", options.stage), common)
        }
        Err(error) => {
            out::complain(format!("error: {error}"));
            1
        }
    }
}

/// The lines of one stage.
struct Told {
    /// The run that they are from, where it is not the one asked for.
    elsewhere: Option<String>,
    entries: Vec<Entry>,
}

/// Returns the folder of the run asked for; without one all, newest first.
fn folders(runs: &Path, wanted: Option<&str>) -> Result<Vec<PathBuf>, String> {
    let asked = pick::find(runs, wanted.unwrap_or("last"))?;
    Ok(if wanted.is_some() { vec![asked] } else { runlog::list(runs) })
}

/// Finds the first run in which the stage did or suffered something, else the first that knows it.
fn find(folders: &[PathBuf], stage: &str) -> Result<Option<Told>, String> {
    let mut known = None;
    for (index, folder) in folders.iter().enumerate() {
        let (source, entries) = match read(folder) {
            Ok(read) => read,
            // A run that was killed before its first line has nothing to tell, but others have.
            Err(_) if folders.len() > 1 => continue,
            Err(error) => return Err(error),
        };
        let entries = of_stage(entries, stage);
        if entries.is_empty() {
            continue;
        }
        let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let told = Told { elsewhere: (index > 0 || source != *folder).then_some(name), entries };
        if told.entries.iter().any(|entry| is_story(&entry.event)) {
            return Ok(Some(told));
        }
        known = known.or(Some(told));
    }
    Ok(known)
}

/// Reads a log; of a run in which nothing had changed, that of the run before.
fn read(folder: &Path) -> Result<(PathBuf, Vec<Entry>), String> {
    let fail = |e: std::io::Error| format!("cannot read `{}`: {e}", folder.display());
    let entries = runlog::read(folder).map_err(fail)?;
    let since = entries.iter().find_map(|entry| match &entry.event {
        Event::Unchanged { since } => Some(folder.with_file_name(since)),
        _ => None,
    });
    match since {
        Some(since) => Ok((since.clone(), runlog::read(&since).map_err(fail)?)),
        None => Ok((folder.to_path_buf(), entries)),
    }
}

/// Says whether a line is of an execution or a failure, not of a hit.
fn is_story(event: &Event) -> bool {
    match event {
        Event::StageFinished { outcome, .. } => outcome != "hit",
        Event::StagePlanned { .. } => false,
        _ => true,
    }
}

fn of_stage(entries: Vec<Entry>, wanted: &str) -> Vec<Entry> {
    let (stage, case) = wanted.split_once('@').map_or((wanted, None), |(stage, case)| (stage, Some(case)));
    let is_case = |name: &String| {
        case.is_none_or(|case| {
            case.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
        })
    };
    let of_case = |place: &Place| match (place.case, place.cases) {
        (Some(case), _) => is_case(case),
        (None, Some(cases)) => case.is_none() || cases.iter().any(is_case),
        (None, None) => true,
    };
    let concerns = |entry: &Entry| place(&entry.event).is_some_and(|place| place.stage == stage && of_case(&place));
    let found: Vec<Entry> = entries.into_iter().filter(concerns).collect();
    // What a merged node said names no case: it is of this one only if the run knows the case at all.
    let knows = found.iter().any(|entry| place(&entry.event).is_some_and(|p| p.case.is_some() || p.cases.is_some()));
    if knows || case.is_none() { found } else { Vec::new() }
}

/// Where a line belongs.
struct Place<'a> {
    stage: &'a str,
    case: Option<&'a String>,
    cases: Option<&'a Vec<String>>,
}

fn place(event: &Event) -> Option<Place<'_>> {
    match event {
        Event::StageStarted { stage, case, cases, .. }
        | Event::StagePlanned { stage, case, cases, .. }
        | Event::DeterminismChecked { stage, case, cases, .. }
        | Event::StageFinished { stage, case, cases, .. } => {
            Some(Place { stage, case: case.as_ref(), cases: Some(cases) })
        }
        Event::Progress { stage, case, .. } | Event::Metric { stage, case, .. } | Event::Log { stage, case, .. } => {
            Some(Place { stage, case: case.as_ref(), cases: None })
        }
        _ => None,
    }
}

fn tell(told: &Told, common: &Common) {
    if common.format == Format::Json {
        return told.entries.iter().for_each(out::json);
    }
    if let Some(run) = &told.elsewhere {
        out::say(format!("in run {run}, a hit since:"));
    }
    told.entries.iter().for_each(line);
}

/// Returns a number with six digits that count.
fn shown(value: f64) -> String {
    let rounded: f64 = format!("{value:.5e}").parse().unwrap_or(value);
    if rounded != 0.0 && rounded.abs() < 1e-4 { format!("{rounded:e}") } else { rounded.to_string() }
}

fn line(entry: &Entry) {
    let text = match &entry.event {
        Event::StageStarted { key, .. } => format!("started as {}", key.get(..8).unwrap_or(key)),
        Event::Metric { step, values, .. } => {
            let values: Vec<String> = values.iter().map(|(k, v)| format!("{k} {}", shown(*v))).collect();
            format!("step {step}: {}", values.join(", "))
        }
        Event::Log { level, text, .. } => format!("{level}: {text}"),
        Event::StageFinished { outcome, .. } if outcome == "hit" => "hit".into(),
        Event::StageFinished { outcome, wall_ms, error, .. } => {
            let error = error.as_ref().map(|e| format!(": {e}")).unwrap_or_default();
            format!("{outcome} after {}{error}", out::duration(*wall_ms))
        }
        Event::DeterminismChecked { outcome, difference, wall_ms, error, .. } => {
            let found = difference.as_ref().map(|d| d.to_string()).or_else(|| error.clone());
            let found = found.map(|found| format!(": {found}")).unwrap_or_default();
            format!("executed twice, {outcome} after {}{found}", out::duration(*wall_ms))
        }
        _ => return,
    };
    let Some(place) = place(&entry.event) else { return };
    let own: Vec<String> = place.case.into_iter().cloned().collect();
    let title = graph::title(place.stage, place.cases.unwrap_or(&own));
    out::say(format!("{:>9}  {title}  {text}", out::duration(entry.t_ms)));
}
