//! Rows of what secures a listener, of WebSockets and HTTP, and of plugins. None is built yet.

use super::{Reload, Row, Scope, State};
use crate::config::value::Kind;

/// The rows of TLS, PSK and the PROXY protocol, in the order of the manual page.
pub static TRANSPORT_ROWS: &[Row] = &[
    secret(
        "cafile",
        Kind::TEXT,
        "A file with the certificates of the authorities that may sign those of clients.",
    ),
    secret(
        "capath",
        Kind::TEXT,
        "A directory with such certificates, prepared with openssl rehash.",
    ),
    secret(
        "certfile",
        Kind::TEXT,
        "The server's certificate in PEM, followed by those between it and its authority. Turns TLS on.",
    ),
    secret(
        "keyfile",
        Kind::TEXT,
        "The private key of the certificate in PEM.",
    ),
    secret(
        "crlfile",
        Kind::TEXT,
        "A file in PEM with certificates of clients that were revoked.",
    ),
    secret(
        "ciphers",
        Kind::TEXT,
        "The ciphers for TLS 1.2 and PSK.",
    ),
    secret("ciphers_tls1.3", Kind::TEXT, "The ciphers for TLS 1.3."),
    secret(
        "dhparamfile",
        Kind::TEXT,
        "Was a file with parameters for a key exchange.",
    )
    .is(State::Ignored("such key exchanges are not used any more")),
    secret(
        "disable_client_cert_date_checks",
        Kind::Bool,
        "Whether certificates of clients count outside of their dates too, for devices without a clock.",
    )
    .accepts(&["false"]),
    secret(
        "enable_proxy_protocol",
        Kind::Int { min: 1, max: 2 },
        "Expects the PROXY protocol of this version before anything else, and takes the client's address from it.",
    ),
    secret(
        "proxy_protocol_v2_require_tls",
        Kind::Bool,
        "Whether the proxy must say that the client uses TLS.",
    )
    .accepts(&["false"]),
    secret(
        "psk_file",
        Kind::TEXT,
        "A file of identities and keys, one pair IDENTITY:HEXKEY a line.",
    ),
    secret(
        "psk_hint",
        Kind::TEXT,
        "Turns PSK on for this listener and is sent to clients as a hint which identity to use.",
    ),
    secret(
        "require_certificate",
        Kind::Bool,
        "Whether clients must show a certificate.",
    )
    .accepts(&["false"]),
    secret(
        "tls_engine",
        Kind::TEXT,
        "The OpenSSL engine that holds the key.",
    ),
    secret(
        "tls_engine_kpass_sha1",
        Kind::TEXT,
        "The SHA-1 of the password of that engine's key.",
    ),
    secret(
        "tls_keyform",
        Kind::Choice(&["pem", "engine"]),
        "Where the private key is: in a file or in an engine.",
    )
    .accepts(&["pem"]),
    secret(
        "tls_version",
        Kind::Choice(&["tlsv1.3", "tlsv1.2", "tlsv1.1"]),
        "The lowest version of TLS that is accepted.",
    ),
    secret(
        "use_identity_as_username",
        Kind::Bool,
        "Whether the common name of the client's certificate, or its PSK identity, is its user name.",
    )
    .accepts(&["false"]),
    secret(
        "use_subject_as_username",
        Kind::Bool,
        "Whether the whole subject of the client's certificate is its user name.",
    )
    .accepts(&["false"]),
];

/// The rows of WebSockets and HTTP, in the order of the manual page.
pub static HTTP_ROWS: &[Row] = &[
    secret(
        "http_dir",
        Kind::TEXT,
        "A directory of files that a listener for HTTP serves.",
    ),
    secret(
        "websockets_log_level",
        Kind::int_from(0),
        "Was the log level of a library of the original.",
    )
    .is(State::Ignored("that library is not used")),
    secret(
        "websockets_origin",
        Kind::TEXT,
        "The origin that a WebSocket's page may have; may be given more than once.",
    ),
];

/// The rows of plugins and access files, in the order of the manual page.
pub static PLUGIN_ROWS: &[Row] = &[
    Row::new(
        "acl_file",
        Kind::TEXT,
        "unset",
        "A file that says who may read and write which topics.",
    ),
    Row::new(
        "auth_plugin_deny_special_chars",
        Kind::Bool,
        "true",
        "Whether clients whose user name or client id holds +, # or / are refused before a plugin is asked.",
    )
    .accepts_any(),
    Row::new(
        "global_plugin",
        Kind::TEXT,
        "unset",
        "Loads a plugin for the whole broker.",
    )
    .restart(),
    Row::new(
        "password_file",
        Kind::TEXT,
        "unset",
        "A file of users and their hashed passwords.",
    ),
    Row::new("plugin", Kind::TEXT, "unset", "Loads a plugin.")
        .aliases(&["auth_plugin"])
        .restart(),
    Row::new(
        "plugin_load",
        Kind::Special("NAME PATH"),
        "unset",
        "Loads a plugin under a name.",
    )
    .restart(),
    Row::new(
        "plugin_opt_",
        Kind::TEXT,
        "unset",
        "An option of the plugin above it; the rest of the name is up to the plugin.",
    )
    .aliases(&["auth_opt_"])
    .restart(),
    Row::new(
        "plugin_use",
        Kind::TEXT,
        "unset",
        "Uses a plugin that was loaded under this name on this listener.",
    )
    .of(Scope::Listener, Reload::Restart),
];

const fn secret(name: &'static str, kind: Kind, manual: &'static str) -> Row {
    let default = match kind {
        Kind::Bool => "false",
        _ => "unset",
    };
    Row::new(name, kind, default, manual).of(Scope::Listener, Reload::NewConnections)
}
