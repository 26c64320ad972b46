//! Bytes that wait for this worker's transient sessions, and what may still come to them.

use crate::config::{Config, QueuePolicy};
use crate::queue::Limits;

/// The sum over all windows of this worker.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    bytes: u64,
}

impl Backlog {
    /// A window's bytes have changed.
    pub fn change(&mut self, before: u64, after: u64) {
        self.bytes = self.bytes - before + after;
    }

    /// What holds for a message that must wait.
    pub fn limits(&self, config: &Config) -> Limits {
        Limits {
            messages: config.max_queued_messages,
            bytes: config.max_queued_bytes,
            room: config.global_max_queued_bytes.saturating_sub(self.bytes),
            drops_oldest: config.queue_policy == QueuePolicy::DropOldest,
        }
    }
}
