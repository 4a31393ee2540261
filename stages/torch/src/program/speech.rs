//! How a base, or the adapter on it, is spoken to: tokenizer, template, and what the adapter's card says of both.

use serde_json::json;
use watershed_engine::{Job, StageError};
use watershed_stages::lora_train::Dtype;
use watershed_stages::record::example::Example;
use watershed_stages::text::{Template, TemplateChoice, Tokenizer};
use watershed_torch::{Lora, Model};

use super::adapter::Card;
use super::{base, failed};

/// Tokens of a prompt that show what folding an adapter in has moved.
const PROBE: usize = 64;

/// What turns rows into prompts.
pub struct Speech {
    /// The base's tokenizer.
    pub tokenizer: Tokenizer,
    /// The adapter's card; none without an adapter of ours.
    pub card: Option<Card>,
    template: Template,
}

impl Speech {
    /// Opens tokenizer and card; the template is what is given, else the adapter's, else `alpaca`.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn open(choice: Option<&TemplateChoice>, system: Option<&str>, job: &Job) -> Result<Speech, StageError> {
        let tokenizer = Tokenizer::open(job.input("base")?)?;
        let card = job.optional_input("adapter").map(Card::read).transpose()?.flatten();
        warn_of_mismatch(card.as_ref(), &tokenizer, job);
        let choice = choice.or(card.as_ref().map(|card| &card.template)).cloned().unwrap_or_default();
        let system = system.or(card.as_ref().and_then(|card| card.system.as_deref()));
        let template = Template::new(&choice, system, tokenizer.chat().cloned()).map_err(StageError::Failed)?;
        Ok(Speech { tokenizer, card, template })
    }

    /// Returns the ids of a row's prompt.
    ///
    /// # Errors
    /// Names the row that the template refuses.
    pub fn prompt(&self, row: &Example) -> Result<Vec<u32>, StageError> {
        let ids = self.template.prompt_ids(row, &self.tokenizer);
        ids.map_err(|why| StageError::failed(format!("prompt `{}`: {why}", row.id)))
    }

    /// Returns the tokens that end an answer: the template's, and those that `texts` name.
    pub fn stops(&self, texts: &[String]) -> Vec<u32> {
        let mut stops = self.template.stops(&self.tokenizer);
        stops.extend(texts.iter().filter_map(|text| self.tokenizer.sign(text)));
        stops
    }

    /// Returns the text that ends an answer where the tokenizer has no token for it, as the template writes it.
    pub fn stop_text(&self) -> Option<&'static str> {
        self.template.stop_text(&self.tokenizer)
    }

    /// Loads the base with the adapter folded in; what that moved is counted after the tokens of `probe`.
    ///
    /// # Errors
    /// When either cannot be used, or the tokenizer does not fit.
    pub fn model(&self, dtype: Dtype, probe: &[u32], job: &Job) -> Result<Model, StageError> {
        let model = base::load(job, dtype)?;
        self.tokenizer.check_fits(model.config().vocab)?;
        job.numerics(base::numerics(job, &[("dtype", json!(dtype))]));
        let Some(folder) = job.optional_input("adapter") else { return Ok(model) };
        let lora = Lora::load(folder, &model).map_err(failed)?;
        let merged = model.merged(&lora);
        count_difference(&model, &lora, &merged, probe, job);
        Ok(merged)
    }
}

/// Counts how far a logit after `probe` is from the adapter's when it is folded in. A probe that does not fit is not counted:
/// what it is the beginning of will say so.
fn count_difference(model: &Model, lora: &Lora, merged: &Model, probe: &[u32], job: &Job) {
    let probe = &probe[..probe.len().min(PROBE)];
    if probe.is_empty() {
        return;
    }
    if let (Ok(apart), Ok(folded)) = (model.next_logits(Some(lora), probe), merged.next_logits(None, probe)) {
        job.count("merged_logit_difference", (folded - apart).abs().max().double_value(&[]));
    }
}

fn warn_of_mismatch(card: Option<&Card>, tokenizer: &Tokenizer, job: &Job) {
    let Some(card) = card else { return };
    if card.base != base::name(job) {
        job.warn("the adapter was trained on another base; its answers may be worse than the base's own");
    }
    if card.tokenizer != format!("blake3:{}", tokenizer.digest()) {
        job.warn("the adapter was trained with another tokenizer");
    }
}
