//! All that the documentation of one kind holds, whatever form it is printed in.

use serde_json::Value;

use super::flow::flow;
use super::parameter::{Parameter, parameters};
use crate::language::{common_schema, words_or};
use crate::port::{Arity, Class, InPort, OutPort, Ports};
use crate::stage::{Home, Kind, Reproducible};

/// The documentation of one kind.
pub struct Page {
    /// Name in `use:`.
    pub name: &'static str,
    /// What the kind does; paragraphs.
    pub about: Vec<String>,
    /// Version, and how far its results can be made again.
    pub nature: String,
    /// Inputs: name, types, a word on how many.
    pub inputs: Vec<[String; 3]>,
    /// Outputs: name, type, a word on reports.
    pub outputs: Vec<[String; 3]>,
    /// Parameters.
    pub with: Vec<Parameter>,
    /// `run` keys that only this kind has.
    pub run: Vec<Parameter>,
    /// Presets: name and values as YAML.
    pub presets: Vec<(&'static str, String)>,
    /// Numbers of its `metrics`: name and meaning.
    pub numbers: &'static [(&'static str, &'static str)],
}

impl Page {
    /// Collects what a kind says of itself. Ports are those of the default parameters.
    pub fn of(kind: &Kind) -> Page {
        let (schema, presets) = ((kind.schema)(), (kind.presets)());
        let ports = (kind.ports)(&(kind.defaults)());
        let mut with = parameters(&schema, &(kind.defaults)());
        if !presets.is_empty() && !with.iter().any(|p| p.path == "preset") {
            with.insert(0, preset(&presets));
        }
        Page {
            name: kind.name,
            about: paragraphs(&schema),
            nature: nature(kind),
            inputs: inputs(&ports),
            outputs: ports.outputs.iter().map(output).collect(),
            with,
            run: parameters(&(kind.run_schema)(), &Value::Null),
            presets: presets.iter().map(|(name, values)| (*name, flow(values))).collect(),
            numbers: kind.numbers,
        }
    }

    /// Returns the first sentence on what the kind does.
    pub fn first_sentence(&self) -> String {
        let text = self.about.first().cloned().unwrap_or_default();
        text.split_once(". ").map_or(text.clone(), |(first, _)| format!("{first}."))
    }
}

/// Returns the `run` keys of every kind.
pub fn common_run() -> Vec<Parameter> {
    parameters(common_schema(), &Value::Null)
}

fn preset(presets: &[(&'static str, Value)]) -> Parameter {
    let names: Vec<String> = presets.iter().map(|(name, _)| name.to_string()).collect();
    Parameter {
        path: "preset".into(),
        wants: words_or(&names),
        default: None,
        about: "A named set of parameters; explicit ones beat it.".into(),
        forms: Vec::new(),
    }
}

fn paragraphs(schema: &Value) -> Vec<String> {
    let text = schema["description"].as_str().unwrap_or_default();
    text.split("\n\n").map(|part| part.replace('\n', " ")).filter(|part| !part.is_empty()).collect()
}

fn nature(kind: &Kind) -> String {
    let version = match kind.version {
        0 => "In development: its results belong to the program that made them".to_string(),
        version => format!("Version {version}"),
    };
    let again = match kind.reproducible {
        Reproducible::Yes => "running it again gives the same bytes",
        Reproducible::SameDevice => "running it again gives the same bytes on the same device with the same settings",
        Reproducible::No => "running it again may give other bytes",
    };
    let home = if kind.home == Home::Torch { "; executed by `watershed-torch`" } else { "" };
    format!("{version}; {again}{home}.")
}

fn inputs(ports: &Ports) -> Vec<[String; 3]> {
    let any = ["any name".to_string(), "`bytes`".into(), "optional".into()];
    ports.inputs.iter().map(input).chain(ports.open_inputs.then_some(any)).collect()
}

fn input(port: &InPort) -> [String; 3] {
    let types: Vec<String> = port.accepts.iter().map(|t| t.name().to_string()).collect();
    let many = match port.arity {
        Arity::One => "required",
        Arity::Optional => "optional",
        Arity::Many => "required, a map of label to input",
        Arity::OptionalMany => "optional, a map of label to input",
    };
    [format!("`{}`", port.name), words_or(&types), many.into()]
}

fn output(port: &OutPort) -> [String; 3] {
    let class = if port.class == Class::Report { "report: shown and kept, never an input" } else { "" };
    let record = port.follows.map_or_else(|| format!("`{}`", port.record), |input| format!("that of `{input}`"));
    [format!("`{}`", port.name), record, class.into()]
}
