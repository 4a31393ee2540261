//! `config`: the pipeline as it is understood, and with `--origins` where each value comes from.

use clap::Args;
use serde_json::{Value, json};

use super::{Choice, Common, Format, open, out};
use crate::graph;
use crate::language::{Origin, Origins, Row};
use crate::stage::Kind;
use crate::study::{Case, Study};

/// Options of `config`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    choice: Choice,
    /// Says of each value where it comes from: file and line, `--set`, environment, preset or default.
    #[arg(long)]
    origins: bool,
}

/// A heading and the values below it.
struct Section {
    stage: Option<String>,
    case: Option<String>,
    kind: Option<&'static str>,
    rows: Vec<Row>,
}

pub fn config(options: &Options, common: &Common, kinds: fn() -> Vec<Kind>) -> i32 {
    let (request, study) = match open::request(&options.choice, common, kinds, false) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let wanted = open::stages_of(&options.choice.words);
    let is_wanted = |section: &Section| wanted.is_empty() || wanted.iter().any(|word| section.is_named(word, &study));
    let mut sections = Vec::new();
    for case in &study.cases {
        let Some(origins) = Origins::read(&request, case.name.as_deref()) else { continue };
        if sections.is_empty() && wanted.is_empty() {
            let rows = [origins.params(), origins.roots()].concat();
            sections.extend((!rows.is_empty()).then_some(Section { stage: None, case: None, kind: None, rows }));
        }
        sections.extend(stages(case, &origins).into_iter().filter(is_wanted));
    }
    if let Some(name) = wanted.iter().find(|name| !sections.iter().any(|s| s.is_named(name, &study))) {
        return open::unknown_stage(name, &study, common);
    }
    let file = request.file.display().to_string();
    match common.format {
        Format::Json => out::json(&document(&study.name, &sections, &file, options.origins)),
        _ => out::say(text(&sections, &file, options.origins)),
    }
    0
}

fn stages(case: &Case, origins: &Origins) -> Vec<Section> {
    let section = |stage: &crate::study::StageDef| Section {
        stage: Some(stage.name.clone()),
        case: case.name.clone(),
        kind: Some(stage.kind.name),
        rows: origins.stage(stage),
    };
    case.stages.iter().filter(|stage| !stage.kind.fetches).map(|stage| section(stage)).collect()
}

impl Section {
    fn title(&self) -> String {
        let cases: Vec<String> = self.case.iter().cloned().collect();
        graph::title(self.stage.as_deref().unwrap_or_default(), &cases)
    }

    /// Says whether `STAGE`, `STAGE@CASE` or `STAGE@SWEEP/CASE` names it.
    fn is_named(&self, word: &str, study: &Study) -> bool {
        self.stage.as_deref().is_some_and(|stage| open::names(word, study, stage, self.case.as_deref()))
    }
}

fn text(sections: &[Section], file: &str, with_origins: bool) -> String {
    let shown: Vec<String> = sections.iter().map(|section| section_text(section, file, with_origins)).collect();
    shown.join("\n\n")
}

fn section_text(section: &Section, file: &str, with_origins: bool) -> String {
    let cells = |row: &Row| {
        let mut cells = vec![format!("  {}", row.path), value_text(&row.value)];
        cells.extend(with_origins.then(|| row.origin.text(file)));
        cells
    };
    let head = section.kind.map_or("pipeline".to_string(), |kind| format!("{}: {kind}", section.title()));
    let rows: Vec<Vec<String>> = section.rows.iter().map(cells).collect();
    let columns = if with_origins { ["value", "from"].as_slice() } else { &["value"] };
    let head: Vec<String> = std::iter::once(head).chain(columns.iter().map(|c| c.to_string())).collect();
    out::table(&head, &rows)
}

/// Returns a value on one line, cut where it gets long.
fn value_text(value: &Value) -> String {
    const LONGEST: usize = 60;
    let plain = value.as_str().filter(|text| !text.is_empty());
    let text = plain.map_or_else(|| value.to_string(), |text| text.replace('\n', "\\n"));
    if text.chars().count() <= LONGEST { text } else { text.chars().take(LONGEST - 1).chain(['…']).collect() }
}

fn document(name: &str, sections: &[Section], file: &str, with_origins: bool) -> Value {
    let values = |section: &Section| -> Vec<Value> {
        section.rows.iter().map(|row| row_document(row, file, with_origins)).collect()
    };
    let stage = |s: &Section| json!({"stage": s.stage, "case": s.case, "kind": s.kind, "values": values(s)});
    let whole: Vec<Value> = sections.iter().filter(|s| s.stage.is_none()).flat_map(values).collect();
    let stages: Vec<Value> = sections.iter().filter(|s| s.stage.is_some()).map(stage).collect();
    json!({"name": name, "values": whole, "stages": stages})
}

fn row_document(row: &Row, file: &str, with_origins: bool) -> Value {
    let mut document = json!({"path": row.path, "value": row.value});
    if with_origins {
        let (line, column) = match row.origin {
            Origin::File(line, column, _) => (Some(line), Some(column)),
            _ => (None, None),
        };
        document["origin"] =
            json!({"from": row.origin.sort(), "line": line, "column": column, "text": row.origin.text(file)});
    }
    document
}
