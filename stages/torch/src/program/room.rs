//! How many rows go through the model at once, and what gives way when memory does not suffice.
//!
//! First blocks are computed twice instead of kept, which changes no bit; then micro-batches are halved. On a processor the
//! first is foreseen, because a program that asks for more than there is may be ended instead of refused.
//! Which rows form an update is decided elsewhere and stays: a smaller micro-batch is the same update in more parts, equal
//! but for rounding and for what dropout lets through, which is drawn for each part. Under `loss_norm: micro_mean` the parts
//! belong to the result, so there nothing is halved.

use serde_json::{Value, json};
use watershed_engine::{Job, StageError};
use watershed_stages::lora_train::memory::{Need, ON_GPU, ON_PROCESSOR, tokens_at_once};
use watershed_stages::lora_train::{Checkpointing, LoraTrain, LoraTrainRun, MicroBatch};
use watershed_stages::text::batch::{self, LossNorm};
use watershed_torch::Error;

use super::failed;

/// What fits at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Room {
    choice: MicroBatch,
    /// Tokens, before any halving.
    budget: usize,
    /// Tokens of the shortest row: when two of it are too many, no row has company any more.
    shortest: usize,
    is_fixed: bool,
    may_recompute: bool,
    /// Whether nothing is learned in it.
    is_reading: bool,
    /// Whether blocks are computed again in the backward pass.
    pub recompute: bool,
    /// How often memory did not suffice.
    pub halvings: u32,
}

impl Room {
    /// Returns what `run.micro_batch` and the device say; `lengths` are the rows' tokens.
    pub fn new(params: &LoraTrain, run: &LoraTrainRun, job: &Job, lengths: &[usize]) -> Room {
        Room {
            choice: run.micro_batch,
            budget: if job.spec().limits.device == "cuda" { ON_GPU } else { ON_PROCESSOR },
            shortest: lengths.iter().copied().min().unwrap_or(1).max(1),
            is_fixed: params.loss_norm == LossNorm::MicroMean,
            may_recompute: run.checkpointing == Checkpointing::Auto,
            is_reading: false,
            recompute: run.checkpointing == Checkpointing::On,
            halvings: 0,
        }
    }

    /// Returns the room of a pass that learns nothing: it keeps no block, and its parts are nobody's choice.
    pub fn reading(&self) -> Room {
        let choice = MicroBatch::default();
        Room { choice, is_fixed: false, may_recompute: false, is_reading: true, recompute: false, halvings: 0, ..*self }
    }

    /// Has blocks computed again where keeping them takes more than the `left` bytes of memory; returns what to tell the user.
    pub fn foresee(&mut self, need: Need, left: u64) -> Option<String> {
        let is_tight = self.may_recompute && need.kept > left;
        self.recompute |= is_tight;
        is_tight.then(|| {
            let mend = if need.recomputed > left { format!("; should that not suffice, {}", self.mend()) } else { String::new() };
            let [kept, recomputed, left] = [need.kept, need.recomputed, left].map(gibibytes);
            format!("a micro-batch would take about {kept} of memory and {left} are left: goes on with `run.checkpointing: on`, a third slower, for {recomputed}{mend}")
        })
    }

    /// Says what makes a micro-batch smaller.
    fn mend(&self) -> &'static str {
        match self.choice {
            _ if self.is_fixed => "set `micro_batch_size` or `max_len` lower",
            MicroBatch::Rows(1) => "set `max_len` lower or adapt fewer `lora.targets`",
            _ => "set `run.micro_batch: 1` or `max_len` lower",
        }
    }

    /// Returns the tokens that go through the model at once, at most.
    pub fn tokens(&self, params: &LoraTrain, lengths: &[usize]) -> usize {
        tokens_at_once(params, self.choice, self.budget(), lengths)
    }

    /// Returns the tokens that go through the model at once under `auto`.
    pub fn budget(&self) -> usize {
        (self.budget >> self.halvings.min(63)).max(1)
    }

    /// Cuts rows, in their order, into micro-batches.
    pub fn cut(&self, rows: &[usize], lengths: &[usize]) -> Vec<Vec<usize>> {
        match self.choice {
            MicroBatch::Auto(_) => batch::by_token_budget(rows, lengths, self.budget()),
            MicroBatch::Rows(count) => rows.chunks(self.rows(count)).map(<[usize]>::to_vec).collect(),
        }
    }

    /// Returns the size of a micro-batch for the provenance of the result.
    pub fn shown(&self) -> Value {
        match self.choice {
            MicroBatch::Auto(_) => json!(format!("{} tokens", self.budget())),
            MicroBatch::Rows(count) => json!(self.rows(count)),
        }
    }

    /// Makes `attempt` until memory suffices: computing blocks again, then with micro-batches half as large each time; tells
    /// `tell` of each.
    ///
    /// # Errors
    /// Those of `attempt`; and when micro-batches must not or cannot be smaller.
    pub fn fit<T>(
        &mut self,
        mut attempt: impl FnMut(&Room) -> Result<T, Error>,
        tell: impl Fn(String),
    ) -> Result<T, StageError> {
        loop {
            match attempt(self) {
                Err(Error::OutOfMemory(why)) => self.give_way(&why).map(&tell)?,
                done => return done.map_err(failed),
            }
        }
    }

    fn give_way(&mut self, why: &str) -> Result<String, StageError> {
        if self.may_recompute && !self.recompute {
            self.recompute = true;
            return Ok(format!("out of memory: {why}; goes on with `run.checkpointing: on`, a third slower"));
        }
        self.halve(why)
    }

    fn halve(&mut self, why: &str) -> Result<String, StageError> {
        if self.is_fixed {
            return Err(StageError::failed(format!(
                "out of memory: {why}; under `loss_norm: micro_mean` micro-batches are never halved: set `micro_batch_size` lower"
            )));
        }
        let before = self.shown();
        let has_company = match self.choice {
            MicroBatch::Auto(_) => self.budget() >= 2 * self.shortest,
            MicroBatch::Rows(count) => self.rows(count) > 1,
        };
        if !has_company {
            let fewer = if self.is_reading { "" } else { ", or adapt fewer `lora.targets`" };
            return Err(StageError::failed(format!(
                "out of memory with one row at once: {why}; lower `max_len`, or set `dtype: bf16`{fewer}"
            )));
        }
        self.halvings += 1;
        let (parts, same) = match self.is_reading {
            true => ("batches of an evaluation", ""),
            false => ("micro-batches", ", in updates of the same rows"),
        };
        Ok(format!("out of memory with {parts} of {before}: {why}; goes on with {}{same}", self.shown()))
    }

    fn rows(&self, count: u32) -> usize {
        (count as usize >> self.halvings.min(63)).max(1)
    }
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1_u64 << 30) as f64)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn room(choice: MicroBatch) -> Room {
        Room {
            choice,
            budget: 64,
            shortest: 10,
            is_fixed: false,
            may_recompute: false,
            is_reading: false,
            recompute: false,
            halvings: 0,
        }
    }

    /// Says that more than `most` rows at once are too many.
    fn with_room_for(most: usize) -> impl Fn(&Room) -> Result<Vec<usize>, Error> {
        move |room| {
            let sizes: Vec<usize> = room.cut(&[0, 1, 2, 3, 4, 5], &[10; 6]).iter().map(Vec::len).collect();
            if sizes.iter().any(|size| *size > most) {
                Err(Error::OutOfMemory("asked for 9 bytes".into()))
            } else {
                Ok(sizes)
            }
        }
    }

    #[test]
    fn micro_batches_are_halved_until_they_fit_and_it_is_told() {
        for (choice, shown) in [(MicroBatch::default(), "16 tokens"), (MicroBatch::Rows(4), "1")] {
            let (mut room, told) = (room(choice), RefCell::new(Vec::new()));
            let sizes = room.fit(with_room_for(1), |text| told.borrow_mut().push(text)).unwrap();
            assert_eq!((sizes, room.halvings), (vec![1; 6], 2));
            assert_eq!(room.shown().to_string().trim_matches('"'), shown);
            assert!(told.borrow()[1].contains(shown) && told.borrow()[1].contains("asked for 9 bytes"), "{told:?}");
        }
    }

    #[test]
    fn one_row_that_does_not_fit_ends_the_training() {
        for choice in [MicroBatch::default(), MicroBatch::Rows(4)] {
            let error = room(choice).fit(with_room_for(0), |_| {}).unwrap_err().to_string();
            assert!(error.contains("one row at once") && error.contains("`max_len`"), "{error}");
        }
    }

    #[test]
    fn blocks_are_computed_again_before_anything_is_halved() {
        for is_fixed in [false, true] {
            let mut room = Room { may_recompute: true, is_fixed, ..room(MicroBatch::Rows(4)) };
            let fits =
                |room: &Room| if room.recompute { Ok(()) } else { Err(Error::OutOfMemory("asked for 9 bytes".into())) };
            let told = RefCell::new(String::new());
            room.fit(fits, |text| *told.borrow_mut() = text).unwrap();
            assert!(room.halvings == 0 && told.borrow().contains("`run.checkpointing: on`"), "{told:?}");
        }
    }

    #[test]
    fn blocks_that_memory_cannot_keep_are_computed_again_from_the_start() {
        let need = Need { fixed: 9, kept: 5 << 30, recomputed: 1 << 30 };
        let mut room = Room { may_recompute: true, ..room(MicroBatch::default()) };
        assert_eq!((room.foresee(need, 5 << 30), room.recompute), (None, false));
        let told = room.foresee(need, 4 << 30).unwrap();
        assert!(room.recompute && told.contains("about 5.0 GiB of memory and 4.0 GiB are left"), "{told}");
        assert!(told.ends_with("for 1.0 GiB"), "{told}");
        let mut refused = self::room(MicroBatch::default());
        assert_eq!((refused.foresee(need, 0), refused.recompute), (None, false));
    }

    #[test]
    fn what_to_lower_is_told_where_even_that_may_not_suffice() {
        let need = Need { fixed: 9, kept: 5 << 30, recomputed: 2 << 30 };
        for (choice, is_fixed, mend) in [
            (MicroBatch::default(), false, "`run.micro_batch: 1` or `max_len` lower"),
            (MicroBatch::Rows(1), false, "`max_len` lower or adapt fewer `lora.targets`"),
            (MicroBatch::Rows(1), true, "`micro_batch_size` or `max_len` lower"),
        ] {
            let told = Room { may_recompute: true, is_fixed, ..room(choice) }.foresee(need, 1 << 30).unwrap();
            assert!(told.ends_with(&format!("for 2.0 GiB; should that not suffice, set {mend}")), "{told}");
        }
    }

    #[test]
    fn micro_mean_is_never_halved() {
        let mut room = Room { is_fixed: true, ..room(MicroBatch::Rows(4)) };
        let error = room.fit(with_room_for(2), |_| {}).unwrap_err().to_string();
        assert!(room.halvings == 0 && error.contains("`micro_batch_size`"), "{error}");
    }
}
