//! `log`: what a stage said, at any time, also of a run that failed or still goes.

use clap::Args;

use super::{Common, Format, open, out};
use crate::code;
use crate::event::Event;
use crate::{archive, runlog};

/// Options of `log`.
#[derive(Args)]
pub struct Options {
    /// Stage, or `stage@case`.
    stage: String,
    /// Run: an id, a prefix, `last` or `last~1`.
    #[arg(long, value_name = "RUN", default_value = "last")]
    run: String,
}

pub fn log(options: &Options, common: &Common) -> i32 {
    let runs = open::cache_here(common).join("v1").join("run");
    let entries = archive::find(&runs, &options.run)
        .and_then(|folder| runlog::read(&folder).map_err(|e| format!("cannot read `{}`: {e}", folder.display())));
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) => {
            out::complain(format!("error: {error}"));
            return 1;
        }
    };
    let mut known = false;
    for entry in &entries {
        let Some((stage, case)) = place(&entry.event) else { continue };
        let title = case.as_ref().map_or_else(|| stage.clone(), |c| format!("{stage}@{c}"));
        if *stage != options.stage && title != options.stage {
            continue;
        }
        known = true;
        match common.format {
            Format::Json => out::json(entry),
            _ => line(&title, &entry.event, entry.t_ms),
        }
    }
    if known {
        return 0;
    }
    open::refuse_word(code::UNKNOWN_STAGE, format!("the run has no stage `{}`", options.stage), common)
}

fn place(event: &Event) -> Option<(&String, &Option<String>)> {
    match event {
        Event::StageStarted { stage, case, .. }
        | Event::StagePlanned { stage, case, .. }
        | Event::Progress { stage, case, .. }
        | Event::Metric { stage, case, .. }
        | Event::Log { stage, case, .. }
        | Event::DeterminismChecked { stage, case, .. }
        | Event::StageFinished { stage, case, .. } => Some((stage, case)),
        _ => None,
    }
}

fn line(title: &str, event: &Event, t_ms: u64) {
    let text = match event {
        Event::StageStarted { key, .. } => format!("started as {}", key.get(..8).unwrap_or(key)),
        Event::Metric { step, values, .. } => {
            let values: Vec<String> = values.iter().map(|(k, v)| format!("{k} {v:.6}")).collect();
            format!("step {step}: {}", values.join(", "))
        }
        Event::Log { level, text, .. } => format!("{level}: {text}"),
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
    out::say(format!("{:>9}  {title}  {text}", out::duration(t_ms)));
}
