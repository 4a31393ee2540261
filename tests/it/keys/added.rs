//! A new parameter with a default changes no key: every kind that ships is given some, and all its keys stay.

use std::borrow::Cow;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use watershed_engine::fault::ParamFault;
use watershed_engine::language::Kinds;
use watershed_engine::preview::{Preview, PreviewInputs};
use watershed_engine::probe::Probe;
use watershed_engine::stage::{Home, Reproducible};
use watershed_engine::{Job, Kind, Ports, Stage, StageError};
use watershed_stages as stages;

use super::{Shipped, by_key, keys, sample_customers, shipped_kinds};

/// A kind with more parameters, of every form, at its top and in every nested one that it has.
struct Grown<S> {
    stage: S,
    added: Value,
}

/// The new parameters at their defaults.
fn added() -> Value {
    json!({
        "number": 7, "share": 0.5, "flag": true, "word": "new", "maybe": null, "list": [1, 2], "none": [], "map": {},
        "nested": {"inner": 3, "deeper": {"flag": false}}
    })
}

/// Their name.
const NAME: &str = "added_later";

/// Puts a parameter into a map and every map in it that is a struct: those that have entries by default.
fn grow(value: &mut Value, shape: &Value, added: &Value) {
    let (Some(map), Some(shape)) = (value.as_object_mut(), shape.as_object()) else { return };
    for (name, inner) in map.iter_mut() {
        if let Some(shape) = shape.get(name).filter(|shape| shape.as_object().is_some_and(|s| !s.is_empty())) {
            grow(inner, shape, &added["number"]);
        }
    }
    map.insert(NAME.into(), added.clone());
}

/// Takes the new parameters out again; returns those at the top.
fn shrink(value: &mut Value) -> Option<Value> {
    let map = value.as_object_mut()?;
    let found = map.shift_remove(NAME);
    map.values_mut().for_each(|inner| drop(shrink(inner)));
    found
}

impl<S: Stage> Default for Grown<S> {
    fn default() -> Grown<S> {
        Grown { stage: S::default(), added: added() }
    }
}

impl<S: Stage> Serialize for Grown<S> {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        let mut value = serde_json::to_value(&self.stage).unwrap();
        grow(&mut value, &serde_json::to_value(S::default()).unwrap(), &self.added);
        value.serialize(serializer)
    }
}

impl<'de, S: Stage> Deserialize<'de> for Grown<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Grown<S>, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        let added = shrink(&mut value).unwrap_or_else(added);
        let stage = serde_json::from_value(value).map_err(serde::de::Error::custom)?;
        Ok(Grown { stage, added })
    }
}

impl<S: Stage> JsonSchema for Grown<S> {
    fn schema_name() -> Cow<'static, str> {
        S::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = S::json_schema(generator).to_value();
        schema["properties"][NAME] = json!({"description": "What came later."});
        schema.try_into().unwrap()
    }
}

impl<S: Stage> Stage for Grown<S> {
    const KIND: &'static str = S::KIND;
    const VERSION: u32 = S::VERSION;
    const HOUSE: &'static str = S::HOUSE;
    const REPRODUCIBLE: Reproducible = S::REPRODUCIBLE;
    const HOME: Home = S::HOME;
    const FETCHES: bool = S::FETCHES;
    type Run = S::Run;

    fn ports(&self) -> Ports {
        self.stage.ports()
    }

    fn presets() -> Vec<(&'static str, Value)> {
        S::presets()
    }

    fn check(&self) -> Vec<ParamFault> {
        self.stage.check()
    }

    fn preview(&self, inputs: &PreviewInputs) -> Result<Preview, StageError> {
        self.stage.preview(inputs)
    }

    fn probes(&self, run: &S::Run, folder: &Path) -> Vec<Probe> {
        self.stage.probes(run, folder)
    }

    fn run(&self, run: &S::Run, job: &Job) -> Result<(), StageError> {
        self.stage.run(run, job)
    }
}

fn grown<S: Stage>() -> Kind {
    Kind::of::<Grown<S>>()
}

/// Every kind that ships, grown.
fn grown_kinds() -> Vec<Kind> {
    vec![
        grown::<stages::synthetic::Synthetic>(),
        grown::<stages::ingest::Ingest>(),
        grown::<stages::examples::Examples>(),
        grown::<stages::clean::Clean>(),
        grown::<stages::holdout::Holdout>(),
        grown::<stages::prompt::Prompt>(),
        grown::<stages::teacher::TeacherLabel>(),
        grown::<stages::mix::Mix>(),
        grown::<stages::split::Split>(),
        grown::<stages::random_model::RandomModel>(),
        grown::<stages::lora_train::LoraTrain>(),
        grown::<stages::generate::Generate>(),
        grown::<stages::rank::Rank>(),
        grown::<stages::baseline::Baseline>(),
        grown::<stages::evaluate::Evaluate>(),
        grown::<stages::choose::Choose>(),
        grown::<stages::export::Export>(),
        grown::<stages::command::Command>(),
        grown::<stages::fetch::Fetch>(),
        grown::<sample_customers::SampleCustomers>(),
    ]
}

#[test]
fn a_new_parameter_with_a_default_changes_no_key() {
    let names = |kinds: Vec<Kind>| kinds.iter().map(|kind| kind.name).collect::<Vec<_>>();
    assert_eq!(names(grown_kinds()), names(shipped_kinds()), "each shipped kind is grown: add the new one above");
    let shipped = Shipped::new();
    let (before, after) = (Kinds::new(shipped_kinds()), Kinds::new(grown_kinds()));
    let mut nodes = 0;
    for (name, sweep, graph) in shipped.graphs(&before) {
        let grown = shipped.graph(&after, &name, sweep.as_deref());
        assert!(grown.nodes.iter().all(|node| node.stage.params[NAME]["number"] == 7), "{name}: nothing was added");
        assert_eq!(keys(&grown, by_key), keys(&graph, by_key), "{name} {sweep:?}");
        nodes += graph.nodes.len();
    }
    assert!(nodes > 100, "{nodes}");
}

#[test]
fn the_new_parameter_at_another_value_is_another_key() {
    let shipped = Shipped::new();
    let kinds = Kinds::new(grown_kinds());
    let text = |value: &str| format!("stages: {{s: {{use: synthetic, with: {{{NAME}: {value}}}}}}}\n");
    let key = |value: &str| {
        shipped.write("p.yaml", &text(value));
        keys(&shipped.graph(&kinds, "p.yaml", None), by_key)
    };
    let default = added().to_string();
    assert_eq!(key(&default), key(&default.replace("0.5", "5.0e-1")));
    for (old, new) in [
        ("7", "8"),
        ("true", "false"),
        ("[1,2]", "[2,1]"),
        ("null", "1"),
        ("\"map\":{}", "\"map\":{\"a\":1}"),
        ("3", "4"),
    ] {
        assert!(default.contains(old), "{default}");
        assert_ne!(key(&default), key(&default.replacen(old, new, 1)), "{old} -> {new}");
    }
}
