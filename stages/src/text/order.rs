//! Order of the rows in an epoch: a pure function of seed, epoch and rows, on our own generator.
//!
//! No library's shuffle is involved, so no upgrade moves a row, and a training that resumes in the middle of an epoch draws
//! the same order again without any stored state.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::seeded::SplitMix;

/// How an epoch orders its rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Drawn anew each epoch; lengths play no part in which rows form an update.
    #[default]
    Shuffled,
    /// Rows of like length together: less padding, but updates are no longer fair draws.
    Bucketed,
    /// As they stand in the file.
    Given,
}

/// Updates' worth of rows that `bucketed` sorts together; 50 as in transformers' `LengthGroupedSampler`.
const BUCKET_UPDATES: usize = 50;

/// Returns the row numbers of `epoch`, counted from 0. `lengths` holds each row's tokens; `batch` is the rows of an update.
pub fn rows_of_epoch(order: Order, seed: u64, epoch: u64, lengths: &[usize], batch: usize) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..lengths.len()).collect();
    if order == Order::Given {
        return rows;
    }
    let mut random = SplitMix::new(seed, &format!("order/epoch-{epoch}"));
    random.shuffle(&mut rows);
    if order == Order::Bucketed {
        return bucket(rows, lengths, batch.max(1), &mut random);
    }
    rows
}

fn bucket(mut rows: Vec<usize>, lengths: &[usize], batch: usize, random: &mut SplitMix) -> Vec<usize> {
    for part in rows.chunks_mut(batch * BUCKET_UPDATES) {
        part.sort_by_key(|&row| (std::cmp::Reverse(lengths[row]), row));
    }
    let (full, rest) = rows.split_at(rows.len() / batch * batch);
    let mut batches: Vec<&[usize]> = full.chunks(batch).collect();
    random.shuffle(&mut batches);
    batches.into_iter().chain([rest]).flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_holds_each_row_once() {
        let lengths: Vec<usize> = (0..103).map(|i| i * 37 % 50).collect();
        for order in [Order::Shuffled, Order::Bucketed, Order::Given] {
            let mut rows = rows_of_epoch(order, 42, 3, &lengths, 8);
            rows.sort_unstable();
            assert_eq!(rows, (0..103).collect::<Vec<_>>());
        }
    }

    #[test]
    fn epochs_differ_and_repeat() {
        let lengths = [1; 40];
        let first = rows_of_epoch(Order::Shuffled, 42, 0, &lengths, 8);
        assert_eq!(first, rows_of_epoch(Order::Shuffled, 42, 0, &lengths, 8));
        assert_ne!(first, rows_of_epoch(Order::Shuffled, 42, 1, &lengths, 8));
        assert_ne!(first, rows_of_epoch(Order::Shuffled, 43, 0, &lengths, 8));
    }

    #[test]
    fn shuffled_order_is_pinned() {
        assert_eq!(rows_of_epoch(Order::Shuffled, 42, 0, &[1; 8], 4), [0, 7, 4, 3, 2, 6, 5, 1]);
    }

    #[test]
    fn bucketed_updates_hold_rows_of_like_length() {
        let lengths: Vec<usize> = (0..64).collect();
        for update in rows_of_epoch(Order::Bucketed, 1, 0, &lengths, 8).chunks(8) {
            let (low, high) = (update.iter().min().unwrap(), update.iter().max().unwrap());
            assert_eq!(high - low, 7);
        }
    }
}
