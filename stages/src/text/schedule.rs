//! Learning rate by update, in the convention of transformers: update k, counted from 1, uses the value at k - 1.
//!
//! So the first update of a warm-up has rate 0. The convention matters: the paper's configurations 4 and 5 ended inside a
//! warm-up of 100 updates, and the highest rate they reached (7.2e-5 and 9.8e-5) follows from it.

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Shape of the learning rate after warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Falls to 0 in a straight line.
    #[default]
    Linear,
    /// Falls to 0 along half a cosine.
    Cosine,
    /// Stays.
    Constant,
    /// Stays, then falls to 0 in a straight line over the last tenth of all updates (warm-up, stable, decay).
    Wsd,
}

/// The learning rate of every update of one training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Shape after warm-up.
    pub shape: Shape,
    /// Highest rate, reached when warm-up ends.
    pub lr: f64,
    /// Updates of warm-up.
    pub warmup: u64,
    /// Updates in all.
    pub total: u64,
}

impl Schedule {
    /// Returns the schedule of `total` updates; `warmup` below 1 is a share of them, rounded up, else a number of updates.
    pub fn new(shape: Shape, lr: f64, warmup: f64, total: u64) -> Schedule {
        let warmup = if warmup < 1.0 { (warmup * total as f64).ceil() as u64 } else { warmup as u64 };
        Schedule { shape, lr, warmup, total }
    }

    /// Returns the rate of update `step`, counted from 1.
    pub fn lr_at(&self, step: u64) -> f64 {
        let done = step.saturating_sub(1);
        if done < self.warmup {
            return self.lr * done as f64 / self.warmup as f64;
        }
        self.lr * self.shape_after(done)
    }

    /// Returns the share of the highest rate after `done` updates, warm-up behind.
    fn shape_after(&self, done: u64) -> f64 {
        let (after, left) = (self.total.saturating_sub(self.warmup).max(1), self.total.saturating_sub(done));
        match self.shape {
            Shape::Linear => left as f64 / after as f64,
            Shape::Cosine => 0.5 * (1.0 + (PI * (after - left.min(after)) as f64 / after as f64).cos()),
            Shape::Constant => 1.0,
            Shape::Wsd => (left as f64 / self.decay()).min(1.0),
        }
    }

    /// Returns how many updates the fall of [`Shape::Wsd`] takes: a tenth of all, which need not be whole, and no more than there
    /// are after warm-up.
    pub fn decay(&self) -> f64 {
        let after = self.total.saturating_sub(self.warmup) as f64;
        (self.total as f64 / 10.0).min(after).max(f64::MIN_POSITIVE)
    }

    /// Returns the share of the updates that are warm-up; above 1 when training ends inside it.
    pub fn warmup_share(&self) -> f64 {
        self.warmup as f64 / self.total.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_update_of_a_warm_up_has_rate_zero_and_the_last_is_not_yet_zero() {
        let schedule = Schedule::new(Shape::Linear, 1e-2, 5.0, 30);
        assert_eq!(schedule.lr_at(1), 0.0);
        assert_eq!(schedule.lr_at(6), 1e-2);
        assert!((schedule.lr_at(30) - 1e-2 / 25.0).abs() < 1e-12);
    }

    #[test]
    fn every_run_of_the_reference_learns_at_these_rates() {
        let Some(reference) = crate::text::fixture::reference() else { return };
        for (name, run) in reference["runs"].as_object().unwrap() {
            let number = |key: &str| run["config"][key].as_f64().unwrap();
            let schedule = Schedule::new(Shape::Linear, number("lr"), number("warmup"), number("steps") as u64);
            let steps = run["steps"].as_array().unwrap();
            assert_eq!(steps.len() as u64, schedule.total, "{name}");
            for step in steps {
                let (k, wanted) = (step["step"].as_u64().unwrap(), step["lr"].as_f64().unwrap());
                let off = (schedule.lr_at(k) - wanted).abs();
                assert!(off <= 1e-12 * wanted, "{name} step {k}: {} for {wanted}", schedule.lr_at(k));
            }
        }
    }

    #[test]
    fn a_share_of_warm_up_is_rounded_up() {
        assert_eq!(Schedule::new(Shape::Linear, 1.0, 0.05, 30).warmup, 2);
        assert_eq!(Schedule::new(Shape::Linear, 1.0, 0.0, 30).lr_at(1), 1.0);
    }

    #[test]
    fn wsd_falls_over_a_tenth_of_all_updates() {
        // transformers' get_wsd_schedule(num_warmup_steps=20, num_training_steps=40, num_decay_steps=4, decay_type="linear")
        let schedule = Schedule::new(Shape::Wsd, 1.0, 20.0, 40);
        let rates: Vec<f64> = (36..=40).map(|step| schedule.lr_at(step)).collect();
        assert_eq!(rates, [1.0, 1.0, 0.75, 0.5, 0.25]);
    }

    #[test]
    fn wsd_falls_only_at_the_end() {
        let schedule = Schedule::new(Shape::Wsd, 1.0, 0.0, 100);
        assert_eq!(schedule.lr_at(80), 1.0);
        assert!(schedule.lr_at(100) < 0.11);
    }
}
