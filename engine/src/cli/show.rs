//! `show`: a run's stages, the parameters in which its cases differ, and its metrics.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde_json::{Value, json};
use watershed_cache::Store;

use super::{Common, Format, open, out};
use crate::archive::{self, Run, RunNode};
use crate::metrics::{self, Metrics, Table};
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

/// Returns the wanted metrics (all for none) with a column a system; `None` when there are none.
fn metrics(node: &RunNode, numbers: &Metrics, wanted: &[String]) -> Option<String> {
    let table = Table::of(numbers, &node.stage);
    let chosen = |metric: &str| {
        if wanted.is_empty() { !metrics::is_interval(metric) } else { wanted.iter().any(|w| w == metric) }
    };
    let rows: Vec<_> = table.rows.iter().filter(|(metric, _)| chosen(metric)).collect();
    let with_numbers = |system: &&&str| rows.iter().any(|(_, row)| row.contains_key(**system));
    let systems: Vec<&str> = table.systems.iter().filter(with_numbers).copied().collect();
    let head: Vec<String> = std::iter::once("metric").chain(systems.iter().copied()).map(String::from).collect();
    let cell = |row: &BTreeMap<&str, f64>, system: &str| row.get(system).map_or("-".into(), |v| metrics::shown(*v));
    let line = |(metric, row): &(&&str, &BTreeMap<&str, f64>)| {
        std::iter::once(metric.to_string()).chain(systems.iter().map(|s| cell(row, s))).collect()
    };
    let lines: Vec<Vec<String>> = rows.iter().map(line).collect();
    (!lines.is_empty()).then(|| out::table(&head, &lines))
}
