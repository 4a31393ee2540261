//! Rows that ask: what `generate`, `rank` and `evaluate` read.
//!
//! Their shapes are those of examples, but an answer may be missing. Each record is told on its own, because rows of several
//! shapes may stand in one file that a stage wrote.

use serde_json::Value;

use super::shape::{Fields, common, messages, prompt_completion, text};
use crate::record::example::Example;

/// Reads one record; what answers it is kept where it is there.
///
/// # Errors
/// Says which field is missing or wrong.
pub fn prompt(fields: &Fields) -> Result<Example, String> {
    let has = |name: &str| fields.get(name).is_some_and(|value| !value.is_null());
    if let Some(name) = ["messages", "conversations"].into_iter().find(|name| has(name)) {
        return asking(Example { messages: Some(messages(fields, name)?), ..common(fields)? });
    }
    if has("instruction") || (has("input") && !has("prompt")) {
        let output = fields.get("output").filter(|output| !output.is_null());
        return asking(Example {
            instruction: text(fields, "instruction")?,
            input: text(fields, "input")?,
            output: output.map(|_| text(fields, "output")).transpose()?,
            ..common(fields)?
        });
    }
    if fields.get("prompt").is_some_and(Value::is_array) && !has("completion") && !has("response") {
        return asking(Example { messages: Some(messages(fields, "prompt")?), ..common(fields)? });
    }
    if has("prompt") {
        let row = prompt_completion(fields)?;
        return asking(Example { output: row.output.filter(|output| !output.is_empty()), ..row });
    }
    let names: Vec<&str> = fields.keys().map(String::as_str).collect();
    Err(format!(
        "found no question in the fields `{}`: expected `instruction` and `input`, or `messages`; kind `examples` reads other \
         columns",
        names.join("`, `")
    ))
}

/// Refuses rows that ask nothing.
fn asking(row: Example) -> Result<Example, String> {
    let blank = |text: &str| text.trim().is_empty();
    match &row.messages {
        Some(turns) if turns.iter().all(|turn| turn.role == "assistant") => Err("no turn to answer".into()),
        None if blank(&row.instruction) && blank(&row.input) && row.system.is_none() => {
            Err("no question: `instruction` and `input` are empty".into())
        }
        _ => Ok(row),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats;
    use serde_json::json;

    fn read(value: Value) -> Result<Example, String> {
        prompt(value.as_object().unwrap())
    }

    #[test]
    fn rows_ask_with_or_without_an_answer() {
        let row =
            read(json!({"id": "u1", "group": "g", "instruction": "add", "input": "1", "history": ["B1"]})).unwrap();
        assert_eq!((row.id.as_str(), row.output, row.history), ("u1", None, vec!["B1".to_string()]));
        assert_eq!(read(json!({"instruction": "add", "output": "2"})).unwrap().output.as_deref(), Some("2"));
        assert_eq!(read(json!({"messages": [{"role": "user", "content": "q"}]})).unwrap().material(), "q");
        assert_eq!(read(json!({"prompt": [{"role": "user", "content": "q"}]})).unwrap().material(), "q");
        let row = read(json!({"prompt": "hello"})).unwrap();
        assert_eq!((row.instruction.as_str(), row.output), ("hello", None));
        assert_eq!(read(json!({"prompt": "hello", "completion": "hi"})).unwrap().output.as_deref(), Some("hi"));
    }

    #[test]
    fn what_asks_nothing_is_refused_with_a_reason() {
        for (row, reason) in [
            (json!({"instruction": " ", "input": ""}), "no question: `instruction` and `input` are empty"),
            (json!({"messages": []}), "no turn to answer"),
            (json!({"messages": [{"role": "assistant", "content": "a"}]}), "no turn to answer"),
            (json!({"question": "a"}), "found no question in the fields `question`"),
        ] {
            let found = read(row).unwrap_err();
            assert!(found.contains(reason), "{found}");
        }
        assert!(read(json!({"system": "Write a poem.", "input": ""})).is_ok());
    }

    #[test]
    fn a_file_of_prompts_may_be_alpacas_json_and_hold_rows_of_several_shapes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data.json");
        let rows = json!([{"instruction": "add", "input": "1", "output": "2"}, {"messages": [{"role": "user", "content": "q"}]}]);
        std::fs::write(&file, format!("{rows:#}")).unwrap();
        let prompts = formats::prompts(&file).unwrap();
        assert_eq!((prompts[0].material(), prompts[1].material()), ("1", "q"));
        // rows without ids have the same ones wherever they are read
        std::fs::write(&file, json!([rows[0]]).to_string()).unwrap();
        assert_eq!(formats::read(&file).unwrap(), [prompts[0].clone()]);
        std::fs::write(&file, "{\"instruction\": \"add\"}\n{\"instruction\": \"\"}\n").unwrap();
        let error = formats::prompts(&file).unwrap_err().to_string();
        assert!(error.ends_with("line 2: no question: `instruction` and `input` are empty"), "{error}");
    }
}
