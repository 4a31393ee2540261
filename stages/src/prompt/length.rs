//! The length of a prompt in tokens, for `max_tokens`.

use std::path::Path;

use tokenizers::Tokenizer;
use watershed_engine::StageError;

/// Counts the tokens of a text.
pub type Counter = Box<dyn Fn(&str) -> Result<usize, StageError> + Send + Sync>;

/// Returns what counts tokens when there is a limit.
///
/// # Errors
/// A limit without a tokenizer, or a tokenizer that cannot be read.
pub fn counter(max_tokens: Option<u32>, tokenizer: Option<&Path>) -> Result<Option<Counter>, StageError> {
    match (max_tokens, tokenizer) {
        (None, _) => Ok(None),
        (Some(_), None) => {
            Err(StageError::failed("`max_tokens` needs the input `tokenizer`: a tokenizer.json or a model folder"))
        }
        (Some(_), Some(path)) => read(path).map(Some),
    }
}

fn read(path: &Path) -> Result<Counter, StageError> {
    let file = if path.is_dir() { path.join("tokenizer.json") } else { path.to_path_buf() };
    let tokenizer = Tokenizer::from_file(&file)
        .map_err(|e| StageError::failed(format!("`{}` is no tokenizer.json: {e}", file.display())))?;
    Ok(Box::new(move |text| {
        let encoded = tokenizer.encode(text, false);
        encoded.map(|encoded| encoded.len()).map_err(|e| StageError::failed(format!("cannot tokenise a prompt: {e}")))
    }))
}
