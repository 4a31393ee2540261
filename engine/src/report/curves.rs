//! Loss curves of trainings: per update and by epoch.

use watershed_cache::Store;

use super::chart::{Series, line_chart};
use super::style::PALETTE;
use crate::archive::{Run, RunNode};
use crate::losses::{Losses, Point};
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
    let losses = Losses::of_record(store, &record, &Provenance::of(&record)?)?;
    let line = |name: &str, colour: usize, points: &[Point], marked| Series {
        name: name.into(),
        colour: PALETTE[colour].into(),
        points: points.iter().map(|p| (p.epoch, p.loss)).collect(),
        marked,
    };
    Some(vec![line("train", 0, &losses.train, false), line("validation", 1, &losses.val, true)])
}
