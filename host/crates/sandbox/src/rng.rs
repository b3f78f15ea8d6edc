//! Chance that is none: numbers from a seed, so that the same segment always draws the same.

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators). Not for secrets: a rule has none.
#[derive(Debug, Clone)]
pub(crate) struct SplitMix(u64);

impl SplitMix {
    /// The numbers of a call: of its segment's seed and its first row, so that what a call draws does not depend on the
    /// calls before it in the instance.
    pub(crate) fn of_call(seed: u64, first_row: u64) -> Self {
        let mut rows = Self(first_row);
        Self(seed ^ rows.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_published_numbers_and_differs_by_seed_and_row() {
        // The reference implementation's first numbers for the seed 1234567.
        let mut random = SplitMix(1_234_567);
        assert_eq!([random.next(), random.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
        let first = |seed, row| SplitMix::of_call(seed, row).next();
        assert_eq!(first(1, 2), first(1, 2));
        assert_ne!(first(1, 2), first(1, 3));
        assert_ne!(first(1, 2), first(2, 2));
        assert_eq!(SplitMix(5).bytes(13).len(), 13);
    }
}
