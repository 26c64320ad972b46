//! What the operator decides about the store.

use crate::config::{Config, QueuePolicy};
use crate::directory::Seats;

/// How messages go out to sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Outgoing {
    /// Persistent sessions get those of QoS 0 through the store too, and none directly.
    pub every_qos: bool,
    /// The QoS of the subscription counts alone.
    pub upgrade: bool,
}

/// What the operator decides about the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreSettings {
    /// Connections of each listener at most; 0 and less is no limit.
    pub max_connections: Vec<i32>,
    /// Connections of all listeners at most; 0 and less is no limit.
    pub global_max_connections: i32,
    /// Clients at most, connected or with a session; 0 and less is no limit.
    pub global_max_clients: i32,
    /// QoS 1 and 2 messages unacknowledged towards one client; 0 is as many as the client takes.
    pub max_inflight_messages: u16,
    /// Bytes of payload in those, about.
    pub max_inflight_bytes: u64,
    /// Messages that wait for one client beyond those; 0 is no limit.
    pub max_queued_messages: u32,
    /// Bytes of payload that wait for one client; 0 is no limit.
    pub max_queued_bytes: u64,
    /// Bytes of payload that wait for all clients.
    pub global_max_queued_bytes: u64,
    /// A full queue drops what has waited longest instead of the new message.
    pub drops_oldest: bool,
    /// Persistent sessions get QoS 0 messages through the store, also while nobody is attached.
    pub queue_qos0_messages: bool,
    /// Bytes that all processes may hold on their heaps.
    pub memory_limit: u64,
    /// Messages go out at the QoS of the subscription, whatever they were published at.
    pub upgrade_outgoing_qos: bool,
    /// Whether anything is retained.
    pub retain_available: bool,
    /// Topics that have a retained message at most.
    pub global_max_retained_messages: usize,
    /// Seconds after which a retained message is forgotten; `None` is never.
    pub retain_expiry_secs: Option<u64>,
    /// Seconds after which any session without a connection ends; `None` is as long as the client asked for.
    pub persistent_client_expiration: Option<u32>,
}

impl StoreSettings {
    /// What the configuration says about the store.
    pub fn of(config: &Config) -> Self {
        let expiration = config.persistent_client_expiration;
        Self {
            max_connections: config.listeners.iter().map(|l| l.max_connections).collect(),
            global_max_connections: config.global_max_connections,
            global_max_clients: config.global_max_clients,
            max_inflight_messages: config.max_inflight_messages,
            max_inflight_bytes: config.max_inflight_bytes,
            max_queued_messages: config.max_queued_messages,
            max_queued_bytes: config.max_queued_bytes,
            global_max_queued_bytes: config.global_max_queued_bytes,
            drops_oldest: config.queue_policy == QueuePolicy::DropOldest,
            queue_qos0_messages: config.queue_qos0_messages,
            memory_limit: config.memory_limit,
            upgrade_outgoing_qos: config.upgrade_outgoing_qos,
            retain_available: config.retain_available,
            global_max_retained_messages: match config.global_max_retained_messages {
                u32::MAX => usize::MAX,
                most => usize::try_from(most).unwrap_or(usize::MAX),
            },
            retain_expiry_secs: config.retain_expiry_interval.map(|m| u64::from(m) * 60),
            persistent_client_expiration: expiration
                .map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX)),
        }
    }

    /// Which messages take which way out.
    pub(super) const fn outgoing(&self) -> Outgoing {
        Outgoing {
            every_qos: self.queue_qos0_messages || self.upgrade_outgoing_qos,
            upgrade: self.upgrade_outgoing_qos,
        }
    }

    /// How many may be connected through this listener.
    pub(super) fn seats(&self, listener: u16) -> Seats {
        let limit = |n: i32| usize::try_from(n).ok().filter(|n| *n > 0);
        let of_listener = self.max_connections.get(usize::from(listener));
        Seats {
            of_listener: of_listener.and_then(|n| limit(*n)),
            connections: limit(self.global_max_connections),
            clients: limit(self.global_max_clients),
        }
    }
}
