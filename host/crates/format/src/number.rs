//! From a number's text to the types that can hold it. Integers and decimals are exact or refused; a fraction becomes the
//! nearest float, and one that no finite float is near to is refused.

use crate::cursor::Number;

/// Integers up to here are floats exactly.
pub(crate) const EXACT: u64 = 1 << 53;

const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// Digits that 64 bits always hold.
const DIGITS_64: usize = 19;

impl Number {
    /// The integer, where it is written as one and fits.
    #[inline]
    pub(crate) fn to_i64(self) -> Option<i64> {
        if !self.integer || self.digits > DIGITS_64 {
            return None;
        }
        if self.negative { 0_i64.checked_sub_unsigned(self.mantissa) } else { i64::try_from(self.mantissa).ok() }
    }

    /// The same for unsigned ones; `text` is the number's.
    pub(crate) fn to_u64(self, text: &[u8]) -> Option<u64> {
        if !self.integer {
            return None;
        }
        u64::try_from(integer(text)?).ok()
    }

    /// The nearest float. An integer only where it is exactly one.
    #[inline]
    pub(crate) fn to_f64(self, text: &[u8]) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
        if self.digits <= DIGITS_64
            && self.mantissa <= EXACT
            && !self.exponent
            && let Some(power) = POWERS.get(self.scale)
        {
            // Both are exact, so the quotient is the nearest float (Clinger).
            let value = self.mantissa as f64 / power;
            return Some(if self.negative { -value } else { value });
        }
        self.to_f64_slow(text)
    }

    #[cold]
    fn to_f64_slow(self, text: &[u8]) -> Option<f64> {
        let value: f64 = fast_float2::parse(text).ok().filter(|value: &f64| value.is_finite())?;
        if value == 0.0 && has_digits(text) {
            return None;
        }
        if self.integer {
            #[expect(clippy::cast_possible_truncation, reason = "saturates, and then differs")]
            let back = value as i128;
            return (integer(text)? == back).then_some(value);
        }
        Some(value)
    }

    /// The nearest 32-bit float; an integer only where it is exactly one.
    pub(crate) fn to_f32(self, text: &[u8]) -> Option<f32> {
        let value: f32 = fast_float2::parse(text).ok().filter(|value: &f32| value.is_finite())?;
        if value == 0.0 && has_digits(text) {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "saturates, and then differs")]
        let exact = !self.integer || integer(text)? == value as i128;
        exact.then_some(value)
    }
}

/// Whether the number is not zero, whatever its exponent.
fn has_digits(text: &[u8]) -> bool {
    text.iter().take_while(|byte| !matches!(byte, b'e' | b'E')).any(|byte| (b'1'..=b'9').contains(byte))
}

/// An integer of at most 38 digits.
pub(crate) fn integer(text: &[u8]) -> Option<i128> {
    decimal(text, 38, 0)
}

/// A number of `precision` digits, `scale` of them after the point, as Arrow stores it: exactly, or not at all.
/// The text is a JSON number.
pub(crate) fn decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut value = 0_i128;
    let mut shift = i64::from(scale);
    let mut rest = text.iter();
    let mut fraction = false;
    for &byte in rest.by_ref() {
        match byte {
            b'0'..=b'9' => {
                // Beyond 38 digits: zeros may be dropped from the fraction, nothing else.
                match value.checked_mul(10).and_then(|value| value.checked_add(i128::from(byte - b'0'))) {
                    Some(next) => value = next,
                    None if fraction && byte == b'0' => continue,
                    None => return None,
                }
                shift -= i64::from(fraction);
            }
            b'.' => fraction = true,
            b'e' | b'E' => break,
            _ => return None,
        }
    }
    if let Ok(exponent) = std::str::from_utf8(rest.as_slice())
        && !exponent.is_empty()
    {
        shift = shift.checked_add(exponent.parse::<i64>().ok()?)?;
    }
    while value != 0 && shift != 0 {
        if shift > 0 {
            value = value.checked_mul(10)?;
            shift -= 1;
        } else {
            if value % 10 != 0 {
                return None;
            }
            value /= 10;
            shift += 1;
        }
    }
    let limit = 10_i128.checked_pow(u32::from(precision))?;
    (value < limit).then_some(if negative { -value } else { value })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::cursor::Cursor;

    fn number(text: &str) -> Number {
        Cursor::over(text.as_bytes()).number().unwrap()
    }

    fn f64_of(text: &str) -> Option<f64> {
        number(text).to_f64(text.as_bytes())
    }

    #[test]
    fn floats_are_the_nearest() {
        for text in [
            "0.1",
            "149.62",
            "-1.359807",
            "1e22",
            "1.7976931348623157e308",
            "5e-324",
            "123456789.123456789123456789",
            "0.000000000000000000000000123",
            "9007199254740993.0",
            "2.2250738585072011e-308",
        ] {
            assert_eq!(f64_of(text), Some(text.parse().unwrap()), "{text}");
        }
        assert_eq!(f64_of("1e400"), None);
        assert_eq!(f64_of("1e-400"), None);
        assert_eq!(f64_of("0e999"), Some(0.0));
        assert!(f64_of("-0.0").unwrap().is_sign_negative());
    }

    #[test]
    fn integers_are_floats_only_exactly() {
        assert_eq!(f64_of("9007199254740992"), Some(9_007_199_254_740_992.0));
        assert_eq!(f64_of("9007199254740993"), None);
        assert_eq!(f64_of("9007199254740994"), Some(9_007_199_254_740_994.0));
        assert_eq!(f64_of("100000000000000000000"), Some(1e20));
        assert_eq!(f64_of("100000000000000000001"), None);
    }

    #[test]
    fn integers_have_bounds() {
        assert_eq!(number("9223372036854775807").to_i64(), Some(i64::MAX));
        assert_eq!(number("9223372036854775808").to_i64(), None);
        assert_eq!(number("-9223372036854775808").to_i64(), Some(i64::MIN));
        assert_eq!(number("-9223372036854775809").to_i64(), None);
        assert_eq!(number("99999999999999999999").to_i64(), None);
        assert_eq!(number("1.0").to_i64(), None);
        assert_eq!(number("18446744073709551615").to_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(number("18446744073709551616").to_u64(b"18446744073709551616"), None);
        assert_eq!(number("-1").to_u64(b"-1"), None);
    }

    #[test]
    fn decimals_are_exact() {
        assert_eq!(decimal(b"12.34", 10, 2), Some(1234));
        assert_eq!(decimal(b"-12.3", 10, 2), Some(-1230));
        assert_eq!(decimal(b"12.340", 10, 2), Some(1234));
        assert_eq!(decimal(b"12.345", 10, 2), None);
        assert_eq!(decimal(b"1.5e1", 10, 0), Some(15));
        assert_eq!(decimal(b"100e-2", 10, 0), Some(1));
        assert_eq!(decimal(b"99999999.99", 10, 2), Some(9_999_999_999));
        assert_eq!(decimal(b"100000000", 10, 2), None);
        assert_eq!(decimal(b"0e999999999999", 10, 2), Some(0));
        assert_eq!(decimal(b"1e999999999999", 10, 2), None);
        assert_eq!(decimal(b"1e99999999999999999999", 10, 2), None);
    }
}
