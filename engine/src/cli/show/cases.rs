//! The cases of a sweep as a table and as a document.

use serde_json::{Map, Value, json};

use crate::archive::Run;
use crate::case_table::{CaseTable, Number, Row, State};
use crate::cli::{columns, out};
use crate::{metrics, names, reason};

/// Characters of a parameter that are shown.
const LONGEST: usize = 30;

/// Failed nodes whose errors are told.
const MOST_FAILURES: usize = 20;

/// Returns the table; `wanted` chooses among the numbers (all for none), `means` adds how many cases each line has.
///
/// # Errors
/// When a number is wanted that no case has.
pub fn text(cases: &CaseTable, wanted: &[String], means: bool, width: usize) -> Result<String, String> {
    let numbers = chosen(cases, wanted)?;
    let mut heads: Vec<String> = [&cases.params, &numbers, &cases.numerics].into_iter().flatten().cloned().collect();
    heads = names::shortened(&heads);
    let mut head = vec!["case".to_string()];
    head.extend(heads.drain(..cases.params.len()));
    head.extend(means.then(|| "n".to_string()));
    head.extend(heads);
    head.push("state".into());
    let rows: Vec<Vec<String>> = cases.rows.iter().map(|row| cells(cases, row, &numbers, means)).collect();
    Ok(columns::fitted(&head, &rows, width))
}

fn chosen(cases: &CaseTable, wanted: &[String]) -> Result<Vec<String>, String> {
    if wanted.is_empty() {
        return Ok(cases.numbers.clone());
    }
    let mut all: Vec<String> = cases.rows.iter().flat_map(|row| row.numbers.keys().cloned()).collect();
    all.sort();
    all.dedup();
    let mut found = Vec::new();
    for name in wanted {
        let fits = |path: &&String| {
            path.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let fitting: Vec<String> = all.iter().filter(fits).cloned().collect();
        if fitting.is_empty() {
            names::find(&all, name)?;
        }
        found.extend(fitting);
    }
    Ok(found)
}

fn cells(cases: &CaseTable, row: &Row, numbers: &[String], means: bool) -> Vec<String> {
    let shown = |value: &Value| columns::cut(&reason::shown(value), LONGEST);
    let value = |value: Option<&Value>| value.filter(|v| !v.is_null()).map_or("-".into(), shown);
    let mut cells = vec![label(&row.cases)];
    cells.extend(cases.params.iter().map(|path| value(row.set.get(path))));
    cells.extend(means.then(|| row.cases.len().to_string()));
    cells.extend(numbers.iter().map(|name| row.numbers.get(name).map_or("-".into(), |n| number(n, row.cases.len()))));
    cells.extend(cases.numerics.iter().map(|name| value(row.numerics.get(name))));
    cells.push(state(&row.state));
    cells
}

fn label(cases: &[String]) -> String {
    match cases {
        [first, rest @ ..] if !rest.is_empty() => format!("{first}+{}", rest.len()),
        _ => cases.concat(),
    }
}

/// Says how many numbers a mean is of where some cases lack it.
fn number(number: &Number, cases: usize) -> String {
    let deviation = number.deviation.map(|d| format!(" ±{}", metrics::shown(d))).unwrap_or_default();
    let few = if number.n < cases { format!(" (n={})", number.n) } else { String::new() };
    format!("{}{deviation}{few}", metrics::shown(number.mean))
}

fn state(state: &State) -> String {
    match (state.word.as_str(), &state.progress) {
        ("ran", _) => format!("ran {}", out::duration(state.wall_ms)),
        (word @ ("failed" | "diverged"), _) => format!("{word} {}", state.stage),
        ("running", Some(progress)) => format!("running {}, {progress}", state.stage),
        ("running", None) => format!("running {}", state.stage),
        (word, _) => word.to_string(),
    }
}

/// Returns the errors of nodes that failed.
pub fn failures(run: &Run) -> Vec<String> {
    let failed: Vec<String> = run
        .nodes
        .iter()
        .filter(|node| node.outcome == "failed")
        .filter_map(|node| Some(format!("{} failed: {}", node.title(), node.error.as_ref()?)))
        .collect();
    let more = failed.len().saturating_sub(MOST_FAILURES);
    let mut lines: Vec<String> = failed.into_iter().take(MOST_FAILURES).collect();
    if more > 0 {
        lines.push(format!("and {more} more; `watershed log STAGE@CASE` tells of each"));
    }
    if !lines.is_empty() {
        lines.insert(0, String::new());
    }
    lines
}

/// Returns the rows; a number is alone for one case, and with its deviation and count for several.
pub fn document(cases: &CaseTable) -> Value {
    let rows = cases.rows.iter().map(|row| {
        let numbers: Map<String, Value> =
            row.numbers.iter().map(|(k, n)| (k.clone(), number_document(n, row))).collect();
        json!({
            "case": if row.cases.len() == 1 { row.cases.first() } else { None }, "cases": row.cases, "params": row.set,
            "metrics": numbers, "numerics": row.numerics, "state": row.state.word, "stage": row.state.stage,
            "wall_ms": row.state.wall_ms,
        })
    });
    rows.collect()
}

fn number_document(number: &Number, row: &Row) -> Value {
    match row.cases.len() {
        1 => json!(number.mean),
        _ => json!({"mean": number.mean, "deviation": number.deviation, "n": number.n}),
    }
}
