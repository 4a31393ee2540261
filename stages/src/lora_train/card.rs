//! `watershed.json` in an adapter's folder: on what the adapter was trained, and how it wants to be spoken to.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use watershed_engine::StageError;

use super::LoraTrain;
use crate::text::{TemplateChoice, Tokenizer};

/// The card's file.
pub const CARD: &str = "watershed.json";

/// What the card says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Template of the training rows.
    pub template: TemplateChoice,
    /// System prompt of rows that had none.
    pub system: Option<String>,
    /// Longest training row in tokens.
    pub max_len: u32,
    /// Digest of the tokenizer, `blake3:…`.
    pub tokenizer: String,
    /// Digest of the base, `blake3:…`.
    pub base: String,
}

impl Card {
    /// Returns the card of an adapter trained with these parameters on `base`, a digest as in the card.
    pub fn new(params: &LoraTrain, tokenizer: &Tokenizer, base: String) -> Card {
        Card {
            template: params.template.clone(),
            system: params.system.clone(),
            max_len: params.max_len,
            tokenizer: format!("blake3:{}", tokenizer.digest()),
            base,
        }
    }

    /// Reads an adapter's card; adapters from elsewhere have none.
    ///
    /// # Errors
    /// When the card is damaged.
    pub fn read(folder: &Path) -> Result<Option<Card>, StageError> {
        let path = folder.join(CARD);
        let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
        let card = serde_json::from_str(&text);
        card.map(Some).map_err(|e| StageError::failed(format!("`{}` is damaged: {e}", path.display())))
    }

    /// Returns in words how the adapter of this card was spoken to.
    pub fn manner(&self) -> String {
        format!("{} and {}", shown(&self.template), said(self.system.as_deref()))
    }

    /// Returns in what the adapter of this card learned otherwise than training goes on: on another base, or from other text.
    /// A base that is not known yet differs in nothing.
    pub fn mismatches(&self, params: &LoraTrain, tokenizer: &Tokenizer, base: Option<&str>) -> Vec<String> {
        let here = Card::new(params, tokenizer, base.unwrap_or(&self.base).to_owned());
        let mut found = Vec::new();
        if self.base != here.base {
            found.push(format!("on another base ({}, not {}), so it may not help", self.base, here.base));
        }
        if self.tokenizer != here.tokenizer {
            found.push("with another tokenizer, so it may not help".into());
        }
        if self.template != here.template {
            let (theirs, ours) = (shown(&self.template), shown(&here.template));
            found.push(format!(
                "with {theirs}, and goes on with {ours}; write the adapter's `template` unless the change is meant"
            ));
        }
        if self.system != here.system {
            let (theirs, ours) = (said(self.system.as_deref()), said(here.system.as_deref()));
            found.push(format!(
                "with {theirs}, and goes on with {ours}; write the adapter's `system` unless the change is meant"
            ));
        }
        found.into_iter().map(|what| format!("the adapter to go on from was trained {what}")).collect()
    }
}

#[cfg(test)]
impl Card {
    /// Writes the card of an adapter that was trained with this template, for tests of what reads one.
    pub(crate) fn write_of(folder: &Path, template: &str) {
        let template = serde_json::from_value(template.into()).unwrap();
        let card = Card { template, system: None, max_len: 64, tokenizer: String::new(), base: String::new() };
        fs::write(folder.join(CARD), serde_json::to_string(&card).unwrap()).unwrap();
    }
}

fn shown(template: &TemplateChoice) -> String {
    let name = serde_json::to_value(template).ok().and_then(|value| value.as_str().map(str::to_owned));
    name.map_or_else(|| "a `template` of its own".into(), |name| format!("`template: {name}`"))
}

fn said(system: Option<&str>) -> String {
    system.map_or_else(|| "no `system`".into(), |text| format!("`system: {text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::fixture::tiny_llama;
    use crate::text::template::TemplateName;

    #[test]
    fn what_the_adapter_learned_otherwise_is_told_with_both_values() {
        let Some(model) = tiny_llama("model") else { return };
        let tokenizer = Tokenizer::open(&model).unwrap();
        let params = LoraTrain::default();
        let card = Card::new(&params, &tokenizer, "blake3:d1".into());
        assert_eq!(card.mismatches(&params, &tokenizer, Some("blake3:d1")), Vec::<String>::new());
        assert_eq!(card.mismatches(&params, &tokenizer, None), Vec::<String>::new());
        let other = Card {
            template: TemplateChoice::Named(TemplateName::Chatml),
            system: Some("Be brief.".into()),
            tokenizer: "blake3:0".into(),
            ..card
        };
        let told = other.mismatches(&params, &tokenizer, Some("blake3:d2"));
        let wanted = [
            "on another base (blake3:d1, not blake3:d2), so it may not help",
            "with another tokenizer, so it may not help",
            "with `template: chatml`, and goes on with `template: alpaca`; write the adapter's `template` unless the change is meant",
            "with `system: Be brief.`, and goes on with no `system`; write the adapter's `system` unless the change is meant",
        ];
        assert_eq!(told, wanted.map(|what| format!("the adapter to go on from was trained {what}")));
    }

    #[test]
    fn damaged_card_is_named_and_a_missing_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Card::read(folder.path()).unwrap(), None);
        fs::write(folder.path().join(CARD), "{}").unwrap();
        let error = Card::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("watershed.json` is damaged: missing field"), "{error}");
    }
}
