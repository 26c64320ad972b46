//! Keep-alive and the wait for CONNECT: one entry per connection, a second fine.

use std::collections::BTreeMap;

use super::ConnId;
use crate::base::clock::Instant;

/// Connections by the second in which to look at them again. An entry is not moved when a client is heard: it finds
/// out when its second comes.
#[derive(Debug, Default)]
pub struct Wheel {
    seconds: BTreeMap<u64, Vec<ConnId>>,
}

const NANOS: u64 = 1_000_000_000;

impl Wheel {
    /// Looks at `id` at `at`, or up to a second later.
    pub fn set(&mut self, at: Instant, id: ConnId) {
        self.seconds
            .entry(at.0.div_ceil(NANOS))
            .or_default()
            .push(id);
    }

    /// When the first entry is due.
    pub fn next(&self) -> Option<Instant> {
        self.seconds
            .first_key_value()
            .map(|(second, _)| Instant(second.saturating_mul(NANOS)))
    }

    /// Takes the entries of a second that has come.
    pub fn take_due(&mut self, now: Instant) -> Option<Vec<ConnId>> {
        let first = self
            .seconds
            .first_entry()
            .filter(|e| e.key().saturating_mul(NANOS) <= now.0)?;
        Some(first.remove())
    }
}
