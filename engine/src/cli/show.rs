//! `show`: a run's stages, the parameters in which its cases differ, and its metrics.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde_json::{Map, Value, json};
use watershed_cache::Store;

use super::{Common, Format, open, out};
use crate::archive::{self, Run, RunNode};
use crate::reason;

/// Options of `show`.
#[derive(Args)]
pub struct Options {
    /// Run: an id, a prefix, `last` or `last~1`.
    #[arg(default_value = "last")]
    run: String,
    /// Only these metrics, for example `parrot_rate,hit@10`.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    metrics: Vec<String>,
}

pub fn show(options: &Options, common: &Common) -> i32 {
    let opened = Store::open(&open::cache_here(common)).map_err(|e| e.to_string()).and_then(|store| {
        let folder = archive::find(&store.runs(), &options.run)?;
        let run = Run::read(&folder).map_err(|e| format!("cannot read `{}`: {e}", folder.display()))?;
        Ok((store, run))
    });
    let (store, run) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            out::complain(format!("error: {error}"));
            return 1;
        }
    };
    match common.format {
        Format::Json => out::json(&document(&store, &run)),
        _ => out::say(text(&store, &run, &options.metrics)),
    }
    0
}

fn document(store: &Store, run: &Run) -> Value {
    let stages: Vec<Value> = run
        .nodes
        .iter()
        .map(|node| {
            json!({
                "stage": node.stage, "case": node.case, "cases": node.cases, "kind": node.kind,
                "outcome": node.outcome, "key": node.key.map(|k| k.hex()), "wall_ms": node.wall_ms,
                "params": node.params, "reasons": node.reasons, "metrics": node.metrics(store), "error": node.error,
            })
        })
        .collect();
    json!({
        "run": run.id, "pipeline": run.pipeline, "sweep": run.sweep, "outcome": run.outcome,
        "started_ms": run.started_ms, "wall_ms": run.wall_ms, "stages": stages,
    })
}

fn text(store: &Store, run: &Run, wanted: &[String]) -> String {
    let sweep = run.sweep.as_ref().map(|s| format!(", sweep {s}")).unwrap_or_default();
    let mut parts =
        vec![format!("run {} of {}{sweep}: {} in {}\n", run.id, run.pipeline, run.outcome, out::duration(run.wall_ms))];
    parts.push(stages(run));
    for node in &run.nodes {
        if let Some(table) = metrics(node, &node.metrics(store), wanted) {
            parts.push(format!("\n{}\n{table}", node.title()));
        }
    }
    for (path, bound, value, held) in &run.expectations {
        let word = if *held { "held" } else { "MISSED" };
        parts.push(format!(
            "\nexpect {path} {bound}: {word}, found {}",
            value.map_or("nothing".into(), |v| v.to_string())
        ));
    }
    parts.join("\n")
}

/// Returns the table of stages; of parameters only those in which the nodes of one stage differ.
fn stages(run: &Run) -> String {
    let head = ["stage", "kind", "outcome", "wall", "differs in"].map(String::from);
    let rows: Vec<Vec<String>> = run
        .nodes
        .iter()
        .map(|node| {
            let wall = out::duration(node.wall_ms);
            vec![node.title(), node.kind.clone(), node.outcome.clone(), wall, differing(run, node)]
        })
        .collect();
    out::table(&head, &rows)
}

fn differing(run: &Run, node: &RunNode) -> String {
    let siblings: Vec<&RunNode> = run.nodes.iter().filter(|n| n.stage == node.stage).collect();
    let names: BTreeSet<&String> = siblings.iter().flat_map(|n| n.params.keys()).collect();
    let differs = |name: &&String| siblings.iter().any(|s| s.params.get(*name) != node.params.get(*name));
    let shown = |name: &String| node.params.get(name).map_or("default".into(), reason::shown);
    names.into_iter().filter(differs).map(|n| format!("{n}={}", shown(n))).collect::<Vec<_>>().join(" ")
}

/// Returns metrics named `system.metric` as a table with a column a system; `None` when there are none.
fn metrics(node: &RunNode, numbers: &BTreeMap<String, Value>, wanted: &[String]) -> Option<String> {
    let mut systems: Vec<&str> = Vec::new();
    let mut rows: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for (name, value) in numbers {
        let (system, metric) = split(name, &node.stage);
        let interval = metric.ends_with("_low") || metric.ends_with("_high");
        if if wanted.is_empty() { interval } else { !wanted.iter().any(|w| w == metric) } {
            continue;
        }
        if !systems.contains(&system) {
            systems.push(system);
        }
        rows.entry(metric).or_default().insert(system.to_string(), value.clone());
    }
    if rows.is_empty() {
        return None;
    }
    let head: Vec<String> = std::iter::once("metric").chain(systems.iter().copied()).map(String::from).collect();
    let number =
        |row: &Map<String, Value>, system: &str| row.get(system).and_then(Value::as_f64).map_or("-".into(), rounded);
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|(metric, row)| {
            let cells = systems.iter().map(|s| number(row, s));
            std::iter::once(metric.to_string()).chain(cells).collect()
        })
        .collect();
    Some(out::table(&head, &lines))
}

/// Splits at the first dot: systems are named by users' labels, metrics never hold a dot.
fn split<'a>(name: &'a str, stage: &'a str) -> (&'a str, &'a str) {
    name.rsplit_once('.').unwrap_or((stage, name))
}

fn rounded(value: f64) -> String {
    if value == value.trunc() && value.abs() < 1e9 { format!("{value:.0}") } else { format!("{value:.4}") }
}
