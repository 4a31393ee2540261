//! What a sweep varies: the paths that its cases set, with the value that each case has there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::study::{Case, Study};

/// Override path to value.
pub type Settings = BTreeMap<String, Value>;

/// Returns the settings of each case of the sweep being run; none without one.
///
/// A case that leaves alone what another one sets has there what its stage says; null where no stage says it.
pub fn of(study: &Study) -> Vec<(String, Settings)> {
    let paths: BTreeSet<&String> = study.cases.iter().flat_map(|case| &case.overrides).map(|(path, _)| path).collect();
    let named = study.cases.iter().filter_map(|case| Some((case.name.clone()?, case)));
    named.map(|(name, case)| (name, of_case(study, case, &paths))).collect()
}

fn of_case(study: &Study, case: &Case, paths: &BTreeSet<&String>) -> Settings {
    // The last override of a path is the one that stands.
    let mut settings: Settings = case.overrides.iter().cloned().collect();
    for path in paths {
        if !settings.contains_key(*path) {
            settings.insert((*path).clone(), resolved(study, case, path).unwrap_or(Value::Null));
        }
    }
    settings
}

fn resolved(study: &Study, case: &Case, path: &str) -> Option<Value> {
    let path = path.strip_prefix("stages.").map_or_else(|| path.to_string(), |rest| rest.replacen(".with.", ".", 1));
    let (stage, key) = path.split_once('.')?;
    let whole = match stage {
        "params" => &study.params,
        _ => &case.stages.iter().find(|s| s.name == stage)?.params,
    };
    key.split('.').try_fold(whole, |value, key| value.get(key)).cloned()
}
