//! `check`: everything that can be said without running.

use serde_json::json;

use super::{Choice, Common, Format, open, out};
use crate::stage::Kind;

pub fn check(choice: &Choice, common: &Common, kinds: fn() -> Vec<Kind>) -> i32 {
    let study = match open::study(choice, common, kinds, true) {
        Ok(study) => study,
        Err(code) => return code,
    };
    let stages = study.cases.first().map_or(0, |c| c.stages.iter().filter(|stage| !stage.kind.fetches).count());
    match common.format {
        Format::Json => out::json(&json!({"errors": []})),
        Format::Human if study.sweep.is_some() => {
            out::say(format!("{}: {stages} stages, {} cases, no faults", study.name, study.cases.len()));
        }
        _ => out::say(format!("{}: {stages} stages, no faults", study.name)),
    }
    0
}
