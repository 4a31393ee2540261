//! What `generate` refuses before any stage has run: prompts that the template does not take, or that leave no room for an
//! answer.

use rayon::prelude::*;
use watershed_engine::preview::{Lint, Preview, PreviewInputs, Severity};
use watershed_engine::{StageError, code};

use super::speech::Speech;
use super::{Generate, Mode};
use crate::base::Base;
use crate::formats;
use crate::lora_train::{Card, SYSTEM_IS_IDLE};
use crate::record::example::Example;
use crate::text::signs::Signs;
use crate::text::template::unanswered;

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
    match rows.par_iter().find_map_first(fault) {
        Some(error) => Err(error),
        None => {
            let mut texts = texts(params, inputs)?;
            let asked: Vec<Example> = rows.iter().map(unanswered).collect();
            texts.extend(Signs::of(&base.tokenizer).find(&asked).map(|signed| signed.told()));
            let lint = |message| Lint { code: code::NOT_TOGETHER.into(), severity: Severity::Warn, message };
            Ok(Preview { lints: texts.into_iter().map(lint).collect(), ..Preview::default() })
        }
    }
}

/// Tells settings that change nothing, and a template that the adapter did not learn.
fn texts(params: &Generate, inputs: &PreviewInputs) -> Result<Vec<String>, StageError> {
    let usual = Generate::default();
    let drawing = [
        ("temperature", params.temperature != usual.temperature),
        ("top_p", params.top_p != usual.top_p),
        ("top_k", params.top_k != usual.top_k),
        ("min_p", params.min_p != usual.min_p),
    ];
    let drawing = drawing.map(|(name, is_set)| (name, is_set && params.mode != Mode::Sample, "sample"));
    let idle = drawing.into_iter().chain([("beams", params.beams != usual.beams && params.mode != Mode::Beam, "beam")]);
    let idle = idle.filter(|(_, is_idle, _)| *is_idle);
    let mut texts: Vec<String> =
        idle.map(|(name, _, mode)| format!("`{name}` has no effect without `mode: {mode}`; leave it out")).collect();
    let card = inputs.get("adapter").map(Card::read).transpose()?.flatten();
    let template = params.template.as_ref().or(card.as_ref().map(|card| &card.template));
    if params.system.is_some() && template.is_some_and(|template| !template.uses_system()) {
        texts.push(SYSTEM_IS_IDLE.into());
    }
    if card.is_some_and(|card| params.template.as_ref().is_some_and(|template| *template != card.template)) {
        texts.push("the adapter was trained with another `template`; leave it out to ask as it was trained".into());
    }
    Ok(texts)
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

    #[test]
    fn settings_that_change_nothing_are_told() {
        let Some(base) = tiny_llama("model") else { return };
        let mut inputs = PreviewInputs::default();
        inputs.ports.insert("base".into(), vec![("base".into(), base)]);
        let told = |params: Value| {
            let params: Generate = serde_json::from_value(params).unwrap();
            preview(&params, &inputs).unwrap().lints.into_iter().map(|lint| lint.message).collect::<Vec<_>>()
        };
        let idle = [
            "`temperature` has no effect without `mode: sample`; leave it out",
            "`beams` has no effect without `mode: beam`; leave it out",
        ];
        assert_eq!(told(json!({"max_new_tokens": 8, "temperature": 0.2, "beams": 2})), idle);
        assert_eq!(told(json!({"max_new_tokens": 8, "mode": "beam", "beams": 2})), [""; 0]);
        let asking = |prompt: &str| {
            let template = json!({"prompt": prompt, "response": "{{ output }}"});
            told(json!({"max_new_tokens": 8, "system": "Be brief.", "template": template}))
        };
        assert_eq!(asking("{{ instruction }}"), [SYSTEM_IS_IDLE]);
        assert_eq!(asking("{{ system }} {{ instruction }}"), [""; 0]);
    }
}
