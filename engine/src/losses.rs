//! Losses of a training, from its output of type `curves`.

use std::collections::BTreeMap;

use serde_json::Value;
use watershed_cache::{ActionResult, Store};

use crate::port::RecordType;
use crate::record::Provenance;

/// The loss at one update or evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Updates done.
    pub step: f64,
    /// Passes over the data done.
    pub epoch: f64,
    /// Mean nats a token; NaN where it was not finite.
    pub loss: f64,
}

/// A training's losses in the order in which they were taken.
#[derive(Debug, Default, PartialEq)]
pub struct Losses {
    /// One an update.
    pub train: Vec<Point>,
    /// One an evaluation; the first may be before the first update.
    pub val: Vec<Point>,
}

impl Losses {
    /// Reads those of an action; `None` when it left no curves.
    pub fn of_record(store: &Store, record: &ActionResult, provenance: &Provenance) -> Option<Losses> {
        let types = &provenance.manifest.outputs;
        let (port, _) = types.iter().find(|(_, name)| *name == RecordType::Curves.name())?;
        let tree = store.tree(&record.outputs.get(port)?.artifact.digest).ok()?;
        let points = |file: &str| -> Vec<Point> {
            let digest = tree.entries.iter().find(|e| e.path == file).map(|e| e.digest);
            let text = digest.and_then(|d| std::fs::read_to_string(store.blob(&d)).ok()).unwrap_or_default();
            text.lines().filter_map(point).collect()
        };
        Some(Losses { train: points("metrics.jsonl"), val: points("eval.jsonl") })
    }

    /// Returns the last loss, the best, and the training loss where the validation loss was best.
    ///
    /// The evaluation before the first update is none of the training's: the best is after it.
    pub fn numbers(&self) -> BTreeMap<&'static str, f64> {
        let trained: Vec<Point> = self.val.iter().filter(|p| p.step > 0.0).copied().collect();
        let best_val = lowest(&trained);
        let at_best = best_val.and_then(|best| {
            self.train.iter().filter(|p| p.step <= best.step).max_by(|a, b| a.step.total_cmp(&b.step))
        });
        let numbers = [
            ("train_loss_last", self.train.last().copied()),
            ("train_loss_best", lowest(&self.train)),
            ("train_loss_at_best_val", at_best.copied()),
            ("val_loss_last", trained.last().copied()),
            ("val_loss_best", best_val),
        ];
        let found = numbers.into_iter().filter_map(|(name, point)| Some((name, point?.loss)));
        found.filter(|(_, loss)| loss.is_finite()).collect()
    }
}

fn lowest(points: &[Point]) -> Option<Point> {
    points.iter().filter(|p| p.loss.is_finite()).min_by(|a, b| a.loss.total_cmp(&b.loss)).copied()
}

fn point(line: &str) -> Option<Point> {
    let row: Value = serde_json::from_str(line).ok()?;
    let number = |name: &str| row[name].as_f64();
    Some(Point { step: number("step")?, epoch: number("epoch")?, loss: number("loss").unwrap_or(f64::NAN) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(list: &[(f64, f64)]) -> Vec<Point> {
        list.iter().map(|&(step, loss)| Point { step, epoch: step / 2.0, loss }).collect()
    }

    #[test]
    fn the_best_is_after_the_first_update_and_the_training_loss_beside_it_is_of_the_same_update() {
        let losses = Losses {
            train: points(&[(1.0, 3.0), (2.0, 2.0), (3.0, 1.0), (4.0, 0.5)]),
            val: points(&[(0.0, 0.1), (2.0, 2.5), (4.0, f64::NAN)]),
        };
        let expected = [
            ("train_loss_last", 0.5),
            ("train_loss_best", 0.5),
            ("train_loss_at_best_val", 2.0),
            ("val_loss_best", 2.5),
        ];
        assert_eq!(losses.numbers(), BTreeMap::from(expected));
    }
}
