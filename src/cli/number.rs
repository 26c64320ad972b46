//! Numbers as the original reads them from its command line.

/// Leading blanks, a sign, digits; the rest does not count, and no digits are 0. What is out of range stays at the
/// end of it.
pub(super) fn leading_integer(text: &[u8]) -> i64 {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let magnitude = digits
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0i64, |n, byte| {
            n.saturating_mul(10).saturating_add(i64::from(byte - b'0'))
        });
    if negative { -magnitude } else { magnitude }
}

/// The same with a decimal fraction; `None` if it is negative.
pub(super) fn leading_seconds(text: &[u8]) -> Option<std::time::Duration> {
    let text = text.trim_ascii_start();
    let is_part = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let len = rest.iter().take_while(|byte| is_part(byte)).count();
    let number = std::str::from_utf8(rest.get(..len)?).ok()?;
    let seconds: f64 = number.parse().unwrap_or(0.0);
    if negative && seconds > 0.0 {
        return None;
    }
    std::time::Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn integers_end_where_the_digits_end() {
        for (text, number) in [
            ("17", 17),
            (" +5x", 5),
            ("-3", -3),
            ("x", 0),
            ("", 0),
            ("-", 0),
            ("99999999999999999999", i64::MAX),
        ] {
            assert_eq!(leading_integer(text.as_bytes()), number, "{text:?}");
        }
    }

    #[test]
    fn seconds_may_have_a_fraction_and_no_minus() {
        assert_eq!(leading_seconds(b"0.25"), Some(Duration::from_millis(250)));
        assert_eq!(leading_seconds(b"2s"), Some(Duration::from_secs(2)));
        assert_eq!(leading_seconds(b"a"), Some(Duration::ZERO));
        assert_eq!(leading_seconds(b"-0"), Some(Duration::ZERO));
        assert_eq!(leading_seconds(b"-1"), None);
        assert_eq!(
            leading_seconds(b"999999999999999999999999999"),
            None,
            "longer than any time"
        );
    }
}
