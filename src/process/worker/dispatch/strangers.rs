//! Connections that have not been let in yet. Only the store knows how many clients there are and whether the next
//! one is one more; but those that say nothing never get there, so each worker bounds them by itself.

use std::collections::BTreeMap;

use crate::config::Config;

/// Connections before their CONNACK, by listener.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    of_listener: BTreeMap<u16, usize>,
    all: usize,
}

impl Strangers {
    pub fn came(&mut self, listener: u16) {
        *self.of_listener.entry(listener).or_insert(0) += 1;
        self.all += 1;
    }

    /// One was let in, or is gone.
    pub fn left(&mut self, listener: u16) {
        if let Some(count) = self.of_listener.get_mut(&listener) {
            *count = count.saturating_sub(1);
        }
        self.all = self.all.saturating_sub(1);
    }

    /// The option because of which no more may come: there are as many strangers as there may be clients.
    pub fn are_too_many(&self, listener: u16, config: &Config) -> Option<&'static str> {
        let is_full =
            |most: i32, count: usize| most > 0 && usize::try_from(most).is_ok_and(|m| count >= m);
        let here = self.of_listener.get(&listener).copied().unwrap_or(0);
        let settings = config.listeners.get(usize::from(listener));
        if settings.is_some_and(|l| is_full(l.max_connections, here)) {
            Some("max_connections")
        } else if is_full(config.global_max_connections, self.all) {
            Some("global_max_connections")
        } else {
            None
        }
    }
}
