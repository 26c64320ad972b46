//! Bytes that wait for this worker's transient sessions, and what may still come to them.

use crate::config::{Config, QueuePolicy};
use crate::session::Limits;

/// The sum over all windows of this worker, and that of the rest of the broker.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    bytes: u64,
    /// What waits in other members, as they said it last.
    pub elsewhere: u64,
}

impl Backlog {
    /// A window's bytes have changed.
    pub fn change(&mut self, before: u64, after: u64) {
        self.bytes = self.bytes - before + after;
    }

    /// What holds for a message that must wait.
    pub fn limits(&self, config: &Config) -> Limits {
        let taken = self.bytes.saturating_add(self.elsewhere);
        Limits {
            messages: config.max_queued_messages,
            bytes: config.max_queued_bytes,
            room: config.global_max_queued_bytes.saturating_sub(taken),
            drops_oldest: config.queue_policy == QueuePolicy::DropOldest,
        }
    }

    /// Bytes that wait here.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_what_all_members_leave() {
        let mut config = Config::default_local();
        let mut backlog = Backlog::default();
        backlog.change(0, 30);
        assert_eq!(backlog.limits(&config).room, u64::MAX - 30);
        config.global_max_queued_bytes = 100;
        backlog.elsewhere = 50;
        backlog.change(10, 15);
        assert_eq!(backlog.limits(&config).room, 15);
        backlog.elsewhere = 500;
        assert_eq!(backlog.limits(&config).room, 0);
    }
}
