//! A configuration as canonical text, which the supervisor seals and hands to its children, and what differs
//! between two of them. Both follow from the table.

use std::fmt;

use super::options::{self, Reload, Row, Show, State};
use super::{Config, Listener};

/// A reload was refused as a whole, since sockets are bound at the start only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenersDiffer;

impl fmt::Display for ListenersDiffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The words of the original.
        f.write_str(
            "It is not currently possible to add/remove listeners when reloading the config file",
        )
    }
}

impl std::error::Error for ListenersDiffer {}

impl Config {
    /// Every option that works, in the order of the table; [`Config::from_snapshot`] reads it back.
    pub fn to_snapshot(&self) -> String {
        self.write(|_| self, |_, listener| listener)
    }

    /// The configuration that holds after a reload of `new`: options that need a restart keep their old value
    /// ([`Config::reload_differences`] names them), and listeners their old order.
    ///
    /// Other listeners refuse the whole reload, as in the original. Anything else could combine the sockets of the
    /// old file with the access rules of the new one.
    pub fn reload(old: &Self, new: &Self) -> Result<Self, ListenersDiffer> {
        let successor = |before: &Listener| new.listeners.iter().find(|l| same_place(before, l));
        let matched = old.listeners.iter().filter_map(successor).count();
        if matched != old.listeners.len()
            || matched != new.listeners.len()
            || old.local_only != new.local_only
        {
            return Err(ListenersDiffer);
        }
        let text = new.write(
            |reload| match reload {
                Reload::Restart => old,
                Reload::Applied | Reload::NewConnections => new,
            },
            |reload, listener| {
                let before = old.listeners.iter().find(|l| same_place(listener, l));
                match (reload, before) {
                    (Reload::Restart, Some(before)) => before,
                    _ => listener,
                }
            },
        );
        // What was parsed can be written and read again; if it could not, refusing is the safe answer.
        let mut config = Self::from_snapshot(&text).map_err(|_| ListenersDiffer)?;
        let place_before = |l: &Listener| old.listeners.iter().position(|b| same_place(b, l));
        config.listeners.sort_by_key(place_before);
        Ok(config)
    }

    /// The options that differ between two configurations but keep their old value until a restart.
    pub fn reload_differences(old: &Self, new: &Self) -> Vec<&'static str> {
        let mut differing = Vec::new();
        let pairs: Vec<_> = old
            .listeners
            .iter()
            .filter_map(|before| {
                let after = new.listeners.iter().find(|l| same_place(before, l))?;
                Some((before, after))
            })
            .collect();
        if pairs.len() != old.listeners.len() || pairs.len() != new.listeners.len() {
            differing.push("listener");
        }
        for (row, show) in shown().filter(|(row, _)| row.reload == Reload::Restart) {
            let differs = match show {
                Show::Global(show) => show(old) != show(new),
                Show::Listener(show) => pairs.iter().any(|(old, new)| show(old) != show(new)),
                Show::Never => false,
            };
            if differs {
                differing.push(row.name);
            }
        }
        differing
    }

    /// The snapshot's text. `of` and `of_listener` say whose value an option of that reload rule has.
    fn write<'a>(
        &'a self,
        of: impl Fn(Reload) -> &'a Self,
        of_listener: impl Fn(Reload, &'a Listener) -> &'a Listener,
    ) -> String {
        let mut text = format!("local_only {}\n", self.local_only);
        for (row, show) in shown() {
            if let Show::Global(show) = show {
                for value in show(of(row.reload)) {
                    text += &format!("{} {value}\n", row.name);
                }
            }
        }
        for listener in &self.listeners {
            text += &format!("listener {}", listener.port);
            if let Some(address) = &listener.address {
                text += &format!(" {address}");
            }
            text.push('\n');
            for (row, show) in shown() {
                if let Show::Listener(show) = show
                    && let Some(value) = show(of_listener(row.reload, listener))
                {
                    text += &format!("{} {value}\n", row.name);
                }
            }
        }
        text
    }
}

/// Whether two listeners are one and the same across a reload.
fn same_place(a: &Listener, b: &Listener) -> bool {
    a.port == b.port && a.address == b.address
}

/// The rows that say how their value is written.
fn shown() -> impl Iterator<Item = (&'static Row, &'static Show)> {
    options::rows().filter_map(|row| match &row.state {
        State::Built(built) => Some((row, &built.show)),
        State::NotBuilt(_) | State::Ignored(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::limits::{RING_BYTES_MAX, RING_SIZE_BYTES_MIN};
    use crate::base::log::LogMask;
    use crate::config::{
        Listener, LogDest, QueuePolicy, SocketDomain, TcpKeepalive, Versions, Workers,
    };

    /// A text as the parser makes it: no control characters, no white space around it.
    fn text() -> impl Strategy<Value = String> {
        "[!-~]([ -~é]{0,20}[!-~])?"
    }

    fn listener() -> impl Strategy<Value = Listener> {
        let domain = prop_oneof![
            Just(SocketDomain::Both),
            Just(SocketDomain::Ipv4),
            Just(SocketDomain::Ipv6)
        ];
        let versions = (any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(v31, v311, v5)| Versions { v31, v311, v5 })
            .prop_filter("a listener accepts something", |v| v.v31 || v.v311 || v.v5);
        (
            1..=u16::MAX,
            prop::option::of("[a-z0-9.:]{1,20}"),
            domain,
            any::<i32>(),
            0..=2u8,
            any::<Option<bool>>(),
            prop::option::of(text()),
            versions,
            (any::<u16>(), any::<u16>(), prop::option::of(text())),
            any::<bool>(),
            prop::option::of((1..=32_767u16, 1..=32_767u16, 1..=127u8)),
            (0..=0x7fff_ffffu32, 0..=0x7fff_ffffu32),
        )
            .prop_map(
                |(
                    port,
                    address,
                    socket_domain,
                    max_connections,
                    max_qos,
                    allow_anonymous,
                    auto_id_prefix,
                    versions,
                    (max_topic_alias, max_topic_alias_broker, mount_point),
                    use_username_as_clientid,
                    keepalive,
                    (message_rate, byte_rate),
                )| {
                    Listener {
                        port,
                        address,
                        socket_domain,
                        max_connections,
                        max_qos,
                        allow_anonymous,
                        auto_id_prefix,
                        versions,
                        max_topic_alias,
                        max_topic_alias_broker,
                        mount_point: mount_point
                            .filter(|m| !m.contains(['+', '#']) && !m.starts_with('$')),
                        use_username_as_clientid,
                        message_rate,
                        byte_rate,
                        tcp_keepalive: keepalive.map(|(idle_secs, interval_secs, count)| {
                            TcpKeepalive {
                                idle_secs,
                                interval_secs,
                                count,
                            }
                        }),
                    }
                },
            )
    }

    fn log_dests() -> impl Strategy<Value = Vec<LogDest>> {
        let dest = prop_oneof![
            Just(LogDest::Stdout),
            Just(LogDest::Stderr),
            text().prop_map(LogDest::File),
        ];
        prop::collection::vec(dest, 0..4).prop_map(|dests| {
            let mut kept: Vec<LogDest> = Vec::new();
            for dest in dests {
                let kind = std::mem::discriminant(&dest);
                if kept.iter().all(|k| std::mem::discriminant(k) != kind) {
                    kept.push(dest);
                }
            }
            kept
        })
    }

    fn log_mask() -> impl Strategy<Value = LogMask> {
        prop_oneof![
            Just(LogMask::ALL),
            (0..256u32, any::<bool>()).prop_map(|(low, high)| LogMask(low | u32::from(high) << 31)),
        ]
    }

    prop_compose! {
        fn processes()(
            listeners in prop::collection::vec(listener(), 1..5),
            local_only in any::<bool>(),
            workers in prop_oneof![Just(Workers::Auto), (1..=56u8).prop_map(Workers::Count)],
            ring_bytes in prop::option::of(RING_SIZE_BYTES_MIN..=RING_BYTES_MAX),
            user in prop::option::of(text()),
            pid_file in prop::option::of(text()),
            log_mask in log_mask(),
            log_dests in log_dests(),
            log_timestamp in any::<bool>(),
            log_timestamp_format in prop::option::of(text()),
            connection_messages in any::<bool>(),
        ) -> Config {
            Config {
                listeners, local_only, workers, ring_bytes, user, pid_file, log_mask, log_dests, log_timestamp,
                log_timestamp_format, connection_messages, ..Config::default_local()
            }
        }
    }

    prop_compose! {
        fn kept_by_workers()(
            processes in processes(),
            clientid_prefixes in prop::option::of(text()),
            connect_timeout in 1..=u16::MAX,
            max_output_bytes in 4096..=0x7fff_ffffu32,
            max_subscriptions in prop_oneof![Just(u32::MAX), 1..=0x7fff_ffffu32],
            max_topic_levels in 1..=201u8,
            rates in (0..=0x7fff_ffffu32, 0..=0x7fff_ffffu32),
            global_max_output_bytes in prop::option::of(0..=u64::MAX / 2),
        ) -> Config {
            Config {
                clientid_prefixes, connect_timeout, max_output_bytes, global_max_output_bytes,
                max_subscriptions, max_topic_levels, client_message_rate: rates.0, client_byte_rate: rates.1, ..processes
            }
        }
    }

    prop_compose! {
        fn any_config()(
            processes in kept_by_workers(),
            flags in any::<[bool; 6]>(),
            auto_id_prefix in text(),
            global_max_clients in -1..=i32::MAX,
            global_max_connections in -1..=i32::MAX,
            max_inflight_messages in 1..=u16::MAX,
            global_max_retained_messages in prop_oneof![Just(u32::MAX), 1..=0x7fff_ffffu32],
            retain_expiry_interval in prop::option::of(1..=10_000_000u32),
            memory_limit in prop_oneof![Just(u64::MAX), 1..=u64::MAX / 4],
            max_inflight_bytes in prop_oneof![Just(u64::MAX), 1..=0x7fff_ffffu64],
            global_max_queued_bytes in prop_oneof![Just(u64::MAX), 1..=u64::MAX / 4],
            queue_policy in prop_oneof![Just(QueuePolicy::DropNewest), Just(QueuePolicy::DropOldest)],
            max_queued_messages in prop_oneof![Just(u32::MAX), 1..=0x7fff_ffffu32],
            max_queued_bytes in prop_oneof![Just(u64::MAX), 1..=u64::MAX / 4],
            max_packet_size in 20..=0x7fff_ffffu32,
            max_keepalive in any::<u16>(),
            persistent_client_expiration in prop::option::of(1..=u64::MAX / 4),
            message_size_limit in prop_oneof![Just(u32::MAX), 1..=268_435_455u32],
            sys_interval in any::<u16>(),
        ) -> Config {
            let [
                allow_anonymous, allow_zero_length_clientid, retain_available, queue_qos0_messages, set_tcp_nodelay,
                upgrade_outgoing_qos,
            ] = flags;
            Config {
                allow_anonymous, allow_zero_length_clientid, retain_available, queue_qos0_messages, set_tcp_nodelay,
                upgrade_outgoing_qos, auto_id_prefix, global_max_clients, global_max_connections, max_inflight_messages,
                max_inflight_bytes, global_max_queued_bytes, global_max_retained_messages, retain_expiry_interval,
                memory_limit, queue_policy, max_queued_messages, max_queued_bytes, max_packet_size,
                max_keepalive, persistent_client_expiration, message_size_limit, sys_interval, ..processes
            }
        }
    }

    proptest! {
        #[test]
        fn a_snapshot_gives_back_the_configuration_it_was_made_of(config in any_config()) {
            prop_assert_eq!(Config::from_snapshot(&config.to_snapshot()), Ok(config));
        }
    }

    #[test]
    fn only_a_snapshot_may_say_local_only() {
        let source = crate::config::Source {
            path: "t.conf".into(),
            text: b"local_only true".to_vec(),
            includes: Vec::new(),
        };
        let parsed = Config::parse(&source, &crate::config::Overrides::default());
        assert!(parsed.config.is_err());
    }

    #[test]
    fn a_reload_keeps_what_needs_a_restart_and_applies_the_rest() {
        let mut old = Config::default_local();
        old.user = Some("before".into());
        let mut new = Config::default_local();
        new.max_keepalive = 5;
        new.workers = Workers::Count(2);
        new.listeners.reverse();
        new.listeners[0].max_qos = 1;
        new.listeners[0].socket_domain = SocketDomain::Ipv6;
        let held = Config::reload(&old, &new).unwrap();
        let mut expected = old.clone();
        expected.max_keepalive = 5;
        expected.listeners[1].max_qos = 1;
        assert_eq!(held, expected);
        let differing = Config::reload_differences(&old, &new);
        assert_eq!(differing, ["user", "workers", "socket_domain"]);
        assert_eq!(Config::reload_differences(&held, &old), [""; 0]);
    }

    /// Without a listener anonymous clients are allowed, which must not reach the sockets of a file that had one.
    #[test]
    fn a_reload_with_other_listeners_is_refused_whole() {
        let local = Config::default_local();
        let mut open = local.clone();
        open.local_only = false;
        assert_eq!(Config::reload(&open, &local), Err(ListenersDiffer));
        let mut fewer = local.clone();
        fewer.listeners.pop();
        assert_eq!(Config::reload(&local, &fewer), Err(ListenersDiffer));
        assert_eq!(Config::reload(&fewer, &local), Err(ListenersDiffer));
        assert_eq!(Config::reload_differences(&local, &fewer), ["listener"]);
    }

    proptest! {
        #[test]
        fn a_reload_with_itself_changes_nothing(config in any_config()) {
            // Two listeners at one place cannot be bound.
            let mut config = config;
            let mut seen = std::collections::HashSet::new();
            config.listeners.retain(|l| seen.insert((l.port, l.address.clone())));
            prop_assert_eq!(Config::reload(&config, &config), Ok(config.clone()));
        }
    }
}
