//! `rank`: parameters, ports and checks of ranking items by the likelihood of their titles; the work is in `watershed-torch`.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_engine::fault::ParamFault;
use watershed_engine::port::{Ports, RecordType};
use watershed_engine::preview::{Preview, PreviewInputs};
use watershed_engine::stage::{Home, NoRunKeys, Reproducible};
use watershed_engine::{Job, Stage, StageError};

use crate::base::Base;
use crate::formats;
use crate::generate::speech::Speech;
use crate::lora_train::Dtype;
use crate::record::example::Example;
use crate::text::Tokenizer;

/// Ranks items for each prompt by how likely a base model, or an adapter on it, is to answer with their titles.
///
/// A row with `candidates` ranks these, another row all items; items without a title are left out. Template and system prompt
/// are the adapter's own, `alpaca` without an adapter. A row without `group` is its own customer, known by its id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rank {
    /// Text that the answer begins with before the title, for example `I recommend `.
    pub prefix: String,
    /// Power of the title's number of tokens that its log-likelihood is divided by: 1 is the mean of a token, 0 the sum, which
    /// favours short titles.
    #[schemars(range(min = 0.0, max = 4.0))]
    pub length_norm: f64,
    /// What is taken off the log-likelihood before it is divided: `none`, or `pmi`, the log-likelihood of the same title after
    /// the same prompt with an empty input, so that titles that are likely anyway do not come first.
    pub calibrate: Calibrate,
    /// Longest ranking.
    #[schemars(range(min = 1))]
    pub k: u32,
    /// Type that the model computes in: `f32` or `bf16`.
    pub dtype: Dtype,
}

impl Default for Rank {
    fn default() -> Rank {
        Rank { prefix: String::new(), length_norm: 1.0, calibrate: Calibrate::None, k: 100, dtype: Dtype::F32 }
    }
}

/// What a title's log-likelihood is compared with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Calibrate {
    /// Nothing.
    #[default]
    None,
    /// Its likelihood without the customer's text: pointwise mutual information (Holtzman et al. 2021).
    Pmi,
}

impl Stage for Rank {
    const KIND: &'static str = "rank";
    const VERSION: u32 = 4;
    const REPRODUCIBLE: Reproducible = Reproducible::SameDevice;
    const HOME: Home = Home::Torch;
    type Run = NoRunKeys;

    fn ports(&self) -> Ports {
        Ports::new()
            .reads("prompts", RecordType::Prompts)
            .reads("items", RecordType::Items)
            .reads("base", RecordType::Model)
            .may_read("adapter", RecordType::Adapter)
            .writes("ranking", RecordType::Ranking)
    }

    fn check(&self) -> Vec<ParamFault> {
        if self.length_norm.is_finite() {
            return Vec::new();
        }
        vec![ParamFault::new("length_norm", "not a number", "1 is the mean of a token, 0 the sum")]
    }

    fn preview(&self, inputs: &PreviewInputs) -> Result<Preview, StageError> {
        let Some(base) = inputs.get("base") else { return Ok(Preview::default()) };
        let base = Base::open(base)?;
        let speech = Speech::of(None, None, inputs, &base.tokenizer)?;
        let rows = inputs.get("prompts").map_or(Ok(Vec::new()), formats::prompts)?;
        let (prefix, context) = (self.prefix_ids(&base.tokenizer)?.len(), base.config.max_positions);
        // a title has a token at least
        let room = context.saturating_sub(prefix + 1);
        let fault = |row: &Example| match speech.above(room, row) {
            Ok(None) => None,
            Ok(Some(tokens)) => Some(too_long(&row.id, &speech.counted(tokens + prefix), 1, context)),
            Err(error) => Some(error),
        };
        rows.par_iter().find_map_first(fault).map_or(Ok(Preview::default()), Err)
    }

    fn run(&self, _run: &NoRunKeys, _job: &Job) -> Result<(), StageError> {
        Err(StageError::Environment("`rank` runs in `watershed-torch`, which `make demo` builds".into()))
    }
}

impl Rank {
    /// Returns the tokens of `prefix`. A space before a title belongs to the title: most tokenizers have it in a word's first
    /// token.
    ///
    /// # Errors
    /// When the tokenizer fails on it.
    pub fn prefix_ids(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>, StageError> {
        tokenizer.more(self.prefix.trim_end_matches(' '))
    }
}

/// Returns the error of a row whose prompt, of so many tokens in words, leaves no room for its longest title of `title` tokens.
pub fn too_long(row: &str, prompt: &str, title: usize, context: usize) -> StageError {
    let title = if title > 1 { format!("a title of {title}") } else { "a title".into() };
    StageError::failed(format!(
        "prompt `{row}` has {prompt}, which leaves no room for {title}: the base was made for {context}; shorten the prompts, or \
         take a base with a longer context"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::lora_train::Card;
    use crate::text::fixture::tiny_llama;

    fn told(prefix: &str, inputs: &PreviewInputs) -> Result<(), String> {
        let params = Rank { prefix: prefix.into(), ..Rank::default() };
        params.preview(inputs).map(|_| ()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_prompt_without_room_for_a_title_is_named_before_anything_runs() {
        let Some(base) = tiny_llama("model") else { return };
        let context = Base::open(&base).unwrap().config.max_positions;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prompts.json");
        let mut inputs = PreviewInputs::default();
        for (port, path) in [("base", &base), ("prompts", &file)] {
            inputs.ports.insert(port.into(), vec![(port.into(), path.clone())]);
        }
        inputs.ports.insert("adapter".into(), Vec::new());
        let short = json!({"id": "r1", "instruction": "Recommend.", "input": "a kettle"});
        std::fs::write(&file, json!([short]).to_string()).unwrap();
        assert_eq!(told("I recommend ", &inputs), Ok(()));
        let long = json!({"id": "r2", "instruction": "Recommend.", "input": "7 ".repeat(context)});
        std::fs::write(&file, json!([short, long]).to_string()).unwrap();
        let error = told("", &inputs).unwrap_err();
        let wanted = format!("leaves no room for a title: the base was made for {context}");
        assert!(error.starts_with("prompt `r2` has ") && error.contains(&wanted), "{error}");
        let counted = |error: &str| error.split(' ').nth(3).unwrap().parse::<usize>().unwrap();
        assert!(counted(&told("I recommend ", &inputs).unwrap_err()) > counted(&error), "the prefix counts");
    }

    #[test]
    fn prompts_that_the_adapters_template_refuses_are_told() {
        let Some(base) = tiny_llama("model") else { return };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prompts.jsonl");
        let turns = ["user", "assistant", "user"].map(|role| json!({"role": role, "content": "x"}));
        std::fs::write(&file, json!({"id": "r7", "messages": turns}).to_string()).unwrap();
        let mut inputs = PreviewInputs::default();
        for (port, path) in [("base", base.as_path()), ("prompts", file.as_path()), ("adapter", folder.path())] {
            inputs.ports.insert(port.into(), vec![(port.into(), path.into())]);
        }
        assert!(told("", &inputs).unwrap_err().starts_with("prompt `r7`: a conversation of several turns"));
        Card::write_of(folder.path(), "chatml");
        assert_eq!(told("", &inputs), Ok(()));
    }
}
