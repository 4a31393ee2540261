//! `runs`: former runs, newest first.

use serde_json::{Value, json};
use watershed_cache::Store;

use super::{Common, Format, open, out};
use crate::archive::Run;
use crate::runlog;

pub fn runs(common: &Common) -> i32 {
    let store = match Store::open(&open::cache_here(common)) {
        Ok(store) => store,
        Err(error) => {
            out::complain(format!("error: {error}"));
            return 4;
        }
    };
    let runs: Vec<Run> = runlog::list(&store.runs()).iter().filter_map(|f| Run::read(f).ok()).collect();
    match common.format {
        Format::Json => out::json(&json!({"runs": runs.iter().map(document).collect::<Vec<_>>()})),
        Format::Human if runs.is_empty() => out::say("no runs yet"),
        _ => out::say(text(&runs)),
    }
    0
}

fn count(run: &Run, outcome: &str) -> usize {
    run.nodes.iter().filter(|n| n.outcome == outcome).count()
}

fn document(run: &Run) -> Value {
    json!({
        "run": run.id, "pipeline": run.pipeline, "sweep": run.sweep, "outcome": run.outcome,
        "started_ms": run.started_ms, "wall_ms": run.wall_ms,
        "ran": count(run, "ran"), "hit": count(run, "hit"), "failed": count(run, "failed"), "skipped": count(run, "skipped"),
    })
}

fn text(runs: &[Run]) -> String {
    let head = ["run", "pipeline", "sweep", "outcome", "ran", "hit", "failed", "wall"].map(String::from);
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            let counts = ["ran", "hit", "failed"].map(|o| count(run, o).to_string());
            let sweep = run.sweep.clone().unwrap_or_else(|| "-".into());
            let mut row = vec![run.id.clone(), run.pipeline.clone(), sweep, run.outcome.clone()];
            row.extend(counts);
            row.push(out::duration(run.wall_ms));
            row
        })
        .collect();
    out::table(&head, &rows)
}
