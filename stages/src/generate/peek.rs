//! A prompt exactly as the model reads it before it answers.

use watershed_engine::StageError;
use watershed_engine::peek::{Fate, Peek, PeekRow, Run};
use watershed_engine::preview::PreviewInputs;

use super::{Generate, speech};
use crate::base::Base;
use crate::formats;
use crate::record::example::Example;
use crate::text::{Template, Tokenizer};

/// Shows a prompt; the worst is the longest.
///
/// # Errors
/// When `base` or `prompts` is not there or cannot be read, or there is no such row.
pub fn peek(params: &Generate, inputs: &PreviewInputs, row: PeekRow) -> Result<Peek, StageError> {
    let input = |port: &str| inputs.get(port).ok_or_else(|| StageError::failed(format!("input `{port}` is not there")));
    let tokenizer = Base::open(input("base")?)?.tokenizer;
    let rows = formats::prompts(input("prompts")?)?;
    let (choice, system) = (params.template.as_ref(), params.system.as_deref());
    let template = speech::template(choice, system, inputs.get("adapter"), &tokenizer)?;
    let index = match row {
        PeekRow::Number(number) => number - 1,
        PeekRow::Worst => longest(&rows, &template, &tokenizer),
    };
    let none = || StageError::failed(format!("there is no row {}: `prompts` has {}", index + 1, rows.len()));
    let row = rows.get(index).ok_or_else(none)?;
    let named = |why: String| StageError::failed(format!("prompt `{}`: {why}", row.id));
    let ids = template.prompt_ids(row, &tokenizer).map_err(named)?;
    let mut peek = Peek::default();
    peek.fact("row", index + 1).fact("of", rows.len()).fact("id", row.id.as_str()).fact("tokens", ids.len());
    peek.runs = vec![Run { fate: Fate::Read, text: tokenizer.shown(&ids), ids }];
    Ok(peek)
}

fn longest(rows: &[Example], template: &Template, tokenizer: &Tokenizer) -> usize {
    let length = |row: &Example| template.prompt_ids(row, tokenizer).map_or(0, |ids| ids.len());
    let lengths: Vec<usize> = rows.iter().map(length).collect();
    let longest = lengths.iter().max().copied().unwrap_or(0);
    lengths.iter().position(|length| *length == longest).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lora_train::Card;
    use crate::text::fixture::{ids, reference, tiny_llama};

    #[test]
    fn prompts_are_shown_with_the_adapters_template() {
        let (Some(rows), Some(base), Some(reference)) = (tiny_llama("dataset.json"), tiny_llama("model"), reference())
        else {
            return;
        };
        let mut inputs = PreviewInputs::default();
        inputs.ports.insert("prompts".into(), vec![("prompts".into(), rows)]);
        inputs.ports.insert("base".into(), vec![("base".into(), base)]);
        let shown = |inputs: &PreviewInputs, row| peek(&Generate::default(), inputs, row).unwrap().runs.remove(0);
        for case in reference["examples"].as_array().unwrap() {
            let run = shown(&inputs, PeekRow::Number(case["index"].as_u64().unwrap() as usize + 1));
            assert!(ids(&case["ids"]).starts_with(&run.ids) && run.text.contains(case["prompt"].as_str().unwrap()));
        }
        let count = peek(&Generate::default(), &inputs, PeekRow::Worst).unwrap().facts[1].1.as_u64().unwrap() as usize;
        let all = (1..=count).map(|row| shown(&inputs, PeekRow::Number(row)).ids.len());
        assert_eq!(Some(shown(&inputs, PeekRow::Worst).ids.len()), all.max());
        let adapter = tempfile::tempdir().unwrap();
        Card::write_of(adapter.path(), "alpaca_short");
        inputs.ports.insert("adapter".into(), vec![("adapter".into(), adapter.path().into())]);
        assert!(!shown(&inputs, PeekRow::Number(1)).text.contains("Below is an instruction"));
    }
}
