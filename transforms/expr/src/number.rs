//! Exact numbers: decimals as integers and a scale.

use crate::node::Shorten;
use crate::types::DIGITS;

/// 10 to this.
pub(crate) fn power(digits: u8) -> Option<i128> {
    10_i128.checked_pow(u32::from(digits))
}

/// A number as it is written: its digits without the point, and how many of them stand behind it, negative where zeros are
/// left out. Zeros at the end of a fraction are.
fn parts(text: &str) -> Option<(i128, i32)> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    if whole.is_empty() && fraction.is_empty() && !mantissa.contains('0') {
        return None;
    }
    let mut value = 0_i128;
    for digit in whole.bytes().chain(fraction.bytes()) {
        let digit = digit.is_ascii_digit().then(|| i128::from(digit - b'0'))?;
        value = value.checked_mul(10)?.checked_add(digit)?;
    }
    let scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    Some((sign * value, scale))
}

/// The number at this scale; `None` where it is none, or does not fit exactly.
pub(crate) fn exact(text: &str, scale: u8) -> Option<i128> {
    let (value, written) = parts(text)?;
    let missing = i32::from(scale) - written;
    let value = match u8::try_from(missing) {
        _ if value == 0 => 0,
        Ok(missing) => value.checked_mul(power(missing)?)?,
        Err(_) => {
            let unit = power(u8::try_from(-missing).ok()?)?;
            if value % unit != 0 {
                return None;
            }
            value / unit
        }
    };
    fits(value, DIGITS)
}

/// Digits and scale of the decimal that a number is.
pub(crate) fn digits(text: &str) -> Option<(u8, u8)> {
    let (_, scale) = parts(text)?;
    let scale = u8::try_from(scale.max(0)).ok().filter(|scale| *scale <= DIGITS)?;
    let value = exact(text, scale)?;
    let digits = (1..=DIGITS).find(|digits| fits(value, *digits).is_some())?;
    Some((digits.max(scale).max(1), scale))
}

/// A value that has at most so many digits.
pub(crate) fn fits(value: i128, digits: u8) -> Option<i128> {
    let limit = power(digits)?.unsigned_abs();
    (value.unsigned_abs() < limit).then_some(value)
}

/// With more digits behind the point.
pub(crate) fn lengthen(value: i128, by: u8) -> Option<i128> {
    if by == 0 { Some(value) } else { value.checked_mul(power(by)?) }
}

/// With fewer digits behind the point.
pub(crate) fn shorten(value: i128, by: u8, how: Shorten) -> i128 {
    let Some(unit) = power(by).filter(|_| by > 0) else { return value };
    let (kept, rest) = (value.div_euclid(unit), value.rem_euclid(unit));
    // Halves go away from zero: up where the value is positive.
    let up = match how {
        Shorten::Down => false,
        Shorten::Up => rest > 0,
        Shorten::Zero => rest > 0 && value < 0,
        Shorten::Nearest if value < 0 => rest > unit - rest,
        Shorten::Nearest => rest >= unit - rest,
    };
    kept + i128::from(up)
}

/// Decimals of different scales, compared without a loss.
pub(crate) fn compare(left: (i128, u8), right: (i128, u8)) -> std::cmp::Ordering {
    let ((left, left_scale), (right, right_scale)) = (left, right);
    if left_scale == right_scale {
        return left.cmp(&right);
    }
    let scale = left_scale.max(right_scale);
    // What stands before the point, and behind it with as many digits on both sides.
    let parts = |value: i128, own: u8| {
        let unit = power(own).unwrap_or(1);
        (value.div_euclid(unit), value.rem_euclid(unit) * power(scale - own).unwrap_or(1))
    };
    parts(left, left_scale).cmp(&parts(right, right_scale))
}

/// As it is written: all digits behind the point.
pub(crate) fn told(value: i128, scale: u8) -> String {
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = usize::from(scale) + 1);
    let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
    let sign = if value < 0 { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// The nearest float.
pub(crate) fn to_float(value: i128, scale: u8) -> f64 {
    // Beyond 2⁵³ a division would round twice; text is read exactly.
    if value.unsigned_abs() < 1 << 53 && scale <= 22 {
        #[expect(clippy::cast_precision_loss, reason = "below 2⁵³ there is none")]
        return value as f64 / 10_f64.powi(i32::from(scale));
    }
    told(value, scale).parse().unwrap_or(f64::NAN)
}

/// The nearest decimal to a float; halves away from zero. `None` where it has too many digits.
pub(crate) fn from_float(value: f64, digits: u8, scale: u8) -> Option<i128> {
    if !value.is_finite() || value.abs() >= 1e38 {
        return None;
    }
    // All digits of the float, so that what is rounded is the float's own value as it is shown.
    from_text(&format!("{value}"), digits, scale)
}

/// A decimal from text; more digits behind the point are rounded, halves away from zero.
pub(crate) fn from_text(text: &str, digits: u8, scale: u8) -> Option<i128> {
    let (value, written) = parts(text.trim())?;
    let missing = i32::from(scale) - written;
    let value = match u8::try_from(missing) {
        Ok(missing) => lengthen(value, missing)?,
        Err(_) => match u8::try_from(-missing) {
            Ok(by) if by <= DIGITS => shorten(value, by, Shorten::Nearest),
            _ => 0,
        },
    };
    fits(value, digits)
}

/// The bits of a float: equal floats have the same, and all NaNs are one.
pub(crate) fn canonical(value: f64) -> u64 {
    if value.is_nan() {
        f64::NAN.to_bits()
    } else if value == 0.0 {
        0
    } else {
        value.to_bits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_exactly_or_not_at_all() {
        assert_eq!(exact("0.001", 3), Some(1));
        assert_eq!(exact("-12.5", 2), Some(-1250));
        assert_eq!(exact("1.250", 2), Some(125));
        assert_eq!(exact("1.255", 2), None);
        assert_eq!(exact("1e3", 0), Some(1000));
        assert_eq!(exact("0e99", 2), Some(0));
        assert_eq!(exact(&"9".repeat(38), 0), power(38).map(|limit| limit - 1));
        assert_eq!(exact(&"9".repeat(39), 0), None);
        for text in ["", ".", "-", "1.2.3", "x", "1e", "٣"] {
            assert_eq!(exact(text, 2), None, "{text}");
        }
        assert_eq!(digits("0.001"), Some((3, 3)));
        assert_eq!(digits("1200"), Some((4, 0)));
        assert_eq!(digits("1e-39"), None);
    }

    #[test]
    fn halves_go_away_from_zero() {
        for (value, how, rounded) in [
            (125, Shorten::Nearest, 13),
            (-125, Shorten::Nearest, -13),
            (124, Shorten::Nearest, 12),
            (-124, Shorten::Nearest, -12),
            (129, Shorten::Down, 12),
            (-121, Shorten::Down, -13),
            (121, Shorten::Up, 13),
            (-129, Shorten::Up, -12),
            (129, Shorten::Zero, 12),
            (-129, Shorten::Zero, -12),
            (-120, Shorten::Zero, -12),
        ] {
            assert_eq!(shorten(value, 1, how), rounded, "{value} {how:?}");
        }
    }

    #[test]
    fn decimals_of_all_scales_compare() {
        use std::cmp::Ordering;
        let most = power(38).unwrap_or_default() - 1;
        assert_eq!(compare((most, 0), (most, 38)), Ordering::Greater);
        assert_eq!(compare((-most, 0), (1, 38)), Ordering::Less);
        assert_eq!(compare((150, 2), (15, 1)), Ordering::Equal);
        assert_eq!(compare((-151, 2), (-15, 1)), Ordering::Less);
    }

    #[test]
    fn decimals_are_told_and_become_floats_to_the_nearest() {
        assert_eq!(told(-5, 2), "-0.05");
        assert_eq!(told(12_345, 0), "12345");
        assert_eq!(to_float(123_456_789_012_345_678, 2), 1_234_567_890_123_456.8);
        assert_eq!(from_float(0.125, 10, 2), Some(13));
        assert_eq!(from_float(1e20, 10, 2), None);
        assert_eq!(from_text(" 2.675 ", 10, 2), Some(268));
    }
}
