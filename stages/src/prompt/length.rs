//! The length of a prompt in tokens, for `max_tokens`.

use std::path::Path;

use watershed_engine::StageError;

use crate::text::tokenizer::Tokenizer;

/// Returns the tokenizer that measures prompts when there is a limit: a folder's, a `tokenizer.json` or a GGUF file's.
///
/// # Errors
/// A limit without a tokenizer, or a tokenizer that cannot be read.
pub fn tokenizer(max_tokens: Option<u32>, path: Option<&Path>) -> Result<Option<Tokenizer>, StageError> {
    match (max_tokens, path) {
        (None, _) => Ok(None),
        (Some(_), None) => Err(StageError::failed(
            "`max_tokens` needs the input `tokenizer`: a model folder, a tokenizer.json or a GGUF file",
        )),
        (Some(_), Some(path)) => Tokenizer::open(path).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_needs_a_tokenizer() {
        assert!(tokenizer(None, None).unwrap().is_none());
        assert!(tokenizer(Some(9), None).map(|_| ()).unwrap_err().to_string().contains("needs the input `tokenizer`"));
    }
}
