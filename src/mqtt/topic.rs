//! Topic names and topic filters, checked; and whether one matches the other.

/// A topic name that was checked: not empty, no wildcard, no NUL, at most 65,535 bytes [MQTT-3.3.2-2], [MQTT-4.7.3-1].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Topic<'a>(&'a str);

/// A topic filter that was checked: wildcards stand where they may [MQTT-4.7.1-1], [MQTT-4.7.1-2].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Filter<'a>(&'a str);

impl<'a> Topic<'a> {
    /// `None` if `name` is no topic name.
    pub fn new(name: &'a str) -> Option<Self> {
        let _ = name;
        unimplemented!("codec")
    }

    /// The name.
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

impl<'a> Filter<'a> {
    /// `None` if `filter` is no topic filter. `$share/GROUP/FILTER` is one (the group checked too).
    pub fn new(filter: &'a str) -> Option<Self> {
        let _ = filter;
        unimplemented!("codec")
    }

    /// The filter.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether there is a wildcard in it.
    pub fn has_wildcard(self) -> bool {
        unimplemented!("codec")
    }

    /// Group and filter, for `$share/GROUP/FILTER`.
    pub fn shared(self) -> Option<(&'a str, Filter<'a>)> {
        unimplemented!("codec")
    }

    /// Whether `topic` is in it. A leading wildcard does not match a leading `$` [MQTT-4.7.2-1].
    pub fn matches(self, topic: Topic<'_>) -> bool {
        let _ = topic;
        unimplemented!("codec")
    }
}
