//! What `generate` refuses before any stage has run: prompts that the template does not take, or that leave no room for an
//! answer.

use rayon::prelude::*;
use watershed_engine::StageError;
use watershed_engine::preview::{Preview, PreviewInputs};

use super::Generate;
use super::speech::Speech;
use crate::base::Base;
use crate::formats;
use crate::record::example::Example;

/// Looks at the base and, where they are there, at every prompt.
///
/// # Errors
/// When the stage would fail over them; names the first prompt that is at fault.
pub fn preview(params: &Generate, inputs: &PreviewInputs) -> Result<Preview, StageError> {
    let Some(base) = inputs.get("base") else { return Ok(Preview::default()) };
    let base = Base::open(base)?;
    let room = room(params, &base)?;
    let speech = Speech::of(params.template.as_ref(), params.system.as_deref(), inputs, &base.tokenizer)?;
    let rows = inputs.get("prompts").map_or(Ok(Vec::new()), formats::prompts)?;
    let fault = |row: &Example| match speech.above(room, row) {
        Ok(None) => None,
        Ok(Some(tokens)) => Some(StageError::failed(format!(
            "prompt `{}` has {}, and `max_new_tokens: {}` leaves room for {room}: the base was made for {}; lower \
             `max_new_tokens`, or shorten the prompts",
            row.id,
            speech.counted(tokens),
            params.max_new_tokens,
            base.config.max_positions
        ))),
        Err(error) => Some(error),
    };
    rows.par_iter().find_map_first(fault).map_or(Ok(Preview::default()), Err)
}

/// Returns the tokens that an answer of `max_new_tokens` leaves for its prompt.
fn room(params: &Generate, base: &Base) -> Result<usize, StageError> {
    let (context, answer) = (base.config.max_positions, params.max_new_tokens as usize);
    context.checked_sub(answer).filter(|room| *room > 0).ok_or_else(|| {
        StageError::failed(format!(
            "`max_new_tokens: {answer}` leaves no room for a prompt: the base was made for {context} tokens; lower it"
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::lora_train::Card;
    use crate::text::fixture::tiny_llama;

    fn told(params: Value, inputs: &PreviewInputs) -> Result<(), String> {
        let params: Generate = serde_json::from_value(params).unwrap();
        preview(&params, inputs).map(|_| ()).map_err(|e| e.to_string())
    }

    fn bind(inputs: &mut PreviewInputs, port: &str, path: &Path) {
        inputs.ports.insert(port.into(), vec![(port.into(), path.into())]);
    }

    /// The fixture's base, and a file of one conversation of several turns.
    fn conversation() -> Option<(tempfile::TempDir, PreviewInputs)> {
        let (base, folder) = (tiny_llama("model")?, tempfile::tempdir().unwrap());
        let turns = ["user", "assistant", "user"].map(|role| json!({"role": role, "content": "x"}));
        let file = folder.path().join("prompts.jsonl");
        std::fs::write(&file, json!({"id": "r7", "messages": turns}).to_string()).unwrap();
        let mut inputs = PreviewInputs::default();
        bind(&mut inputs, "base", &base);
        bind(&mut inputs, "prompts", &file);
        Some((folder, inputs))
    }

    #[test]
    fn answers_beyond_the_bases_context_are_told_before_any_is_written() {
        let (Some(rows), Some(model)) = (tiny_llama("dataset.json"), tiny_llama("model")) else { return };
        let context = Base::open(&model).unwrap().config.max_positions;
        let mut inputs = PreviewInputs::default();
        bind(&mut inputs, "base", &model);
        let told = |answer: usize, inputs: &PreviewInputs| told(json!({"max_new_tokens": answer}), inputs);
        assert!(told(context, &inputs).unwrap_err().contains("leaves no room for a prompt"));
        assert_eq!(told(context - 20, &inputs), Ok(()));
        bind(&mut inputs, "prompts", &rows);
        let error = told(context - 20, &inputs).unwrap_err();
        assert!(error.contains("and more with its template") && error.contains("leaves room for 20"), "{error}");
        assert_eq!(told(16, &inputs), Ok(()));
        // bound to nothing: the template is known, and counted
        inputs.ports.insert("adapter".into(), Vec::new());
        let error = told(context - 20, &inputs).unwrap_err();
        assert!(error.contains("tokens, and `max_new_tokens") && error.contains("leaves room for 20"), "{error}");
    }

    #[test]
    fn prompts_that_the_template_refuses_are_told_once_it_is_known() {
        let Some((folder, mut inputs)) = conversation() else { return };
        let refused =
            Err("prompt `r7`: a conversation of several turns needs `template: chat` or `chatml`".to_string());
        assert_eq!(told(json!({}), &inputs), Ok(()), "the adapter may bring a template");
        assert_eq!(told(json!({"template": "alpaca"}), &inputs), refused);
        inputs.ports.insert("adapter".into(), Vec::new());
        assert_eq!(told(json!({}), &inputs), refused);
        let card = folder.path().join("watershed.json");
        bind(&mut inputs, "adapter", folder.path());
        Card::write_of(folder.path(), "chatml");
        assert_eq!(told(json!({}), &inputs), Ok(()));
        Card::write_of(folder.path(), "alpaca_short");
        assert_eq!(told(json!({}), &inputs), refused);
        std::fs::write(&card, "{").unwrap();
        assert!(told(json!({}), &inputs).unwrap_err().contains("watershed.json` is damaged"));
    }

    #[test]
    fn a_chat_template_that_is_not_there_is_told_before_there_are_prompts() {
        let Some(base) = tiny_llama("model") else { return };
        let folder = tempfile::tempdir().unwrap();
        crate::fixture::copy(&base, folder.path());
        std::fs::remove_file(folder.path().join("chat_template.jinja")).ok();
        let path = folder.path().join("tokenizer_config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config.as_object_mut().unwrap().remove("chat_template");
        std::fs::write(&path, config.to_string()).unwrap();
        let mut inputs = PreviewInputs::default();
        bind(&mut inputs, "base", folder.path());
        assert!(told(json!({"template": "chat"}), &inputs).unwrap_err().contains("`template: chatml`"));
        assert_eq!(told(json!({"template": "chatml"}), &inputs), Ok(()));
    }

    #[test]
    fn prompts_without_answers_are_prompts() {
        let Some((folder, mut inputs)) = conversation() else { return };
        let file = folder.path().join("bare.json");
        std::fs::write(&file, "[{\"instruction\": \"Recommend.\", \"input\": \"a kettle\"}]").unwrap();
        bind(&mut inputs, "prompts", &file);
        assert_eq!(told(json!({}), &inputs), Ok(()));
        std::fs::write(&file, "[{\"question\": \"why\"}]").unwrap();
        assert!(told(json!({}), &inputs).unwrap_err().contains("found no question in the fields `question`"));
    }
}
