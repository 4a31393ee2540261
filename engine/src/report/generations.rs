//! Generated texts beside their prompts, with what was copied from the prompt marked.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use serde_json::Value;
use watershed_cache::{Digest, Store};

use super::escaped;
use crate::archive::{Run, RunNode};
use crate::record::Provenance;

/// Prompts shown of each generation; the rest is in the `answers` file.
const SHOWN: usize = 12;

/// Words in a row that count as copied.
const COPIED_WORDS: usize = 4;

/// Returns the generations of a run: one block a prompt, a column a system.
pub fn blocks(store: &Store, run: &Run) -> String {
    let systems: Vec<(String, Answers)> = run
        .nodes
        .iter()
        .filter(|n| n.kind == "generate")
        .filter_map(|n| Some((n.title(), answers(store, n)?)))
        .collect();
    let Some((_, first)) = systems.first() else { return String::new() };
    let mut out = String::new();
    for id in first.order.iter().take(SHOWN) {
        let Some(prompt) = first.prompts.get(id) else { continue };
        let input = text(prompt, "input");
        let _ = write!(
            out,
            "<details open><summary>{}</summary><div class=\"sides\"><div>",
            escaped(&text(prompt, "instruction"))
        );
        let _ = write!(out, "<p class=\"dim\">prompt {}</p><pre>{}</pre>", escaped(id), escaped(&input));
        if let Some(label) = prompt["output"].as_str() {
            let _ = write!(out, "<p class=\"dim\">teacher</p><pre>{}</pre>", marked(label, &input));
        }
        out.push_str("</div><div>");
        for (system, answers) in &systems {
            let Some(answer) = answers.texts.get(id) else { continue };
            let _ = write!(out, "<p class=\"dim\">{}</p><pre>{}</pre>", escaped(system), marked(answer, &input));
        }
        out.push_str("</div></div></details>");
    }
    out
}

struct Answers {
    order: Vec<String>,
    texts: HashMap<String, String>,
    prompts: HashMap<String, Value>,
}

fn answers(store: &Store, node: &RunNode) -> Option<Answers> {
    let record = node.record(store)?;
    let provenance = Provenance::of(&record)?;
    let rows = rows(store, &record.outputs.get("answers")?.artifact.digest);
    let prompts = provenance.manifest.inputs.iter().find(|i| i.port == "prompts").map(|i| i.digest)?;
    let by_id = |rows: Vec<Value>| rows.into_iter().filter_map(|r| Some((r["id"].as_str()?.to_string(), r))).collect();
    Some(Answers {
        order: rows.iter().filter_map(|r| r["id"].as_str().map(String::from)).collect(),
        texts: rows.iter().filter_map(|r| Some((r["id"].as_str()?.to_string(), text(r, "text")))).collect(),
        prompts: by_id(self::rows(store, &prompts)),
    })
}

fn rows(store: &Store, digest: &Digest) -> Vec<Value> {
    let text = std::fs::read_to_string(store.blob(digest)).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn text(row: &Value, key: &str) -> String {
    row[key].as_str().unwrap_or_default().to_string()
}

/// Returns an answer as HTML in which runs of words that stand in the prompt's input too are marked.
fn marked(answer: &str, input: &str) -> String {
    let bare = |w: &str| w.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
    let source: Vec<String> = input.split_whitespace().map(bare).collect();
    let grams: HashSet<&[String]> = source.windows(COPIED_WORDS).collect();
    let words: Vec<&str> = answer.split_inclusive(char::is_whitespace).collect();
    let keys: Vec<String> = words.iter().map(|w| bare(w)).collect();
    let mut copied = vec![false; words.len()];
    for (start, gram) in keys.windows(COPIED_WORDS).enumerate() {
        if grams.contains(gram) {
            copied[start..start + COPIED_WORDS].fill(true);
        }
    }
    let mut out = String::new();
    for (word, copied) in words.iter().zip(copied) {
        let word = escaped(word);
        out.push_str(&if copied { format!("<mark>{word}</mark>") } else { word });
    }
    out.replace("</mark><mark>", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copied_words_are_marked_as_one_run() {
        let html =
            marked("Try this: I bought the following products today", "I bought the following products: a funnel");
        assert_eq!(html, "Try this: <mark>I bought the following products </mark>today");
    }
}
