//! The configuration: the table of options, the parser that follows it, and the typed value that everybody reads.
//!
//! Parsing is pure; only `load` touches files. Nothing here decides what an option does, only what it may say.

pub mod fault;
pub mod load;
pub mod options;
pub mod parse;
mod snapshot;
pub mod stamp;
pub mod value;

pub use fault::ConfigError;
pub use parse::{Notice, Overrides, Parsed, Source, Verbosity};
pub use snapshot::ListenersDiffer;

use crate::base::limits::{TOPIC_LEVELS_MAX, WORKERS_MAX};
use crate::base::log::LogMask;

/// The port of MQTT without TLS.
pub const PORT_DEFAULT: u16 = 1883;

/// Everything that can be configured, resolved: no field depends on another one, and a limit that is not set is the
/// largest value of its type unless it says otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Where to listen; never empty. In local-only mode these are the loopback addresses.
    pub listeners: Vec<Listener>,
    /// No listener was configured, so only this machine can connect.
    pub local_only: bool,
    /// How many worker processes there are.
    pub workers: Workers,
    /// Bytes of a worker's outbox; `None` lets the broker choose.
    pub ring_bytes: Option<u32>,
    /// Whom the children run as when started by root; `None` is `mosquitto`, and `nobody` if there is no such user.
    pub user: Option<String>,
    /// The file that holds the supervisor's process id.
    pub pid_file: Option<String>,
    /// The types of lines that are logged.
    pub log_mask: LogMask,
    /// Where lines go; empty is nowhere (`log_dest none`, `-q`).
    pub log_dests: Vec<LogDest>,
    /// Whether lines start with the time.
    pub log_timestamp: bool,
    /// The time's format for strftime; `None` is seconds since 1970.
    pub log_timestamp_format: Option<String>,
    /// Whether connects and disconnects are logged.
    pub connection_messages: bool,
    /// Whether clients without a user name may connect, where a listener does not say otherwise.
    pub allow_anonymous: bool,
    /// Whether a 3.1.1 client may leave its client id to the broker.
    pub allow_zero_length_clientid: bool,
    /// What assigned client ids start with, where a listener does not say otherwise.
    pub auto_id_prefix: String,
    /// Subscriptions that one client may have; `u32::MAX` is no limit.
    pub max_subscriptions: u32,
    /// Levels that a topic may have; at most [`TOPIC_LEVELS_MAX`].
    pub max_topic_levels: u8,
    /// PUBLISH packets that one client may send in a second; 0 is no limit.
    pub client_message_rate: u32,
    /// Bytes that one client may send in a second; 0 is no limit.
    pub client_byte_rate: u32,
    /// Seconds that a connection may take to be let in.
    pub connect_timeout: u16,
    /// Bytes that wait to be written to one connection, about.
    pub max_output_bytes: u32,
    /// Bytes that wait to be written to all connections of the broker; 0 is no limit, `None` is a part of the
    /// machine's memory.
    pub global_max_output_bytes: Option<u64>,
    /// What every client id must start with.
    pub clientid_prefixes: Option<String>,
    /// Clients at most, with the absent ones that have a session; zero or less is no limit.
    pub global_max_clients: i32,
    /// Connections of all listeners at most; zero or less is no limit.
    pub global_max_connections: i32,
    /// QoS 1 and 2 messages under way to one client; at least 1, 65535 is no limit.
    pub max_inflight_messages: u16,
    /// Bytes of QoS 1 and 2 messages under way to one client; `u64::MAX` is no limit.
    pub max_inflight_bytes: u64,
    /// Messages that wait for one client; `u32::MAX` is no limit.
    pub max_queued_messages: u32,
    /// Bytes that wait for one client; `u64::MAX` is no limit.
    pub max_queued_bytes: u64,
    /// Bytes that wait for all clients; `u64::MAX` is no limit.
    pub global_max_queued_bytes: u64,
    /// What a full queue drops.
    pub queue_policy: QueuePolicy,
    /// The largest packet accepted from a client.
    pub max_packet_size: u32,
    /// The longest keep-alive in seconds; 0 is no limit.
    pub max_keepalive: u16,
    /// Topics with a retained message at most; `u32::MAX` is no limit.
    pub global_max_retained_messages: u32,
    /// Minutes after which a retained message is forgotten; `None` is never.
    pub retain_expiry_interval: Option<u32>,
    /// Whether retained messages are supported.
    pub retain_available: bool,
    /// Whether QoS 0 messages wait for persistent clients too.
    pub queue_qos0_messages: bool,
    /// Whether messages go out at the QoS of the subscription, even if they were published at a lower one.
    pub upgrade_outgoing_qos: bool,
    /// Whether Nagle's algorithm is off on client connections.
    pub set_tcp_nodelay: bool,
    /// Seconds after which an absent persistent client is forgotten, whatever it asked for; `None` is never.
    pub persistent_client_expiration: Option<u64>,
    /// Bytes of memory that all processes together may hold; `u64::MAX` is no limit.
    pub memory_limit: u64,
    /// The largest payload accepted from a client; `u32::MAX` is no limit.
    pub message_size_limit: u32,
    /// Seconds between two updates of `$SYS`; 0 is off.
    pub sys_interval: u16,
}

/// One place to listen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// The port; never 0.
    pub port: u16,
    /// The host name or address to bind; `None` is every address of the machine.
    pub address: Option<String>,
    /// Address families to bind.
    pub socket_domain: SocketDomain,
    /// Connections at most; zero or less is no limit.
    pub max_connections: i32,
    /// The largest QoS that clients may use: 0, 1 or 2.
    pub max_qos: u8,
    /// Overrides [`Config::allow_anonymous`].
    pub allow_anonymous: Option<bool>,
    /// Overrides [`Config::auto_id_prefix`].
    pub auto_id_prefix: Option<String>,
    /// The protocol versions that are accepted.
    pub versions: Versions,
    /// Topic aliases that a 5.0 client may set.
    pub max_topic_alias: u16,
    /// Topic aliases that the broker sets at most towards a 5.0 client.
    pub max_topic_alias_broker: u16,
    /// What stands before every topic of its clients, who do not see it.
    pub mount_point: Option<String>,
    /// Whether the user name takes the place of the client id.
    pub use_username_as_clientid: bool,
    /// PUBLISH packets that all clients together may send in a second; 0 is no limit.
    pub message_rate: u32,
    /// Bytes that all clients together may send in a second; 0 is no limit.
    pub byte_rate: u32,
    /// When the system asks a silent peer whether it is still there.
    pub tcp_keepalive: Option<TcpKeepalive>,
}

/// TCP keep-alive: after so many seconds without a byte, every so many seconds, so often without an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpKeepalive {
    /// Seconds until the first question.
    pub idle_secs: u16,
    /// Seconds between questions.
    pub interval_secs: u16,
    /// Questions without an answer, and the connection is over.
    pub count: u8,
}

/// Which address families a listener binds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketDomain {
    /// IPv4 and IPv6.
    Both,
    /// `ipv4`
    Ipv4,
    /// `ipv6`
    Ipv6,
}

/// The protocol versions that a listener accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Versions {
    /// MQTT 3.1
    pub v31: bool,
    /// MQTT 3.1.1
    pub v311: bool,
    /// MQTT 5.0
    pub v5: bool,
}

impl Versions {
    /// Every version there is.
    pub const ALL: Self = Self {
        v31: true,
        v311: true,
        v5: true,
    };
}

/// What a full queue drops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueuePolicy {
    /// The new message.
    DropNewest,
    /// The message that has waited longest.
    DropOldest,
}

/// How many workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Workers {
    /// One per core.
    Auto,
    /// That many: 1 to [`WORKERS_MAX`].
    Count(u8),
}

impl Workers {
    /// The number of workers on a machine with `cores` cores: at least 1, at most [`WORKERS_MAX`].
    pub fn count(self, cores: usize) -> usize {
        match self {
            Self::Auto => cores.clamp(1, WORKERS_MAX),
            Self::Count(n) => usize::from(n).clamp(1, WORKERS_MAX),
        }
    }
}

/// Where log lines go.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogDest {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Appended to this file.
    File(String),
}

impl Listener {
    /// A listener with every option at its default.
    pub fn new(port: u16, address: Option<String>) -> Self {
        Self {
            port,
            address,
            socket_domain: SocketDomain::Both,
            max_connections: -1,
            max_qos: 2,
            allow_anonymous: None,
            auto_id_prefix: None,
            versions: Versions::ALL,
            max_topic_alias: 10,
            max_topic_alias_broker: 10,
            mount_point: None,
            use_username_as_clientid: false,
            message_rate: 0,
            byte_rate: 0,
            tcp_keepalive: None,
        }
    }
}

impl Config {
    /// What holds without a configuration file: this machine only, anonymous clients allowed.
    pub fn default_local() -> Self {
        Self::local_on_ports(&[PORT_DEFAULT])
    }

    /// As [`Config::default_local`], on other ports (`-p`).
    pub fn local_on_ports(ports: &[u16]) -> Self {
        let mut config = Self::defaults();
        config.listeners = Self::local_listeners(ports, &Listener::new(0, None));
        config
    }

    /// Listeners on both loopback addresses, each otherwise like `model`.
    fn local_listeners(ports: &[u16], model: &Listener) -> Vec<Listener> {
        let mut listeners = Vec::new();
        for port in ports {
            for address in ["127.0.0.1", "::1"] {
                listeners.push(Listener {
                    port: *port,
                    address: Some(address.to_owned()),
                    ..model.clone()
                });
            }
        }
        listeners
    }

    /// Every option at its default, and no listener yet.
    fn defaults() -> Self {
        Self {
            listeners: Vec::new(),
            local_only: true,
            workers: Workers::Auto,
            ring_bytes: None,
            user: None,
            pid_file: None,
            log_mask: LogMask::DEFAULT,
            log_dests: vec![LogDest::Stderr],
            log_timestamp: true,
            log_timestamp_format: None,
            connection_messages: true,
            allow_anonymous: true,
            allow_zero_length_clientid: true,
            auto_id_prefix: "auto-".to_owned(),
            max_subscriptions: u32::MAX,
            max_topic_levels: u8::try_from(TOPIC_LEVELS_MAX).unwrap_or(u8::MAX),
            client_message_rate: 0,
            client_byte_rate: 0,
            connect_timeout: 60,
            max_output_bytes: 4 * 1024 * 1024,
            global_max_output_bytes: None,
            clientid_prefixes: None,
            global_max_clients: -1,
            global_max_connections: -1,
            max_inflight_messages: 20,
            max_inflight_bytes: u64::MAX,
            max_queued_messages: 1000,
            max_queued_bytes: u64::MAX,
            global_max_queued_bytes: u64::MAX,
            queue_policy: QueuePolicy::DropNewest,
            max_packet_size: 2_000_000,
            max_keepalive: 0,
            global_max_retained_messages: u32::MAX,
            retain_expiry_interval: None,
            retain_available: true,
            queue_qos0_messages: false,
            upgrade_outgoing_qos: false,
            set_tcp_nodelay: false,
            persistent_client_expiration: None,
            memory_limit: u64::MAX,
            message_size_limit: u32::MAX,
            sys_interval: 10,
        }
    }

    /// Whether persistent sessions get everything through the store, where it waits for them, and nothing directly.
    pub const fn stores_every_qos(&self) -> bool {
        self.queue_qos0_messages || self.upgrade_outgoing_qos
    }

    /// Whether anonymous clients may connect to `listener`.
    pub fn allows_anonymous(&self, listener: &Listener) -> bool {
        listener.allow_anonymous.unwrap_or(self.allow_anonymous)
    }

    /// What client ids start with that the broker assigns to clients of `listener`.
    pub fn auto_id_prefix_of<'a>(&'a self, listener: &'a Listener) -> &'a str {
        listener
            .auto_id_prefix
            .as_deref()
            .unwrap_or(&self.auto_id_prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_file_only_this_machine_connects_and_needs_no_name() {
        let config = Config::default_local();
        let places: Vec<_> = config
            .listeners
            .iter()
            .map(|l| (l.port, l.address.as_deref()))
            .collect();
        assert_eq!(places, [(1883, Some("127.0.0.1")), (1883, Some("::1"))]);
        assert!(config.local_only && config.allows_anonymous(&config.listeners[0]));
    }

    #[test]
    fn workers_follow_the_cores_within_bounds() {
        assert_eq!(Workers::Auto.count(0), 1);
        assert_eq!(Workers::Auto.count(1000), WORKERS_MAX);
        assert_eq!(Workers::Count(3).count(8), 3);
    }
}
