//! The page: what ran and why, timings, loss curves, metrics, generations.

use std::fmt::Write;

use serde_json::Value;
use watershed_cache::Store;

use super::style::{CSS, outcome_colour};
use super::{curves, dag, escaped, generations};
use crate::archive::{Run, RunNode};
use crate::findings::Findings;
use crate::metrics::{Metrics, Table, is_interval, shown};
use crate::record::Provenance;
use crate::verdict::Verdict;
use crate::warnings::{self, Warning};

/// Returns the page of a run.
pub fn page(store: &Store, run: &Run) -> String {
    let mut body = header(run);
    section(&mut body, "What ran, and why", &format!("<div class=\"wide\">{}</div>{}", dag::of_run(run), stages(run)));
    section(&mut body, "Metrics", &metrics(store, run));
    section(&mut body, "Expectations", &expectations(run));
    section(&mut body, "Loss", &wrapped("charts", curves::charts(store, run).concat()));
    section(&mut body, "Generations beside their prompts", &generations::blocks(store, run));
    section(&mut body, "Timings", &timings(run));
    section(&mut body, "Data", &counts(store, run));
    section(&mut body, "Warnings", &warned(store, run));
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\
         <title>{} - Watershed</title><style>{CSS}</style></head><body>{body}</body></html>",
        escaped(&run.pipeline)
    )
}

fn section(body: &mut String, title: &str, content: &str) {
    if !content.is_empty() {
        let _ = write!(body, "<section><h2>{title}</h2>{content}</section>");
    }
}

fn wrapped(class: &str, content: String) -> String {
    if content.is_empty() { content } else { format!("<div class=\"{class}\">{content}</div>") }
}

fn header(run: &Run) -> String {
    let count = |outcome: &str| run.nodes.iter().filter(|n| n.outcome == outcome).count();
    let sweep = run.sweep.as_ref().map(|s| format!(", sweep {}", escaped(s))).unwrap_or_default();
    format!(
        "<h1>{}</h1><p class=\"dim\">run {}{sweep}: {} in {}; {} ran, {} from the store, {} failed, {} skipped</p>",
        escaped(&run.pipeline),
        escaped(&run.id),
        escaped(&run.outcome),
        seconds(run.wall_ms),
        count("ran"),
        count("hit"),
        count("failed"),
        count("skipped")
    )
}

fn stages(run: &Run) -> String {
    let row = |node: &RunNode| {
        let why = node.error.as_ref().map_or_else(|| escaped(&crate::reason::told(&node.reasons)), |e| escaped(e));
        let params: Vec<String> = node.params.iter().map(|(k, v)| escaped(&format!("{k}={}", shortened(v)))).collect();
        format!(
            "<tr><td>{}</td><td>{}</td><td><span class=\"tag\" style=\"background:{}\">{}</span></td><td class=\"n\">{}</td>\
             <td>{why}</td><td class=\"dim\">{}</td></tr>",
            escaped(&node.title()),
            escaped(&node.kind),
            outcome_colour(&node.outcome),
            escaped(&node.outcome),
            seconds(node.wall_ms),
            params.join(" ")
        )
    };
    let rows: String = run.nodes.iter().map(row).collect();
    format!(
        "<div class=\"wide\"><table><tr><th>stage</th><th>kind</th><th>outcome</th><th class=\"n\">wall</th><th>why</th>\
         <th>parameters that differ from their defaults</th></tr>{rows}</table></div>"
    )
}

fn shortened(value: &Value) -> String {
    let text = crate::reason::shown(value);
    if text.chars().count() > 60 { text.chars().take(60).chain(['…']).collect() } else { text }
}

/// Metrics named `system.metric`: a row a metric, a column a system, intervals in brackets.
fn metrics(store: &Store, run: &Run) -> String {
    let mut out = String::new();
    for node in &run.nodes {
        let numbers = node.metrics(store);
        if !numbers.is_empty() {
            let _ =
                write!(out, "<h3>{}</h3><div class=\"wide\">{}</div>", escaped(&node.title()), metrics_table(&numbers));
        }
    }
    out
}

fn metrics_table(numbers: &Metrics) -> String {
    let metrics = Table::of(numbers, "");
    let head: String = metrics.systems.iter().map(|s| format!("<th class=\"n\">{}</th>", escaped(s))).collect();
    let mut table = format!("<table><tr><th>metric</th>{head}</tr>");
    for (metric, row) in metrics.rows.iter().filter(|(metric, _)| !is_interval(metric)) {
        let cell = |system: &&str| {
            let value = row.get(system).map_or("-".to_string(), |v| shown(*v));
            match metrics.interval(metric, system) {
                Some((low, high)) => {
                    format!("<td class=\"n\">{value} <span class=\"dim\">[{low:.3}, {high:.3}]</span></td>")
                }
                None => format!("<td class=\"n\">{value}</td>"),
            }
        };
        let cells: String = metrics.systems.iter().map(cell).collect();
        let _ = write!(table, "<tr><td>{}</td>{cells}</tr>", escaped(metric));
    }
    table + "</table>"
}

fn expectations(run: &Run) -> String {
    let line = |verdict: &Verdict| {
        let finding = escaped(&verdict.finding()).replace("MISSED", "<b>missed</b>");
        format!("<p>{}: {finding}</p>", escaped(&verdict.subject()))
    };
    run.expectations.iter().map(line).collect()
}

/// A bar for each stage that was executed, on a common time axis.
fn timings(run: &Run) -> String {
    let ran: Vec<&RunNode> = run.nodes.iter().filter(|n| n.started_ms.is_some()).collect();
    if ran.is_empty() {
        return String::new();
    }
    let total = run.wall_ms.max(1) as f64;
    let height = ran.len() * 20 + 8;
    let mut svg = format!("<svg viewBox=\"0 0 1000 {height}\" width=\"1000\" role=\"img\" aria-label=\"timeline\">");
    for (row, node) in ran.iter().enumerate() {
        let begin = node.started_ms.unwrap_or(0) as f64 / total * 760.0 + 170.0;
        let width = (node.wall_ms as f64 / total * 760.0).max(1.5);
        let (y, colour) = (row * 20 + 4, outcome_colour(&node.outcome));
        let _ = write!(svg, "<text x=\"160\" y=\"{}\" text-anchor=\"end\">{}</text>", y + 12, escaped(&node.title()));
        let _ = write!(svg, "<rect x=\"{begin:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"15\" fill=\"{colour}\"/>");
        let _ = write!(svg, "<text x=\"{:.1}\" y=\"{}\">{}</text>", begin + width + 5.0, y + 12, seconds(node.wall_ms));
    }
    format!("<div class=\"wide\">{svg}</svg></div>")
}

fn counts(store: &Store, run: &Run) -> String {
    let mut rows = String::new();
    for node in &run.nodes {
        let Some(provenance) = node.record(store).and_then(|r| Provenance::of(&r)) else { continue };
        let told: Vec<String> = provenance.counts.iter().map(|(k, v)| escaped(&format!("{k} {v}"))).collect();
        if !told.is_empty() {
            let _ = write!(rows, "<tr><td>{}</td><td>{}</td></tr>", escaped(&node.title()), told.join(", "));
        }
    }
    if rows.is_empty() { rows } else { format!("<table><tr><th>stage</th><th>counted</th></tr>{rows}</table>") }
}

fn warned(store: &Store, run: &Run) -> String {
    let warnings = warnings::of_run(run, &Findings::of_run(store, run));
    let line = |warning: &Warning| format!("<p><b>{}</b>: {}</p>", escaped(&warning.by()), escaped(&warning.text));
    warnings.iter().map(line).collect()
}

fn seconds(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { format!("{:.1} s", ms as f64 / 1000.0) }
}
