//! `teacher-label`: writes the `output` of every prompt, by a model behind an OpenAI-compatible endpoint or offline.
//!
//! Paid replies are kept one by one in the memo, keyed by (provider, canonical body, sample number): a stage that fails or
//! is killed pays only for the rows that have no reply yet, and so does a stage whose prompts changed in a few rows. Only a
//! verdict about content (cut off, filtered, a failed gate) ends a row; network, quota and budget fail the stage.

mod ask;
mod backoff;
mod budget;
mod client;
mod dispatch;
mod endpoint;
#[cfg(test)]
mod fake;
mod finish;
mod label;
mod neighbours;
mod openai;
mod pace;
mod quality;
mod replay;
mod reply;
mod request;
mod run_keys;
mod secret;
mod sentence;
mod shop;
mod target;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_engine::fault::ParamFault;
use watershed_engine::preview::{Preview, PreviewInputs};
use watershed_engine::stage::Reproducible;
use watershed_engine::{Job, Ports, RecordType, Stage, StageError};

use crate::record::{example::Example, lines};

use endpoint::Endpoint;
use finish::Finish;
use quality::Quality;
use request::Request;
pub use run_keys::TeacherRun;

/// Who writes the labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// A model behind an OpenAI-compatible chat endpoint.
    Openai,
    /// Answers recorded earlier, from the input `recorded`.
    Replay,
    /// The unseen item most bought by the customers who share most of the history, in a sentence.
    Neighbours,
    /// The customer's first row of `interactions`, in a sentence.
    Target,
}

/// Labels prompts with a teacher.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TeacherLabel {
    /// Who writes the labels: `openai` asks a server, `replay` reads the input `recorded`, `neighbours` and `target` write
    /// a sentence from the inputs `interactions` and `items` and need no network. Required.
    pub backend: Option<Backend>,
    /// Base address of an OpenAI-compatible server, for example `https://api.openai.com/v1`. Only for `openai`.
    pub endpoint: Option<String>,
    /// Name under which replies are remembered; by default the host (and port, if given) of `endpoint`. Set it to keep
    /// paid replies when the same service moves to another address.
    pub provider: Option<String>,
    /// Name of the model, as the server knows it. Only for `openai`.
    pub model: Option<String>,
    /// Sampling temperature, 0 to 2; by default the server's.
    #[schemars(range(min = 0.0, max = 2.0))]
    pub temperature: Option<f64>,
    /// Nucleus sampling, above 0 to 1; by default the server's.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub top_p: Option<f64>,
    /// Longest answer in tokens; by default the server's. Needed for `run.budget_usd`.
    #[schemars(range(min = 1))]
    pub max_tokens: Option<u32>,
    /// Sent to the server where given; `neighbours` and `target` choose their sentence by it (0).
    pub seed: Option<u64>,
    /// System prompt; replaces the prompt's own.
    pub system: Option<String>,
    /// What becomes of an answer that did not end by itself.
    pub finish: Finish,
    /// Gates that an answer must pass.
    pub quality: Quality,
    /// Rows that may end without a label before the stage fails (0).
    pub max_failed: u64,
}

impl TeacherLabel {
    fn label(&self, run: &TeacherRun, prompts: &[Example], job: &Job) -> Result<label::Labelling, StageError> {
        match self.backend {
            None => Err(StageError::failed("`backend` is not set")),
            Some(Backend::Openai) => openai::label(self, run, prompts, job),
            Some(Backend::Replay) => replay::label(self, prompts, job.input("recorded")?),
            Some(Backend::Neighbours) => neighbours::label(self, prompts, job),
            Some(Backend::Target) => target::label(self, prompts, job),
        }
    }

    fn check_openai(&self) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        match &self.endpoint {
            None => faults.push(ParamFault::new(
                "endpoint",
                "backend `openai` needs an endpoint",
                "for example `https://api.openai.com/v1`",
            )),
            Some(text) => {
                faults.extend(Endpoint::parse(text).err().map(|e| ParamFault::new("endpoint", e.what, e.mend)))
            }
        }
        if self.model.is_none() {
            faults.push(ParamFault::new(
                "model",
                "backend `openai` needs a model",
                "name one that the endpoint serves",
            ));
        }
        faults
    }
}

impl Stage for TeacherLabel {
    const KIND: &'static str = "teacher-label";
    const VERSION: u32 = 1;
    const REPRODUCIBLE: Reproducible = Reproducible::No;
    type Run = TeacherRun;

    fn ports(&self) -> Ports {
        let ports = Ports::new().reads("prompts", RecordType::Prompts);
        let offline = matches!(self.backend, Some(Backend::Neighbours | Backend::Target));
        let ports = if offline {
            ports.reads("interactions", RecordType::Interactions).reads("items", RecordType::Items)
        } else {
            ports.may_read("interactions", RecordType::Interactions).may_read("items", RecordType::Items)
        };
        let ports = if self.backend == Some(Backend::Replay) {
            ports.reads("recorded", RecordType::Bytes)
        } else {
            ports.may_read("recorded", RecordType::Bytes)
        };
        ports.writes("examples", RecordType::Examples).reports("report")
    }

    fn check(&self) -> Vec<ParamFault> {
        match self.backend {
            None => vec![ParamFault::new(
                "backend",
                "`backend` is required",
                "one of `openai`, `replay`, `neighbours`, `target`",
            )],
            Some(Backend::Openai) => self.check_openai(),
            Some(_) => Vec::new(),
        }
    }

    fn preview(&self, inputs: &PreviewInputs) -> Result<Preview, StageError> {
        let mut preview = Preview::default();
        let Some(path) = inputs.get("prompts") else {
            if self.backend == Some(Backend::Openai) {
                preview.waits("calls", "prompts");
            }
            return Ok(preview);
        };
        let prompts: Vec<Example> = lines::read(path)?;
        preview.fact("rows", prompts.len());
        if self.backend != Some(Backend::Openai) {
            preview.cost.calls = Some(0);
            return Ok(preview);
        }
        let requests: Vec<Request> = prompts.iter().map(|p| Request::new(self, p)).collect();
        let distinct: BTreeSet<&str> = requests.iter().map(Request::body).collect();
        preview.fact("calls_at_most", distinct.len());
        preview.fact("tokens_in_at_most", requests.iter().map(Request::tokens_in_at_most).sum::<u64>());
        if let Some(max) = self.max_tokens {
            preview.fact("tokens_out_at_most", u64::from(max) * distinct.len() as u64);
        }
        preview.cost.calls = Some(distinct.len() as u64);
        Ok(preview)
    }

    fn run(&self, run: &TeacherRun, job: &Job) -> Result<(), StageError> {
        let prompts: Vec<Example> = lines::read(job.input("prompts")?)?;
        let labelling = self.label(run, &prompts, job)?;
        label::publish(self, prompts, labelling, job)
    }
}
