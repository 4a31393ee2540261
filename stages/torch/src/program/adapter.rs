//! An adapter folder: PEFT's two files, and `watershed.json`, which says how the adapter wants to be spoken to.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use watershed_engine::{Job, StageError};
use watershed_stages::lora_train::LoraTrain;
use watershed_stages::text::TemplateChoice;
use watershed_torch::Lora;

use super::{base, failed};

/// What `watershed.json` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Template of the training rows.
    pub template: TemplateChoice,
    /// System prompt of rows that had none.
    pub system: Option<String>,
    /// Longest training row in tokens.
    pub max_len: u32,
    /// Digest of the tokenizer.
    pub tokenizer: String,
    /// Digest of the base, `blake3:…`.
    pub base: String,
}

const CARD: &str = "watershed.json";

impl Card {
    /// Returns the card of an adapter trained with these parameters.
    pub fn new(params: &LoraTrain, tokenizer: &str, job: &Job) -> Card {
        Card {
            template: params.template.clone(),
            system: params.system.clone(),
            max_len: params.max_len,
            tokenizer: format!("blake3:{tokenizer}"),
            base: base::name(job),
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
}

/// Writes an adapter folder, replacing what is there.
///
/// # Errors
/// When it cannot be written.
pub fn write(folder: &Path, lora: &Lora, card: &Card) -> Result<(), StageError> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|e| StageError::io("replace", folder, &e))?;
    }
    fs::create_dir_all(folder).map_err(|e| StageError::io("write", folder, &e))?;
    lora.save(folder, &card.base).map_err(failed)?;
    let path = folder.join(CARD);
    let text = serde_json::to_string_pretty(card).expect("a card has text keys only");
    fs::write(&path, text + "\n").map_err(|e| StageError::io("write", &path, &e))
}
