//! A configuration as canonical text, which the supervisor seals and hands to its children, and what differs
//! between two of them. Both follow from the table.

use super::Config;
use super::options::{self, Reload, Show, State};

impl Config {
    /// Every option that works, in the order of the table; [`Config::from_snapshot`] reads it back.
    pub fn to_snapshot(&self) -> String {
        let mut text = format!("local_only {}\n", self.local_only);
        for (name, show) in shown() {
            if let Show::Global(show) = show {
                for value in show(self) {
                    text.push_str(&format!("{name} {value}\n"));
                }
            }
        }
        for listener in &self.listeners {
            text.push_str(&format!("listener {}", listener.port));
            if let Some(address) = &listener.address {
                text.push_str(&format!(" {address}"));
            }
            text.push('\n');
            for (name, show) in shown() {
                if let Show::Listener(show) = show
                    && let Some(value) = show(listener)
                {
                    text.push_str(&format!("{name} {value}\n"));
                }
            }
        }
        text
    }

    /// The options that differ between two configurations but keep their old value until a restart.
    pub fn reload_differences(old: &Self, new: &Self) -> Vec<&'static str> {
        let places = |config: &Self| -> Vec<_> {
            let of_one = |l: &super::Listener| (l.port, l.address.clone());
            config.listeners.iter().map(of_one).collect()
        };
        let mut differing = Vec::new();
        let same_places = places(old) == places(new);
        if !same_places {
            differing.push("listener");
        }
        for row in options::rows().filter(|row| row.reload == Reload::Restart) {
            let State::Built(built) = &row.state else {
                continue;
            };
            let differs = match built.show {
                Show::Global(show) => show(old) != show(new),
                Show::Listener(show) => {
                    same_places
                        && std::iter::zip(&old.listeners, &new.listeners)
                            .any(|(old, new)| show(old) != show(new))
                }
                Show::Never => false,
            };
            if differs {
                differing.push(row.name);
            }
        }
        differing
    }
}

/// The rows that say how their value is written.
fn shown() -> impl Iterator<Item = (&'static str, &'static Show)> {
    options::rows().filter_map(|row| match &row.state {
        State::Built(built) => Some((row.name, &built.show)),
        State::NotBuilt(_) | State::Ignored(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::limits::{RING_BYTES_MAX, RING_SIZE_BYTES_MIN};
    use crate::base::log::LogMask;
    use crate::config::{Listener, LogDest, SocketDomain, Versions, Workers};

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
        fn any_config()(
            processes in processes(),
            flags in any::<[bool; 5]>(),
            auto_id_prefix in text(),
            max_inflight_messages in 1..=u16::MAX,
            max_queued_messages in prop_oneof![Just(u32::MAX), 1..=0x7fff_ffffu32],
            max_queued_bytes in prop_oneof![Just(u64::MAX), 1..=u64::MAX / 4],
            max_packet_size in 20..=0x7fff_ffffu32,
            max_keepalive in any::<u16>(),
            persistent_client_expiration in prop::option::of(1..=u64::MAX / 4),
            message_size_limit in prop_oneof![Just(u32::MAX), 1..=268_435_455u32],
            sys_interval in any::<u16>(),
        ) -> Config {
            let [allow_anonymous, allow_zero_length_clientid, retain_available, queue_qos0_messages, set_tcp_nodelay] =
                flags;
            Config {
                allow_anonymous, allow_zero_length_clientid, retain_available, queue_qos0_messages, set_tcp_nodelay,
                auto_id_prefix, max_inflight_messages, max_queued_messages, max_queued_bytes, max_packet_size,
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
    fn a_reload_names_what_needs_a_restart() {
        let old = Config::default_local();
        let mut new = old.clone();
        new.max_keepalive = 5;
        new.log_dests.clear();
        assert_eq!(Config::reload_differences(&old, &new), [""; 0]);
        new.workers = Workers::Count(2);
        new.user = Some("other".into());
        assert_eq!(Config::reload_differences(&old, &new), ["user", "workers"]);
        new.listeners[0].socket_domain = SocketDomain::Ipv4;
        assert_eq!(
            Config::reload_differences(&old, &new),
            ["user", "workers", "socket_domain"]
        );
        new.listeners.pop();
        assert_eq!(
            Config::reload_differences(&old, &new),
            ["listener", "user", "workers"]
        );
    }
}
