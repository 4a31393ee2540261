//! An adapter folder: PEFT's two files, and `watershed.json`, which says how the adapter wants to be spoken to.

use std::fs;
use std::path::Path;

use watershed_engine::StageError;
use watershed_stages::lora_train::CARD;
pub use watershed_stages::lora_train::Card;
use watershed_torch::Lora;

use super::failed;

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
