//! Keep-alive and the wait for CONNECT: one entry per connection, a second fine.

use std::collections::BTreeMap;

use super::ConnId;
use crate::base::clock::Instant;

/// Connections by the second in which to look at them again. An entry is not moved when a client is heard: it finds
/// out when its second comes. Of several entries of a connection the last that was set counts.
#[derive(Debug, Default)]
pub struct Wheel {
    seconds: BTreeMap<Second, Vec<ConnId>>,
}

/// When an entry is due, in seconds of the clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Second(u64);

const NANOS: u64 = 1_000_000_000;

impl Wheel {
    /// Looks at `id` at `at`, or up to a second later; returns the second, by which the entry knows itself again.
    pub fn set(&mut self, at: Instant, id: ConnId) -> Second {
        let second = Second(at.0.div_ceil(NANOS));
        self.seconds.entry(second).or_default().push(id);
        second
    }

    /// When the first entry is due.
    pub fn next(&self) -> Option<Instant> {
        let (second, _) = self.seconds.first_key_value()?;
        Some(Instant(second.0.saturating_mul(NANOS)))
    }

    /// Takes the entries of a second that has come.
    pub fn take_due(&mut self, now: Instant) -> Option<(Second, Vec<ConnId>)> {
        let first = self.seconds.first_entry()?;
        (first.key().0.saturating_mul(NANOS) <= now.0).then(|| first.remove_entry())
    }
}
