//! Topic names and topic filters, checked; and whether one matches the other.

use crate::base::limits::{STRING_BYTES_MAX, TOPIC_LEVELS_MAX};

/// A topic name that was checked: not empty, no wildcard, no NUL, at most 65,535 bytes [MQTT-3.3.2-2], [MQTT-4.7.3-1].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Topic<'a>(&'a str);

/// A topic filter that was checked: wildcards stand where they may [MQTT-4.7.1-1], [MQTT-4.7.1-2].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Filter<'a>(&'a str);

impl<'a> Topic<'a> {
    /// `None` if `name` is no topic name.
    #[inline]
    pub fn new(name: &'a str) -> Option<Self> {
        let bytes = name.as_bytes();
        let mut refused = false;
        for &byte in bytes {
            refused |= matches!(byte, 0 | b'+' | b'#');
        }
        (!refused && fits(bytes)).then_some(Self(name))
    }

    /// A name that was checked when it came in and has only been kept since, as in a record of our own ring. What is
    /// wrong with it harms nothing but its own delivery.
    pub const fn trusted(name: &'a str) -> Self {
        Self(name)
    }

    /// The name.
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

impl<'a> Filter<'a> {
    /// `None` if `filter` is no topic filter. `$share/GROUP/FILTER` is one (the group checked too).
    pub fn new(filter: &'a str) -> Option<Self> {
        if !fits(filter.as_bytes()) {
            return None;
        }
        let inner = match filter.strip_prefix("$share") {
            // A filter like `$shared/x` shares nothing; `$share` alone is refused, as in the original.
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                let (group, inner) = rest.strip_prefix('/')?.split_once('/')?;
                if group.is_empty() || inner.is_empty() || group.contains(['+', '#']) {
                    return None;
                }
                inner
            }
            _ => filter,
        };
        (!filter.contains('\0') && wildcards_stand_alone(inner)).then_some(Self(filter))
    }

    /// A filter that was checked when it came in and has only been kept since; see [`Topic::trusted`].
    pub const fn trusted(filter: &'a str) -> Self {
        Self(filter)
    }

    /// The filter.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether there is a wildcard in it.
    pub fn has_wildcard(self) -> bool {
        self.0.bytes().any(|byte| matches!(byte, b'+' | b'#'))
    }

    /// Group and filter, for `$share/GROUP/FILTER`.
    pub fn shared(self) -> Option<(&'a str, Filter<'a>)> {
        let (group, filter) = self.0.strip_prefix("$share/")?.split_once('/')?;
        Some((group, Filter(filter)))
    }

    /// Whether `topic` is in it. A leading wildcard does not match a leading `$` [MQTT-4.7.2-1]. Of a shared
    /// subscription, the filter behind the group counts.
    pub fn matches(self, topic: Topic<'_>) -> bool {
        let filter = self.shared().map_or(self, |(_, filter)| filter).0;
        if topic.0.starts_with('$') && filter.starts_with(['+', '#']) {
            return false;
        }
        levels_match(filter.as_bytes(), topic.0.as_bytes())
    }
}

/// Length and depth, which names and filters have in common.
#[inline]
fn fits(bytes: &[u8]) -> bool {
    if bytes.is_empty() || bytes.len() > STRING_BYTES_MAX {
        return false;
    }
    // Fewer bytes than separators allowed: no need to count.
    bytes.len() < TOPIC_LEVELS_MAX
        || bytes.iter().filter(|byte| **byte == b'/').count() < TOPIC_LEVELS_MAX
}

/// `+` fills its level, and `#` fills the last one.
fn wildcards_stand_alone(filter: &str) -> bool {
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let is_last = levels.peek().is_none();
        let is_fine = match level {
            "+" => true,
            "#" => is_last,
            _ => !level.contains(['+', '#']),
        };
        if !is_fine {
            return false;
        }
    }
    true
}

/// Level by level, without looking for a separator where the filter has none to compare.
fn levels_match(filter: &[u8], topic: &[u8]) -> bool {
    let mut filter_levels = filter.split(|byte| *byte == b'/');
    let mut topic_levels = topic.split(|byte| *byte == b'/');
    loop {
        match (filter_levels.next(), topic_levels.next()) {
            // `#` holds its parent too: `a/#` matches `a` [MQTT-4.7.1-2].
            (Some(b"#"), _) | (None, None) => return true,
            (Some(b"+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}
