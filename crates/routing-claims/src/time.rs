//! Compares `exp` and `nbf` with the clock (R9), and computes how long a judgement is valid (R16).

use crate::outcome::Outcome;

/// The times of the payload in Unix seconds (`NumericDate`, RFC 7519 section 2).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    pub(crate) exp: Option<i64>,
    pub(crate) nbf: Option<i64>,
}

/// The seconds in which a decision is valid: from the first (inclusive) to the second (exclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    from: i64,
    until: i64,
}

impl Times {
    /// The fault of the token's time, if there is one, and how long that result is valid.
    pub(crate) fn judge(self, now: i64, skew: u32) -> (Option<Outcome>, Validity) {
        let end = self.exp.map_or(i64::MAX, |exp| exp.saturating_add(skew.into()));
        let start = self.nbf.map_or(i64::MIN, |nbf| nbf.saturating_sub(skew.into()));
        if self.exp.is_some() && now >= end {
            (Some(Outcome::Expired), Validity { from: end, ..Validity::ALWAYS })
        } else if now < start {
            (Some(Outcome::NotYetValid), Validity { until: start.min(end), ..Validity::ALWAYS })
        } else {
            (None, Validity { from: start, until: end })
        }
    }
}

impl Validity {
    pub(crate) const ALWAYS: Self = Self { from: i64::MIN, until: i64::MAX };

    pub(crate) fn holds(self, now: i64) -> bool {
        self.from <= now && now < self.until
    }
}

/// A JSON number, rounded down. A number out of range saturates.
///
/// Computed from the decimal text, because a double would change large values.
pub(crate) fn floor(number: &[u8]) -> i64 {
    let (negative, number) = match number {
        [b'-', number @ ..] => (true, number),
        number => (false, number),
    };
    let mut parts = number.splitn(2, |byte| matches!(byte, b'e' | b'E'));
    let (mantissa, exponent) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let point = mantissa.iter().position(|byte| *byte == b'.').unwrap_or(mantissa.len());
    let mut digits = mantissa.iter().copied().filter(|byte| *byte != b'.');

    let mut whole_digits = i64::try_from(point).unwrap_or(i64::MAX).saturating_add(self::exponent(exponent));
    let mut magnitude = 0_i64;
    while whole_digits > 0 && magnitude < i64::MAX {
        let digit = match digits.next() {
            Some(digit) => digit,
            None if magnitude == 0 => break,
            None => b'0',
        };
        magnitude = push_digit(magnitude, digit);
        whole_digits -= 1;
    }
    let fraction = digits.any(|digit| digit != b'0');
    if negative { (-magnitude).saturating_sub(fraction.into()) } else { magnitude }
}

/// The value of an exponent such as `-12`, which saturates. Zero for an empty text.
fn exponent(text: &[u8]) -> i64 {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let magnitude = digits.iter().copied().fold(0, push_digit);
    if negative { -magnitude } else { magnitude }
}

fn push_digit(value: i64, digit: u8) -> i64 {
    debug_assert!(digit.is_ascii_digit());
    value.saturating_mul(10).saturating_add((digit - b'0').into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floor_cuts_toward_minus_infinity_and_saturates() {
        for (number, expected) in [
            ("0", 0),
            ("-0", 0),
            ("-0.0", 0),
            ("1.9", 1),
            ("-1.1", -2),
            ("-1.0", -1),
            ("-0.5", -1),
            ("1.5e1", 15),
            ("15e-1", 1),
            ("-15E-1", -2),
            ("1700000000.999", 1_700_000_000),
            ("1.7e+9", 1_700_000_000),
            ("9007199254740993", 9_007_199_254_740_993),
            ("9223372036854775807", i64::MAX),
            ("9223372036854775808", i64::MAX),
            ("-9223372036854775807", -i64::MAX),
            ("-9223372036854775806.5", -i64::MAX),
            ("1e400", i64::MAX),
            ("-1e400", -i64::MAX),
            ("1e99999999999999999999", i64::MAX),
            ("99999999999999999999999999999999999999990", i64::MAX),
            ("0e99999999999999999999", 0),
            ("1e-99999999999999999999", 0),
            ("-1e-99999999999999999999", -1),
            ("0.00000000000000000000017e31", 1_700_000_000),
        ] {
            assert_eq!(floor(number.as_bytes()), expected, "{number}");
        }
    }

    #[test]
    fn a_judgement_holds_until_the_clock_crosses_a_time() {
        let times = Times { exp: Some(1000), nbf: Some(900) };
        for (now, fault) in [
            (889, Some(Outcome::NotYetValid)),
            (890, None),
            (1009, None),
            (1010, Some(Outcome::Expired)),
            (2000, Some(Outcome::Expired)),
        ] {
            let (found, validity) = times.judge(now, 10);
            assert_eq!(found, fault, "{now}");
            for later in [0, 889, 890, 1009, 1010, 2000] {
                assert_eq!(
                    validity.holds(later),
                    times.judge(later, 10).0 == fault,
                    "judged at {now}, asked at {later}"
                );
            }
        }
    }

    #[test]
    fn expired_wins_when_both_times_fail_and_the_clock_may_go_back() {
        let times = Times { exp: Some(100), nbf: Some(200) };
        let (fault, validity) = times.judge(150, 0);
        assert_eq!((fault, validity.holds(99)), (Some(Outcome::Expired), false));
        let (fault, validity) = times.judge(50, 0);
        assert_eq!((fault, validity.holds(100)), (Some(Outcome::NotYetValid), false));
    }
}
