//! How a base, or the adapter on it, will be spoken to, as far as that is known before anything has run.

use std::path::Path;

use watershed_engine::StageError;
use watershed_engine::preview::PreviewInputs;

use crate::lora_train::Card;
use crate::record::example::Example;
use crate::text::{Template, TemplateChoice, Tokenizer};

/// Tokens that no byte of the text stands for: the beginning, and the space that some tokenizers put before a text.
const UNWRITTEN: usize = 2;

/// What turns rows into prompts.
pub struct Speech<'a> {
    tokenizer: &'a Tokenizer,
    /// None while the adapter that brings it is not there.
    template: Option<Template>,
}

/// Returns the template of the answers: what is given, else the adapter's, else `alpaca`.
///
/// # Errors
/// When the card is damaged, or the template cannot be used with this tokenizer.
pub fn template(
    choice: Option<&TemplateChoice>,
    system: Option<&str>,
    adapter: Option<&Path>,
    tokenizer: &Tokenizer,
) -> Result<Template, StageError> {
    let card = adapter.map(Card::read).transpose()?.flatten();
    let choice = choice.or(card.as_ref().map(|card| &card.template)).cloned().unwrap_or_default();
    let system = system.or(card.as_ref().and_then(|card| card.system.as_deref()));
    Template::new(&choice, system, tokenizer.chat().cloned()).map_err(StageError::Failed)
}

impl<'a> Speech<'a> {
    /// Gathers what the inputs that are there say. An adapter that is not there yet brings its own template, unless one is
    /// given; a port `adapter` without any input is bound to nothing.
    ///
    /// # Errors
    /// As [`template`].
    pub fn of(
        choice: Option<&TemplateChoice>,
        system: Option<&str>,
        inputs: &PreviewInputs,
        tokenizer: &'a Tokenizer,
    ) -> Result<Speech<'a>, StageError> {
        let is_known = choice.is_some() || inputs.ports.contains_key("adapter");
        let make = || template(choice, system, inputs.get("adapter"), tokenizer);
        Ok(Speech { tokenizer, template: is_known.then(make).transpose()? })
    }

    /// Returns the words of an error that count a prompt's tokens: without its template they are too few.
    pub fn counted(&self, tokens: usize) -> String {
        match self.template {
            Some(_) => format!("{tokens} tokens"),
            None => format!("{tokens} tokens and more with its template"),
        }
    }

    /// Returns the number of tokens of a row's prompt if they are more than `room`.
    ///
    /// # Errors
    /// Names the row that the template or the tokenizer refuses.
    pub fn above(&self, room: usize, row: &Example) -> Result<Option<usize>, StageError> {
        let named = |why: String| StageError::failed(format!("prompt `{}`: {why}", row.id));
        let text = self.template.as_ref().map_or_else(|| Ok(own_text(row)), |template| template.prompt(row));
        let text = text.map_err(named)?;
        // a token is a byte at least, so only texts of more bytes can be too long
        if text.len() + UNWRITTEN <= room {
            return Ok(None);
        }
        let tokens = match &self.template {
            Some(template) => template.prompt_ids(row, self.tokenizer).map_err(named)?.len(),
            None => self.tokenizer.more(&text)?.len(),
        };
        Ok((tokens > room).then_some(tokens))
    }
}

/// Returns what any template writes of a row.
fn own_text(row: &Example) -> String {
    let turns = row.messages.iter().flatten().map(|turn| turn.content.as_str());
    [row.instruction.as_str(), &row.input].into_iter().chain(turns).collect::<Vec<_>>().join(" ")
}
