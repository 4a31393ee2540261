//! The highest rate of a schedule and the sum of all its rates, without walking through the updates: a preview is made for
//! each case of a sweep, and `max_steps` may be a million.

use crate::text::schedule::{Schedule, Shape};

/// Returns the highest rate that any update uses; 0 without updates.
pub fn max_lr(schedule: &Schedule) -> f64 {
    match schedule.total {
        0 => 0.0,
        // rates rise up to the first update after warm-up and never again
        total => schedule.lr_at(total.min(schedule.warmup.saturating_add(1))),
    }
}

/// Returns the sum of all updates' rates: how far the training can move at most.
pub fn sum_lr(schedule: &Schedule) -> f64 {
    let warm = schedule.warmup.min(schedule.total);
    let after = schedule.total - warm;
    let rising = warm as f64 * warm.saturating_sub(1) as f64 / 2.0 / schedule.warmup.max(1) as f64;
    schedule.lr * (rising + falling(schedule, after as f64))
}

/// Returns the sum of a schedule's shape over the `count` updates after warm-up, from its height of 1 on.
fn falling(schedule: &Schedule, count: f64) -> f64 {
    if count < 1.0 {
        return 0.0;
    }
    match schedule.shape {
        // both are symmetric about one half, and the last update is not yet at 0
        Shape::Linear | Shape::Cosine => (count + 1.0) / 2.0,
        Shape::Constant => count,
        Shape::Wsd => {
            let decay = schedule.decay();
            let below = decay.floor();
            count - below + below * (below + 1.0) / 2.0 / decay
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPES: [Shape; 4] = [Shape::Linear, Shape::Cosine, Shape::Constant, Shape::Wsd];

    #[test]
    fn closed_forms_are_what_walking_gives() {
        for shape in SHAPES {
            for warmup in [0.0, 0.05, 0.3, 1.0, 7.0, 100.0] {
                for total in [0, 1, 2, 3, 8, 10, 25, 99, 100, 101, 640] {
                    let schedule = Schedule::new(shape, 3e-4, warmup, total);
                    let rates = (1..=total).map(|step| schedule.lr_at(step));
                    let (most, sum) = (rates.clone().fold(0.0, f64::max), rates.sum::<f64>());
                    let close = |found: f64, wanted: f64| (found - wanted).abs() <= 1e-12 * wanted.max(3e-4);
                    let found = (max_lr(&schedule), sum_lr(&schedule));
                    assert!(close(found.0, most) && close(found.1, sum), "{schedule:?}: {found:?} for {most}, {sum}");
                }
            }
        }
    }

    #[test]
    fn papers_configurations_reach_these_rates() {
        // updates under `tail: carry`, learning rate, highest rate, sum (Table 1 with alpaca-lora's 100 updates of warm-up)
        let close = |a: f64, b: f64| (a - b).abs() <= 5e-3 * b;
        let table = [
            (160, 3.0e-4, 3.0e-4, 0.0240),
            (252, 1.0e-4, 1.0e-4, 0.0126),
            (165, 3.0e-4, 3.0e-4, 0.0248),
            (25, 3.0e-4, 7.2e-5, 0.0009),
            (50, 2.0e-4, 9.8e-5, 0.00245),
        ];
        for (updates, lr, max, sum) in table {
            let schedule = Schedule::new(Shape::Linear, lr, 100.0, updates);
            assert!(close(max_lr(&schedule), max), "{updates}: {}", max_lr(&schedule));
            assert!(close(sum_lr(&schedule), sum), "{updates}: {}", sum_lr(&schedule));
        }
    }

    #[test]
    fn as_many_updates_as_can_be_written_take_no_time() {
        let schedule = Schedule::new(Shape::Cosine, 1.0, 0.0, u64::from(u32::MAX));
        assert_eq!(sum_lr(&schedule), 2_147_483_648.0);
    }
}
