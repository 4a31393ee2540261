//! Law: other parameters, another key. Each field of each kind is changed and must give a new key, or be refused in words.
//!
//! Fields and values come from the kinds' own schemas, so a new parameter is covered as it is. What a field is changed in are
//! the parameters of the stages that ship, because some fields mean something beside others only. The converse is held too:
//! what `run:` says is in no key.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use watershed_engine::Kind;
use watershed_engine::graph::Graph;
use watershed_engine::language::{Kinds, LoadRequest, json_schema, load};

use super::fields::{Field, fields, with_field};
use super::{Shipped, by_key, manifests, shipped_kinds};

/// Stages to change fields in, beside those that ship.
fn more_stages() -> Vec<(&'static str, Value)> {
    vec![
        ("baseline", json!({"algorithm": "baseline_only", "bsl_options": {"method": "als"}})),
        ("baseline", json!({"algorithm": "baseline_only", "bsl_options": {"method": "sgd"}})),
        ("baseline", json!({"algorithm": "ease"})),
        ("baseline", json!({"algorithm": "knn_baseline", "sim_options": {"name": "pearson_baseline"}})),
        ("command", json!({"argv": ["true"]})),
        ("command", json!({"shell": "true"})),
        ("evaluate", json!({"metrics": ["rmse"]})),
        ("examples", json!({"format": "columns", "columns": {"instruction": "question", "output": "answer"}})),
        ("examples", json!({"format": "columns", "columns": {"messages": "turns"}})),
        ("generate", json!({"mode": "sample"})),
        ("holdout", json!({"by": "timestamp", "at": "2017-01-01"})),
        ("mix", json!({"weights": {"base": 1, "a": 1}, "total": 9})),
    ]
}

/// Fields that no single change can reach, each with its reason.
const EXCEPTIONS: [(&str, &str, &str); 1] = [("holdout", "by", "`at` comes and goes with `by: timestamp`")];

/// Writes pipelines of one stage.
struct Bench {
    folder: tempfile::TempDir,
    kinds: Kinds,
}

/// What a stage was resolved to.
struct Made {
    params: String,
    key: String,
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench { folder: tempfile::tempdir().unwrap(), kinds: Kinds::new(shipped_kinds()) };
        std::fs::write(bench.folder.path().join("watershed.root"), "").unwrap();
        std::fs::write(bench.folder.path().join("some.jsonl"), "").unwrap();
        bench
    }

    /// Loads a stage of this kind that reads what it must.
    fn make(&self, kind: &Kind, with: &Value, run: &Value) -> Result<Made, String> {
        let ports = (kind.ports)(&(kind.resolve)(with).unwrap_or(Value::Null));
        let required = ports.inputs.iter().filter(|port| port.arity.is_required());
        let file = |is_many: bool| if is_many { json!({"a": "./some.jsonl"}) } else { json!("./some.jsonl") };
        let inputs: Map<String, Value> =
            required.map(|port| (port.name.to_string(), file(port.arity.is_many()))).collect();
        let stage = json!({"use": kind.name, "in": inputs, "with": with, "run": run});
        self.load(&json!({"stages": {"s": stage}}))
    }

    fn load(&self, pipeline: &Value) -> Result<Made, String> {
        let file = self.folder.path().join("p.yaml");
        let request = LoadRequest { text: Some(pipeline.to_string()), ..LoadRequest::new(file) };
        let study = load(&request, &self.kinds).map_err(|faults| {
            assert!(!faults.is_empty(), "{pipeline} is refused without a word");
            faults.to_string()
        })?;
        let graph = Graph::build(&study);
        let manifest = manifests(&graph, by_key).pop().unwrap();
        Ok(Made { params: canonical(&graph.nodes.last().unwrap().stage.params), key: manifest.key().hex() })
    }
}

/// Writes parameters so that equal ones are equal texts: sorted, whole numbers without a fraction, no nulls but in `config`,
/// the one map in which anything may stand.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let kept: BTreeMap<&String, String> = map
                .iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, v)| (k, if k == "config" { exact(v) } else { canonical(v) }))
                .collect();
            format!("{kept:?}")
        }
        Value::Array(items) => format!("{:?}", items.iter().map(canonical).collect::<Vec<_>>()),
        Value::Number(number) if !number.is_u64() => format!("{}", number.as_f64().unwrap()),
        other => other.to_string(),
    }
}

fn exact(value: &Value) -> String {
    match value {
        Value::Object(map) => format!("{:?}", map.iter().map(|(k, v)| (k, exact(v))).collect::<BTreeMap<_, _>>()),
        other => other.to_string(),
    }
}

/// Parameters of stages by kind, distinct ones: the defaults, those above, those that ship.
type Stages = BTreeMap<&'static str, Vec<Value>>;

fn stages(kinds: &Kinds) -> Stages {
    let plain = kinds.names().map(|name| (name, json!({})));
    let graphs = Shipped::new().graphs(kinds);
    let nodes = graphs.iter().flat_map(|(.., graph)| &graph.nodes);
    let shipped = nodes.map(|node| (node.stage.kind.name, without_nulls(&node.stage.params)));
    let mut found = Stages::new();
    for (kind, params) in plain.chain(more_stages()).chain(shipped) {
        let known = found.entry(kind).or_default();
        if known.iter().all(|other| canonical(other) != canonical(&params)) {
            known.push(params);
        }
    }
    found
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            map.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), without_nulls(v))).collect()
        }
        other => other.clone(),
    }
}

/// Stages of one kind in which fields are changed; more would find the same again.
const MOST_STAGES: usize = 8;

#[test]
fn every_changed_field_of_every_kind_gives_a_new_key() {
    let bench = Bench::new();
    let stages = stages(&bench.kinds);
    let mut faults = Vec::new();
    for kind in bench.kinds.all() {
        let mut trial =
            Trial { bench: &bench, kind, by_key: BTreeMap::new(), reached: BTreeSet::new(), faults: Vec::new() };
        let fields = fields(&(kind.schema)());
        let good = stages[kind.name].iter().filter(|params| bench.make(kind, params, &json!({})).is_ok());
        for params in good.take(MOST_STAGES) {
            fields.iter().for_each(|field| trial.change(params, field));
        }
        faults.extend(trial.finish(&fields));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Returns a map with the entries of two.
fn joined(present: &Value, more: &Value) -> Option<Value> {
    let mut both = present.as_object()?.clone();
    both.extend(more.as_object()?.clone());
    Some(both.into())
}

/// All that was tried of one kind.
struct Trial<'a> {
    bench: &'a Bench,
    kind: &'a Kind,
    by_key: BTreeMap<String, String>,
    reached: BTreeSet<String>,
    faults: Vec<String>,
}

impl Trial<'_> {
    /// Tries every value of a field in a stage.
    fn change(&mut self, params: &Value, field: &Field) {
        let Ok(first) = self.bench.make(self.kind, params, &json!({})) else { return };
        let present = field.path.iter().try_fold(params, |params, name| params.get(name));
        let joined = field.values.iter().filter_map(|value| joined(present?, value));
        for value in field.values.iter().cloned().chain(joined) {
            let Ok(made) = self.make(params, field, &value) else { continue };
            if made.params != first.params {
                self.reached.insert(field.name());
            }
            let known = self.by_key.entry(made.key).or_insert_with(|| made.params.clone());
            if *known != made.params {
                let told = format!("{}.{}: {known} and {} share a key", self.kind.name, field.name(), made.params);
                self.faults.push(told);
            }
        }
    }

    fn make(&self, params: &Value, field: &Field, value: &Value) -> Result<Made, String> {
        self.bench.make(self.kind, &with_field(params, field, value), &json!({}))
    }

    /// Returns what was wrong, and which fields no change reached.
    fn finish(self, fields: &[Field]) -> Vec<String> {
        let excepted: BTreeSet<String> = EXCEPTIONS
            .iter()
            .filter(|(kind, ..)| *kind == self.kind.name)
            .map(|(_, field, _)| field.to_string())
            .collect();
        let missed: BTreeSet<String> =
            fields.iter().map(Field::name).filter(|name| !self.reached.contains(name)).collect();
        let mut faults = self.faults;
        faults.truncate(3);
        if missed != excepted {
            faults.push(format!("{}: no change reached {missed:?}, and {excepted:?} are excepted", self.kind.name));
        }
        faults
    }
}

/// Values of the keys of `run:` that every kind has.
fn common_run_fields(kinds: &Kinds, kind: &Kind) -> Vec<Field> {
    let mut schema = json_schema(kinds);
    let run = schema["$defs"][format!("{}.run", kind.name)]["properties"].clone();
    schema["properties"] = run;
    fields(&schema)
}

#[test]
fn nothing_that_run_says_is_in_a_key() {
    let bench = Bench::new();
    let stages = stages(&bench.kinds);
    let mut reached: BTreeSet<String> = BTreeSet::new();
    for kind in bench.kinds.all() {
        let mut good =
            stages[kind.name].iter().filter_map(|with| Some((with, bench.make(kind, with, &json!({})).ok()?)));
        let (with, plain) = good.next().unwrap();
        for field in common_run_fields(&bench.kinds, kind) {
            for value in &field.values {
                let Ok(made) = bench.make(kind, with, &with_field(&json!({}), &field, value)) else { continue };
                assert_eq!(made.key, plain.key, "{}: run.{} = {value}", kind.name, field.name());
                reached.insert(field.name());
            }
        }
    }
    for name in ["cpus", "gpus", "memory", "device", "retries", "checkpoint", "micro_batch", "pass_env"] {
        assert!(reached.contains(name), "{name} was never set: {reached:?}");
    }
}

/// A stage of this kind, which reads `./a.txt`, with one thing said otherwise.
fn command(bench: &Bench, env: &str, inputs: Value, with: Value) -> String {
    std::fs::write(bench.folder.path().join("a.txt"), "").unwrap();
    std::fs::write(bench.folder.path().join("b.txt"), "").unwrap();
    let stage = json!({"use": "command", "in": inputs, "with": with});
    bench
        .load(&json!({"env": {"WATERSHED_TEST_VALUE": env}, "stages": {"s": stage}}))
        .unwrap_or_else(|f| panic!("{f}"))
        .key
}

#[test]
fn what_a_stage_reads_names_and_writes_is_in_its_key() {
    let bench = Bench::new();
    let shell = json!({"shell": "echo ${env.WATERSHED_TEST_VALUE}"});
    let with = |more: Value| {
        let mut with = shell.clone();
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with
    };
    let keys = [
        command(&bench, "1", json!({"x": "./a.txt"}), shell.clone()),
        command(&bench, "2", json!({"x": "./a.txt"}), shell.clone()),
        command(&bench, "1", json!({"y": "./a.txt"}), shell.clone()),
        command(&bench, "1", json!({"x": "./b.txt"}), shell.clone()),
        command(&bench, "1", json!({"x": "./a.txt", "y": "./b.txt"}), shell.clone()),
        command(&bench, "1", json!({"x": "./b.txt", "y": "./a.txt"}), shell.clone()),
        command(&bench, "1", json!({"x": "./a.txt"}), with(json!({"out": ["result"]}))),
        command(&bench, "1", json!({"x": "./a.txt"}), with(json!({"out": {"result": "metrics"}}))),
        command(&bench, "1", json!({"x": "./a.txt"}), with(json!({"tools": {"sh": ["sh", "-c", "true"]}}))),
    ];
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len(), "{keys:#?}");
}
