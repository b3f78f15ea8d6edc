//! Chance that is the same in every run: a seed for each row, and a small generator over it.

/// The finaliser of SplitMix64: each bit of the input changes each bit of the output with a chance of a half.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The seed of a row: `mix(segment ^ mix(number + 0x9e3779b97f4a7c15))`, where `mix` is SplitMix64's finaliser. Part of the
/// SDK's contract: it never changes within a version of the WIT, since tables depend on it.
#[must_use]
pub fn row_seed(segment: u64, number: u64) -> u64 {
    mix(segment ^ mix(number.wrapping_add(STEP)))
}

/// SplitMix64, from a row's seed. For samples and jitter, not for secrets.
///
/// ```
/// use forebay_sdk::random::{Random, row_seed};
/// let mut random = Random::new(row_seed(7, 1_000));
/// assert!(random.next_f64() < 1.0);
/// assert_eq!(Random::new(42).next_u64(), Random::new(42).next_u64());
/// ```
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator that always gives the same numbers for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// The next number in `0.0 .. 1.0`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of SplitMix64 for the seed 1234567, as its author publishes them.
    #[test]
    fn the_generator_is_splitmix64() {
        let mut random = Random::new(1_234_567);
        assert_eq!(random.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(random.next_u64(), 3_203_168_211_198_807_973);
    }

    /// Tables depend on it.
    #[test]
    fn a_rows_seed_never_changes() {
        assert_eq!(row_seed(0, 0), mix(mix(STEP)));
        assert_ne!(row_seed(1, 0), row_seed(0, 1));
    }
}
