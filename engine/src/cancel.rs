//! A flag that says "stop", shared by all who should, with a time at which it rises by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A flag that the walk raises when the job shall stop.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    flag: Arc<AtomicBool>,
    deadline: Option<Instant>,
}

impl Cancel {
    /// Returns the same flag as one job sees it: for that job it also rises when `limit` has passed, if there is one.
    pub fn within(&self, limit: Option<Duration>) -> Cancel {
        // A limit beyond what a clock can say is none.
        Cancel { flag: self.flag.clone(), deadline: limit.and_then(|limit| Instant::now().checked_add(limit)) }
    }

    /// Raises the flag. Touches one atomic only, so that a signal handler may call it.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::SeqCst);
    }

    /// Says whether the flag is up.
    pub fn is_cancelled(&self) -> bool {
        self.is_raised() || self.is_past()
    }

    /// Says whether the flag is up because time is, and for no other reason.
    pub fn is_late(&self) -> bool {
        !self.is_raised() && self.is_past()
    }

    fn is_raised(&self) -> bool {
        self.flag.load(Ordering::SeqCst)
    }

    fn is_past(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_ends_one_job_and_a_signal_ends_all() {
        let run = Cancel::default();
        let (late, early) = (run.within(Some(Duration::ZERO)), run.within(Some(Duration::MAX)));
        assert!(late.is_cancelled() && late.is_late());
        assert!(!early.is_cancelled() && !run.is_cancelled());
        run.cancel();
        assert!(early.is_cancelled() && !early.is_late() && !late.is_late());
    }
}
