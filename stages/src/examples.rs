//! `examples`: reads files of training examples as people have them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use watershed_engine::fault::ParamFault;
use watershed_engine::port::RecordType::{self, Bytes};
use watershed_engine::stage::NoRunKeys;
use watershed_engine::{Job, JobInput, Ports, Stage, StageError};

use crate::amount::Amount;
use crate::formats::shape::{Columns, Format};
use crate::formats::turns::TurnsCut;
use crate::formats::{self, Bad, Parsed, ids};
use crate::record::example::{Example, Message};
use crate::record::lines;

/// Reads examples from JSON, JSON lines or CSV, plain or gz. With several files, rows without a `source` get their file's
/// label.
///
/// Of a conversation, turns after its last answer and answers before the first turn of a user teach nothing: they are cut off
/// and counted in `report`. One that keeps no answer is unusable. Prompts, which end with a question, are read by `generate` as
/// they stand in their file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Examples {
    /// What the records mean; told from each record's fields unless said.
    pub format: Format,
    /// Which column holds what, where the names are none of the known ones.
    pub columns: Columns,
    /// System prompt for rows that bring none.
    pub system: Option<String>,
    /// How many records may be unusable before the stage fails; they are in `quarantine` with their line and the reason.
    pub max_bad: Amount,
}

impl Default for Examples {
    fn default() -> Examples {
        Examples { format: Format::Detect, columns: Columns::default(), system: None, max_bad: Amount::Percent(1.0) }
    }
}

impl Stage for Examples {
    const KIND: &'static str = "examples";
    const VERSION: u32 = 4;
    type Run = NoRunKeys;

    fn ports(&self) -> Ports {
        Ports::new()
            .reads_many("files", &[Bytes])
            .writes("examples", RecordType::Examples)
            .reports("quarantine")
            .reports("report")
    }

    fn check(&self) -> Vec<ParamFault> {
        let columns = &self.columns;
        let fault = |message: &str, help: &str| vec![ParamFault::new("columns", message, help)];
        if self.format == Format::Columns && columns.is_empty() {
            return fault(
                "`format: columns` without `columns`",
                "name the columns: `columns: {instruction: question, output: answer}`",
            );
        }
        if !matches!(self.format, Format::Columns | Format::Detect) && !columns.is_empty() {
            return fault("`columns` is read only under `format: columns`", "leave `format` or `columns` out");
        }
        if !columns.is_empty() && columns.output.is_some() == columns.messages.is_some() {
            return fault(
                "expected `output` or `messages` among the columns, and not both",
                "name the column that holds the answer",
            );
        }
        Vec::new()
    }

    fn run(&self, _run: &NoRunKeys, job: &Job) -> Result<(), StageError> {
        let files = job.inputs("files");
        let mut parsed = Vec::with_capacity(files.len());
        for file in files {
            parsed.push(formats::parse(&file.path, self.format, &self.columns)?);
            job.check_cancelled()?;
        }
        let report = report(files, &parsed);
        self.check_bad(files, &parsed)?;
        write_quarantine(job, files, &parsed)?;
        tell_cut(job, &parsed);
        let rows = self.join(files, parsed);
        job.count("rows", rows.len() as f64);
        lines::write(job.output("examples"), rows)?;
        lines::write(job.output("report"), [report])
    }
}

impl Examples {
    fn check_bad(&self, files: &[JobInput], parsed: &[Parsed]) -> Result<(), StageError> {
        let rows: usize = parsed.iter().map(|file| file.rows.len()).sum();
        let bad: Vec<(&JobInput, &Bad)> =
            files.iter().zip(parsed).flat_map(|(f, p)| p.bad.iter().map(move |b| (f, b))).collect();
        let first: Vec<String> = bad
            .iter()
            .take(3)
            .map(|(file, bad)| format!("`{}` line {}: {}", file.path.display(), bad.line, bad.reason))
            .collect();
        if rows == 0 && bad.is_empty() {
            let names: Vec<String> = files.iter().map(|file| file.path.display().to_string()).collect();
            return Err(StageError::failed(format!(
                "`{}` is empty: expected JSON, JSON lines or CSV with rows",
                names.join("`, `")
            )));
        }
        let all = rows + bad.len();
        if rows == 0 || bad.len() > self.max_bad.of(all) {
            let (count, allowed, first) = (bad.len(), self.max_bad, first.join("; "));
            return Err(StageError::failed(format!(
                "{count} of {all} records are unusable, above `max_bad: {allowed}`: {first}; mend the file or raise `max_bad`"
            )));
        }
        Ok(())
    }

    fn join(&self, files: &[JobInput], parsed: Vec<Parsed>) -> Vec<Example> {
        let several = files.len() > 1;
        let mut joined = Vec::new();
        for (file, parsed) in files.iter().zip(parsed) {
            for mut row in parsed.rows {
                if several && row.source.is_empty() {
                    row.source.clone_from(&file.label);
                }
                self.add_system(&mut row);
                joined.push(row);
            }
        }
        ids::make_unique(&mut joined);
        joined
    }

    fn add_system(&self, row: &mut Example) {
        let Some(system) = &self.system else { return };
        match &mut row.messages {
            Some(turns) if turns.iter().all(|turn| turn.role != "system") && row.system.is_none() => {
                turns.insert(0, Message { role: "system".into(), content: system.clone(), train: None });
            }
            Some(_) => {}
            None => row.system = row.system.take().or_else(|| Some(system.clone())),
        }
    }
}

fn report(files: &[JobInput], parsed: &[Parsed]) -> serde_json::Value {
    let files: BTreeMap<&str, serde_json::Value> = files
        .iter()
        .zip(parsed)
        .map(|(file, p)| {
            (
                file.label.as_str(),
                json!({
                    "format": p.format, "rows": p.rows.len(), "bad": p.bad.len(), "repeated": p.repeated,
                    "turns_cut": p.turns_cut,
                }),
            )
        })
        .collect();
    json!({"files": files})
}

/// Tells how many turns were cut off, where any was.
fn tell_cut(job: &Job, parsed: &[Parsed]) {
    let sum = |of: fn(&TurnsCut) -> usize| parsed.iter().map(|file| of(&file.turns_cut)).sum::<usize>();
    let (turns, trailing, leading) = (sum(TurnsCut::turns), sum(|cut| cut.trailing), sum(|cut| cut.leading));
    if turns == 0 {
        return;
    }
    job.count("turns_cut", turns as f64);
    job.note(format!(
        "conversations cut: {}; turns after the last answer: {trailing}; answers before the first turn of a user: {leading}",
        sum(|cut| cut.rows)
    ));
}

fn write_quarantine(job: &Job, files: &[JobInput], parsed: &[Parsed]) -> Result<(), StageError> {
    let rows = files.iter().zip(parsed).flat_map(|(file, p)| {
        p.bad.iter().map(|bad| json!({"file": file.label, "line": bad.line, "reason": bad.reason, "row": bad.row}))
    });
    lines::write(job.output("quarantine"), rows)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use serde_json::Value;
    use watershed_engine::{Kind, job::run_alone};

    use super::*;

    fn read(params: Value, files: &[(&str, &str)]) -> Result<(Vec<Example>, Vec<Value>, Value), StageError> {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<(&str, PathBuf)> = files.iter().map(|(label, _)| (*label, folder.path().join(label))).collect();
        paths.iter().zip(files).for_each(|((_, path), (_, text))| fs::write(path, text).unwrap());
        let inputs: Vec<(&str, &str, &Path)> =
            paths.iter().map(|(label, path)| ("files", *label, path.as_path())).collect();
        run_alone(&Kind::of::<Examples>(), params, &inputs, folder.path())?;
        let port = |name: &str| folder.path().join(name);
        Ok((
            lines::read(&port("examples"))?,
            lines::read(&port("quarantine"))?,
            lines::read(&port("report"))?.remove(0),
        ))
    }

    #[test]
    fn ids_come_from_the_content_and_do_not_move() {
        let (a, b) = ("{\"prompt\": \"a\", \"completion\": \"1\"}\n", "{\"prompt\": \"b\", \"completion\": \"2\"}\n");
        let (one, ..) = read(json!({}), &[("f", &format!("{a}{b}"))]).unwrap();
        let (two, _, report) = read(json!({}), &[("f", &format!("{b}{a}{b}"))]).unwrap();
        assert_eq!((&one[0].id, &one[1].id), (&two[1].id, &two[0].id));
        assert_eq!(two[2].id, format!("{}-2", two[0].id));
        let cut = json!({"rows": 0, "trailing": 0, "leading": 0});
        let wanted = json!({"format": "prompt_completion", "rows": 3, "bad": 0, "repeated": 1, "turns_cut": cut});
        assert_eq!(report["files"]["f"], wanted);
    }

    #[test]
    fn bad_records_go_to_quarantine_until_there_are_too_many() {
        let good = "{\"prompt\": \"a\", \"completion\": \"1\"}\n".repeat(3);
        let text = format!("{good}{{\"prompt\": \"b\"}}\n{{\n");
        let (rows, quarantine, _) = read(json!({"max_bad": "50%"}), &[("f", &text)]).unwrap();
        assert_eq!(rows.len(), 3);
        assert_eq!((&quarantine[0]["line"], &quarantine[1]["line"]), (&json!(4), &json!(5)));
        let message = read(json!({}), &[("f", &text)]).unwrap_err().to_string();
        assert!(message.contains("2 of 5 records are unusable, above `max_bad: 1%`"), "{message}");
        assert!(message.contains("/f` line 4: no answer"), "{message}");
    }

    #[test]
    fn turns_at_the_ends_of_conversations_that_teach_nothing_are_cut_and_counted() {
        let talk = |roles: &[&str]| {
            let turns: Vec<Value> = roles.iter().map(|role| json!({"from": role, "value": "x"})).collect();
            json!({"conversations": turns}).to_string()
        };
        let talks =
            [talk(&["human", "gpt", "human"]), talk(&["gpt", "human", "gpt", "human"]), talk(&["gpt", "human"])]
                .join("\n");
        let (rows, quarantine, report) = read(json!({"max_bad": 1}), &[("f", &talks)]).unwrap();
        for row in rows.iter().map(|row| row.messages.as_ref().unwrap()) {
            assert_eq!(row.iter().map(|turn| turn.role.as_str()).collect::<Vec<_>>(), ["user", "assistant"]);
        }
        let bad = (&quarantine[0]["line"], &quarantine[0]["reason"]);
        assert_eq!(bad, (&json!(3), &json!("no assistant turn answers a user")));
        assert_eq!(report["files"]["f"]["turns_cut"], json!({"rows": 2, "trailing": 2, "leading": 1}));
        let message = read(json!({}), &[("f", &talks)]).unwrap_err().to_string();
        assert!(message.contains("1 of 3 records are unusable, above `max_bad: 1%`"), "{message}");
    }

    #[test]
    fn several_files_and_formats_join_with_their_labels_as_sources() {
        let chat =
            "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": \"a\"}]}";
        let csv = "question,answer\nwhy,so\n";
        let (rows, ..) = read(
            json!({"system": "be brief"}),
            &[("chat", chat), ("own", "[{\"instruction\":\"i\",\"output\":\"o\"}]")],
        )
        .unwrap();
        let sources: Vec<&str> = rows.iter().map(|row| row.source.as_str()).collect();
        assert_eq!(sources, ["chat", "own"]);
        assert_eq!(rows[0].messages.as_ref().unwrap()[0].role, "system");
        assert_eq!(rows[1].system.as_deref(), Some("be brief"));
        let (rows, ..) =
            read(json!({"columns": {"instruction": "question", "output": "answer"}}), &[("f", csv)]).unwrap();
        assert_eq!((rows[0].instruction.as_str(), rows[0].source.as_str()), ("why", ""));
    }

    #[test]
    fn an_empty_file_and_an_unknown_shape_are_errors() {
        assert!(read(json!({}), &[("f", "\n")]).unwrap_err().to_string().contains("/f` is empty"));
        let message = read(json!({}), &[("f", "question,answer\nwhy,so\n")]).unwrap_err().to_string();
        assert!(message.contains("line 2: cannot tell the format from the fields `question`, `answer`"), "{message}");
    }

    #[test]
    fn contradictory_columns_are_faults() {
        let check = |params| (Kind::of::<Examples>().check)(&params).len();
        assert_eq!(check(json!({"format": "columns"})), 1);
        assert_eq!(check(json!({"columns": {"instruction": "q"}})), 1);
        assert_eq!(check(json!({"format": "alpaca", "columns": {"output": "a"}})), 1);
        assert_eq!(check(json!({"columns": {"instruction": "q", "output": "a"}})), 0);
    }

    #[test]
    fn two_thousand_alpaca_rows_are_read_whole() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/alpaca/alpaca_2000.json.gz");
        if !path.exists() {
            eprintln!("skipped: `{}` is not there", path.display());
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        run_alone(&Kind::of::<Examples>(), json!({}), &[("files", "alpaca", &path)], folder.path()).unwrap();
        let rows: Vec<Example> = lines::read(&folder.path().join("examples")).unwrap();
        assert_eq!((rows.len(), rows.iter().filter(|row| !row.input.is_empty()).count()), (2000, 753));
    }
}
