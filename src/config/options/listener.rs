//! Rows of a listener, but not of what secures it.

use super::{Built, Put, Reload, Row, Scope, Show, State, of_listener};
use crate::base::limits::AUTO_ID_PREFIX_BYTES_MAX;
use crate::base::log::LogType;
use crate::config::fault::Problem;
use crate::config::parse::{Draft, Words};
use crate::config::value::{Kind, Setting as _, int_of};
use crate::config::{Listener, TcpKeepalive, Versions};

/// The rows, in the order of the manual page.
pub static ROWS: &[Row] = &[
    Row::new(
        "listener",
        Kind::Special("PORT [ADDRESS]"),
        "unset",
        "Listens on the port, on every address of the machine or on the one given as a name, an IPv4 or an IPv6 \
         address. The options of listeners that follow are about this one. Without any listener the broker listens on \
         port 1883 of the loopback addresses only. Port 0 with the path of a Unix socket is not built yet.",
    )
    .of(Scope::Listener, Reload::Restart)
    .is(State::Built(Built {
        put: Put::Line(listener),
        show: Show::Never,
    })),
    Row::new(
        "accept_protocol_versions",
        Kind::Special("VERSION[,VERSION...]"),
        "3,4,5",
        "The MQTT versions that are accepted: 3 for 3.1, 4 for 3.1.1, 5 for 5.0. On reload, clients of a version that is \
         not accepted any more are disconnected.",
    )
    .of(Scope::Listener, Reload::NewConnections)
    .is(State::Built(Built {
        put: Put::Line(accept_protocol_versions),
        show: Show::Listener(|listener| show_versions(listener.versions)),
    })),
    Row::new(
        "bind_address",
        Kind::Host,
        "every address",
        "The address of the default listener.",
    )
    .of(Scope::Listener, Reload::Restart)
    .deprecated("use listener")
    .is(State::Built(Built {
        put: Put::Value(|draft, value| draft.default_listener.address.set(value)),
        show: Show::Never,
    })),
    Row::new(
        "bind_interface",
        Kind::TEXT,
        "every interface",
        "Listens on the addresses of this network interface only.",
    )
    .of(Scope::Listener, Reload::Restart),
    Row::new(
        "listener_allow_anonymous",
        Kind::Bool,
        "as allow_anonymous",
        "Whether clients of this listener may connect without a user name.",
    )
    .of(Scope::Listener, Reload::NewConnections)
    .is(of_listener!(allow_anonymous)),
    Row::new(
        "listener_auto_id_prefix",
        Kind::Text {
            bytes_max: AUTO_ID_PREFIX_BYTES_MAX,
        },
        "as auto_id_prefix",
        "What the client ids start with that the broker assigns to clients of this listener; at most 50 bytes.",
    )
    .of(Scope::Listener, Reload::NewConnections)
    .is(of_listener!(auto_id_prefix)),
    Row::new(
        "listener_byte_rate",
        Kind::int_from(0),
        "0",
        "Bytes that all clients of this listener together may send in a second; 0 is no limit. Each worker has an equal \
         part of it, rounded up, for the clients that it serves; they take turns. Who has to wait is not disconnected, \
         but not read meanwhile. Only here, not in the original.",
    )
    .of(Scope::Listener, Reload::Applied)
    .is(of_listener!(byte_rate)),
    Row::new(
        "listener_message_rate",
        Kind::int_from(0),
        "0",
        "Messages that all clients of this listener together may publish in a second, as with listener_byte_rate; 0 is \
         no limit. Only here, not in the original.",
    )
    .of(Scope::Listener, Reload::Applied)
    .is(of_listener!(message_rate)),
    Row::new(
        "max_connections",
        Kind::Int {
            min: i32::MIN as i64,
            max: i32::MAX as i64,
        },
        "-1",
        "Connections to this listener at most; 0 and less is no limit. Further ones are closed when they have sent their \
         CONNECT, or at once while as many others have not sent theirs. A client that takes its session over from \
         another connection to this listener is never one more.",
    )
    .of(Scope::Listener, Reload::NewConnections)
    .is(of_listener!(max_connections)),
    Row::new(
        "max_qos",
        Kind::Int { min: 0, max: 2 },
        "2",
        "The largest QoS that clients of this listener may use. MQTT 5.0 clients are told.",
    )
    .aliases(&["maximum_qos"])
    .of(Scope::Listener, Reload::NewConnections)
    .is(of_listener!(max_qos)),
    Row::new(
        "max_topic_alias",
        Kind::Int {
            min: 0,
            max: u16::MAX as i64,
        },
        "10",
        "Topic aliases that an MQTT 5.0 client may set; 0 is none. Clients are told.",
    )
    .of(Scope::Listener, Reload::NewConnections)
    .is(of_listener!(max_topic_alias)),
    Row::new(
        "max_topic_alias_broker",
        Kind::Int {
            min: 0,
            max: u16::MAX as i64,
        },
        "10",
        "Topic aliases that the broker sets at most towards an MQTT 5.0 client that takes some; 0 is none. The topics that \
         come first get one.",
    )
    .of(Scope::Listener, Reload::NewConnections)
    .is(of_listener!(max_topic_alias_broker)),
    Row::new(
        "mount_point",
        Kind::TopicStart,
        "unset",
        "A prefix for all topics of the clients of this listener, which they do not see: of what they publish, of their \
         wills and of what they subscribe to; in a shared subscription it stands behind the group. Clients of one listener \
         share it, so they see each other's messages, but nothing else. Response topics pass unchanged. It should end with \
         a slash; without one, a subscription that begins with a wildcard is refused.",
    )
    .of(Scope::Listener, Reload::NewConnections)
    .is(of_listener!(mount_point)),
    Row::new(
        "port",
        Kind::Special("PORT"),
        "1883",
        "The port of the default listener.",
    )
    .of(Scope::Listener, Reload::Restart)
    .deprecated("use listener")
    .is(State::Built(Built {
        put: Put::Line(port),
        show: Show::Never,
    })),
    Row::new(
        "protocol",
        Kind::Choice(&["mqtt", "websockets", "http_api"]),
        "mqtt",
        "What clients of this listener speak.",
    )
    .of(Scope::Listener, Reload::NewConnections)
    .accepts(&["mqtt"]),
    Row::new(
        "socket_domain",
        Kind::Choice(&["ipv4", "ipv6"]),
        "both",
        "Listens on addresses of this family only.",
    )
    .of(Scope::Listener, Reload::Restart)
    .is(of_listener!(socket_domain)),
    Row::new(
        "tcp_keepalive",
        Kind::Special("IDLE INTERVAL COUNT"),
        "as the system does",
        "Has the system ask a client from which nothing came for IDLE seconds whether it is still there, every INTERVAL \
         seconds, and end the connection after COUNT questions without an answer. It finds dead clients whose keep-alive \
         is off. Only here, not in the original.",
    )
    .of(Scope::Listener, Reload::NewConnections)
    .is(State::Built(Built {
        put: Put::Line(tcp_keepalive),
        show: Show::Listener(|listener| {
            let k = listener.tcp_keepalive?;
            Some(format!("{} {} {}", k.idle_secs, k.interval_secs, k.count))
        }),
    })),
    Row::new(
        "use_username_as_clientid",
        Kind::Bool,
        "false",
        "Whether a client's user name takes the place of its client id. A client without a user name is refused then.",
    )
    .of(Scope::Listener, Reload::NewConnections)
    .is(of_listener!(use_username_as_clientid)),
];

fn listener(draft: &mut Draft, words: &mut Words<'_>) -> Result<(), Problem> {
    let port = port_of("listener", words, 0)?;
    // The original takes the rest of the line, and lets a comment follow.
    let address = words
        .rest()?
        .map(|rest| rest.split(" #").next().unwrap_or(rest).trim())
        .filter(|address| !address.is_empty() && !address.starts_with('#'));
    match (port, address) {
        (0, None) => Err(Problem::UnixWithoutPath),
        (0, Some(_)) => Err(Problem::NotBuilt {
            unless: "a port above 0, Unix sockets come later".to_owned(),
        }),
        (_, Some(address)) if address.contains(' ') => Err(Problem::Invalid {
            option: "listener".to_owned(),
            value: address.to_owned(),
            allowed: "a port and one host name or address".to_owned(),
        }),
        _ => draft.begin_listener(Listener::new(port, address.map(str::to_owned))),
    }
}

fn port(draft: &mut Draft, words: &mut Words<'_>) -> Result<(), Problem> {
    let port = port_of("port", words, 1)?;
    if draft.default_listener.port != 0 {
        draft.notice(
            LogType::Warning,
            "port",
            format_args!(
                "Default listener port specified multiple times. Only the latest will be used"
            ),
        );
    }
    draft.default_listener.port = port;
    Ok(())
}

fn port_of(option: &str, words: &mut Words<'_>, min: u16) -> Result<u16, Problem> {
    let word = words.word()?.ok_or_else(|| Problem::Empty {
        option: option.to_owned(),
    })?;
    int_of(word)
        .and_then(|n| u16::try_from(n).ok())
        .filter(|port| *port >= min)
        .ok_or_else(|| Problem::Invalid {
            option: "port".to_owned(),
            value: word.to_owned(),
            allowed: "1 to 65535".to_owned(),
        })
}

fn accept_protocol_versions(draft: &mut Draft, words: &mut Words<'_>) -> Result<(), Problem> {
    let text = words.rest()?.ok_or_else(|| Problem::Empty {
        option: "accept_protocol_versions".to_owned(),
    })?;
    let mut versions = Versions {
        v31: false,
        v311: false,
        v5: false,
    };
    for word in text.split([',', ' ']).filter(|word| !word.is_empty()) {
        match word {
            "3" => versions.v31 = true,
            "4" => versions.v311 = true,
            "5" => versions.v5 = true,
            _ => return Err(invalid_versions(text)),
        }
    }
    if show_versions(versions).is_some_and(|shown| shown.is_empty()) {
        return Err(invalid_versions(text));
    }
    draft.listener().versions = versions;
    Ok(())
}

fn tcp_keepalive(draft: &mut Draft, words: &mut Words<'_>) -> Result<(), Problem> {
    let mut numbers = [0; 3];
    // What Linux takes for each.
    for (number, most) in numbers.iter_mut().zip([32_767, 32_767, 127]) {
        let word = words.word()?.ok_or_else(|| Problem::Empty {
            option: "tcp_keepalive".to_owned(),
        })?;
        *number = int_of(word)
            .and_then(|n| u16::try_from(n).ok())
            .filter(|n| (1..=most).contains(n))
            .ok_or_else(|| Problem::Invalid {
                option: "tcp_keepalive".to_owned(),
                value: word.to_owned(),
                allowed: "three numbers: seconds and seconds, 1 to 32767, and a count, 1 to 127"
                    .to_owned(),
            })?;
    }
    let [idle_secs, interval_secs, count] = numbers;
    draft.listener().tcp_keepalive = Some(TcpKeepalive {
        idle_secs,
        interval_secs,
        count: u8::try_from(count).unwrap_or(u8::MAX),
    });
    Ok(())
}

fn invalid_versions(text: &str) -> Problem {
    Problem::Invalid {
        option: "accept_protocol_versions".to_owned(),
        value: text.to_owned(),
        allowed: "some of 3, 4, 5 with commas between them".to_owned(),
    }
}

fn show_versions(versions: Versions) -> Option<String> {
    let all = [
        (versions.v31, "3"),
        (versions.v311, "4"),
        (versions.v5, "5"),
    ];
    let accepted: Vec<_> = all.iter().filter(|(on, _)| *on).map(|(_, n)| *n).collect();
    (versions != Versions::ALL).then(|| accepted.join(","))
}
