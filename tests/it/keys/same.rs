//! What changes no key: comments, order, quotes, names of stages, the place, the machine, who runs it and with how much.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Map, Value, json};
use watershed_cache::record::RECORD_VERSION;
use watershed_cache::{ActionResult, Digest, Stored};
use watershed_engine::graph::NodeId;
use watershed_engine::language::{Kinds, LoadRequest, load};
use watershed_engine::lookup::{self, Outputs};
use watershed_engine::port::Class;
use watershed_engine::record::Provenance;
use watershed_engine::session::Session;
use watershed_engine::yaml;

use super::{Shipped, by_key, keys, repository, shipped_kinds};
use crate::project::{Project, Ran, of_four_stages, rows};

/// Returns the keys of a pipeline and of all its sweeps, without the names of their nodes.
fn all_keys(shipped: &Shipped, kinds: &Kinds, name: &str) -> Vec<String> {
    let sweeps = shipped.sweeps(name).into_iter().map(Some);
    let graphs = [None].into_iter().chain(sweeps).map(|sweep| shipped.graph(kinds, name, sweep.as_deref()));
    let mut all: Vec<String> = graphs.flat_map(|graph| keys(&graph, by_key)).map(|(_, key)| key).collect();
    all.sort();
    all
}

/// Holds that every shipped pipeline has the same keys when it is written as `rewrite` says.
fn assert_same_keys(rewrite: fn(&str) -> String) {
    let (shipped, kinds) = (Shipped::new(), Kinds::new(shipped_kinds()));
    for name in Shipped::names() {
        let before = all_keys(&shipped, &kinds, &name);
        let text = std::fs::read_to_string(shipped.path(&name)).unwrap();
        let other = rewrite(&text);
        assert_ne!(text, other, "{name}");
        shipped.write(&name, &other);
        assert_eq!(all_keys(&shipped, &kinds, &name), before, "{name}:\n{other}");
    }
}

#[test]
fn comments_and_line_ends_are_in_no_key() {
    assert_same_keys(|text| format!("\u{feff}# what this is for\n\n{}# the end", text.replace('\n', "\r\n")));
}

#[test]
fn order_and_quotes_are_in_no_key() {
    assert_same_keys(|text| reversed(&yaml::parse(text).unwrap().to_json()).to_string());
}

/// Turns the order of all maps around, but not of a grid's axes, which name its cases.
fn reversed(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let turn = |(name, inner): (&String, &Value)| {
                (name.clone(), if name == "grid" { inner.clone() } else { reversed(inner) })
            };
            Value::Object(map.iter().rev().map(turn).collect())
        }
        Value::Array(items) => items.iter().map(reversed).collect(),
        other => other.clone(),
    }
}

#[test]
fn the_order_of_a_models_configuration_is_in_no_byte_of_it() {
    let config = "hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2, vocab_size: 512";
    let turned: Vec<&str> = config.rsplit(", ").collect();
    let written = |config: &str| {
        let project = Project::new(&format!(
            "stages: {{base: {{use: random-model, in: ./tokenizer.json, with: {{config: {{{config}}}}}}}}}\n"
        ));
        let tokenizer = repository().join("templates/tokenizer.json");
        project.write("tokenizer.json", &std::fs::read_to_string(tokenizer).unwrap());
        project.says(&["run", "-q"]);
        project.says(&["get", "base", "-o", project.path("model").to_str().unwrap()]);
        std::fs::read_to_string(project.path("model/config.json")).unwrap()
    };
    assert_eq!(written(config), written(&turned.join(", ")));
}

#[test]
fn names_of_stages_are_in_no_key() {
    assert_same_keys(|text| renamed(&yaml::parse(text).unwrap().to_json()).to_string());
}

/// Gives every stage another name, wherever it stands.
fn renamed(pipeline: &Value) -> Value {
    let names: Vec<String> = pipeline["stages"].as_object().unwrap().keys().cloned().collect();
    let other = |text: &str| {
        let end = text.find(['.', '@']).unwrap_or(text.len());
        let is_stage = names.iter().any(|name| *name == text[..end]);
        if is_stage { format!("a{}-other{}", &text[..end], &text[end..]) } else { text.to_string() }
    };
    let paths = |text: &str| text.split(", ").map(&other).collect::<Vec<_>>().join(", ");
    let mut renamed = pipeline.clone();
    let stages = pipeline["stages"].as_object().unwrap().iter().map(|(name, stage)| {
        let mut stage = stage.clone();
        if let Some(inputs) = stage.get_mut("in") {
            *inputs = with_texts(inputs, &other);
        }
        (other(name), stage)
    });
    renamed["stages"] = Value::Object(stages.collect());
    for part in ["sweeps", "expect"] {
        if let Some(value) = renamed.get_mut(part) {
            *value = with_names(value, &paths);
        }
    }
    renamed
}

/// Changes the texts of a tree.
fn with_texts(value: &Value, change: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(name, inner)| (name.clone(), with_texts(inner, change))).collect(),
        Value::Array(items) => items.iter().map(|item| with_texts(item, change)).collect(),
        Value::String(text) => change(text).into(),
        other => other.clone(),
    }
}

/// Changes the names in the maps of a tree.
fn with_names(value: &Value, change: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(name, inner)| (change(name), with_names(inner, change))).collect(),
        other => other.clone(),
    }
}

/// Runs a project's pipeline as somebody else would: elsewhere, on another machine, with other means.
fn by_somebody_else(project: &Project, arguments: &[&str]) -> Ran {
    let mut command = project.command(&["run", "--format", "json"]);
    let others = [
        ("HOME", "/nonexistent"),
        ("HOSTNAME", "elsewhere"),
        ("USER", "somebody"),
        ("LOGNAME", "somebody"),
        ("TZ", "Pacific/Auckland"),
        ("LANG", "de_DE.UTF-8"),
        ("RAYON_NUM_THREADS", "3"),
        ("OMP_NUM_THREADS", "3"),
        ("CUDA_VISIBLE_DEVICES", ""),
        ("TMPDIR", "/tmp/."),
    ];
    Ran::of(&command.args(arguments).envs(others).output().unwrap())
}

#[test]
fn a_colleague_elsewhere_with_other_means_finds_everything_done() {
    let (mine, theirs) = (of_four_stages(), Project::new(""));
    mine.write("data.jsonl", &rows(40));
    let store = mine.store();
    mine.run(&[]);
    let text = std::fs::read_to_string(mine.path("watershed.yaml")).unwrap();
    theirs.write("deep/inside/copy.yaml", &text);
    theirs.write("deep/inside/data.jsonl", &rows(40));
    let cache = ["--cache", store.to_str().unwrap()];
    let file = ["deep/inside/copy.yaml"];
    let means =
        ["-j", "7", "--set", "parts.run.cpus=2", "--set", "large.run.device=cpu", "--set", "small.run.timeout=1h"];
    let ran = by_somebody_else(&theirs, &[&file[..], &cache, &means].concat());
    assert_eq!((ran.code, ran.outcome("ran")), (0, vec![]), "{:?}", ran.events);
    assert_eq!(ran.outcome("hit").len(), 4);
    let changed = by_somebody_else(&theirs, &[&file[..], &cache, &["--set", "params.seed=9"]].concat());
    assert_eq!(changed.outcome("ran").len(), 3, "the test can tell");
}

struct Known(Vec<Option<BTreeMap<String, Stored>>>);

impl Outputs for Known {
    fn of(&self, node: NodeId) -> Option<&BTreeMap<String, Stored>> {
        self.0[node].as_ref()
    }
}

/// Leaves in a project's store what a machine with an H100 would.
fn publish_from_gpu(project: &Project) {
    let request = LoadRequest::new(project.path("watershed.yaml"));
    let study = load(&request, &Kinds::new(shipped_kinds())).unwrap_or_else(|faults| panic!("{faults}"));
    let session = Session::open(study, &project.store()).unwrap();
    let mut known = Known(vec![None; session.graph.nodes.len()]);
    for id in 0..session.graph.nodes.len() {
        let looked = lookup::look_up(&session, id, &known).unwrap();
        let node = &session.graph.nodes[id];
        let data = node.stage.ports.outputs.iter().filter(|output| output.class == Class::Data);
        let outputs: BTreeMap<String, Stored> = data
            .map(|output| (output.name.to_string(), publish(&session, &format!("{}.{}", node.title(), output.name))))
            .collect();
        let numerics = json!({"device": "cuda", "gpu": "NVIDIA H100", "threads": 48});
        let detail = Provenance {
            manifest: looked.manifest,
            params: node.stage.params.clone(),
            wall_ms: 3_600_000,
            finished_ms: 1,
            host: "gpu-7".into(),
            numerics: serde_json::from_value(numerics).unwrap(),
            counts: BTreeMap::new(),
            warnings: Vec::new(),
            replaced: Vec::new(),
        };
        let detail = serde_json::to_value(&detail).unwrap();
        let result =
            ActionResult { record_version: RECORD_VERSION, outputs: outputs.clone(), unsynced_boot: None, detail };
        session.store.record(&looked.key, result, true).unwrap();
        known.0[id] = Some(outputs);
    }
}

fn publish(session: &Session, text: &str) -> Stored {
    let sandbox = session.store.sandbox(&[]).unwrap();
    let path = sandbox.path().join(Digest::of(text.as_bytes()).hex());
    std::fs::write(&path, text).unwrap();
    Stored { artifact: session.store.publish(&path, true).unwrap(), report: false }
}

#[test]
fn a_machine_without_a_gpu_finds_everything_done_that_one_made() {
    let project = Project::new(&std::fs::read_to_string(repository().join("templates/finetune.yaml")).unwrap());
    for name in ["data.jsonl", "tokenizer.json"] {
        project.write(name, &std::fs::read_to_string(repository().join("templates").join(name)).unwrap());
    }
    publish_from_gpu(&project);
    let cuda = ["--set", "tuned.run.device=cuda", "--set", "tuned.run.gpus=1"];
    let without_gpu = |arguments: &[&str]| -> Command {
        let mut command = project.command(arguments);
        command.env("CUDA_VISIBLE_DEVICES", "").args(cuda);
        command
    };
    let plan: Value =
        serde_json::from_slice(&without_gpu(&["plan", "--format", "json"]).output().unwrap().stdout).unwrap();
    let states: Vec<&Value> = plan["stages"].as_array().unwrap().iter().map(|stage| &stage["state"]).collect();
    assert!(states.len() >= 5 && states.iter().all(|state| **state == "hit"), "{states:?}");
    let ran = Ran::of(&without_gpu(&["run", "--format", "json"]).output().unwrap());
    assert_eq!((ran.code, ran.outcome("hit").len()), (0, states.len()), "{:?}", ran.events);
    let changed = without_gpu(&["plan", "--exit-code", "--set", "parts.val=3"]).output().unwrap();
    assert_eq!(changed.status.code(), Some(10), "the test can tell");
}

#[test]
fn the_map_of_a_stage_is_turned_around_deeply() {
    let value: Map<String, Value> = serde_json::from_str(r#"{"a": {"x": 1, "y": 2}, "b": 3}"#).unwrap();
    assert_eq!(reversed(&Value::Object(value)).to_string(), r#"{"b":3,"a":{"y":2,"x":1}}"#);
}
