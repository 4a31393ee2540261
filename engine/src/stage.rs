//! What a kind of stage is: its parameters, ports, preview and work.
//!
//! A kind is one struct whose fields are its parameters. [`Stage`] is what an author implements; [`Kind`] is the same with
//! the type erased, which is all the engine ever sees. Parameters travel as JSON values so that a worker program, the
//! schema, the key and the documentation share one form.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use schemars::JsonSchema;

use crate::fault::{ParamFault, StageError};
use crate::job::Job;
use crate::peek::{Peek, PeekRow};
use crate::port::Ports;
use crate::preview::{Preview, PreviewInputs};
use crate::probe::Probe;

/// Whether running an action again gives the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reproducible {
    /// Everywhere.
    Yes,
    /// On the same device with the same settings.
    SameDevice,
    /// Not at all: a paid service, for example.
    No,
}

impl Reproducible {
    /// Returns its name, as `kinds` and the log write it.
    pub fn name(self) -> &'static str {
        match self {
            Reproducible::Yes => "yes",
            Reproducible::SameDevice => "same_device",
            Reproducible::No => "no",
        }
    }
}

/// Which program executes a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// The engine's own process.
    Engine,
    /// `watershed-torch`, which links libtorch.
    Torch,
}

/// Extra `run` keys of a kind that has none.
#[derive(Debug, Clone, Default, Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoRunKeys {}

/// See [`Stage::settle`].
pub type Settle = fn(&Value, &dyn Fn(&str) -> bool) -> Option<Value>;

/// A kind of stage. The struct's fields are its parameters and their doc comments are the user's documentation.
///
/// Derive `Serialize, Deserialize, JsonSchema, Clone, Debug`, implement `Default`, and put `#[serde(default,
/// deny_unknown_fields)]` on the struct. A parameter without a default is an `Option` that [`Stage::check`] demands.
pub trait Stage: Serialize + DeserializeOwned + JsonSchema + Default + Send + Sync + 'static {
    /// Name in `use:`.
    const KIND: &'static str;
    /// Raised whenever the same inputs and parameters give other bytes. 0 means in development.
    const VERSION: u32;
    /// Crate that the kind belongs to; part of its identity in keys.
    const HOUSE: &'static str = "watershed";
    /// Whether running again gives the same bytes.
    const REPRODUCIBLE: Reproducible = Reproducible::Yes;
    /// Which program executes it.
    const HOME: Home = Home::Engine;
    /// Whether the kind brings the file at `url` with the digest `sha256` into its output `files` under the name `file`: the
    /// engine makes a stage of it for each `https:` input, and `use:` cannot name it.
    const FETCHES: bool = false;
    /// Parameters that judge the work when it is done and do not shape it: what was done under others serves as well.
    const JUDGES: &'static [&'static str] = &[];
    /// Numbers of its `metrics` by name, and what each is; for the documentation.
    const NUMBERS: &'static [(&'static str, &'static str)] = &[];
    /// Keys of `run:` that only this kind has; they are in no key.
    type Run: Serialize + DeserializeOwned + JsonSchema + Default;

    /// Returns what the stage reads and writes under these parameters.
    fn ports(&self) -> Ports;

    /// Returns named sets of parameters for `preset`; explicit keys beat them. The values are partial `with` objects.
    fn presets() -> Vec<(&'static str, Value)> {
        Vec::new()
    }

    /// Returns parameters that follow from which inputs are bound, to be laid over the others. `written` is what the user and
    /// a preset wrote, without defaults: only here can a kind tell a default that was written from one that was left out.
    fn settle(_written: &Value, _is_bound: &dyn Fn(&str) -> bool) -> Option<Value> {
        None
    }

    /// Returns what is wrong with the parameters beyond their types. Reads nothing.
    fn check(&self) -> Vec<ParamFault> {
        Vec::new()
    }

    /// Tells what the stage would do with the inputs that are there already. Pure; must be fast.
    ///
    /// # Errors
    /// When an input that is there cannot be read.
    fn preview(&self, _inputs: &PreviewInputs) -> Result<Preview, StageError> {
        Ok(Preview::default())
    }

    /// Shows a row of the inputs that are there as the model would see it; none for kinds without such rows.
    ///
    /// # Errors
    /// When an input is missing or cannot be read, or there is no such row.
    fn peek(&self, _inputs: &PreviewInputs, _row: PeekRow) -> Result<Option<Peek>, StageError> {
        Ok(None)
    }

    /// Returns what the machine is asked about the programs that the stage uses; the answers are in the key. `folder` is
    /// where relative paths of `run` begin. Asks nothing itself.
    fn probes(&self, _run: &Self::Run, _folder: &Path) -> Vec<Probe> {
        Vec::new()
    }

    /// Does the work: reads `job` inputs, writes every data output.
    ///
    /// # Errors
    /// Says what went wrong; nothing is published then.
    fn run(&self, run: &Self::Run, job: &Job) -> Result<(), StageError>;
}

/// A [`Stage`] with its type erased.
pub struct Kind {
    /// Name in `use:`.
    pub name: &'static str,
    /// `house/name`, the identity in keys.
    pub id: String,
    /// See [`Stage::VERSION`].
    pub version: u32,
    /// See [`Stage::REPRODUCIBLE`].
    pub reproducible: Reproducible,
    /// See [`Stage::HOME`].
    pub home: Home,
    /// See [`Stage::FETCHES`].
    pub fetches: bool,
    /// See [`Stage::NUMBERS`].
    pub numbers: &'static [(&'static str, &'static str)],
    /// See [`Stage::JUDGES`].
    pub judges: &'static [&'static str],
    /// JSON Schema of `with`.
    pub schema: fn() -> Value,
    /// JSON Schema of the kind's own `run` keys.
    pub run_schema: fn() -> Value,
    /// All parameters at their defaults.
    pub defaults: fn() -> Value,
    /// See [`Stage::presets`].
    pub presets: fn() -> Vec<(&'static str, Value)>,
    /// Fills defaults in; the error is serde's text, and only for values that the schema let through.
    pub resolve: fn(&Value) -> Result<Value, String>,
    /// See [`Stage::ports`]; takes resolved parameters.
    pub ports: fn(&Value) -> Ports,
    /// See [`Stage::settle`].
    pub settle: Settle,
    /// See [`Stage::check`]; takes resolved parameters.
    pub check: fn(&Value) -> Vec<ParamFault>,
    /// See [`Stage::preview`]; takes resolved parameters.
    pub preview: fn(&Value, &PreviewInputs) -> Result<Preview, StageError>,
    /// See [`Stage::peek`]; takes resolved parameters.
    pub peek: fn(&Value, &PreviewInputs, PeekRow) -> Result<Option<Peek>, StageError>,
    /// See [`Stage::probes`]; takes resolved parameters and the kind's own run keys.
    pub probes: fn(&Value, &Value, &Path) -> Vec<Probe>,
    /// See [`Stage::run`]; takes the job's own parameters and run keys.
    pub run: fn(&Job) -> Result<(), StageError>,
}

impl Kind {
    /// Erases the type of a stage.
    pub fn of<S: Stage>() -> Kind {
        Kind {
            name: S::KIND,
            id: format!("{}/{}", S::HOUSE, S::KIND),
            version: S::VERSION,
            reproducible: S::REPRODUCIBLE,
            home: S::HOME,
            fetches: S::FETCHES,
            judges: S::JUDGES,
            numbers: S::NUMBERS,
            schema: || schemars::schema_for!(S).to_value(),
            run_schema: || schemars::schema_for!(S::Run).to_value(),
            defaults: || to_value(&S::default()),
            presets: S::presets,
            resolve: |params| decode::<S>(params).map(|s| to_value(&s)),
            ports: |params| decode::<S>(params).unwrap_or_default().ports(),
            settle: S::settle,
            check: |params| decode::<S>(params).map(|s| s.check()).unwrap_or_default(),
            preview: |params, inputs| decode_or_fail::<S>(params)?.preview(inputs),
            peek: |params, inputs, row| decode_or_fail::<S>(params)?.peek(inputs, row),
            probes: |params, run, folder| {
                decode::<S>(params).unwrap_or_default().probes(&decode(run).unwrap_or_default(), folder)
            },
            run: |job| {
                let run = decode_or_fail::<S::Run>(&job.spec().run)?;
                decode_or_fail::<S>(&job.spec().params)?.run(&run, job)
            },
        }
    }
}

fn to_value<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Object(Map::new()))
}

fn decode<T: DeserializeOwned + Default>(params: &Value) -> Result<T, String> {
    if params.is_null() {
        return Ok(T::default());
    }
    T::deserialize(params).map_err(|e| e.to_string())
}

fn decode_or_fail<T: DeserializeOwned + Default>(params: &Value) -> Result<T, StageError> {
    decode(params).map_err(|e| StageError::Failed(format!("parameters do not fit this program: {e}")))
}
