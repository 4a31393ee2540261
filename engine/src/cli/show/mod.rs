//! `show`: a run's stages, the parameters in which its cases differ, and its metrics.

mod cases;
mod watch;

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde_json::{Value, json};
use watershed_cache::Store;

use super::pick::{self, Picked};
use super::{Common, Format, out, terminal};
use crate::archive::{Run, RunNode};
use crate::case_table::{CaseTable, is_shared};
use crate::findings::Findings;
use crate::metrics::{self, Metrics, Table};
use crate::reason;
use crate::verdict::Verdict;
use crate::warnings::{self, Warning};

/// Options of `show`.
#[derive(Args)]
pub struct Options {
    /// Run: an id, a prefix, `last` or `last~1`; with `@CASE` one case of its sweep.
    #[arg(default_value = "last")]
    run: String,
    /// Only these metrics, for example `parrot_rate,hit@10`.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    metrics: Vec<String>,
    /// Orders the cases of a sweep by a metric or a parameter; `-NAME` or `--desc` puts the highest first.
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    sort: Option<String>,
    /// Puts the highest first.
    #[arg(long, requires = "sort")]
    desc: bool,
    /// Only the first N cases.
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// One line for the cases that differ only in these paths, for example `seed`: mean and standard deviation of each metric.
    #[arg(long, value_name = "PATHS", value_delimiter = ',')]
    mean_over: Vec<String>,
    /// Shows the run again whenever it has gone on, until it ends.
    #[arg(long)]
    watch: bool,
}

/// Exit code of options that do not fit the run.
const UNFIT: i32 = 2;

pub fn show(options: &Options, common: &Common) -> i32 {
    let mut picked = match pick::run(&options.run, common) {
        Ok(picked) => picked,
        Err(code) => return code,
    };
    let put: fn(&str) = if common.format == Format::Json { |text| out::raw(text) } else { |text| out::say(text) };
    let shown = if options.watch {
        watch::watch(&mut picked, put, &mut |picked| view(picked, options, common))
    } else {
        view(&picked, options, common).map(|text| put(&text))
    };
    match shown {
        Ok(()) => 0,
        Err(error) => {
            out::complain(format!("error: {error}"));
            UNFIT
        }
    }
}

/// Returns the run in the form asked for.
fn view(picked: &Picked, options: &Options, common: &Common) -> Result<String, String> {
    let (store, run) = (&picked.store, &picked.run);
    let findings = Findings::of_run(store, run);
    let table = table(run, &findings, options)?;
    match common.format {
        Format::Json => Ok(document(store, run, &findings, table.as_ref()).to_string()),
        _ => text(picked, &findings, table.as_ref(), options),
    }
}

/// Returns the cases as the options want them; `None` for a run without a sweep.
fn table(run: &Run, findings: &[Option<Findings>], options: &Options) -> Result<Option<CaseTable>, String> {
    if run.cases.is_empty() {
        let asked = options.sort.is_some() || options.top.is_some() || !options.mean_over.is_empty();
        let help = "`--sort`, `--top` and `--mean-over` are for cases";
        return if asked { Err(format!("run {} ran no sweep; {help}", run.id)) } else { Ok(None) };
    }
    let mut cases = CaseTable::of(run, findings);
    if !options.mean_over.is_empty() {
        cases = cases.mean_over(&options.mean_over)?;
    }
    if let Some(column) = &options.sort {
        let reversed = column.strip_prefix('-');
        cases.sort(reversed.unwrap_or(column), options.desc || reversed.is_some())?;
    }
    cases.rows.truncate(options.top.unwrap_or(usize::MAX));
    Ok(Some(cases))
}

fn document(store: &Store, run: &Run, findings: &[Option<Findings>], cases: Option<&CaseTable>) -> Value {
    let stage = |(node, found): (&RunNode, &Option<Findings>)| {
        json!({
            "stage": node.stage, "case": node.case, "cases": node.cases, "kind": node.kind,
            "outcome": node.outcome, "key": node.key.map(|k| k.hex()), "wall_ms": node.wall_ms,
            "params": node.params, "reasons": node.reasons, "metrics": node.metrics(store), "error": node.error,
            "warnings": warnings::of_node(node, found.as_ref()),
        })
    };
    json!({
        "run": run.id, "pipeline": run.pipeline, "sweep": run.sweep, "outcome": run.outcome,
        "started_ms": run.started_ms, "wall_ms": run.wall_ms, "expectations": run.expectations,
        "stages": run.nodes.iter().zip(findings).map(stage).collect::<Vec<_>>(), "cases": cases.map(cases::document),
    })
}

fn text(
    picked: &Picked,
    findings: &[Option<Findings>],
    cases: Option<&CaseTable>,
    options: &Options,
) -> Result<String, String> {
    let (store, run) = (&picked.store, &picked.run);
    let sweep = run.sweep.as_ref().map(|s| format!(", sweep {s}")).unwrap_or_default();
    let wall = out::duration(run.wall_ms);
    let title = picked.title();
    let mut parts = vec![format!("run {title} of {}{sweep}: {} in {wall}\n", run.pipeline, run.outcome)];
    match cases {
        Some(cases) => {
            parts.push(cases::text(cases, &options.metrics, !options.mean_over.is_empty(), terminal::size().columns)?);
            parts.extend(cases::failures(run));
        }
        None => parts.push(stages(run)),
    }
    for node in run.nodes.iter().filter(|node| cases.is_none() || is_shared(run, node)) {
        if let Some(table) = metrics(node, &node.metrics(store), &options.metrics) {
            parts.push(format!("\n{}\n{table}", node.title()));
        }
    }
    parts.extend(expectations(&run.expectations));
    parts.extend(warned(&warnings::of_run(run, findings)));
    Ok(parts.join("\n"))
}

/// Returns a line for each warning.
fn warned(warnings: &[Warning]) -> Vec<String> {
    let space = (!warnings.is_empty()).then(String::new);
    let lines = warnings.iter().map(|warning| format!("warning: {}: {}", warning.by(), warning.text));
    space.into_iter().chain(lines).collect()
}

/// Returns a line for each threshold that was missed, and one for those of a line of `expect:` that held.
fn expectations(verdicts: &[Verdict]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut held: Vec<(&str, &str, Vec<&Verdict>)> = Vec::new();
    for verdict in verdicts {
        if !verdict.held {
            lines.push(format!("expect {}: {}", verdict.subject(), verdict.finding()));
            continue;
        }
        match held.iter_mut().find(|(path, bound, _)| (*path, *bound) == (&verdict.path, &verdict.bound)) {
            Some((_, _, others)) => others.push(verdict),
            None => held.push((&verdict.path, &verdict.bound, vec![verdict])),
        }
    }
    for (path, bound, verdicts) in held {
        lines.push(match verdicts.as_slice() {
            [only] => format!("expect {}: {}", only.subject(), only.finding()),
            several => format!("expect {path} {bound}: held {} times", several.len()),
        });
    }
    if !lines.is_empty() {
        lines.insert(0, String::new());
    }
    lines
}

/// Returns the table of stages; of parameters only those in which the nodes of one stage differ.
fn stages(run: &Run) -> String {
    let head = ["stage", "kind", "outcome", "wall", "differs in"].map(String::from);
    let rows: Vec<Vec<String>> = run
        .nodes
        .iter()
        .map(|node| {
            let wall = out::duration(node.wall_ms);
            let note = if node.outcome == "running" { node.progress.clone() } else { None };
            let note = note.unwrap_or_else(|| differing(run, node));
            vec![node.title(), node.kind.clone(), node.word().to_string(), wall, note]
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
