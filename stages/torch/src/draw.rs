//! Random numbers that are a function of what they are for.
//!
//! libtorch's generators differ between devices and releases. Whatever must stay the same for years, the start of an
//! adapter and the draws of a sampled answer, comes from here: SplitMix64 (Steele et al. 2014) from a hashed name.

/// A stream of random numbers.
pub(crate) struct Draws(u64);

impl Draws {
    /// Returns the stream of this seed and name; parts are length-prefixed, so that `ab, c` is not `a, bc`.
    pub(crate) fn named(seed: u64, parts: &[&[u8]]) -> Draws {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes());
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        let first = hasher.finalize().as_bytes()[..8].try_into().expect("a hash has 32 bytes");
        Draws(u64::from_le_bytes(first))
    }

    /// Returns the next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number in [0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Returns a standard normal number (Box and Muller 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_depend_on_seed_and_every_part() {
        let first = |seed, parts: &[&[u8]]| Draws::named(seed, parts).bits();
        assert_eq!(first(1, &[b"ab", b"c"]), first(1, &[b"ab", b"c"]));
        assert_ne!(first(1, &[b"ab", b"c"]), first(2, &[b"ab", b"c"]));
        assert_ne!(first(1, &[b"ab", b"c"]), first(1, &[b"a", b"bc"]));
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut draws = Draws::named(7, &[]);
        let n = 100_000;
        let uniform: f64 = (0..n).map(|_| draws.uniform()).sum::<f64>() / f64::from(n);
        let square: f64 = (0..n).map(|_| draws.normal().powi(2)).sum::<f64>() / f64::from(n);
        // Five standard errors: 0.29/sqrt(n) and 1.41/sqrt(n).
        assert!((uniform - 0.5).abs() < 0.005 && (square - 1.0).abs() < 0.023, "{uniform} {square}");
    }
}
