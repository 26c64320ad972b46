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
        let inner = if is_shared(filter) {
            let (group, inner) = filter.strip_prefix("$share/")?.split_once('/')?;
            // A group within a group means nothing: what is behind the group is a filter by itself.
            if group.is_empty()
                || inner.is_empty()
                || group.contains(['+', '#'])
                || is_shared(inner)
            {
                return None;
            }
            inner
        } else {
            filter
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

/// Whether the first level is `$share`; alone it is refused, as in the original.
fn is_shared(filter: &str) -> bool {
    filter
        .strip_prefix("$share")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(filter: &str, topic: &str) -> bool {
        Filter::new(filter)
            .unwrap()
            .matches(Topic::new(topic).unwrap())
    }

    #[test]
    fn topic_names_have_neither_wildcards_nor_nul() {
        for name in ["a", "/", "a/b", "$SYS/x", " ", "a b/é", "a//b"] {
            assert!(Topic::new(name).is_some(), "{name:?}");
        }
        for name in ["", "+", "#", "a/+", "a#", "a\0b"] {
            assert!(Topic::new(name).is_none(), "{name:?}");
        }
    }

    #[test]
    fn length_and_depth_are_bounded_for_both() {
        let longest = "a".repeat(STRING_BYTES_MAX);
        let deepest = "/".repeat(TOPIC_LEVELS_MAX - 1);
        for fine in [&longest, &deepest] {
            assert!(Topic::new(fine).is_some() && Filter::new(fine).is_some());
        }
        for bad in [longest + "a", deepest + "/"] {
            assert!(Topic::new(&bad).is_none() && Filter::new(&bad).is_none());
        }
    }

    #[test]
    fn wildcards_fill_their_level_and_the_many_level_one_is_last() {
        for filter in ["#", "+", "a/#", "+/#", "a/+/b", "/+", "+/", "$SYS/#"] {
            assert!(Filter::new(filter).is_some(), "{filter:?}");
        }
        for filter in [
            "", "a#", "#/a", "a/#/b", "##", "+a", "a+", "++", "a/b+/c", "a\0",
        ] {
            assert!(Filter::new(filter).is_none(), "{filter:?}");
        }
    }

    #[test]
    fn shared_subscription_has_a_group_and_a_filter() {
        let filter = Filter::new("$share/g/a/+").unwrap();
        let (group, inner) = filter.shared().unwrap();
        assert_eq!((group, inner.as_str()), ("g", "a/+"));
        assert!(matches("$share/g/a/+", "a/b") && !matches("$share/g/a/+", "$share/g/a/b"));
        for bad in [
            "$share",
            "$share/",
            "$share/g",
            "$share/g/",
            "$share//a",
            "$share/+/a",
            "$share/g#/a",
            "$share/g/a#",
            "$share/g/$share/h/a",
            "$share/g/$share",
        ] {
            assert!(Filter::new(bad).is_none(), "{bad:?}");
        }
        assert_eq!(Filter::new("$shared/g/a").unwrap().shared(), None);
    }

    #[test]
    fn examples_of_the_standard_match_as_it_says() {
        for topic in ["sport/tennis/player1", "sport/tennis/player1/ranking"] {
            assert!(matches("sport/tennis/player1/#", topic));
        }
        assert!(matches("sport/#", "sport") && matches("#", "sport"));
        assert!(matches("sport/tennis/+", "sport/tennis/player1"));
        assert!(!matches("sport/tennis/+", "sport/tennis/player1/ranking"));
        assert!(!matches("sport/+", "sport") && matches("sport/+", "sport/"));
        assert!(matches("+/+", "/finance") && matches("/+", "/finance"));
        assert!(!matches("+", "/finance"));
    }

    #[test]
    fn leading_wildcard_does_not_match_a_leading_dollar() {
        assert!(!matches("#", "$SYS/x") && !matches("+/x", "$SYS/x"));
        assert!(matches("$SYS/#", "$SYS/x") && matches("$SYS/+", "$SYS/x"));
        assert!(matches("a/+", "a/$x"));
    }

    /// Matching as one would explain it: by what remains of both.
    fn naive(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            (["+", filter @ ..], [_, topic @ ..]) => naive(filter, topic),
            ([wanted, filter @ ..], [level, topic @ ..]) => wanted == level && naive(filter, topic),
            _ => false,
        }
    }

    fn levels(choices: &'static [&'static str]) -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(choices), 1..6)
            .prop_map(|levels| levels.join("/"))
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 2000,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn matching_agrees_with_a_naive_model(
            filter in levels(&["a", "b", "", "+", "#", "$x"]),
            topic in levels(&["a", "b", "", "ab", "$x"]),
        ) {
            if let (Some(filter), Some(topic)) = (Filter::new(&filter), Topic::new(&topic)) {
                let names_hidden = topic.as_str().starts_with('$')
                    && (filter.as_str().starts_with('+') || filter.as_str().starts_with('#'));
                let filter_levels: Vec<&str> = filter.as_str().split('/').collect();
                let topic_levels: Vec<&str> = topic.as_str().split('/').collect();
                prop_assert_eq!(
                    filter.matches(topic),
                    !names_hidden && naive(&filter_levels, &topic_levels)
                );
            }
        }

        #[test]
        fn every_topic_name_is_a_filter_that_matches_itself(topic in "[a-c$/]{1,12}") {
            let topic = Topic::new(&topic).unwrap();
            if let Some(filter) = Filter::new(topic.as_str()) && filter.shared().is_none() {
                prop_assert!(!filter.has_wildcard());
                prop_assert!(filter.matches(topic));
            }
        }

        #[test]
        fn nothing_that_is_trusted_can_panic(filter in "\\PC{0,20}", topic in "\\PC{0,20}") {
            let filter = Filter::trusted(&filter);
            let _ = (filter.matches(Topic::trusted(&topic)), filter.shared(), filter.has_wildcard());
        }
    }
}
