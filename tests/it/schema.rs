//! The JSON Schema that editors use accepts every pipeline that ships and refuses the bad samples, as far as a schema can see.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use jsonschema::Validator;
use serde_json::Value;
use watershed_engine::code::{ALL, LINTS};
use watershed_engine::yaml;

use crate::diagnostics::samples;
use crate::docs::custom_stage;
use crate::project::{Project, files};

/// Samples that a schema accepts, by the reason for which it must.
const CANNOT_BE_TOLD: [(&str, &[&str]); 7] = [
    (
        "a schema compares no two places of a document: names of stages, cases, roots and parameters",
        &[
            "case-unknown",
            "cycle",
            "cycle-of-one",
            "env-undeclared",
            "expect-unknown-stage",
            "params-cycle",
            "path-without-dot",
            "root-unknown",
            "sweep-extends-itself",
            "sweep-extends-unknown",
            "sweep-unknown-stage",
            "unknown-reference",
            "unknown-stage",
        ],
    ),
    (
        "nor what the stages at two places read and write",
        &[
            "all-cases-in-one",
            "ambiguous-input",
            "expect-no-metrics",
            "input-for-no-port",
            "report-as-input",
            "unknown-output",
            "writes-none",
            "wrong-record",
        ],
    ),
    (
        "the parameters decide which ports there are, and a sweep may give a missing input",
        &["missing-input", "unknown-port"],
    ),
    ("the kind's own checks are code", &["bad-parameters", "command-nothing", "command-output-type"]),
    ("what an override sets stands elsewhere", &["sweep-bad-value", "sweep-unknown-parameter"]),
    (
        "it computes nothing",
        &[
            "interpolation-bomb",
            "reference-of-map-in-text",
            "reference-of-wrong-type",
            "sweep-explodes",
            "sweep-random",
            "sweep-twice",
        ],
    ),
    (
        "it sees neither files nor the environment",
        &[
            "env-not-set",
            "file-absolute-outside",
            "file-is-a-pipe",
            "file-missing",
            "file-name-too-long",
            "file-outside",
            "inside-leaves",
            "root-left",
            "root-not-set",
        ],
    ),
];

fn validator(schema: &str) -> Validator {
    let schema: Value = serde_json::from_str(schema).unwrap();
    jsonschema::meta::validate(&schema).unwrap();
    jsonschema::draft202012::new(&schema).unwrap()
}

fn ours() -> Validator {
    validator(&Project::new("").says(&["schema"]))
}

/// Returns what an editor would underline.
fn refusals(validator: &Validator, text: &str) -> Vec<String> {
    let document = yaml::parse(text).unwrap().to_json();
    validator.iter_errors(&document).map(|e| format!("{}: {e}", e.instance_path())).collect()
}

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Pipelines that ship, in folders whose every YAML file is one.
fn shipped() -> Vec<PathBuf> {
    let folders = ["pipelines", "templates", "examples/my-data"];
    let mut all: Vec<PathBuf> = folders.iter().flat_map(|folder| files(&in_repository(folder))).collect();
    all.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    all.extend(["tests/it/design.yaml", "tests/golden/pipeline.yaml"].map(in_repository));
    all
}

#[test]
fn every_shipped_pipeline_is_accepted() {
    let (ours, shipped) = (ours(), shipped());
    assert!(shipped.len() >= 10, "{shipped:?}");
    for path in shipped {
        assert_eq!(refusals(&ours, &std::fs::read_to_string(&path).unwrap()), [""; 0], "{}", path.display());
    }
}

#[test]
fn every_good_example_is_accepted() {
    let ours = ours();
    for code in ALL.iter().chain(LINTS) {
        assert_eq!(refusals(&ours, code.good().text), [""; 0], "{}", code.code);
    }
}

/// Says whether an editor would show a fault: the text is no YAML, or the schema refuses it.
fn is_refused(validator: &Validator, path: &Path) -> bool {
    yaml::parse(&std::fs::read_to_string(path).unwrap()).map_or(true, |tree| !validator.is_valid(&tree.to_json()))
}

#[test]
fn every_bad_sample_is_refused_but_for_those_that_no_schema_can_tell() {
    let (ours, cannot) = (ours(), CANNOT_BE_TOLD.iter().flat_map(|(_, names)| *names));
    let accepted = samples().into_iter().filter(|path| !is_refused(&ours, path));
    let accepted: BTreeSet<String> = accepted.map(|p| p.file_stem().unwrap().to_str().unwrap().to_string()).collect();
    assert_eq!(accepted, cannot.map(|name| name.to_string()).collect());
}

#[test]
fn a_kind_from_outside_is_in_the_schema_of_its_program() {
    let text = std::fs::read_to_string(in_repository("examples/custom-stage/watershed.yaml")).unwrap();
    let schema = Command::new(custom_stage()).arg("schema").output().unwrap().stdout;
    assert_eq!(refusals(&validator(std::str::from_utf8(&schema).unwrap()), &text), [""; 0]);
    assert_ne!(refusals(&ours(), &text), [""; 0]);
}
