//! Stop texts and the parrot guard, through the program's own function.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use watershed_engine::StageError;
use watershed_engine::job::JobEvent;
use watershed_stages::record::answer::Answer;
use watershed_stages::record::lines;

use crate::program::project::Project;

/// A project whose template leaves the input out, so that any input can be given to an answer afterwards.
struct Desk {
    project: Project,
    prompts: PathBuf,
}

impl Desk {
    fn new() -> Option<Desk> {
        let project = Project::new()?;
        Some(Desk { prompts: project.path("prompts.jsonl"), project })
    }

    /// Returns a project in which every answer is a copy of its input.
    fn of_parrots() -> Option<Desk> {
        let mut desk = Desk::new()?;
        let answers = desk.write("to-copy", json!({}));
        let mut rows: Vec<Value> = lines::read(&desk.prompts).unwrap();
        rows.iter_mut().for_each(|row| row["input"] = answers[row["id"].as_str().unwrap()].text.clone().into());
        desk.prompts = desk.project.path("parrots.jsonl");
        lines::write(&desk.prompts, &rows).unwrap();
        Some(desk)
    }

    fn try_write(&self, name: &str, params: Value, after: u64) -> Result<Vec<Answer>, StageError> {
        let inputs = [("prompts", self.prompts.clone()), ("base", self.project.base.clone())];
        let template = json!({"prompt": "{{ instruction }} {{ system }}\n", "response": "{{ output }}"});
        let mut all = json!({"max_new_tokens": 48, "template": template});
        all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
        let out = self.project.run("generate", all, &inputs, name, after)?;
        lines::read(&out.join("answers"))
    }

    fn write(&self, name: &str, params: Value) -> BTreeMap<String, Answer> {
        let answers = self.try_write(name, params, 0).unwrap();
        answers.into_iter().map(|answer| (answer.id.clone(), answer)).collect()
    }

    fn rows(&self) -> u64 {
        lines::read::<Value>(&self.prompts).unwrap().len() as u64
    }
}

/// Returns a text from the middle of `text` that `other` does not hold.
fn middle_of(text: &str, other: &str) -> Option<String> {
    let chars: Vec<char> = text.chars().collect();
    let pieces = chars.windows(4).skip(chars.len() / 3).map(|piece| piece.iter().collect::<String>());
    pieces.into_iter().find(|piece| !other.contains(piece.as_str()) && text.find(piece.as_str()) > Some(0))
}

#[test]
fn stop_texts_end_answers_and_are_cut_off() {
    let Some(desk) = Desk::new() else { return };
    let plain = desk.write("plain", json!({}));
    let (id, answer) = plain.iter().find(|(_, answer)| middle_of(&answer.text, "").is_some()).unwrap();
    let stop = middle_of(&answer.text, "").unwrap();
    let stopped = desk.write("stopped", json!({"stop": [stop]}));
    let wanted = &answer.text[..answer.text.find(&stop).unwrap()];
    assert_eq!((stopped[id].text.as_str(), stopped[id].finish_reason.as_str()), (wanted, "stop_string"));
    assert!(stopped[id].tokens < answer.tokens);
    assert!(stopped.values().all(|answer| !answer.text.contains(&stop)));
}

#[test]
fn retried_answers_end_at_stop_texts_too() {
    let Some(desk) = Desk::of_parrots() else { return };
    let first = desk.write("report", json!({}));
    let retried = desk.write("retry", json!({"parrot_guard": "retry"}));
    let changed = first.iter().filter(|(id, answer)| answer.text != retried[*id].text);
    let stops = changed.filter_map(|(id, answer)| Some((id, middle_of(&retried[id].text, &answer.text)?)));
    // Only a text that no first answer holds leaves the parrots what they were.
    let mut fresh = stops.filter(|(_, stop)| first.values().all(|answer| !answer.text.contains(stop)));
    let (id, stop) = fresh.next().expect("an answer was written again");
    let stopped = desk.write("stopped", json!({"parrot_guard": "retry", "stop": [stop]}));
    assert_eq!(stopped[id].finish_reason, "stop_string");
    assert!(stopped.values().all(|answer| !answer.text.contains(&stop)));
}

#[test]
fn answers_that_were_written_again_are_marked_and_counted() {
    let Some(desk) = Desk::of_parrots() else { return };
    let report = |name: &str| {
        serde_json::from_slice::<Value>(&std::fs::read(desk.project.path(name).join("report")).unwrap()).unwrap()
    };
    let first = desk.write("report", json!({}));
    assert!(first.values().all(|answer| answer.retries == 0));
    assert_eq!(report("report").get("rewritten"), None);
    let parrots = report("report")["parrots"].clone();
    let retried = desk.write("retry", json!({"parrot_guard": "retry"}));
    let again = retried.iter().filter(|(_, answer)| answer.retries > 0).map(|(id, _)| id.as_str());
    let mut again: Vec<&str> = again.collect();
    again.sort_by_key(|id| parrots.as_array().unwrap().iter().position(|parrot| parrot == id));
    assert_eq!((json!(again), report("retry")["rewritten"].as_u64()), (parrots, Some(again.len() as u64)));
    assert!(!again.is_empty() && retried.values().all(|answer| answer.retries <= 2));
    let counted = desk.project.told.lock().unwrap();
    let is_it = |event: &JobEvent| matches!(event, JobEvent::Count { name, value } if name == "rewritten" && *value == again.len() as f64);
    assert!(counted.iter().any(is_it));
}

#[test]
fn a_retry_can_be_cancelled() {
    let Some(desk) = Desk::of_parrots() else { return };
    let cancelled = desk.try_write("cut", json!({"parrot_guard": "retry"}), desk.rows() + 1);
    assert!(matches!(cancelled, Err(StageError::Cancelled)));
}

/// Returns what the last job said of answers that were there.
fn said(desk: &Desk) -> Vec<String> {
    desk.project.logged("note").into_iter().filter(|line| line.contains("are there from a run")).collect()
}

#[test]
fn answers_of_whole_batches_are_not_written_again_after_a_cut() {
    let Some(mut desk) = Desk::of_parrots() else { return };
    desk.project.keys = json!({"batch_tokens": 200});
    let params = json!({"parrot_guard": "retry"});
    let whole = desk.write("whole", params.clone());
    let rows = desk.rows();
    for (after, wanted) in [(rows - 1, 1..rows), (rows + 1, rows..rows + 1)] {
        let name = format!("cut-{after}");
        assert!(matches!(desk.try_write(&name, params.clone(), after), Err(StageError::Cancelled)));
        assert_eq!(desk.write(&name, params.clone()), whole);
        let said = said(&desk);
        let there = said[0].split(' ').next().unwrap().parse().unwrap();
        assert!(wanted.contains(&there), "{said:?}");
    }
}

#[test]
fn an_answer_written_again_is_kept_as_that_of_its_prompt() {
    let Some(mut desk) = Desk::of_parrots() else { return };
    desk.project.keys = json!({"batch_tokens": 1});
    let params = json!({"parrot_guard": "retry"});
    assert!(matches!(desk.try_write("cut", params.clone(), desk.rows() + 2), Err(StageError::Cancelled)));
    // the first answer is no parrot any more, so that each of the others has another place among them
    let mut rows: Vec<Value> = lines::read(&desk.prompts).unwrap();
    rows[0]["input"] = "nothing of it".into();
    lines::write(&desk.prompts, &rows).unwrap();
    let whole = desk.write("whole", params.clone());
    assert_eq!(desk.write("cut", params), whole);
}

#[test]
fn a_kept_answer_with_a_lost_bit_is_written_again() {
    let Some(desk) = Desk::new() else { return };
    let whole = desk.write("whole", json!({}));
    let kept = desk.project.path("whole/checkpoint/answers");
    let parts: Vec<PathBuf> = std::fs::read_dir(&kept).unwrap().map(|item| item.unwrap().path()).collect();
    for part in &parts {
        let mut bytes = std::fs::read(part).unwrap();
        bytes[9] ^= 1;
        std::fs::write(part, bytes).unwrap();
    }
    assert!(!parts.is_empty());
    assert_eq!(desk.write("whole", json!({})), whole);
    assert!(said(&desk).is_empty());
}

#[test]
fn parrots_fail_the_stage_when_asked_to() {
    let Some(desk) = Desk::of_parrots() else { return };
    let error = desk.try_write("fail", json!({"parrot_guard": "fail"}), 0).unwrap_err().to_string();
    assert!(error.contains("answers copy their input or themselves, the first is `"), "{error}");
    assert!(desk.try_write("report", json!({"parrot_guard": "report"}), 0).is_ok());
}

#[test]
fn an_answer_that_copies_a_conversations_last_turn_is_a_parrot() {
    use watershed_stages::metrics::parroting::{Thresholds, parroting};
    let Some(mut desk) = Desk::new() else { return };
    let rows: Vec<Value> = lines::read(&desk.prompts).unwrap();
    // only the system prompt is read, so that the user's turn can be any text
    let template = json!({"prompt": "{{ system }}\n", "response": "{{ output }}"});
    let ask = |desk: &mut Desk, name: &str, turn: &dyn Fn(&str) -> String| {
        let asked = rows.iter().map(|row| {
            let user = turn(row["id"].as_str().unwrap());
            let system = json!({"role": "system", "content": row["instruction"]});
            json!({"id": row["id"], "messages": [system, {"role": "user", "content": user}]})
        });
        desk.prompts = desk.project.path(name);
        lines::write(&desk.prompts, asked).unwrap();
    };
    ask(&mut desk, "asked.jsonl", &|_| "x".into());
    let answers = desk.write("to-copy", json!({"template": template}));
    ask(&mut desk, "copied.jsonl", &|id| answers[id].text.clone());
    let copied = desk.try_write("copied", json!({"template": template}), 0).unwrap();
    let parrots =
        copied.iter().filter(|answer| parroting(&answer.text, &answer.text).is_parrot(&Thresholds::default()));
    let parrots: Vec<&str> = parrots.map(|answer| answer.id.as_str()).collect();
    let report = std::fs::read_to_string(desk.project.path("copied").join("report")).unwrap();
    assert!(!parrots.is_empty());
    assert_eq!(serde_json::from_str::<Value>(&report).unwrap()["parrots"], json!(parrots));
    let kept_off = desk.write("kept-off", json!({"template": template, "input_no_repeat_ngram": 4}));
    assert!(answers.iter().any(|(id, answer)| kept_off[id].text != answer.text));
}

#[test]
fn prompts_may_be_a_json_array() {
    let Some(mut desk) = Desk::new() else { return };
    let by_lines = desk.write("lines", json!({}));
    let rows: Vec<Value> = lines::read(&desk.prompts).unwrap();
    desk.prompts = desk.project.path("prompts.json");
    std::fs::write(&desk.prompts, json!(rows).to_string()).unwrap();
    assert_eq!(desk.write("array", json!({})), by_lines);
}

#[test]
fn the_first_text_that_ends_an_answer_counts_whoever_named_it() {
    let given = ["stop".to_string(), "###".to_string()];
    let ends = super::Ends { given: &given, own: Some("<|im_end|>") };
    assert_eq!(ends.first("a clock<|im_end|> stop"), Some((7, true)));
    assert_eq!(ends.first("a ### stop<|im_end|>"), Some((2, false)));
    assert_eq!(ends.first("a clock"), None);
    assert_eq!(super::Ends { given: &[], own: None }.first("stop<|im_end|>"), None);
}

#[test]
fn a_stop_that_is_a_token_of_its_own_ends_an_answer_there() {
    let Some(desk) = Desk::new() else { return };
    let tokenizer = watershed_stages::text::Tokenizer::open(&desk.project.base).unwrap();
    let special = tokenizer.special();
    let other = (0..tokenizer.size() as u32).find(|id| tokenizer.is_control(*id) && !special.stops.contains(id));
    let text = tokenizer.text_of(other.expect("the fixture has a control token that ends nothing"));
    // every token is about as likely as any other
    let params = json!({"stop": [text], "mode": "sample", "temperature": 100.0, "top_p": 1.0, "samples": 4, "max_new_tokens": 256});
    let answers = desk.try_write("stopped", params, 0).unwrap();
    let is_at_it = |answer: &&Answer| answer.token_ids.last() == other.as_ref();
    assert!(answers.iter().any(|answer| is_at_it(&answer)), "{answers:?}");
    assert!(answers.iter().filter(is_at_it).all(|answer| answer.finish_reason == "stop"));
    let before = |answer: &Answer| answer.token_ids[..answer.token_ids.len() - 1].to_vec();
    assert!(answers.iter().all(|answer| !before(answer).contains(&other.unwrap())));
}
