//! Requests and tokens a minute: two token buckets that say when the next request may leave.

use std::time::{Duration, Instant};

/// Paces requests. Both limits are optional.
#[derive(Debug)]
pub struct Pace {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

impl Pace {
    /// Returns a pace that starts full at `now`. Requests are spread evenly (providers also count by the second); tokens
    /// may be used up at once.
    pub fn new(requests_per_minute: Option<u32>, tokens_per_minute: Option<u32>, now: Instant) -> Pace {
        Pace {
            requests: requests_per_minute.map(|n| Bucket::new(f64::from(n), 1.0, now)),
            tokens: tokens_per_minute.map(|n| Bucket::new(f64::from(n), f64::from(n), now)),
        }
    }

    /// Returns how long a request of `tokens` must still wait at `now`; zero takes it out of the buckets.
    pub fn take(&mut self, tokens: u64, now: Instant) -> Duration {
        let buckets = [(&mut self.requests, 1.0), (&mut self.tokens, tokens as f64)];
        let mut wait = Duration::ZERO;
        for (bucket, amount) in buckets.into_iter().filter_map(|(b, n)| Some((b.as_mut()?, n))) {
            wait = wait.max(bucket.wait(amount, now));
        }
        if wait.is_zero() {
            self.requests.iter_mut().for_each(|b| b.level -= 1.0);
            self.tokens.iter_mut().for_each(|b| b.level -= tokens as f64);
        }
        wait
    }

    /// Gives back tokens that a request did not use.
    pub fn give_back(&mut self, tokens: u64) {
        self.tokens.iter_mut().for_each(|b| b.level += tokens as f64);
    }
}

#[derive(Debug)]
struct Bucket {
    per_second: f64,
    capacity: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    fn new(per_minute: f64, capacity: f64, now: Instant) -> Bucket {
        Bucket { per_second: per_minute / 60.0, capacity, level: capacity, at: now }
    }

    /// Fills up to `now` and returns how long `amount` is still missing. More than fits waits for a full bucket.
    fn wait(&mut self, amount: f64, now: Instant) -> Duration {
        self.level = (self.level + now.duration_since(self.at).as_secs_f64() * self.per_second).min(self.capacity);
        self.at = now;
        let missing = amount.min(self.capacity) - self.level;
        // A rounding error of a nanosecond must not cost another turn.
        if missing <= 1e-6 { Duration::ZERO } else { Duration::from_secs_f64(missing / self.per_second) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_spread_and_tokens_come_back() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(60), Some(100), start);
        assert_eq!(pace.take(80, start), Duration::ZERO);
        let later = start + Duration::from_secs(1);
        let wait = pace.take(80, later).as_secs_f64();
        assert!((wait - 58.33 / (100.0 / 60.0)).abs() < 0.1, "{wait}");
        pace.give_back(70);
        assert_eq!(pace.take(80, later), Duration::ZERO);
        assert!((pace.take(1, later).as_secs_f64() - 1.0).abs() < 0.01);
    }

    #[test]
    fn request_larger_than_a_minute_still_leaves() {
        let start = Instant::now();
        assert_eq!(Pace::new(None, Some(10), start).take(1_000, start), Duration::ZERO);
    }
}
