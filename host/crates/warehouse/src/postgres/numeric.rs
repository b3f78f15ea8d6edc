//! PostgreSQL's binary form of `numeric`: groups of four decimal digits, the weight of the first, a sign and the digits behind the point.

/// Groups that a decimal of 38 digits can have, wherever its point is.
const GROUPS: usize = 12;
const NEGATIVE: u16 = 0x4000;

/// Appends a value of so many digits behind the point.
pub(super) fn encode(value: i128, scale: u8, out: &mut Vec<u8>) {
    // Groups from the last to the first; those behind the point come first, filled with zeros on their right.
    let mut groups = [0_u16; GROUPS];
    let behind = usize::from(scale).div_ceil(4);
    let mut rest = value.unsigned_abs();
    let (mut count, mut places) = (0, 0_usize);
    let odd = u32::from(scale) % 4;
    if odd != 0 {
        let split = 10_u128.pow(odd);
        groups[0] = group(rest % split) * 10_u16.pow(4 - odd);
        rest /= split;
        (count, places) = (1, 1);
    }
    while rest > 0 || places < behind {
        let Some(place) = groups.get_mut(count) else { break };
        // Most values fit 64 bits, whose division is much faster.
        (*place, rest) = match u64::try_from(rest) {
            Ok(small) => (group(u128::from(small % 10_000)), u128::from(small / 10_000)),
            Err(_) => (group(rest % 10_000), rest / 10_000),
        };
        count += 1;
        places += 1;
    }
    let used = groups.get(..count).unwrap_or_default();
    let zeros = used.iter().take_while(|group| **group == 0).count();
    let used = used.get(zeros..).unwrap_or_default();
    let weight = i16::try_from(count).unwrap_or(0) - i16::try_from(behind).unwrap_or(0) - 1;
    let leading = used.iter().rev().take_while(|group| **group == 0).count();
    let digits = u16::try_from(used.len() - leading).unwrap_or(0);
    let weight = if digits == 0 { 0 } else { weight - i16::try_from(leading).unwrap_or(0) };
    out.extend(digits.to_be_bytes());
    out.extend(weight.to_be_bytes());
    out.extend(if value < 0 { NEGATIVE } else { 0 }.to_be_bytes());
    out.extend(u16::from(scale).to_be_bytes());
    for group in used.iter().rev().skip(leading) {
        out.extend(group.to_be_bytes());
    }
}

fn group(digits: u128) -> u16 {
    u16::try_from(digits).unwrap_or(0)
}

/// The value with so many digits behind the point; `None` where it is none: it has more of them, or is NaN or infinite.
pub(super) fn decode(bytes: &[u8], scale: u8) -> Option<i128> {
    let (header, groups) = bytes.split_at_checked(8)?;
    let word = |place: usize| header.get(place..place + 2)?.try_into().ok().map(u16::from_be_bytes);
    let (count, weight, sign) = (usize::from(word(0)?), word(2)?.cast_signed(), word(4)?);
    if groups.len() != count * 2 || !matches!(sign, 0 | NEGATIVE) {
        return None;
    }
    let mut value = 0_i128;
    for (place, group) in groups.chunks_exact(2).enumerate() {
        let group = i128::from(u16::from_be_bytes(group.try_into().ok()?));
        let exponent = 4 * (i32::from(weight) - i32::try_from(place).ok()?) + i32::from(scale);
        let power = 10_i128.checked_pow(exponent.unsigned_abs());
        let part = match power {
            _ if group == 0 => 0,
            Some(power) if exponent >= 0 => group.checked_mul(power)?,
            Some(power) if group % power == 0 => group / power,
            Some(_) | None => return None,
        };
        value = value.checked_add(part)?;
    }
    Some(if sign == NEGATIVE { -value } else { value })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_again() {
        let most = 10_i128.pow(38) - 1;
        let values =
            [0, 1, -1, 9, 10, 9_999, 10_000, 10_001, -123_456_789, 50_000_000, i128::from(i64::MAX), most, -most];
        for value in values {
            for scale in [0, 1, 2, 3, 4, 5, 8, 9, 37, 38] {
                let mut bytes = Vec::new();
                encode(value, scale, &mut bytes);
                assert_eq!(decode(&bytes, scale), Some(value), "{value} {scale} {bytes:?}");
            }
        }
        // 1.5, as the server sends it.
        let half = [0, 2, 0, 0, 0, 0, 0, 1, 0, 1, 0x13, 0x88];
        assert_eq!((decode(&half, 1), decode(&half, 3), decode(&half, 0)), (Some(15), Some(1500), None));
        let mut bytes = Vec::new();
        encode(15, 1, &mut bytes);
        assert_eq!(bytes, half);
        let nan = [0, 0, 0, 0, 0xC0, 0, 0, 0];
        assert_eq!((decode(&nan, 1), decode(&half[..7], 1)), (None, None));
        assert!(decode(half.get(..10).unwrap(), 1).is_none());
    }
}
