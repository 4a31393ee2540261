//! Loss curves of trainings: per update and by epoch.

use serde_json::Value;
use watershed_cache::Store;

use super::chart::{Series, line_chart};
use super::style::PALETTE;
use crate::archive::{Run, RunNode};
use crate::record::Provenance;

/// Returns a chart a training with a `curves` output; all share the y axis, so that cases compare.
pub fn charts(store: &Store, run: &Run) -> Vec<String> {
    let trainings: Vec<(String, Vec<Series>)> =
        run.nodes.iter().filter_map(|node| Some((node.title(), series(store, node)?))).collect();
    let values =
        || trainings.iter().flat_map(|(_, s)| s).flat_map(|s| &s.points).map(|p| p.1).filter(|v| v.is_finite());
    let high = values().fold(f64::NEG_INFINITY, f64::max);
    let low = values().fold(f64::INFINITY, f64::min).min(high - 0.1);
    let range = high.is_finite().then_some((low - (high - low) * 0.05, high + (high - low) * 0.05));
    trainings.into_iter().map(|(title, series)| line_chart(&title, "epoch", &series, range)).collect()
}

fn series(store: &Store, node: &RunNode) -> Option<Vec<Series>> {
    let record = node.record(store)?;
    let provenance = Provenance::of(&record)?;
    let port = provenance.manifest.outputs.iter().find(|(_, t)| *t == "curves").map(|(name, _)| name.clone())?;
    let tree = store.tree(&record.outputs.get(&port)?.artifact.digest).ok()?;
    let points = |file: &str| -> Vec<(f64, f64)> {
        let digest = tree.entries.iter().find(|e| e.path == file).map(|e| e.digest);
        let text = digest.and_then(|d| std::fs::read_to_string(store.blob(&d)).ok()).unwrap_or_default();
        text.lines().filter_map(point).collect()
    };
    let line = |name: &str, colour: usize, points, marked| Series {
        name: name.into(),
        colour: PALETTE[colour].into(),
        points,
        marked,
    };
    Some(vec![line("train", 0, points("metrics.jsonl"), false), line("validation", 1, points("eval.jsonl"), true)])
}

fn point(line: &str) -> Option<(f64, f64)> {
    let row: Value = serde_json::from_str(line).ok()?;
    Some((row["epoch"].as_f64()?, row["loss"].as_f64().unwrap_or(f64::NAN)))
}
