//! A base model as a preview sees it: configuration, tensor directory and tokenizer, never a weight.
//!
//! Everything that can be wrong with a model's files but for the numbers themselves is found here in milliseconds, so that
//! nobody trains for hours before another stage refuses the same base.

use std::path::Path;

use watershed_engine::StageError;
use watershed_weights::{LlamaConfig, ModelFiles};

use crate::text::Tokenizer;

/// What the headers of a base say.
pub struct Base {
    /// The model's shape.
    pub config: LlamaConfig,
    /// Its tokenizer, which fits.
    pub tokenizer: Tokenizer,
}

impl Base {
    /// Reads the headers of a Hugging Face folder or a GGUF file.
    ///
    /// # Errors
    /// When files are missing, damaged or not supported, or model and tokenizer do not fit.
    pub fn open(path: &Path) -> Result<Base, StageError> {
        let files = ModelFiles::open(path).map_err(|e| StageError::failed(e.to_string()))?;
        let tokenizer = Tokenizer::open(path)?;
        let fits = tokenizer.check_fits(files.config().vocab).and_then(|()| tokenizer.eos());
        fits.map_err(|e| StageError::failed(format!("`{}`: {e}", path.display())))?;
        Ok(Base { config: files.config().clone(), tokenizer })
    }
}
