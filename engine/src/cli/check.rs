//! `check`: everything that can be said without running.

use serde_json::json;

use super::{Choice, Common, Format, open, out};
use crate::stage::Kind;
use crate::study::Study;

pub fn check(choice: &Choice, common: &Common, kinds: fn() -> Vec<Kind>) -> i32 {
    let study = open::study(choice, common, kinds, true);
    match study.and_then(|study| open::check_words(&study, choice, common).map(|()| study)) {
        Ok(study) => {
            tell(&study, common);
            0
        }
        Err(code) => code,
    }
}

fn tell(study: &Study, common: &Common) {
    let stages = study.cases.first().map_or(0, |c| c.stages.iter().filter(|stage| !stage.kind.fetches).count());
    match common.format {
        Format::Json => out::json(&json!({"errors": []})),
        Format::Human if study.sweep.is_some() => {
            out::say(format!("{}: {stages} stages, {} cases, no faults", study.name, study.cases.len()));
        }
        _ => out::say(format!("{}: {stages} stages, no faults", study.name)),
    }
}
