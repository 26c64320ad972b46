//! Rows of a bridge to another broker. None is built yet.

use super::{Reload, Row, Scope};
use crate::config::value::Kind;

/// The rows, in the order of the manual page.
pub static ROWS: &[Row] = &[
    text("connection", "unset", "Begins a bridge of this name; the options of bridges that follow are about it."),
    text(
        "address",
        "unset",
        "The brokers to connect to, each a HOST[:PORT], with spaces between them; port 1883 if none is given.",
    )
    .aliases(&["addresses"]),
    Row::new(
        "topic",
        Kind::Special("PATTERN [out | in | both [QOS [LOCAL-PREFIX [REMOTE-PREFIX]]]]"),
        "unset",
        "What is exchanged, which way, and what is put before the topics on either side.",
    )
    .of(Scope::Bridge, Reload::Applied),
    text("bridge_alpn", "unset", "The protocol to ask for in the TLS handshake."),
    flag("bridge_attempt_unsubscribe", "true", "Whether topics that are not bridged any more are unsubscribed."),
    text("bridge_bind_address", "unset", "The local address of the connection."),
    text("bridge_cafile", "unset", "A file with the certificates of the authorities that are trusted."),
    text("bridge_capath", "unset", "A directory with such certificates."),
    text("bridge_certfile", "unset", "The bridge's own certificate."),
    text("bridge_ciphers", "unset", "The ciphers for TLS 1.2."),
    text("bridge_ciphers_tls1.3", "unset", "The ciphers for TLS 1.3."),
    text("bridge_identity", "unset", "The PSK identity."),
    flag("bridge_insecure", "false", "Whether the certificate's host name is not checked."),
    text("bridge_keyfile", "unset", "The private key of the bridge's certificate."),
    number("bridge_max_packet_size", 0, "0", "The largest packet that is sent; 0 is no limit."),
    number("bridge_max_topic_alias", 0, "10", "Topic aliases that the other broker may set."),
    flag("bridge_outgoing_retain", "true", "Whether retained messages are sent as retained."),
    Row::new(
        "bridge_protocol_version",
        Kind::Choice(&["mqttv31", "mqttv311", "mqttv50"]),
        "mqttv311",
        "The MQTT version of the connection.",
    )
    .of(Scope::Bridge, Reload::Applied),
    text("bridge_psk", "unset", "The pre-shared key in hexadecimal."),
    number(
        "bridge_receive_maximum",
        1,
        "as max_inflight_messages",
        "QoS 1 and 2 messages that the other broker may have under way.",
    ),
    Row::new(
        "bridge_reload_type",
        Kind::Choice(&["lazy", "immediate"]),
        "lazy",
        "Whether a reload waits for the next connection or makes one.",
    )
    .of(Scope::Bridge, Reload::Applied),
    flag("bridge_require_ocsp", "false", "Whether the other broker must prove that its certificate was not revoked."),
    number("bridge_session_expiry_interval", 0, "0", "Seconds that the other broker keeps the session; MQTT 5.0 only."),
    Row::new(
        "bridge_tcp_keepalive",
        Kind::Special("IDLE INTERVAL COUNT"),
        "unset",
        "TCP keep-alive: seconds of silence, seconds between probes, probes.",
    )
    .of(Scope::Bridge, Reload::Applied),
    number("bridge_tcp_user_timeout", 0, "unset", "Milliseconds after which data without a TCP answer ends the connection."),
    flag("bridge_tls_use_os_certs", "false", "Whether the system's authorities are trusted."),
    text("bridge_tls_version", "tlsv1.2", "The lowest version of TLS that is accepted."),
    flag("cleansession", "false", "Whether the other broker forgets the session at every disconnect."),
    number("idle_timeout", 1, "60", "Seconds without traffic after which a lazy bridge disconnects."),
    number("keepalive_interval", 5, "60", "The keep-alive of the connection in seconds, at least 5."),
    flag("local_cleansession", "as cleansession", "Whether the local side forgets its session at every disconnect."),
    text("local_clientid", "local.REMOTE_CLIENTID", "The client id towards this broker."),
    text("local_password", "unset", "The password towards this broker."),
    text("local_username", "unset", "The user name towards this broker."),
    text(
        "notification_topic",
        "$SYS/broker/connection/CLIENTID/state",
        "Where the state of the connection is published.",
    ),
    flag("notifications", "true", "Whether the state of the connection is published, as 1 and 0."),
    flag("notifications_local_only", "false", "Whether it is published to this broker only."),
    text("remote_clientid", "HOSTNAME.NAME", "The client id towards the other broker.").aliases(&["clientid"]),
    text("remote_password", "unset", "The password towards the other broker.").aliases(&["password"]),
    text("remote_username", "unset", "The user name towards the other broker.").aliases(&["username"]),
    Row::new(
        "restart_timeout",
        Kind::Special("SECONDS | BASE CAP [STABLE]"),
        "5 30",
        "Seconds before the next attempt to connect: always the same, or random between bounds that grow.",
    )
    .of(Scope::Bridge, Reload::Applied),
    flag("round_robin", "false", "Whether all addresses are equal; otherwise the first is preferred."),
    Row::new(
        "start_type",
        Kind::Choice(&["automatic", "lazy", "once"]),
        "automatic",
        "Whether the bridge connects at once and again, when there is something to send, or once only.",
    )
    .of(Scope::Bridge, Reload::Applied),
    number("threshold", 1, "10", "Messages that wait before a lazy bridge connects."),
    flag("try_private", "true", "Whether the other broker is told that this is a bridge, so that loops are found."),
];

const fn text(name: &'static str, default: &'static str, manual: &'static str) -> Row {
    Row::new(name, Kind::TEXT, default, manual).of(Scope::Bridge, Reload::Applied)
}

const fn flag(name: &'static str, default: &'static str, manual: &'static str) -> Row {
    Row::new(name, Kind::Bool, default, manual).of(Scope::Bridge, Reload::Applied)
}

const fn number(name: &'static str, min: i64, default: &'static str, manual: &'static str) -> Row {
    Row::new(name, Kind::int_from(min), default, manual).of(Scope::Bridge, Reload::Applied)
}
