//! What a good pipeline is resolved to: short forms, parameters, cases.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use watershed_engine::diagnostic::Diagnostics;
use watershed_engine::language::{LoadRequest, json_schema, load};
use watershed_engine::study::{Case, CaseRef, Source, StageDef, Study};

mod common;

/// A folder with the given files, each holding its own name.
fn project(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
    folder
}

fn load_in(folder: &Path, text: &str, change: impl Fn(&mut LoadRequest)) -> Result<Study, Diagnostics> {
    let file = folder.join("p.yaml");
    fs::write(&file, text).unwrap();
    let mut request = LoadRequest::new(file);
    change(&mut request);
    load(&request, &common::kinds())
}

fn stage<'a>(case: &'a Case, name: &str) -> &'a StageDef {
    case.stages.iter().find(|s| s.name == name).unwrap()
}

/// Writes inputs as `port/label=source`.
fn inputs(stage: &StageDef) -> Vec<String> {
    let source = |source: &Source| match source {
        Source::Path { path, .. } => path.file_name().unwrap().to_str().unwrap().to_string(),
        Source::Output { stage, port, inside, case } => {
            let case = match case {
                CaseRef::Same => String::new(),
                CaseRef::All => "@*".into(),
                CaseRef::Named { sweep, case } => format!("@{sweep}/{case}"),
            };
            format!("{stage}.{port}{}{case}", inside.as_ref().map(|i| format!("/{i}")).unwrap_or_default())
        }
    };
    stage.inputs.iter().map(|b| format!("{}/{}={}:{}", b.port, b.label, source(&b.source), b.record)).collect()
}

const STUDY: &str = r#"
params: {seed: 42, base: ./m.gguf}
stages:
  raw: {use: reviews, in: {file: ./rows.csv.gz}}
  parts: {use: split, in: ./made.json, with: {seed: "${params.seed}"}}
  tuned: {use: train, in: {train: parts, val: parts, base: "${params.base}"}, with: {preset: paper, lora: {r: 4}, lr: 2.0e-4}}
  answers: {use: answer, in: {prompts: parts.val, adapter: tuned.last}}
  scores: {use: score, in: {answers: {a: answers, b: answers}, curves: tuned, truth: raw}}
  notes: {use: shell, in: {curves: tuned, x: tuned.curves/eval.jsonl}, with: {argv: [cat, "${in.x}"]}}
sweeps:
  ranks: {grid: {tuned.lora.r: [4, 8]}, set: {params.seed: 7}}
"#;

#[test]
fn short_forms_are_spelled_out() {
    let folder = project(&["rows.csv.gz", "m.gguf", "made.json"]);
    let study = load_in(folder.path(), STUDY, |_| {}).unwrap_or_else(|f| panic!("{f}"));
    let of = |name| inputs(stage(&study.cases[0], name));
    assert_eq!(of("raw"), ["file/rows=rows.csv.gz:bytes"]);
    assert_eq!(of("parts"), ["examples/made=made.json:examples"]);
    assert_eq!(
        of("tuned"),
        ["base/m=m.gguf:model", "train/parts=parts.train:examples", "val/parts=parts.val:examples"]
    );
    assert_eq!(of("answers"), ["adapter/tuned=tuned.last:adapter", "prompts/parts=parts.val:examples"]);
    let scores =
        ["answers/a=answers.answers:answers", "answers/b=answers.answers:answers", "curves/tuned=tuned.curves:curves"];
    assert_eq!(of("scores"), [&scores[..], &["truth/raw=raw.interactions:interactions"]].concat());
    assert_eq!(of("notes"), ["curves/tuned=tuned.curves:curves", "x/tuned=tuned.curves/eval.jsonl:bytes"]);
}

#[test]
fn a_preset_is_expanded_and_beaten_by_explicit_keys() {
    let folder = project(&["rows.csv.gz", "m.gguf", "made.json"]);
    let study = load_in(folder.path(), STUDY, |_| {}).unwrap_or_else(|f| panic!("{f}"));
    let tuned = stage(&study.cases[0], "tuned");
    assert_eq!(json!(tuned.differing), json!({"lora.alpha": 16.0, "lora.r": 4, "warmup": 100.0}));
    assert_eq!(tuned.params["batch_size"], 16);
    assert_eq!(stage(&study.cases[0], "parts").params["seed"], 42);
    assert_eq!(stage(&study.cases[0], "notes").params["argv"], json!(["cat", "${in.x}"]));
}

#[test]
fn a_sweep_gives_a_case_at_each_point() {
    let folder = project(&["rows.csv.gz", "m.gguf", "made.json"]);
    let ranks = |r: &mut LoadRequest| {
        (r.sweep, r.overrides) = (Some("ranks".into()), vec!["params.seed=1".into(), "tuned.lr=0.1".into()])
    };
    let study = load_in(folder.path(), STUDY, ranks).unwrap_or_else(|f| panic!("{f}"));
    let names: Vec<_> = study.cases.iter().map(|c| c.name.as_deref().unwrap()).collect();
    assert_eq!(names, ["r=4", "r=8"]);
    assert_eq!(
        study.cases[1].overrides,
        [("params.seed".to_string(), json!(7)), ("tuned.lora.r".to_string(), json!(8))]
    );
    let tuned = stage(&study.cases[1], "tuned");
    assert_eq!((&tuned.params["lora"]["r"], &tuned.params["lr"]), (&json!(8), &json!(0.1)));
    assert_eq!(stage(&study.cases[1], "parts").params["seed"], 7, "a case beats --set");
    let one = |r: &mut LoadRequest| (r.sweep, r.cases) = (Some("ranks".into()), Some("*8".into()));
    assert_eq!(load_in(folder.path(), STUDY, one).unwrap_or_else(|f| panic!("{f}")).cases.len(), 1);
}

#[test]
fn named_cases_come_with_the_study() {
    let folder = project(&["rows.csv.gz", "m.gguf", "made.json"]);
    let text = STUDY.replace("adapter: tuned.last", "adapter: \"tuned@ranks/r=8.last\"");
    let study = load_in(folder.path(), &text, |_| {}).unwrap_or_else(|f| panic!("{f}"));
    assert!(
        inputs(stage(&study.cases[0], "answers")).contains(&"adapter/tuned=tuned.last@ranks/r=8:adapter".to_string())
    );
    let named = &study.named[&("ranks".to_string(), "r=8".to_string())];
    assert_eq!(stage(named, "tuned").params["lora"]["r"], 8);
}

#[test]
fn comments_order_and_quotes_change_nothing() {
    let folder = project(&["rows.csv.gz", "m.gguf", "made.json"]);
    let differing = |text: &str| {
        let study = load_in(folder.path(), text, |_| {}).unwrap_or_else(|f| panic!("{f}"));
        json!(stage(&study.cases[0], "tuned").differing)
    };
    let other = STUDY.replace(
        "preset: paper, lora: {r: 4}, lr: 2.0e-4",
        "'lora': {\"r\": 4}, lr: 0.0002, # same\n    preset: paper",
    );
    assert_ne!(STUDY, other);
    assert_eq!(differing(STUDY), differing(&other));
}

#[test]
fn declared_environment_is_part_of_the_stages_that_use_it() {
    let folder = project(&["rows.csv.gz"]);
    let text = "env: {NAME: none}\nparams: {p: \"${env.NAME}\"}\nstages:\n  a: {use: shell, with: {shell: \"echo ${params.p}\"}}\n  \
                b: {use: shell, with: {shell: \"echo\"}}\n";
    let study = load_in(folder.path(), text, |r| r.env = |name| (name == "NAME").then(|| "x".into()))
        .unwrap_or_else(|f| panic!("{f}"));
    assert_eq!(json!(stage(&study.cases[0], "a").env), json!({"NAME": "x"}));
    assert_eq!(stage(&study.cases[0], "a").params["shell"], "echo x");
    assert!(stage(&study.cases[0], "b").env.is_empty());
}

#[test]
fn links_out_of_the_project_are_refused_unless_a_root_allows_them() {
    let outside = project(&["secret.csv"]);
    let folder = project(&["watershed.root"]);
    std::os::unix::fs::symlink(outside.path(), folder.path().join("link")).unwrap();
    let text = "stages: {a: {use: reviews, in: {file: ./link/secret.csv}}}\n";
    let faults = load_in(folder.path(), text, |_| {}).err().unwrap();
    assert_eq!(faults.errors[0].code, "E022", "{faults}");
    let allowed = format!("roots: {{there: {}}}\n{text}", outside.path().display());
    assert!(load_in(folder.path(), &allowed, |_| {}).is_ok());
    let named = allowed.replace("./link/secret.csv", "there:secret.csv");
    let study = load_in(folder.path(), &named, |_| {}).unwrap_or_else(|f| panic!("{f}"));
    assert_eq!(inputs(stage(&study.cases[0], "a")), ["file/secret=secret.csv:bytes"]);
}

#[test]
fn faults_as_json_have_the_six_fields() {
    let folder = project(&[]);
    let set = |r: &mut LoadRequest| r.overrides = vec!["raw.seeed=1".into()];
    let faults = load_in(folder.path(), "stages: {raw: {use: reviews}, b: {use: rewievs}}\n", set).err().unwrap();
    let shown = serde_json::to_value(&faults).unwrap();
    let first = json!({"code": "E006", "message": "unknown key `seeed` in stage `raw` (reviews)", "file": null, "line": null,
        "column": null, "help": "did you mean `seed`? known here: seed, max_bad"});
    assert_eq!(shown["errors"][0], first);
    assert_eq!((&shown["errors"][1]["line"], &shown["errors"][1]["column"]), (&json!(1), &json!(40)));
    assert_eq!(PathBuf::from(shown["errors"][1]["file"].as_str().unwrap()).file_name().unwrap(), "p.yaml");
}

/// Not a promise, but a wall against anything quadratic: 4000 stages take a fraction of a second.
#[test]
fn thousands_of_stages_load_at_once() {
    let folder = project(&["made.json", "m.gguf"]);
    let mut text = String::from("params: {seed: 1}\nstages:\n  s0: {use: split, in: {examples: ./made.json}}\n");
    for i in 1..4000 {
        text += &format!(
            "  s{i}: {{use: split, in: {{examples: s{}.train}}, with: {{val: 3, seed: \"${{params.seed}}\"}}}}\n",
            i - 1
        );
    }
    let began = std::time::Instant::now();
    let study = load_in(folder.path(), &text, |_| {}).unwrap_or_else(|f| panic!("{f}"));
    let took = began.elapsed();
    eprintln!("4000 stages in {took:?}");
    assert_eq!(study.cases[0].stages.len(), 4000);
    assert!(took.as_secs() < 5, "{took:?}");
}

#[test]
fn pipes_and_missing_pipelines_are_faults_not_waits() {
    let folder = project(&["watershed.root"]);
    let made = std::process::Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap();
    assert!(made.success());
    let faults = load_in(folder.path(), "stages: {a: {use: reviews, in: {file: ./pipe}}}\n", |_| {}).err().unwrap();
    assert_eq!(faults.errors[0].code, "E023", "{faults}");
    let none = load(&LoadRequest::new(folder.path().join("none.yaml")), &common::kinds()).err().unwrap();
    assert_eq!((none.errors[0].code, none.errors[0].file.is_some()), ("E001", true));
}

#[test]
fn no_broken_text_makes_the_loader_panic() {
    let folder = project(&["rows.csv.gz", "m.gguf", "made.json"]);
    let kinds = common::kinds();
    let try_text = |text: String| {
        let mut request = LoadRequest::new(folder.path().join("p.yaml"));
        (request.text, request.check_all) = (Some(text), true);
        if let Err(faults) = load(&request, &kinds) {
            assert!(!faults.is_empty() && !faults.to_string().is_empty());
        }
    };
    for (at, _) in STUDY.char_indices() {
        try_text(STUDY[..at].to_string());
        for other in ["", "{", ":", "$", "\u{e9}", "\t"] {
            try_text(format!("{}{other}{}", &STUDY[..at], &STUDY[at + 1..]));
        }
    }
}

/// Collects the targets of all `$ref`s.
fn references(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            found.extend(map.get("$ref").and_then(|r| r.as_str()).map(str::to_string));
            map.values().for_each(|v| references(v, found));
        }
        serde_json::Value::Array(list) => list.iter().for_each(|v| references(v, found)),
        _ => {}
    }
}

#[test]
fn the_schema_of_pipelines_holds_every_kind_and_no_dangling_reference() {
    let schema = json_schema(&common::kinds());
    let mut targets = Vec::new();
    references(&schema, &mut targets);
    assert!(targets.iter().all(|t| schema.pointer(t.trim_start_matches('#')).is_some()), "{targets:?}");
    let with = &schema["$defs"]["train.with"]["properties"];
    assert_eq!(with["preset"]["enum"], json!(["paper", "careful"]));
    assert_eq!(with["batch_size"]["anyOf"][0]["minimum"], 1);
    assert!(schema["$defs"]["train.run"]["properties"]["timeout"]["description"].is_string());
    assert_eq!(schema["$defs"]["stage"]["properties"]["use"]["enum"][2], "train");
}

/// Writes everything that decides what a stage does.
fn written(stage: &StageDef) -> String {
    format!("{} {} {:?} {:?} {:?} {:?}", stage.name, stage.params, stage.inputs, stage.env, stage.run, stage.ports)
}

#[test]
fn a_case_beside_others_is_what_it_is_alone() {
    let folder = project(&["rows.csv.gz", "m.gguf", "n.gguf", "made.json"]);
    let cases = [
        ("first", "tuned.lora.r: 8"),
        ("other", "tuned.lora.r: 16"),
        ("seeded", "params.seed: 7"),
        ("both", "params.seed: 7, tuned.lora: {r: 2}, tuned.lr: 1.0e-4"),
        ("base", "params.base: ./n.gguf"),
        ("port", "answers.in.adapter: tuned.adapter"),
        ("input", "parts.in: ./rows.csv.gz"),
        ("stage", "notes.in.x: parts.train"),
        ("ports", "notes.out: {more: metrics}"),
        ("run", "stages.tuned.run.cpus: 2"),
    ];
    let list: String = cases.iter().map(|(name, changes)| format!("    {name}: {{{changes}}}\n")).collect();
    let text = format!("{STUDY}  all:\n   cases:\n{list}");
    let together = load_in(folder.path(), &text, |request| request.sweep = Some("all".into()));
    let together = together.unwrap_or_else(|f| panic!("{f}"));
    for (name, _) in cases {
        let alone = load_in(folder.path(), &text, |request| {
            (request.sweep, request.cases) = (Some("all".into()), Some(name.into()));
        });
        let alone = alone.unwrap_or_else(|f| panic!("{f}"));
        let case = together.cases.iter().find(|case| case.name.as_deref() == Some(name)).unwrap();
        let words = |case: &Case| case.stages.iter().map(|stage| written(stage)).collect::<Vec<_>>();
        assert_eq!(words(case), words(&alone.cases[0]), "{name}");
    }
}

#[test]
fn faults_of_later_cases_are_found_where_they_stand() {
    let folder = project(&["rows.csv.gz", "m.gguf", "made.json"]);
    let text = format!(
        "{STUDY}  all: {{cases: {{a: {{tuned.lora.r: 8}}, b: {{tuned.lora.r: many}}, c: {{tuned.lrr: 1}}}}}}\n"
    );
    let faults = load_in(folder.path(), &text, |request| request.sweep = Some("all".into())).err().unwrap();
    let messages: Vec<&str> = faults.errors.iter().map(|fault| fault.message.as_str()).collect();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(
        messages[0].contains("`tuned.lora.r`: expected") && messages[1].contains("unknown key `lrr`"),
        "{messages:?}"
    );
}

#[test]
fn ten_thousand_cases_share_the_stages_that_none_of_them_overrides() {
    let folder = project(&["rows.csv.gz", "m.gguf", "made.json"]);
    let numbers = |from: usize| (from..from + 100).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
    let grid = format!("{{tuned.lora.r: [{}], tuned.batch_size: [{}]}}", numbers(1), numbers(1));
    let text = format!("{STUDY}  wide: {{grid: {grid}}}\n");
    let study = load_in(folder.path(), &text, |request| request.sweep = Some("wide".into()));
    let study = study.unwrap_or_else(|f| panic!("{f}"));
    let distinct: std::collections::HashSet<_> =
        study.cases.iter().flat_map(|case| &case.stages).map(std::sync::Arc::as_ptr).collect();
    assert_eq!((study.cases.len(), distinct.len()), (10_000, 10_000 + 5));
    let graph = watershed_engine::graph::Graph::build(&study);
    let sharing = graph.sharing(0..graph.nodes.len());
    assert_eq!((sharing.nodes, sharing.shared, sharing.without), (2 + 4 * 10_000, 2, 6 * 10_000));
}
