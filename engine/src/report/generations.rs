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

/// Characters of a user's turn that head its block.
const LONGEST_HEADING: usize = 100;

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
    let block = |id: &String| {
        let told =
            systems.iter().filter_map(|(system, answers)| Some((system.as_str(), answers.texts.get(id)?.as_str())));
        Some(block(id, &Prompt::of(first.prompts.get(id)?), told))
    };
    first.order.iter().take(SHOWN).filter_map(block).collect()
}

/// Returns one prompt with what its systems answered.
fn block<'a>(id: &str, prompt: &Prompt, answers: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::from("<details open><summary>");
    let _ = write!(
        out,
        "{}</summary><div class=\"sides\"><div><p class=\"dim\">prompt {}</p>",
        escaped(&prompt.heading()),
        escaped(id)
    );
    for (role, text) in &prompt.turns {
        out.push_str(&role.map(named).unwrap_or_default());
        let _ = write!(out, "<pre>{}</pre>", escaped(text));
    }
    let told = |name: &str, text: &str| format!("{}<pre>{}</pre>", named(name), marked(text, prompt.material));
    out.push_str(&prompt.teacher.map(|label| told("teacher", label)).unwrap_or_default());
    out.push_str("</div><div>");
    out.extend(answers.map(|(system, text)| told(system, text)));
    out + "</div></div></details>"
}

fn named(name: &str) -> String {
    format!("<p class=\"dim\">{}</p>", escaped(name))
}

/// A row as the page shows it. What is material and what is the row's own answer, `Example` in the stages defines.
struct Prompt<'a> {
    /// Empty for a conversation.
    instruction: &'a str,
    /// What is asked, in order; a row without turns has its input here.
    turns: Vec<(Option<&'a str>, &'a str)>,
    /// What an answer should not copy.
    material: &'a str,
    /// The row's own answer.
    teacher: Option<&'a str>,
}

impl<'a> Prompt<'a> {
    fn of(row: &'a Value) -> Prompt<'a> {
        let (instruction, input) = (text(row, "instruction"), text(row, "input"));
        let own = row["output"].as_str();
        let Some(turns) = row["messages"].as_array() else {
            return Prompt { instruction, turns: vec![(None, input)], material: input, teacher: own };
        };
        let mut turns: Vec<(&str, &str)> =
            turns.iter().map(|turn| (text(turn, "role"), text(turn, "content"))).collect();
        let last = turns.last().filter(|(role, _)| *role == "assistant").map(|(_, text)| *text);
        // Answers that end a conversation are in no prompt.
        turns.truncate(turns.iter().rposition(|(role, _)| *role != "assistant").map_or(0, |asked| asked + 1));
        let material = turns.iter().rfind(|(role, _)| *role == "user").map_or("", |(_, text)| text);
        let turns = turns.into_iter().map(|(role, text)| (Some(role), text)).collect();
        Prompt { instruction: "", turns, material, teacher: own.or(last) }
    }

    /// Returns the instruction, of a conversation the first line of what the user said last.
    fn heading(&self) -> String {
        if !self.instruction.is_empty() {
            return self.instruction.to_string();
        }
        let line = self.material.lines().find(|line| !line.trim().is_empty()).unwrap_or("conversation").trim();
        let start: String = line.chars().take(LONGEST_HEADING).collect();
        if start.len() < line.len() { format!("{start}…") } else { start }
    }
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
        texts: rows.iter().filter_map(|r| Some((r["id"].as_str()?.to_string(), text(r, "text").to_string()))).collect(),
        prompts: by_id(self::rows(store, &prompts)),
    })
}

fn rows(store: &Store, digest: &Digest) -> Vec<Value> {
    let text = std::fs::read_to_string(store.blob(digest)).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_default()
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
    use serde_json::json;

    use super::*;

    #[test]
    fn copied_words_are_marked_as_one_run() {
        let html =
            marked("Try this: I bought the following products today", "I bought the following products: a funnel");
        assert_eq!(html, "Try this: <mark>I bought the following products </mark>today");
    }

    #[test]
    fn a_conversation_is_shown_by_its_turns_with_its_own_answer_as_the_teachers() {
        let row = json!({"messages": [
            {"role": "system", "content": "Be <brief>."},
            {"role": "user", "content": "What may I buy?"},
            {"role": "assistant", "content": "A mug."},
            {"role": "user", "content": "\nI bought a blue mug\nand a kettle"},
            {"role": "assistant", "content": "Then buy a plate."},
        ]});
        let html = block("r7", &Prompt::of(&row), [("tuned", "You say: I bought a blue mug.")].into_iter());
        assert_eq!(
            html,
            "<details open><summary>I bought a blue mug</summary><div class=\"sides\"><div><p class=\"dim\">prompt r7</p>\
             <p class=\"dim\">system</p><pre>Be &lt;brief&gt;.</pre><p class=\"dim\">user</p><pre>What may I buy?</pre>\
             <p class=\"dim\">assistant</p><pre>A mug.</pre><p class=\"dim\">user</p><pre>\nI bought a blue mug\nand a kettle</pre>\
             <p class=\"dim\">teacher</p><pre>Then buy a plate.</pre></div><div>\
             <p class=\"dim\">tuned</p><pre>You say: <mark>I bought a blue mug.</mark></pre></div></div></details>"
        );
    }

    #[test]
    fn a_label_is_the_teachers_before_the_turn_that_ends_a_conversation() {
        let turns = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
        let of = |row: Value| {
            let prompt = Prompt::of(&row);
            (prompt.turns.len(), prompt.teacher.map(String::from))
        };
        assert_eq!(of(json!({"messages": turns, "output": "c"})), (1, Some("c".into())));
        assert_eq!(of(json!({"messages": turns})), (1, Some("b".into())));
        assert_eq!(of(json!({"messages": [turns[0]]})), (1, None));
        assert_eq!(of(json!({"instruction": "a", "input": "b"})), (1, None));
    }

    #[test]
    fn a_block_is_headed_by_its_instruction_or_by_the_start_of_a_long_turn() {
        let heading = |row: Value| Prompt::of(&row).heading();
        assert_eq!(heading(json!({"instruction": "Add", "input": "1 2"})), "Add");
        assert_eq!(heading(json!({"instruction": "", "input": "1 2"})), "1 2");
        assert_eq!(heading(json!({"messages": [{"role": "user", "content": "é".repeat(101)}]})), "é".repeat(100) + "…");
        assert_eq!(heading(json!({"messages": [{"role": "system", "content": "Speak."}]})), "conversation");
    }
}
