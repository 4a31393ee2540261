//! How long a stage rests after a passing fault before it is tried again.
//!
//! The rest doubles with each failure up to a cap (Brooker, "Exponential backoff and jitter", 2015). Its second half is drawn
//! from the action key, so that a sweep's cases which a server turned away together do not come back together, and the same
//! run rests as long each time.

use std::time::Duration;

use watershed_cache::Digest;

use crate::key::seed_of;

/// First and longest rest.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// After the first failure, at most; at least half of it.
    pub base: Duration,
    /// After any failure, at most.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// Returns the rest of an action that has failed so often, at least once.
    pub fn rest(&self, key: &Digest, failures: u32) -> Duration {
        let doubled = 2_u32.checked_pow(failures.saturating_sub(1)).and_then(|factor| self.base.checked_mul(factor));
        let half = doubled.unwrap_or(self.cap).min(self.cap) / 2;
        half + half.mul_f64(share(seed_of(key).wrapping_add(failures.into())))
    }
}

/// Mixes a number into one from 0 to 1 (the finaliser of SplitMix64, Steele et al. 2014).
fn share(seed: u64) -> f64 {
    let z = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_double_up_to_a_cap_and_differ_between_actions() {
        let backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(60) };
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        for (failures, most) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (40, 60), (u32::MAX, 60)] {
            let (rest, most) = (backoff.rest(&one, failures), Duration::from_secs(most));
            assert!(most / 2 <= rest && rest <= most, "{failures}: {rest:?}");
            assert_eq!(rest, backoff.rest(&one, failures));
            assert_ne!(rest, backoff.rest(&two, failures));
        }
    }
}
