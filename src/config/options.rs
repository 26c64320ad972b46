//! The table of options: one row for every directive. Parsing, refusal of what is not built yet, the snapshot, the
//! reload rules and the manual page's list follow from the row.

mod bridge;
mod general;
mod listener;
mod logging;
mod security;

use super::fault::Problem;
use super::parse::{Draft, Words};
use super::value::{Kind, Value};
use super::{Config, Listener};

/// One directive.
pub struct Row {
    /// As it stands in a file. A name that ends in `_` and has [`Row::is_prefix`] stands for all that start so.
    pub name: &'static str,
    /// Other names of the same directive.
    pub aliases: &'static [&'static str],
    /// What its value looks like.
    pub kind: Kind,
    /// What holds without it, as the manual says it.
    pub default: &'static str,
    /// What it applies to.
    pub scope: Scope,
    /// What SIGHUP does with it.
    pub reload: Reload,
    /// Whether it works, and how its value gets into the configuration.
    pub state: State,
    /// What to write instead, if the directive is only kept for old files.
    pub deprecated: Option<&'static str>,
    /// Its paragraph in mosquitto.conf(5).
    pub manual: &'static str,
}

/// What a directive applies to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// The whole broker.
    Global,
    /// The `listener` above it, or the default listener.
    Listener,
    /// The `connection` above it.
    Bridge,
}

/// What SIGHUP does with a directive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reload {
    /// The new value holds.
    Applied,
    /// The new value holds for connections made afterwards.
    NewConnections,
    /// The old value stays until a restart, and a log line says so.
    Restart,
}

/// Whether a directive works.
pub enum State {
    /// It works.
    Built(Built),
    /// It is refused, unless it asks for what is done anyway.
    NotBuilt(Accepted),
    /// It is accepted and has no effect; the text says why.
    Ignored(&'static str),
}

/// How a directive that works gets into the configuration and out of it.
pub struct Built {
    /// Into the configuration.
    pub put: Put,
    /// Out of it, for the snapshot.
    pub show: Show,
}

/// How a directive's value gets into the configuration.
pub enum Put {
    /// As a value of the row's [`Kind`].
    Value(fn(&mut Draft, Value)),
    /// From the rest of the line, in a way of its own.
    Line(fn(&mut Draft, &mut Words<'_>) -> Result<(), Problem>),
}

/// What the snapshot says for a row: one entry a line, without the name.
pub enum Show {
    /// From the configuration.
    Global(fn(&Config) -> Vec<String>),
    /// From each listener.
    Listener(fn(&Listener) -> Option<String>),
    /// The snapshot has another row for it.
    Never,
}

/// Which values of a directive that is not built ask for what is done anyway.
pub enum Accepted {
    /// None.
    Nothing,
    /// These, as they stand in a file.
    Values(&'static [&'static str]),
    /// Every valid one: without the features it belongs to, it changes nothing.
    Any,
}

impl Row {
    /// A global option that is applied on reload and not built yet; the steps below say otherwise.
    const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        manual: &'static str,
    ) -> Self {
        Self {
            name,
            aliases: &[],
            kind,
            default,
            scope: Scope::Global,
            reload: Reload::Applied,
            state: State::NotBuilt(Accepted::Nothing),
            deprecated: None,
            manual,
        }
    }

    const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn of(mut self, scope: Scope, reload: Reload) -> Self {
        self.scope = scope;
        self.reload = reload;
        self
    }

    const fn new_connections(mut self) -> Self {
        self.reload = Reload::NewConnections;
        self
    }

    const fn restart(mut self) -> Self {
        self.reload = Reload::Restart;
        self
    }

    const fn is(mut self, state: State) -> Self {
        self.state = state;
        self
    }

    const fn accepts(mut self, values: &'static [&'static str]) -> Self {
        self.state = State::NotBuilt(Accepted::Values(values));
        self
    }

    const fn accepts_any(mut self) -> Self {
        self.state = State::NotBuilt(Accepted::Any);
        self
    }

    const fn deprecated(mut self, instead: &'static str) -> Self {
        self.deprecated = Some(instead);
        self
    }

    /// The row of `name`, which may be an alias.
    pub fn find(name: &str) -> Option<&'static Self> {
        rows().find(|row| row.answers_to(name))
    }

    /// Whether the name is only the beginning of a directive (`plugin_opt_KEY`).
    pub fn is_prefix(&self) -> bool {
        self.name.ends_with('_')
    }

    /// Whether a line that starts with `name` is about this row.
    fn answers_to(&self, name: &str) -> bool {
        std::iter::once(&self.name)
            .chain(self.aliases)
            .any(|own| match own.ends_with('_') {
                true => name.len() > own.len() && name.starts_with(own),
                false => name == *own,
            })
    }
}

/// Every row, in the order of the manual page.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    sections().into_iter().flat_map(|(_, rows)| rows)
}

/// The rows under the manual page's headings.
pub fn sections() -> [(&'static str, &'static [Row]); 8] {
    [
        ("General options", general::ROWS),
        ("Listeners", listener::ROWS),
        ("TLS, PSK and the PROXY protocol", security::TRANSPORT_ROWS),
        ("WebSockets and HTTP", security::HTTP_ROWS),
        ("Persistence", logging::PERSISTENCE_ROWS),
        ("Logging", logging::ROWS),
        ("Plugins and access files", security::PLUGIN_ROWS),
        ("Bridges", bridge::ROWS),
    ]
}

/// A global option held in the field of the same name.
macro_rules! global {
    ($field:ident) => {
        State::Built(Built {
            put: Put::Value(|draft, value| draft.config.$field.set(value)),
            show: Show::Global(|config| config.$field.show().into_iter().collect()),
        })
    };
}

/// A global limit held in the field of the same name, whose largest value is "no limit".
macro_rules! global_limit {
    ($field:ident) => {
        State::Built(Built {
            put: Put::Value(|draft, value| draft.config.$field.set_limit(value)),
            show: Show::Global(|config| vec![config.$field.show_limit()]),
        })
    };
}

/// An option of a listener held in the field of the same name.
macro_rules! of_listener {
    ($field:ident) => {
        State::Built(Built {
            put: Put::Value(|draft, value| draft.listener().$field.set(value)),
            show: Show::Listener(|listener| listener.$field.show()),
        })
    };
}

use {global, global_limit, of_listener};

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::config::{Overrides, Source};

    /// Every directive of the original.
    const DIRECTIVES: &str = "include_dir user pid_file per_listener_settings allow_anonymous \
        allow_duplicate_messages allow_zero_length_clientid auto_id_prefix check_retain_source clientid_prefixes \
        connection_messages enable_control_api global_max_clients global_max_connections max_inflight_bytes \
        max_inflight_messages max_keepalive max_packet_size max_queued_bytes max_queued_messages memory_limit \
        message_size_limit queue_qos0_messages retain_available retain_expiry_interval set_tcp_nodelay sys_interval \
        upgrade_outgoing_qos packet_buffer_size websockets_headers_size retry_interval dhparamfile listener port \
        bind_address bind_interface socket_domain protocol accept_protocol_versions max_connections max_qos \
        maximum_qos max_topic_alias max_topic_alias_broker mount_point use_username_as_clientid \
        listener_allow_anonymous listener_auto_id_prefix cafile capath certfile keyfile crlfile ciphers \
        ciphers_tls1.3 tls_version require_certificate use_identity_as_username use_subject_as_username \
        disable_client_cert_date_checks tls_engine tls_keyform tls_engine_kpass_sha1 psk_hint psk_file \
        enable_proxy_protocol proxy_protocol_v2_require_tls websockets_origin websockets_log_level http_dir \
        persistence retained_persistence persistence_file persistence_location autosave_interval \
        autosave_on_changes persistent_client_expiration log_dest log_type log_facility log_timestamp \
        log_timestamp_format plugin auth_plugin global_plugin plugin_load plugin_use plugin_opt_key auth_opt_key \
        auth_plugin_deny_special_chars password_file acl_file connection address addresses topic \
        bridge_attempt_unsubscribe bridge_bind_address bridge_max_packet_size bridge_max_topic_alias \
        bridge_outgoing_retain bridge_protocol_version bridge_receive_maximum bridge_reload_type \
        bridge_session_expiry_interval bridge_tcp_keepalive bridge_tcp_user_timeout cleansession \
        local_cleansession keepalive_interval idle_timeout threshold start_type restart_timeout round_robin \
        try_private notifications notifications_local_only notification_topic remote_clientid clientid \
        remote_username username remote_password password local_clientid local_username local_password \
        bridge_cafile bridge_capath bridge_certfile bridge_keyfile bridge_alpn bridge_ciphers \
        bridge_ciphers_tls1.3 bridge_tls_version bridge_insecure bridge_require_ocsp bridge_tls_use_os_certs \
        bridge_identity bridge_psk";

    #[test]
    fn every_directive_of_the_original_has_its_row_and_no_other_row_claims_to_be_one() {
        let mut found = HashSet::new();
        for name in DIRECTIVES.split_whitespace() {
            let row = Row::find(name).unwrap_or_else(|| panic!("{name} has no row"));
            found.insert(row.name);
        }
        for row in rows() {
            let is_ours = row.manual.ends_with("Only here, not in the original.");
            assert_ne!(found.contains(row.name), is_ours, "{}", row.name);
        }
    }

    #[test]
    fn no_name_stands_for_two_rows() {
        let names = rows().flat_map(|row| std::iter::once(&row.name).chain(row.aliases));
        let mut seen = HashSet::new();
        for name in names {
            assert!(seen.insert(name), "{name} stands twice");
            let answering = rows()
                .filter(|row| row.answers_to(&format!("{name}x")))
                .count();
            assert_eq!(answering, usize::from(name.ends_with('_')), "{name}");
        }
    }

    /// The default as the manual says it, put into a file, changes nothing.
    #[test]
    fn documented_defaults_are_the_real_ones() {
        let mut checked = 0;
        for row in rows() {
            let values: Vec<_> = match (row.name, row.default) {
                (
                    _,
                    "unset" | "never" | "both" | "every address" | "seconds since 1970"
                    | "mosquitto",
                ) => continue,
                ("allow_anonymous", _) => vec!["true"],
                // Of the default listener, which these would make.
                ("port", _) => continue,
                ("log_type", default) => default.split(", ").collect(),
                (_, default) if default.starts_with("as ") => continue,
                (_, default) => vec![default],
            };
            if !matches!(row.state, State::Built(_)) {
                continue;
            }
            let lines: Vec<_> = values
                .iter()
                .map(|value| format!("{} {value}\n", row.name))
                .collect();
            let source = Source {
                path: "t.conf".into(),
                text: lines.concat().into_bytes(),
                includes: Vec::new(),
            };
            let config = Config::parse(&source, &Overrides::default()).config;
            assert_eq!(config, Ok(Config::default_local()), "{}", row.name);
            checked += 1;
        }
        assert!(checked > 20, "{checked} defaults");
    }

    #[test]
    fn options_that_work_reach_the_configuration() {
        let lines = [
            ("allow_anonymous false", ""),
            ("allow_zero_length_clientid false", ""),
            ("auto_id_prefix p", ""),
            ("bind_address ::1", ""),
            ("client_byte_rate 7", ""),
            ("max_subscriptions 7", ""),
            ("max_topic_levels 7", ""),
            ("client_message_rate 7", ""),
            ("clientid_prefixes p", ""),
            ("listener_byte_rate 7", ""),
            ("listener_message_rate 7", ""),
            ("connect_timeout 7", ""),
            ("global_max_output_bytes 7", ""),
            ("max_output_bytes 77777", ""),
            ("tcp_keepalive 7 8 9", ""),
            ("connection_messages false", ""),
            ("global_max_clients 7", ""),
            ("global_max_connections 7", ""),
            ("global_max_queued_bytes 7", ""),
            ("global_max_retained_messages 7", ""),
            ("include_dir d", "reads files"),
            ("listener 1", ""),
            ("accept_protocol_versions 5", ""),
            ("listener_allow_anonymous false", ""),
            ("listener_auto_id_prefix p", ""),
            ("log_dest stdout", ""),
            ("log_timestamp false", ""),
            ("log_timestamp_format %H", ""),
            ("log_type debug", ""),
            ("max_connections 1", ""),
            ("max_inflight_bytes 7", ""),
            ("max_inflight_messages 7", ""),
            ("max_keepalive 7", ""),
            ("max_packet_size 77", ""),
            ("max_qos 1", ""),
            ("max_topic_alias 7", ""),
            ("max_topic_alias_broker 7", ""),
            ("mount_point m/", ""),
            ("max_queued_bytes 7", ""),
            ("max_queued_messages 7", ""),
            ("memory_limit 7", ""),
            ("message_size_limit 7", ""),
            ("persistent_client_expiration 7d", ""),
            ("pid_file p", ""),
            ("port 1", ""),
            ("queue_policy drop-oldest", ""),
            ("queue_qos0_messages true", ""),
            ("retain_available false", ""),
            ("retain_expiry_interval 7", ""),
            ("ring_size 65536", ""),
            ("set_tcp_nodelay true", ""),
            ("socket_domain ipv4", ""),
            ("sys_interval 7", ""),
            ("use_username_as_clientid true", ""),
            ("upgrade_outgoing_qos true", ""),
            ("user u", ""),
            ("workers 1", ""),
        ];
        for (line, skip) in lines {
            let name = line.split(' ').next().unwrap_or_default();
            let row = Row::find(name).unwrap_or_else(|| panic!("{name}"));
            assert!(matches!(row.state, State::Built(_)), "{name}");
            if skip.is_empty() {
                let source = Source {
                    path: "t.conf".into(),
                    text: line.as_bytes().to_vec(),
                    includes: Vec::new(),
                };
                let config = Config::parse(&source, &Overrides::default()).config;
                assert_ne!(config.expect(line), Config::default_local(), "{line}");
            }
        }
        let built = rows().filter(|row| matches!(row.state, State::Built(_)));
        for row in built {
            let is_this = |(line, _): &(&str, &str)| line.split(' ').next() == Some(row.name);
            assert!(lines.iter().any(is_this), "{} is missing above", row.name);
        }
    }

    #[test]
    fn every_row_has_a_manual_text_of_whole_sentences() {
        for row in rows() {
            assert!(
                row.manual.ends_with('.') && row.manual.len() > 10,
                "{}",
                row.name
            );
            assert!(
                !row.manual.contains("  ") && row.manual.is_ascii(),
                "{}",
                row.name
            );
        }
    }
}
