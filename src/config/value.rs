//! What the values of directives look like, and how they go into fields and come out again.

use super::fault::Problem;
use super::parse::Words;
use super::{QueuePolicy, SocketDomain};
use crate::base::limits::{MOUNT_POINT_BYTES_MAX, MOUNT_POINT_LEVELS_MAX};

/// What a directive's value looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `true`, `false`, `1` or `0`.
    Bool,
    /// A whole number within bounds; `0x` and a leading `0` mean base 16 and 8.
    Int { min: i64, max: i64 },
    /// A number up to `max` where 0 and less mean no limit.
    Limit { max: i64 },
    /// The rest of the line; may be given once.
    Text { bytes_max: usize },
    /// The rest of the line, that topics can begin with; may be given once.
    TopicStart,
    /// One host name or address; may be given once.
    Host,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A number and a unit of time.
    Span,
    /// In a way of its own; the text is for the manual.
    Special(&'static str),
}

impl Kind {
    /// A text of any length that a file may hold.
    pub const TEXT: Self = Self::Text {
        bytes_max: crate::base::limits::STRING_BYTES_MAX,
    };
    /// A number from `min` to the largest that the original's files can hold.
    pub const fn int_from(min: i64) -> Self {
        Self::Int {
            min,
            max: i32::MAX as i64,
        }
    }

    /// The value that `words` hold for the directive `name`.
    pub fn parse(self, name: &str, words: &mut Words<'_>) -> Result<Value, Problem> {
        let invalid = |value: &str| Problem::Invalid {
            option: name.to_owned(),
            value: value.to_owned(),
            allowed: self.allowed(),
        };
        let empty = || Problem::Empty {
            option: name.to_owned(),
        };
        if self == Self::Host {
            let host = words.rest()?.ok_or_else(empty)?;
            return match host.contains(char::is_whitespace) {
                true => Err(invalid(host)),
                false => Ok(Value::Text(host.to_owned())),
            };
        }
        if let Self::Text { bytes_max } = self {
            let text = words.rest()?.ok_or_else(empty)?;
            return match text.len() <= bytes_max {
                true => Ok(Value::Text(text.to_owned())),
                false => Err(invalid(text)),
            };
        }
        if self == Self::TopicStart {
            let text = words.rest()?.ok_or_else(empty)?;
            return match is_topic_start(text) {
                true => Ok(Value::Text(text.to_owned())),
                false => Err(invalid(text)),
            };
        }
        let word = words.word()?.ok_or_else(empty)?;
        match self {
            Self::Bool => bool_of(word).map(Value::Bool),
            Self::Int { min, max } => int_of(word)
                .filter(|n| (min..=max).contains(n))
                .map(Value::Int),
            Self::Limit { max } => int_of(word)
                .filter(|n| *n <= max)
                .map(|n| Value::Int(n.max(0))),
            Self::Choice(words) => words.contains(&word).then(|| Value::Text(word.to_owned())),
            Self::Span => span_of(word).map(Value::Seconds),
            Self::Text { .. } | Self::TopicStart | Self::Host | Self::Special(_) => {
                Some(Value::Text(word.to_owned()))
            }
        }
        .ok_or_else(|| invalid(word))
    }

    /// The values that are allowed, for error messages.
    pub fn allowed(self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Int { min, max } => format!("{min} to {max}"),
            Self::Limit { max } => format!("0 (no limit) to {max}"),
            Self::Text { bytes_max } => format!("a text of at most {bytes_max} bytes"),
            Self::TopicStart => format!(
                "the start of a topic, without + and #, not beginning with $, at most {MOUNT_POINT_BYTES_MAX} bytes and \
                 {MOUNT_POINT_LEVELS_MAX} levels"
            ),
            Self::Host => "one host name or address".to_owned(),
            Self::Choice(words) => words.join(", "),
            Self::Span => "a number above 0 and one of s, h, d, w, m, y, such as 2w".to_owned(),
            Self::Special(syntax) => syntax.to_owned(),
        }
    }

    /// The value's place holder in the manual.
    pub fn syntax(self) -> String {
        match self {
            Self::Bool => "true | false".to_owned(),
            Self::Int { .. } | Self::Limit { .. } => "NUMBER".to_owned(),
            Self::Text { .. } => "TEXT".to_owned(),
            Self::TopicStart => "PREFIX".to_owned(),
            Self::Host => "HOST".to_owned(),
            Self::Choice(words) => words.join(" | "),
            Self::Span => "NUMBER s | h | d | w | m | y".to_owned(),
            Self::Special(syntax) => syntax.to_owned(),
        }
    }
}

/// A value that was checked against its [`Kind`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::Int`] and [`Kind::Limit`].
    Int(i64),
    /// Of [`Kind::Text`], [`Kind::TopicStart`], [`Kind::Host`] and [`Kind::Choice`].
    Text(String),
    /// Of [`Kind::Span`].
    Seconds(u64),
}

/// Whether every topic may have this before it. `$` at the start of a topic has a meaning of its own.
fn is_topic_start(text: &str) -> bool {
    text.len() <= MOUNT_POINT_BYTES_MAX
        && text.bytes().filter(|b| *b == b'/').count() <= MOUNT_POINT_LEVELS_MAX
        && !text.contains(['+', '#', '\0'])
        && !text.starts_with('$')
}

/// `true`, `false`, `1` and `0`, in lower case only, as in the original.
fn bool_of(word: &str) -> Option<bool> {
    match word {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// A number as C's `strtol` reads it with base 0; nothing may follow it.
pub fn int_of(word: &str) -> Option<i64> {
    let (negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let hexadecimal = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"));
    let (digits, radix) = match (hexadecimal, digits.strip_prefix('0')) {
        (Some(rest), _) => (rest, 16),
        (None, Some(rest)) if !rest.is_empty() => (rest, 8),
        _ => (digits, 10),
    };
    // `from_str_radix` would take a second sign.
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    let magnitude = i64::from_str_radix(digits, radix).ok()?;
    Some(if negative { -magnitude } else { magnitude })
}

/// Seconds of a span; months have 30 days and years 365, as in the original.
fn span_of(word: &str) -> Option<u64> {
    let unit = word.chars().next_back()?;
    let seconds = match unit {
        's' => 1,
        'h' => 3600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        'm' => 30 * 86_400,
        'y' => 365 * 86_400,
        _ => return None,
    };
    let count = u64::try_from(int_of(word.strip_suffix(unit)?)?).ok()?;
    count.checked_mul(seconds).filter(|total| *total > 0)
}

/// A field that holds a value of an option. A value of another type than the field's leaves it as it is; the test
/// of the table shows that no row does that.
pub trait Setting {
    /// Puts the value into the field.
    fn set(&mut self, value: Value);
    /// The field as it stands in a file; `None` if the option is not set.
    fn show(&self) -> Option<String>;
}

/// A number whose largest value means "no limit", which a file writes as 0.
pub trait LimitSetting: Setting {
    /// Puts the limit into the field.
    fn set_limit(&mut self, value: Value);
    /// The limit as it stands in a file.
    fn show_limit(&self) -> String;
}

macro_rules! number_settings {
    ($($number:ty),*) => {$(
        impl Setting for $number {
            fn set(&mut self, value: Value) {
                if let Value::Int(n) = value {
                    // The row's bounds fit the field.
                    *self = Self::try_from(n).unwrap_or(Self::MAX);
                }
            }
            fn show(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
        impl LimitSetting for $number {
            fn set_limit(&mut self, value: Value) {
                self.set(match value {
                    Value::Int(n) if n <= 0 => Value::Int(i64::MAX),
                    other => other,
                });
                // A 64-bit field is not filled by the largest signed number.
                if i64::try_from(*self).is_ok_and(|n| n == i64::MAX) {
                    *self = Self::MAX;
                }
            }
            fn show_limit(&self) -> String {
                match *self == Self::MAX {
                    true => "0".to_owned(),
                    false => self.to_string(),
                }
            }
        }
    )*};
}

number_settings!(u8, u16, u32, u64, i32);

impl Setting for bool {
    fn set(&mut self, value: Value) {
        if let Value::Bool(b) = value {
            *self = b;
        }
    }
    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for Option<bool> {
    fn set(&mut self, value: Value) {
        if let Value::Bool(b) = value {
            *self = Some(b);
        }
    }
    fn show(&self) -> Option<String> {
        self.map(|b| b.to_string())
    }
}

impl Setting for String {
    fn set(&mut self, value: Value) {
        if let Value::Text(text) = value {
            *self = text;
        }
    }
    fn show(&self) -> Option<String> {
        Some(self.clone())
    }
}

impl Setting for Option<String> {
    fn set(&mut self, value: Value) {
        if let Value::Text(text) = value {
            *self = Some(text);
        }
    }
    fn show(&self) -> Option<String> {
        self.clone()
    }
}

impl Setting for Option<u64> {
    fn set(&mut self, value: Value) {
        if let Value::Seconds(seconds) = value {
            *self = Some(seconds);
        }
    }
    fn show(&self) -> Option<String> {
        self.map(|seconds| format!("{seconds}s"))
    }
}

impl Setting for Option<u32> {
    fn set(&mut self, value: Value) {
        if let Value::Int(n) = value {
            *self = u32::try_from(n).ok();
        }
    }
    fn show(&self) -> Option<String> {
        self.map(|n| n.to_string())
    }
}

impl Setting for SocketDomain {
    fn set(&mut self, value: Value) {
        if let Value::Text(word) = value {
            *self = match word.as_str() {
                "ipv4" => Self::Ipv4,
                _ => Self::Ipv6,
            };
        }
    }
    fn show(&self) -> Option<String> {
        match self {
            Self::Both => None,
            Self::Ipv4 => Some("ipv4".to_owned()),
            Self::Ipv6 => Some("ipv6".to_owned()),
        }
    }
}

impl Setting for QueuePolicy {
    fn set(&mut self, value: Value) {
        if let Value::Text(word) = value {
            *self = match word.as_str() {
                "drop-oldest" => Self::DropOldest,
                _ => Self::DropNewest,
            };
        }
    }
    fn show(&self) -> Option<String> {
        Some(match self {
            Self::DropNewest => "drop-newest".to_owned(),
            Self::DropOldest => "drop-oldest".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, line: &str) -> Result<Value, Problem> {
        kind.parse("option", &mut Words::new(line.as_bytes()))
    }

    #[test]
    fn booleans_are_lower_case_words_or_digits() {
        assert_eq!(read(Kind::Bool, "true"), Ok(Value::Bool(true)));
        assert_eq!(read(Kind::Bool, "0 junk"), Ok(Value::Bool(false)));
        for bad in ["TRUE", "yes", "on", "2", "true\t"] {
            assert!(
                matches!(read(Kind::Bool, bad), Err(Problem::Invalid { .. })),
                "{bad:?}"
            );
        }
        assert!(matches!(read(Kind::Bool, ""), Err(Problem::Empty { .. })));
    }

    #[test]
    fn numbers_are_read_with_base_zero_and_without_junk() {
        for (word, number) in [
            ("10", 10),
            ("0x10", 16),
            ("0X1f", 31),
            ("010", 8),
            ("0", 0),
            ("-5", -5),
            ("+7", 7),
            ("-0x10", -16),
        ] {
            assert_eq!(int_of(word), Some(number), "{word}");
        }
        for bad in [
            "",
            "-",
            "0x",
            "08",
            "3x",
            "--1",
            "0x-1",
            "1_0",
            "99999999999999999999",
        ] {
            assert_eq!(int_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn spans_need_a_unit_and_are_never_zero() {
        assert_eq!(span_of("5s"), Some(5));
        assert_eq!(span_of("2m"), Some(2 * 30 * 86_400));
        assert_eq!(span_of("1y"), Some(365 * 86_400));
        for bad in [
            "",
            "5",
            "0h",
            "-1d",
            "xh",
            "h",
            "5 h",
            "9223372036854775807y",
        ] {
            assert_eq!(span_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn no_limit_is_zero_in_a_file_and_the_largest_value_in_a_field() {
        let (mut small, mut large) = (1u16, 1u64);
        small.set_limit(Value::Int(0));
        large.set_limit(Value::Int(0));
        assert_eq!((small, large), (u16::MAX, u64::MAX));
        assert_eq!(
            (small.show_limit(), large.show_limit()),
            ("0".into(), "0".into())
        );
    }
}
