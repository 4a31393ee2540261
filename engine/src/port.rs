//! Ports and the closed list of record types that they carry.
//!
//! The list is closed on purpose: a type is a promise about bytes on disk (`docs/kinds.md`), so adding one is a change of the
//! contract, not of a kind.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What the bytes of an input or output are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordType {
    /// Any file or folder.
    Bytes,
    /// CSV of ratings and reviews, sorted by user, time, item.
    Interactions,
    /// JSON lines, one product a line.
    Items,
    /// JSON lines: instruction and input, or messages, without an answer.
    Prompts,
    /// Prompts with an answer.
    Examples,
    /// Whatever names customers in `group`.
    Customers,
    /// A Hugging Face folder or a GGUF file.
    Model,
    /// A PEFT folder.
    Adapter,
    /// JSON lines of generated texts.
    Answers,
    /// JSON lines of ranked items by customer.
    Ranking,
    /// CSV of predicted ratings.
    Predictions,
    /// A fitted recommender.
    Recommender,
    /// Losses by update and by evaluation.
    Curves,
    /// One flat JSON object of numbers.
    Metrics,
}

impl RecordType {
    /// All record types, in the order of the documentation.
    pub const ALL: [RecordType; 14] = [
        RecordType::Bytes,
        RecordType::Interactions,
        RecordType::Items,
        RecordType::Prompts,
        RecordType::Examples,
        RecordType::Customers,
        RecordType::Model,
        RecordType::Adapter,
        RecordType::Answers,
        RecordType::Ranking,
        RecordType::Predictions,
        RecordType::Recommender,
        RecordType::Curves,
        RecordType::Metrics,
    ];

    /// Returns the name used in YAML and documentation.
    pub fn name(self) -> &'static str {
        match self {
            RecordType::Bytes => "bytes",
            RecordType::Interactions => "interactions",
            RecordType::Items => "items",
            RecordType::Prompts => "prompts",
            RecordType::Examples => "examples",
            RecordType::Customers => "customers",
            RecordType::Model => "model",
            RecordType::Adapter => "adapter",
            RecordType::Answers => "answers",
            RecordType::Ranking => "ranking",
            RecordType::Predictions => "predictions",
            RecordType::Recommender => "recommender",
            RecordType::Curves => "curves",
            RecordType::Metrics => "metrics",
        }
    }

    /// Returns what the bytes are, for documentation. Fields marked `?` may be missing.
    pub fn on_disk(self) -> &'static str {
        match self {
            RecordType::Bytes => "any file or folder",
            RecordType::Interactions => {
                "CSV with header `user_id,item_id,rating,time_ms,user_name,title,text,style` (from `user_name` on, cells may be \
                 empty), sorted by user, time and item"
            }
            RecordType::Items => {
                "JSON lines: `item_id, title, brand, categories [[..]], features [], description, price_cents, also_buy []`, \
                 sorted by item"
            }
            RecordType::Prompts => {
                "JSON lines: `id, group` (customer), `source, system?, instruction, input, history [item_id], candidates? \
                 [item_id]`, or `messages [{role, content}]`"
            }
            RecordType::Examples => {
                "`prompts` plus `output`, or `messages` with turns of the assistant, and `meta` (where the answer comes from)"
            }
            RecordType::Customers => "whatever holds `group`",
            RecordType::Model => "a Hugging Face folder, or a GGUF file",
            RecordType::Adapter => {
                "a PEFT folder: `adapter_config.json`, `adapter_model.safetensors`, and `watershed.json` (template, system \
                 prompt, digests of tokenizer and base)"
            }
            RecordType::Answers => {
                "JSON lines: `id, group, sample, text, token_ids, finish_reason, tokens, retries?` (how often the parrot guard had it written again)"
            }
            RecordType::Ranking => "JSON lines: `group, items [item_id], scores []`",
            RecordType::Predictions => "CSV with header `user_id,item_id,rating,prediction,impossible`",
            RecordType::Recommender => "a fitted recommender: safetensors and JSON",
            RecordType::Curves => {
                "a folder: `metrics.jsonl` (a line an update) and `eval.jsonl` (a line an evaluation, the first before step 1)"
            }
            RecordType::Metrics => "one flat JSON object, `system.metric` to number",
        }
    }

    /// Returns the type called `name`.
    pub fn parse(name: &str) -> Option<RecordType> {
        RecordType::ALL.into_iter().find(|t| t.name() == name)
    }

    /// Says whether bytes of this type may be read where `wanted` is expected.
    ///
    /// `examples` satisfies `prompts`, both satisfy `customers`, anything satisfies `bytes`, and `bytes` satisfies any type
    /// (its reader checks it).
    pub fn satisfies(self, wanted: RecordType) -> bool {
        use RecordType::*;
        self == wanted
            || self == Bytes
            || wanted == Bytes
            || matches!((self, wanted), (Examples, Prompts) | (Examples | Prompts, Customers))
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How many inputs a port takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// Exactly one.
    One,
    /// One or none.
    Optional,
    /// A map of label to input, at least one.
    Many,
    /// A map of label to input, perhaps empty.
    OptionalMany,
}

impl Arity {
    /// Says whether a stage without this port is a fault.
    pub fn is_required(self) -> bool {
        matches!(self, Arity::One | Arity::Many)
    }

    /// Says whether the port takes a map of label to input.
    pub fn is_many(self) -> bool {
        matches!(self, Arity::Many | Arity::OptionalMany)
    }
}

/// A named slot that a stage reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InPort {
    /// Name in `in:`.
    pub name: Cow<'static, str>,
    /// Types the stage reads here; the first is the port's main type.
    pub accepts: Vec<RecordType>,
    /// How many inputs it takes.
    pub arity: Arity,
}

/// Whether an output counts downstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Bytes that downstream keys hold: no clock, host, path or throughput.
    Data,
    /// Stored and shown; cannot be an input, and a lost one is not a miss.
    Report,
}

/// A named slot that a stage writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutPort {
    /// Name after the stage's in `S.port`.
    pub name: Cow<'static, str>,
    /// What is written there.
    pub record: RecordType,
    /// Data or report.
    pub class: Class,
    /// Input port whose type it keeps; `record` is that type once the inputs are known.
    pub follows: Option<&'static str>,
}

/// What a stage reads and writes.
///
/// ```
/// use watershed_engine::port::{Ports, RecordType::*};
///
/// let ports = Ports::new()
///     .reads("interactions", Interactions)
///     .may_read("items", Items)
///     .writes("interactions", Interactions)
///     .reports("report");
/// assert_eq!(ports.inputs.len(), 2);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports {
    /// Declared inputs.
    pub inputs: Vec<InPort>,
    /// Declared outputs.
    pub outputs: Vec<OutPort>,
    /// Inputs of any other name are taken as `bytes` (kind `command`).
    pub open_inputs: bool,
    /// A reader of `S@*` gets `cases.json` on the port `cases` (see [`crate::cases`]).
    pub told_cases: bool,
}

impl Ports {
    /// Returns ports that read and write nothing yet.
    pub fn new() -> Ports {
        Ports::default()
    }

    /// Adds a required input.
    pub fn reads(self, name: &'static str, record: RecordType) -> Ports {
        self.input(name, vec![record], Arity::One)
    }

    /// Adds an optional input.
    pub fn may_read(self, name: &'static str, record: RecordType) -> Ports {
        self.input(name, vec![record], Arity::Optional)
    }

    /// Adds a required map of inputs.
    pub fn reads_many(self, name: &'static str, accepts: &[RecordType]) -> Ports {
        self.input(name, accepts.to_vec(), Arity::Many)
    }

    /// Adds an optional map of inputs.
    pub fn may_read_many(self, name: &'static str, accepts: &[RecordType]) -> Ports {
        self.input(name, accepts.to_vec(), Arity::OptionalMany)
    }

    /// Adds a data output.
    pub fn writes(self, name: impl Into<Cow<'static, str>>, record: RecordType) -> Ports {
        self.output(name, record, Class::Data)
    }

    /// Adds a data output of whatever type the inputs of port `follows` have.
    pub fn writes_as(mut self, name: &'static str, follows: &'static str) -> Ports {
        self = self.writes(name, RecordType::Bytes);
        self.outputs.iter_mut().filter(|out| out.name == name).for_each(|out| out.follows = Some(follows));
        self
    }

    /// Adds a report output.
    pub fn reports(self, name: impl Into<Cow<'static, str>>) -> Ports {
        self.output(name, RecordType::Bytes, Class::Report)
    }

    /// Takes inputs of any name.
    pub fn with_open_inputs(mut self) -> Ports {
        self.open_inputs = true;
        self
    }

    /// Gets `cases.json` where it reads `S@*`.
    pub fn told_cases(mut self) -> Ports {
        self.told_cases = true;
        self
    }

    fn input(mut self, name: &'static str, accepts: Vec<RecordType>, arity: Arity) -> Ports {
        self.inputs.push(InPort { name: name.into(), accepts, arity });
        self
    }

    fn output(mut self, name: impl Into<Cow<'static, str>>, record: RecordType, class: Class) -> Ports {
        self.outputs.push(OutPort { name: name.into(), record, class, follows: None });
        self
    }

    /// Returns the input port called `name`.
    pub fn find_input(&self, name: &str) -> Option<&InPort> {
        self.inputs.iter().find(|p| p.name == name)
    }

    /// Returns the output port called `name`.
    pub fn find_output(&self, name: &str) -> Option<&OutPort> {
        self.outputs.iter().find(|p| p.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_stand_in_for_prompts_and_customers_but_not_back() {
        use RecordType::*;
        assert!(Examples.satisfies(Prompts) && Examples.satisfies(Customers) && Prompts.satisfies(Customers));
        assert!(!Prompts.satisfies(Examples) && !Customers.satisfies(Prompts));
        assert!(Bytes.satisfies(Model) && Model.satisfies(Bytes));
    }
}
