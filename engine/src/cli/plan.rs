//! `plan`: what `run` would do, and why; lints and the schedule preview before any training.

use std::collections::{BTreeMap, HashSet};

use clap::Args;
use serde_json::{Value, json};

use super::{Choice, Common, Format, open, out};
use crate::estimate::{self, Estimate};
use crate::graph::NodeId;
use crate::plan::{self, Planned, State};
use crate::preview::{Cost, Severity};
use crate::reason;
use crate::record::Provenance;
use crate::session::Session;
use crate::stage::Kind;

/// Options of `plan`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    choice: Choice,
    /// Ends with exit code 10 when something would run.
    #[arg(long)]
    exit_code: bool,
}

/// Lines of a plan beyond which those of a stage's cases are folded.
const MOST_LINES: usize = 200;

/// Names that a line shows.
const MOST_NAMES: usize = 9;

/// Lines of each stage and state that a folded plan shows.
const FIRST_LINES: usize = 5;

/// Exit code of work pending.
pub const PENDING: i32 = 10;

pub fn plan(options: &Options, common: &Common, kinds: fn() -> Vec<Kind>) -> i32 {
    let opened = open::session(&options.choice, common, kinds);
    let (session, targets) = match opened.and_then(|s| open::targets(&s, &options.choice, common).map(|t| (s, t))) {
        Ok(opened) => opened,
        Err(code) => return code,
    };
    let lines = plan::plan(&session, &targets, &[]);
    session.save_index();
    match common.format {
        Format::Json => out::json(&document(&session, &lines)),
        _ => out::say(text(&session, &lines)),
    }
    let pending = lines.iter().any(|l| !matches!(l.state, State::Hit(..)));
    // The process ends: giving ten thousand cases back piece by piece takes a tenth of the time of planning them.
    std::mem::forget((session, lines));
    if pending && options.exit_code { PENDING } else { 0 }
}

/// Returns the plan as JSON, in the form that DESIGN.md fixes.
pub fn document(session: &Session, lines: &[Planned]) -> Value {
    let mut stages: Vec<Value> = lines.iter().map(|line| stage_document(session, line)).collect();
    let lints: Vec<Value> = lints(session, lines);
    let estimate = estimate::of(session, lines);
    let times = stages.iter_mut().zip(&estimate.lines);
    times.for_each(|(stage, wall_ms)| stage["estimate_ms"] = json!(wall_ms));
    let sharing = session.graph.sharing(lines.iter().map(|line| line.node));
    json!({
        "stages": stages, "lints": lints,
        "estimate": {
            "wall_ms": estimate.wall_ms, "from_runs": estimate.from_runs, "unknown": estimate.unknown,
            "calls": estimate.calls, "usd": estimate.usd,
        },
        "sharing": {
            "cases": session.study.cases.len(), "nodes": sharing.nodes, "shared": sharing.shared,
            "without_sharing": sharing.without,
        },
    })
}

fn stage_document(session: &Session, line: &Planned) -> Value {
    let node = &session.graph.nodes[line.node];
    let depends: Vec<String> = match &line.state {
        State::Depends(nodes) => titles(session, nodes),
        _ => Vec::new(),
    };
    let (state, key, reasons) = match &line.state {
        State::Hit(key, _) => ("hit", Some(key.hex()), Vec::new()),
        State::Run(key, reasons) => ("run", Some(key.hex()), reasons.clone()),
        State::Depends(_) => ("depends", None, Vec::new()),
        State::Broken(_) => ("run", None, Vec::new()),
    };
    let error = if let State::Broken(error) = &line.state { Some(error.to_string()) } else { None };
    let inputs: Vec<Value> = node.inputs.iter().map(|i| input_document(session, i)).collect();
    json!({
        "stage": node.stage.name, "case": node.case(), "cases": node.cases, "state": state, "key": key,
        "reasons": reasons, "goes_on": line.goes_on, "depends_on": depends, "error": error,
        "kind": node.stage.kind.name, "with": node.stage.params, "in": inputs, "preview": line.preview,
    })
}

fn input_document(session: &Session, input: &crate::graph::NodeInput) -> Value {
    let from = match &input.from {
        crate::graph::From::Path { text, .. } => text.clone(),
        crate::graph::From::Cases => crate::cases::FILE.to_string(),
        crate::graph::From::Node { node, port, inside } => {
            let inside = inside.as_ref().map(|p| format!("/{p}")).unwrap_or_default();
            format!("{}.{port}{inside}", session.graph.nodes[*node].title())
        }
    };
    json!({"port": input.port, "label": input.label, "from": from})
}

fn lints(session: &Session, lines: &[Planned]) -> Vec<Value> {
    let mut all = Vec::new();
    for line in lines {
        let node = &session.graph.nodes[line.node];
        for lint in line.preview.iter().flat_map(|p| &p.lints) {
            let fatal = lint.severity == Severity::Fail;
            all.push(json!({
                "code": lint.code, "stage": node.stage.name, "case": node.case(),
                "severity": if fatal { "fail" } else { "warn" }, "message": lint.message,
            }));
        }
    }
    all
}

/// Returns the plan for people.
pub fn text(session: &Session, lines: &[Planned]) -> String {
    let mut parts = vec![states(session, lines)];
    parts.extend(previews(session, lines));
    parts.extend(unknown_lines(session, lines));
    parts.extend(lint_lines(session, lines));
    parts.push(format!("\n{}", summary(session, lines)));
    parts.join("\n")
}

fn states(session: &Session, lines: &[Planned]) -> String {
    let shown = shown_lines(session, lines);
    let width = shown.iter().flatten().map(|l| session.graph.nodes[l.node].title().len()).max().unwrap_or(0);
    let line = |planned: &Planned| {
        let title = session.graph.nodes[planned.node].title();
        let (state, note) = state_note(session, planned);
        format!("  {title:width$}  {state}  {note}").trim_end().to_string()
    };
    let mut texts = Vec::new();
    for part in shown.chunk_by(|a, b| a.is_some() == b.is_some()) {
        match part {
            [Some(_), ..] => texts.extend(part.iter().flatten().map(|planned| line(planned))),
            _ => texts.push(out::styled("2", &format!("  … {} more of this stage, like these", part.len()))),
        }
    }
    texts.join("\n")
}

/// Returns the lines of a plan that people read: of a stage with very many nodes, the first of each state. `None` is one left out.
fn shown_lines<'p>(session: &Session, lines: &'p [Planned]) -> Vec<Option<&'p Planned>> {
    let mut seen: BTreeMap<(&str, usize), usize> = BTreeMap::new();
    let mut show = |planned: &'p Planned| {
        let stage = session.graph.nodes[planned.node].stage.name.as_str();
        let count = seen.entry((stage, rank(&planned.state))).or_default();
        *count += 1;
        (lines.len() <= MOST_LINES || *count <= FIRST_LINES).then_some(planned)
    };
    lines.iter().map(&mut show).collect()
}

fn rank(state: &State) -> usize {
    match state {
        State::Hit(..) => 0,
        State::Run(..) => 1,
        State::Depends(_) => 2,
        State::Broken(_) => 3,
    }
}

/// Returns the titles of nodes, each once: a stage may read the same node in several ports.
fn titles(session: &Session, nodes: &[NodeId]) -> Vec<String> {
    let mut seen = HashSet::new();
    nodes.iter().filter(|node| seen.insert(**node)).map(|&node| session.graph.nodes[node].title()).collect()
}

/// Returns names as a sentence has them, cut where there are very many.
fn named(mut names: Vec<String>) -> String {
    if names.len() > MOST_NAMES {
        let more = names.len() - MOST_NAMES + 1;
        names.splice(MOST_NAMES - 1.., [format!("and {more} more")]);
    }
    names.join(", ")
}

fn state_note(session: &Session, planned: &Planned) -> (String, String) {
    match &planned.state {
        State::Hit(key, _) => (out::styled("32", "hit    "), out::styled("2", &key.hex()[..8])),
        State::Run(_, reasons) => {
            let goes_on = if planned.goes_on { "; goes on from a checkpoint" } else { "" };
            (out::styled("33;1", "run    "), format!("{}{goes_on}", reason::told(reasons)))
        }
        State::Depends(nodes) => (out::styled("36", "depends"), format!("on {}", named(titles(session, nodes)))),
        State::Broken(error) => (out::styled("31;1", "broken "), error.to_string()),
    }
}

/// Head of a column of costs, and its cell where a preview tells the cost.
type CostColumn = (&'static str, fn(&Cost) -> Option<String>);

const COSTS: [CostColumn; 2] = [
    ("est. memory", |cost| cost.bytes.map(out::bytes)),
    ("est. time", |cost| cost.seconds.map(|seconds| out::duration((seconds * 1000.0) as u64))),
];

/// Returns a table for each stage that previewed something: a line a case, a column a fact.
fn previews(session: &Session, lines: &[Planned]) -> Vec<String> {
    let mut tables = Vec::new();
    let mut stages: Vec<&str> = Vec::new();
    for line in lines.iter().filter(|l| l.preview.is_some()) {
        let name = session.graph.nodes[line.node].stage.name.as_str();
        if !stages.contains(&name) {
            stages.push(name);
        }
    }
    for stage in stages {
        let of_stage = lines.iter().filter(|l| session.graph.nodes[l.node].stage.name == stage);
        tables.push(preview_table(session, stage, &of_stage.collect::<Vec<_>>()));
    }
    tables
}

fn preview_table(session: &Session, stage: &str, lines: &[&Planned]) -> String {
    let previews: Vec<_> = lines.iter().filter_map(|l| Some((l.node, l.preview.as_ref()?))).collect();
    let mut head = vec![stage.to_string()];
    for (name, _) in previews.iter().flat_map(|(_, p)| &p.facts) {
        if !head.contains(name) {
            head.push(name.clone());
        }
    }
    let told = |(_, cell): &&CostColumn| previews.iter().any(|(_, p)| cell(&p.cost).is_some());
    let costs: Vec<&CostColumn> = COSTS.iter().filter(told).collect();
    let rows: Vec<Vec<String>> = previews[..kept(previews.len())]
        .iter()
        .map(|(node, preview)| {
            let cases = session.graph.nodes[*node].cases.clone();
            let mut row = vec![if cases.len() > MOST_NAMES { named(cases) } else { cases.join(",") }];
            let fact = |name: &String| preview.facts.iter().find(|(n, _)| n == name).map(|(_, v)| reason::shown(v));
            row.extend(head[1..].iter().map(|name| fact(name).unwrap_or_else(|| "-".into())));
            row.extend(costs.iter().map(|(_, cell)| cell(&preview.cost).unwrap_or_else(|| "-".into())));
            row
        })
        .collect();
    head.extend(costs.iter().map(|(name, _)| name.to_string()));
    format!("\n{}{}", out::table(&head, &rows), left_out(previews.len()))
}

/// Returns how many of so many lines are shown.
fn kept(lines: usize) -> usize {
    if lines > MOST_LINES { MOST_LINES / 10 } else { lines }
}

fn left_out(lines: usize) -> String {
    match lines - kept(lines) {
        0 => String::new(),
        more => format!("\n… {more} more; `--cases GLOB` shows some of them, `--format json` all"),
    }
}

/// Returns what previews cannot tell yet, and the stages that they wait for.
fn unknown_lines(session: &Session, lines: &[Planned]) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for line in lines {
        let node = &session.graph.nodes[line.node];
        for (fact, port) in line.preview.iter().flat_map(|p| &p.unknown) {
            let writers = node.inputs.iter().filter(|i| i.port == *port).filter_map(|i| i.from.node());
            let names: Vec<String> = writers.map(|n| format!("`{}`", session.graph.nodes[n].stage.name)).collect();
            let text = format!("{}: {fact} unknown until {} has run", node.stage.name, names.join(", "));
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
    }
    if !texts.is_empty() {
        texts.insert(0, String::new());
    }
    texts
}

fn lint_lines(session: &Session, lines: &[Planned]) -> Vec<String> {
    let mut texts = Vec::new();
    for line in lines {
        for lint in line.preview.iter().flat_map(|p| &p.lints) {
            let word = if lint.severity == Severity::Fail { "error" } else { "warning" };
            texts.push(format!("{word}[{}]: {}: {}", lint.code, session.graph.nodes[line.node].title(), lint.message));
        }
    }
    let left_out = left_out(texts.len());
    texts.truncate(kept(texts.len()));
    texts.extend(left_out.strip_prefix('\n').map(str::to_string));
    if !texts.is_empty() {
        texts.insert(0, String::new());
    }
    texts
}

fn summary(session: &Session, lines: &[Planned]) -> String {
    let count = |wanted: fn(&State) -> bool| lines.iter().filter(|l| wanted(&l.state)).count();
    let run = count(|s| matches!(s, State::Run(..) | State::Broken(_)));
    let depends = count(|s| matches!(s, State::Depends(_)));
    let hits = count(|s| matches!(s, State::Hit(..)));
    let saved: u64 = lines.iter().map(|l| if let State::Hit(_, r) = &l.state { wall(r) } else { 0 }).sum();
    let saved = if saved > 0 { format!(" ({} of work saved)", out::duration(saved)) } else { String::new() };
    let work = if run + depends > 0 { cost(&estimate::of(session, lines)) } else { String::new() };
    format!("{}{run} to run, {depends} depend on them{work}, {hits} in the store{saved}", shared(session, lines))
}

/// Returns ` (about 6m10s from 3 earlier runs, 2 of unknown time, at most 260 paid calls)`.
fn cost(estimate: &Estimate) -> String {
    let many = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let mut parts = Vec::new();
    if estimate.lines.iter().any(Option::is_some) {
        let source = if estimate.from_runs > 0 {
            format!(" from {}", many(estimate.from_runs, "earlier run"))
        } else {
            String::new()
        };
        parts.push(format!("about {}{source}", out::duration(estimate.wall_ms)));
        parts.extend((estimate.unknown > 0).then(|| format!("{} of unknown time", estimate.unknown)));
    } else {
        parts.push("time unknown".into());
    }
    parts.extend(
        estimate.calls.filter(|calls| *calls > 0).map(|calls| format!("at most {}", many(calls as usize, "paid call"))),
    );
    parts.extend(estimate.usd.map(|usd| format!("at most ${usd:.2}")));
    format!(" ({})", parts.join(", "))
}

fn shared(session: &Session, lines: &[Planned]) -> String {
    if session.study.sweep.is_none() {
        return String::new();
    }
    let sharing = session.graph.sharing(lines.iter().map(|line| line.node));
    let cases = session.study.cases.len();
    let cases = if cases == 1 { "1 case".to_string() } else { format!("{cases} cases") };
    format!(
        "{cases}: {} nodes, {} of them shared, {} without sharing\n",
        sharing.nodes, sharing.shared, sharing.without
    )
}

fn wall(result: &watershed_cache::ActionResult) -> u64 {
    Provenance::of(result).map_or(0, |p| p.wall_ms)
}
