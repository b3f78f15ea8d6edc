//! Substring search within short texts: a user agent, an id, a merchant's name. A general searcher decides for each text anew
//! how to go about it, through calls that a sandbox cannot inline; for short texts that costs more than the search. Here
//! 16 places are looked at together: where the needle's first and its last byte both fit, the needle is compared.
//!
//! In the worst case each place is compared, so texts are short by [`LONGEST`], and longer ones are the general searcher's,
//! whose time grows with the text alone.

/// The longest text, in bytes, that is searched here.
pub(super) const LONGEST: usize = 256;

/// How many places are looked at together.
const BLOCK: usize = 16;

/// Where `needle`, which is not empty, first begins in `text`.
#[inline]
pub(super) fn find(needle: &[u8], text: &[u8]) -> Option<usize> {
    let (&first, &last) = (needle.first()?, needle.last()?);
    // How many places there are where it could begin.
    let places = (text.len() + 1).checked_sub(needle.len())?;
    let fits = |place: usize| text.get(place..place + needle.len()).is_some_and(|part| same(part, needle));
    let (firsts, lasts) = (&text[..places], &text[needle.len() - 1..]);
    let block = |start: usize| {
        let (firsts, lasts) = (firsts[start..].first_chunk()?, lasts[start..].first_chunk()?);
        let mut hits = hits(firsts, lasts, first, last);
        while hits != 0 {
            let place = start + hits.trailing_zeros() as usize;
            if fits(place) {
                return Some(place);
            }
            hits &= hits - 1;
        }
        None
    };
    let mut covered = 0;
    while covered + BLOCK <= places {
        if let Some(place) = block(covered) {
            return Some(place);
        }
        covered += BLOCK;
    }
    match places.checked_sub(BLOCK) {
        // The last places once more with some that were looked at before: one block instead of up to fifteen steps.
        Some(start) if covered < places => block(start),
        Some(_) => None,
        None => (0..places).find(|&place| firsts[place] == first && lasts[place] == last && fits(place)),
    }
}

/// A bit for each place where both bytes fit.
#[cfg(target_arch = "wasm32")]
#[inline]
fn hits(firsts: &[u8; BLOCK], lasts: &[u8; BLOCK], first: u8, last: u8) -> u16 {
    use std::arch::wasm32::{u8x16_bitmask, u8x16_eq, u8x16_splat, v128, v128_and, v128_any_true};
    let [firsts, lasts]: [v128; 2] = [bytemuck::cast(*firsts), bytemuck::cast(*lasts)];
    let hits = v128_and(u8x16_eq(firsts, u8x16_splat(first)), u8x16_eq(lasts, u8x16_splat(last)));
    // Mostly there is none, which is cheaper to ask than which.
    if v128_any_true(hits) { u8x16_bitmask(hits) } else { 0 }
}

/// A bit for each place where both bytes fit: with it native tests go through all but the instructions.
#[cfg(not(target_arch = "wasm32"))]
fn hits(firsts: &[u8; BLOCK], lasts: &[u8; BLOCK], first: u8, last: u8) -> u16 {
    let places = firsts.iter().zip(lasts).enumerate();
    places.fold(0, |hits, (place, (a, b))| hits | u16::from(*a == first && *b == last) << place)
}

/// Byte by byte, since a call to compare a handful of bytes costs more than to compare them.
#[inline]
fn same(left: &[u8], right: &[u8]) -> bool {
    left.iter().zip(right).all(|(left, right)| left == right)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{LONGEST, find};

    proptest! {
        /// Few letters, so that much fits and nearly fits.
        #[test]
        fn it_finds_what_the_standard_library_finds(needle in "[ab]{1,20}", text in "[ab]{0,80}") {
            prop_assert_eq!(find(needle.as_bytes(), text.as_bytes()), text.find(&needle));
        }

        #[test]
        fn wherever_it_lies(before in 0..LONGEST, after in 0..40_usize, needle in "[a-z]{1,30}") {
            let text = format!("{}{needle}{}", ".".repeat(before), ".".repeat(after));
            prop_assert_eq!(find(needle.as_bytes(), text.as_bytes()), Some(before));
        }
    }
}
