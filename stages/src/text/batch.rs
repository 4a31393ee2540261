//! Which rows form which update.
//!
//! An update is a list of micro-batches. Under `loss_norm: micro_mean` the micro-batches belong to the result (their token
//! means are averaged) and stay in drawn order; under `token` they only decide what fits into memory, so rows are sorted by
//! length and cut by a token budget that no result depends on but for rounding and the masks of dropout.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::order::{Order, rows_of_epoch};

/// What becomes of the last, incomplete group of an epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tail {
    /// It is an update of its own, averaged over its own count.
    #[default]
    Step,
    /// Its gradient joins the next epoch's first update; the last one is dropped (transformers' Trainer of 2023).
    Carry,
}

/// How an update's loss is averaged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossNorm {
    /// Over all label tokens of the update (transformers since October 2024).
    #[default]
    Token,
    /// Mean over micro-batches of their token means (alpaca-lora's day).
    MicroMean,
}

/// What decides the updates of a training.
#[derive(Debug, Clone, Copy)]
pub struct BatchPlan {
    /// Rows per update.
    pub batch_size: usize,
    /// Rows per micro-batch when the result depends on it; else 1.
    pub micro_size: usize,
    /// Passes over the rows; fractional passes are not possible.
    pub epochs: u64,
    /// Ends or prolongs the training at this number of updates.
    pub max_steps: Option<u64>,
    /// Last incomplete group.
    pub tail: Tail,
    /// Order of rows.
    pub order: Order,
    /// Seed of the order.
    pub seed: u64,
}

/// One update: micro-batches of row numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Epoch it belongs to, from 0.
    pub epoch: u64,
    /// Whether it is the last of its epoch.
    pub ends_epoch: bool,
    /// Row numbers in drawn order, in groups of `micro_size`.
    pub micro: Vec<Vec<usize>>,
    /// Micro-batches that a full update has: what `micro_mean` divides by. Fewer are there in a tail that steps, in which
    /// case this is their number; more where a carried tail joined.
    pub divisor: usize,
}

impl Update {
    /// Returns all rows in drawn order.
    pub fn rows(&self) -> impl Iterator<Item = usize> + '_ {
        self.micro.iter().flatten().copied()
    }
}

impl BatchPlan {
    fn accumulation(&self) -> usize {
        (self.batch_size / self.micro_size.max(1)).max(1)
    }

    /// Returns the updates of one epoch over `rows` rows.
    pub fn updates_per_epoch(&self, rows: usize) -> usize {
        let micro = rows.div_ceil(self.micro_size.max(1));
        match self.tail {
            Tail::Step => micro.div_ceil(self.accumulation()),
            Tail::Carry => micro / self.accumulation(),
        }
    }

    /// Returns the updates of the whole training over `rows` rows, without building them.
    pub fn updates(&self, rows: usize) -> u64 {
        let per_epoch = self.updates_per_epoch(rows) as u64;
        match self.max_steps {
            _ if per_epoch == 0 => 0,
            Some(steps) => steps,
            None => per_epoch * self.epochs,
        }
    }

    /// Builds every update. `lengths` holds each row's tokens.
    pub fn build(&self, lengths: &[usize]) -> Vec<Update> {
        let total = self.updates(lengths.len()) as usize;
        let mut updates: Vec<Update> = Vec::with_capacity(total);
        let mut carried: Vec<Vec<usize>> = Vec::new();
        for epoch in 0.. {
            if updates.len() >= total {
                break;
            }
            updates.extend(self.epoch(epoch, lengths, &mut carried));
        }
        updates.truncate(total);
        updates
    }

    fn epoch(&self, epoch: u64, lengths: &[usize], carried: &mut Vec<Vec<usize>>) -> Vec<Update> {
        let rows = rows_of_epoch(self.order, self.seed, epoch, lengths, self.batch_size);
        let micro: Vec<Vec<usize>> = rows.chunks(self.micro_size.max(1)).map(<[usize]>::to_vec).collect();
        let count = self.updates_per_epoch(lengths.len());
        let mut groups: Vec<Vec<Vec<usize>>> = micro.chunks(self.accumulation()).map(<[_]>::to_vec).collect();
        let tail = groups.split_off(count);
        if let Some(first) = groups.first_mut() {
            first.splice(0..0, std::mem::take(carried));
        }
        carried.extend(tail.into_iter().flatten());
        let step_alone = |micro: &Vec<Vec<usize>>| micro.len().min(self.accumulation());
        let last = groups.len().saturating_sub(1);
        let update = |(i, micro): (usize, Vec<Vec<usize>>)| Update {
            epoch,
            ends_epoch: i == last,
            divisor: step_alone(&micro),
            micro,
        };
        groups.into_iter().enumerate().map(update).collect()
    }
}

/// Cuts rows, in their order, into micro-batches of at most `budget` padded tokens; one row always fits.
pub fn by_token_budget(rows: &[usize], lengths: &[usize], budget: usize) -> Vec<Vec<usize>> {
    let mut micro: Vec<Vec<usize>> = Vec::new();
    let mut width = 0;
    for &row in rows {
        width = width.max(lengths[row]);
        match micro.last_mut() {
            Some(last) if (last.len() + 1) * width <= budget => last.push(row),
            _ => {
                micro.push(vec![row]);
                width = lengths[row];
            }
        }
    }
    micro
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(batch_size: usize, epochs: u64, tail: Tail) -> BatchPlan {
        BatchPlan { batch_size, micro_size: 4, epochs, max_steps: None, tail, order: Order::Shuffled, seed: 42 }
    }

    /// Rows, batch and epochs of the paper's Table 1, with the updates of both tails.
    const TABLE_1: [(usize, usize, u64, u64, u64); 5] = [
        (170, 16, 16, 176, 160),
        (170, 8, 12, 264, 252),
        (2140, 64, 5, 170, 165),
        (160, 32, 5, 25, 25),
        (168, 32, 10, 60, 50),
    ];

    #[test]
    fn table_1_has_these_updates() {
        for (rows, batch, epochs, step, carry) in TABLE_1 {
            assert_eq!(plan(batch, epochs, Tail::Step).updates(rows), step);
            assert_eq!(plan(batch, epochs, Tail::Carry).updates(rows), carry);
        }
    }

    #[test]
    fn built_updates_are_as_many_as_counted() {
        for (rows, batch, epochs, step, carry) in TABLE_1 {
            let lengths = vec![10; rows];
            assert_eq!(plan(batch, epochs, Tail::Step).build(&lengths).len() as u64, step);
            assert_eq!(plan(batch, epochs, Tail::Carry).build(&lengths).len() as u64, carry);
        }
    }

    #[test]
    fn carried_rows_join_the_next_epoch() {
        let updates = plan(16, 2, Tail::Carry).build(&[10; 170]);
        // 43 micro-batches an epoch, 3 left over
        assert_eq!(updates[9].micro.len(), 4);
        assert_eq!(updates[10].micro.len(), 7);
        assert_eq!(updates[10].divisor, 4);
        assert!(updates[9].ends_epoch && !updates[10].ends_epoch);
    }

    #[test]
    fn stepping_tail_is_averaged_over_its_own_count() {
        let updates = plan(16, 1, Tail::Step).build(&[10; 170]);
        assert_eq!(updates.len(), 11);
        assert_eq!((updates[10].micro.len(), updates[10].divisor), (3, 3));
        assert_eq!(updates.iter().flat_map(Update::rows).count(), 170);
    }

    #[test]
    fn max_steps_cuts_and_prolongs() {
        let mut short = plan(16, 1, Tail::Step);
        short.max_steps = Some(3);
        assert_eq!(short.build(&[10; 170]).len(), 3);
        short.max_steps = Some(30);
        assert_eq!(short.build(&[10; 170])[29].epoch, 2);
    }

    #[test]
    fn fewer_rows_than_a_batch_give_no_update_under_carry() {
        assert_eq!(plan(16, 3, Tail::Carry).updates(8), 0);
        assert!(plan(16, 3, Tail::Carry).build(&[10; 8]).is_empty());
    }

    #[test]
    fn token_budget_counts_padding() {
        let lengths = [10, 40, 12, 38, 100];
        assert_eq!(by_token_budget(&[0, 2, 3, 1, 4], &lengths, 80), [vec![0, 2], vec![3, 1], vec![4]]);
        assert_eq!(by_token_budget(&[4, 0, 2, 3, 1], &lengths, 80), [vec![4], vec![0, 2], vec![3, 1]]);
    }
}
