//! Rows of the whole broker.

use super::{Built, Put, Row, Show, State, global, global_limit};
use crate::base::limits::{
    AUTO_ID_PREFIX_BYTES_MAX, OUTPUT_BYTES_MIN, REMAINING_LENGTH_MAX, RING_BYTES_MAX,
    RING_SIZE_BYTES_MIN, TOPIC_LEVELS_MAX, WORKERS_MAX,
};
use crate::config::Workers;
use crate::config::fault::Problem;
use crate::config::parse::{Draft, Words};
use crate::config::value::{Kind, LimitSetting as _, Setting as _, int_of};

/// The rows, in the order of the manual page.
pub static ROWS: &[Row] = &[
    Row::new(
        "allow_anonymous",
        Kind::Bool,
        "false; true while no listener is configured",
        "Whether clients may connect without a user name. Without any listener in the configuration only this machine \
         can connect, and then the default is true.",
    )
    .is(State::Built(Built {
        put: Put::Value(|draft, value| draft.anonymous.set(value)),
        show: Show::Global(|config| config.allow_anonymous.show().into_iter().collect()),
    })),
    Row::new(
        "allow_duplicate_messages",
        Kind::Bool,
        "true",
        "Accepted without effect: a client with overlapping subscriptions gets a message once.",
    )
    .accepts_any()
    .deprecated("a client with overlapping subscriptions gets a message once"),
    Row::new(
        "allow_zero_length_clientid",
        Kind::Bool,
        "true",
        "Whether an MQTT 3.1.1 client may connect with an empty client id and get one from the broker.",
    )
    .is(global!(allow_zero_length_clientid)),
    Row::new(
        "auto_id_prefix",
        Kind::Text {
            bytes_max: AUTO_ID_PREFIX_BYTES_MAX,
        },
        "auto-",
        "What the client ids start with that the broker assigns; at most 50 bytes.",
    )
    .is(global!(auto_id_prefix))
    .deprecated("use listener_auto_id_prefix"),
    Row::new(
        "check_retain_source",
        Kind::Bool,
        "true",
        "Whether a retained message is sent only while the client that set it may still publish it. Without access \
         control both values mean the same.",
    )
    .accepts_any(),
    Row::new(
        "client_byte_rate",
        Kind::int_from(0),
        "0",
        "Bytes that one client may send in a second; 0 is no limit. Who was quiet may send those of a second at once. A \
         client that sends more is not disconnected: it is not read until it has credit again. Only here, not in the \
         original.",
    )
    .is(global!(client_byte_rate)),
    Row::new(
        "client_message_rate",
        Kind::int_from(0),
        "0",
        "Messages that one client may publish in a second, as with client_byte_rate; 0 is no limit. Only here, not in \
         the original.",
    )
    .is(global!(client_message_rate)),
    Row::new(
        "clientid_prefixes",
        Kind::TEXT,
        "unset",
        "Accepts only client ids that start with this text; with use_username_as_clientid, user names. On reload, clients \
         whose ids do not are disconnected.",
    )
    .is(global!(clientid_prefixes))
    .deprecated("use access control by client id"),
    Row::new(
        "connect_timeout",
        Kind::Int {
            min: 1,
            max: u16::MAX as i64,
        },
        "60",
        "Seconds from the accept of a connection until its client must have been let in. Then it is closed, however much \
         of its CONNECT has come. Only here, not in the original.",
    )
    .is(global!(connect_timeout)),
    Row::new(
        "connection_messages",
        Kind::Bool,
        "true",
        "Whether the log shows clients that connect and disconnect.",
    )
    .is(global!(connection_messages)),
    Row::new(
        "enable_control_api",
        Kind::Bool,
        "false",
        "Whether clients may ask the broker about itself on $CONTROL/broker/v1.",
    )
    .accepts(&["false"]),
    Row::new(
        "global_max_clients",
        Kind::int_from(-1),
        "-1",
        "Clients at most, the absent ones with a persistent session included; 0 and -1 are no limit. Who comes beyond \
         them is refused: MQTT 5.0 clients with quota exceeded, others with server unavailable. A client that has a \
         session is never one more.",
    )
    .is(global!(global_max_clients)),
    Row::new(
        "global_max_connections",
        Kind::int_from(-1),
        "-1",
        "Connections at most, all listeners together; 0 and -1 are no limit. Further ones are closed when they have sent \
         their CONNECT, or at once while as many others have not sent theirs. A client that takes its session over \
         from another connection is never one more.",
    )
    .is(global!(global_max_connections)),
    Row::new(
        "global_max_queued_bytes",
        Kind::Limit {
            max: i64::MAX - 1,
        },
        "0",
        "Bytes of messages that may wait for all clients together beyond those under way; 0 is no limit. A message that \
         waits for many clients counts for each. What waits in another process is known a tenth of a second later, so \
         that a burst may exceed it by what comes in that time. Only here, not in the original.",
    )
    .is(global_limit!(global_max_queued_bytes)),
    Row::new(
        "global_max_output_bytes",
        Kind::Special("auto | BYTES"),
        "auto",
        "Bytes that may wait for clients that do not read, all together; 0 is no limit. With auto it is one eighth of the \
         machine's memory. Each worker has an equal part of it. When that is used up, those for whom most waits are \
         disconnected (reason 0x97 in MQTT 5.0). Only here, not in the original.",
    )
    .is(State::Built(Built {
        put: Put::Line(global_max_output_bytes),
        show: Show::Global(|config| {
            let bytes = config.global_max_output_bytes.map(|bytes| bytes.to_string());
            vec![bytes.unwrap_or_else(|| "auto".to_owned())]
        }),
    })),
    Row::new(
        "global_max_retained_messages",
        Kind::Limit {
            max: i32::MAX as i64,
        },
        "0",
        "Topics that may have a retained message, those below $SYS apart; 0 is no limit. Beyond it a message on another topic is sent to \
         subscribers but not retained, and the log says so. Those that are retained can always be replaced and cleared. \
         Only here, not in the original.",
    )
    .is(global_limit!(global_max_retained_messages)),
    Row::new(
        "include_dir",
        Kind::Special("DIRECTORY"),
        "unset",
        "Reads every file of the directory whose name ends in .conf, as if its lines stood here, except that each file \
         begins with the default listener. Names are sorted letter by letter without regard to case, and of the same \
         letter the upper case comes first. Works in the main file only, and more than once.",
    )
    .is(State::Built(Built {
        put: Put::Line(include_dir),
        show: Show::Never,
    })),
    Row::new(
        "max_inflight_bytes",
        Kind::Limit {
            max: i32::MAX as i64,
        },
        "0",
        "Bytes of QoS 1 and 2 messages that may be under way to one client; 0 is no limit. The last message may exceed \
         it, so that one of any size can be sent.",
    )
    .new_connections()
    .is(global_limit!(max_inflight_bytes)),
    Row::new(
        "max_inflight_messages",
        Kind::Limit {
            max: u16::MAX as i64,
        },
        "20",
        "QoS 1 and 2 messages that may be under way to one client; 0 is no limit. With 1, messages stay in order even \
         if some must be sent again.",
    )
    .new_connections()
    .is(global_limit!(max_inflight_messages)),
    Row::new(
        "max_keepalive",
        Kind::Int {
            min: 0,
            max: u16::MAX as i64,
        },
        "0",
        "The longest keep-alive in seconds that a client may ask for; 0 is no limit. An MQTT 5.0 client that asks for \
         more is told to use this one, others are refused. A keep-alive of 0 counts as more.",
    )
    .new_connections()
    .is(global!(max_keepalive)),
    Row::new(
        "max_output_bytes",
        Kind::int_from(OUTPUT_BYTES_MIN),
        "4194304",
        "Bytes that may wait to be written to one client that does not read fast enough; at least 4096. One packet of any \
         size may stand above them. Beyond them QoS 0 messages for the client are dropped, those of QoS 1 and 2 wait in \
         its queue, and nothing more is read from it. Only here, not in the original.",
    )
    .new_connections()
    .is(global!(max_output_bytes)),
    Row::new(
        "max_packet_size",
        Kind::int_from(20),
        "2000000",
        "The largest packet in bytes that is accepted from a client; at least 20. MQTT 5.0 clients are told.",
    )
    .new_connections()
    .is(global!(max_packet_size)),
    Row::new(
        "max_queued_bytes",
        Kind::Limit {
            max: i64::MAX - 1,
        },
        "0",
        "Bytes of messages that may wait for one client beyond those under way; 0 is no limit. The last message may \
         exceed it.",
    )
    .is(global_limit!(max_queued_bytes)),
    Row::new(
        "max_queued_messages",
        Kind::Limit {
            max: i32::MAX as i64,
        },
        "1000",
        "QoS 1 and 2 messages that may wait for one client beyond those under way; 0 is no limit. For an absent client \
         those under way count too. See queue_policy for what is dropped then.",
    )
    .is(global_limit!(max_queued_messages)),
    Row::new(
        "max_subscriptions",
        Kind::Limit {
            max: i32::MAX as i64,
        },
        "0",
        "Subscriptions that one client may have; 0 is no limit. Further ones are refused in SUBACK (0x97 in MQTT 5.0, 0x80 \
         before); one that the client has can always be replaced. Only here, not in the original.",
    )
    .new_connections()
    .is(global_limit!(max_subscriptions)),
    Row::new(
        "max_topic_levels",
        Kind::Int {
            min: 1,
            max: TOPIC_LEVELS_MAX as i64,
        },
        "201",
        "Levels that a topic or a filter may have. Clients that use more are disconnected. Only here, not in the \
         original.",
    )
    .is(global!(max_topic_levels)),
    Row::new(
        "memory_limit",
        Kind::Int {
            min: 0,
            max: i64::MAX - 1,
        },
        "0",
        "Bytes that all processes together may hold on their heaps; 0 is no limit. Beyond it new connections are refused \
         (server busy in MQTT 5.0, else server unavailable), and messages too: those of QoS 0 are dropped, others are \
         refused with quota exceeded in MQTT 5.0 and end the connection before. Acknowledgements, and messages that \
         clear a retained one, are still taken. What is held is known ten times a second, so leave some room.",
    )
    .is(global_limit!(memory_limit)),
    Row::new(
        "message_size_limit",
        Kind::Int {
            min: 0,
            max: REMAINING_LENGTH_MAX as i64,
        },
        "0",
        "The largest payload in bytes that is accepted; 0 is no limit but that of MQTT.",
    )
    .is(global_limit!(message_size_limit))
    .deprecated("use max_packet_size"),
    Row::new(
        "packet_buffer_size",
        Kind::Int {
            min: 0,
            max: u16::MAX as i64,
        },
        "4096",
        "The size of a buffer in the original.",
    )
    .aliases(&["websockets_headers_size"])
    .is(State::Ignored("buffers follow the traffic")),
    Row::new(
        "per_listener_settings",
        Kind::Bool,
        "false",
        "Whether options about authentication and access hold for each listener instead of for all of them.",
    )
    .restart()
    .accepts(&["false"])
    .deprecated("use options that start with listener_"),
    Row::new(
        "pid_file",
        Kind::TEXT,
        "unset",
        "A file for the process id of the supervisor. It is written before privileges are given up and removed at the \
         end.",
    )
    .restart()
    .is(global!(pid_file)),
    Row::new(
        "queue_policy",
        Kind::Choice(&["drop-newest", "drop-oldest"]),
        "drop-newest",
        "What is dropped when a limit on queued messages or bytes is reached: the new message, or the one that has \
         waited longest for this client. Only here, not in the original.",
    )
    .is(global!(queue_policy)),
    Row::new(
        "queue_qos0_messages",
        Kind::Bool,
        "false",
        "Whether QoS 0 messages wait for an absent client with a persistent session too.",
    )
    .restart()
    .is(global!(queue_qos0_messages)),
    Row::new(
        "retain_available",
        Kind::Bool,
        "true",
        "Whether clients may publish retained messages. If not, a client that does is disconnected. Messages that \
         were retained before a reload stay.",
    )
    .is(global!(retain_available)),
    Row::new(
        "retain_expiry_interval",
        Kind::Int {
            min: 1,
            max: 10_000_000,
        },
        "unset",
        "Minutes after which a retained message is forgotten, unless it expires earlier by itself. A reload changes \
         nothing for messages that are retained already.",
    )
    .is(global!(retain_expiry_interval)),
    Row::new(
        "ring_size",
        Kind::Special("auto | BYTES"),
        "auto",
        "Bytes of the shared memory through which each process of the broker sends to the others, 65536 to 1073741824, \
         rounded up to a power of two. With auto it follows the machine's memory. Only here, not in the original.",
    )
    .restart()
    .is(State::Built(Built {
        put: Put::Line(ring_size),
        show: Show::Global(|config| {
            let bytes = config.ring_bytes.map(|bytes| bytes.to_string());
            vec![bytes.unwrap_or_else(|| "auto".to_owned())]
        }),
    })),
    Row::new(
        "set_tcp_nodelay",
        Kind::Bool,
        "false",
        "Accepted, and as if true: what is for a client is gathered and written at once, so there is nothing to wait for.",
    )
    .is(global!(set_tcp_nodelay)),
    Row::new(
        "sys_interval",
        Kind::Int {
            min: 0,
            max: u16::MAX as i64,
        },
        "10",
        "Seconds between two updates of the topics under $SYS, on whole multiples of the wall clock; 0 is off, and there \
         is no control process then.",
    )
    .is(global!(sys_interval)),
    Row::new(
        "upgrade_outgoing_qos",
        Kind::Bool,
        "false",
        "Whether messages are delivered with the QoS of the subscription, even if they were published with a lower one. \
         Messages of QoS 0 then wait for an absent client like others, if it subscribed with a higher QoS.",
    )
    .restart()
    .is(global!(upgrade_outgoing_qos)),
    Row::new(
        "user",
        Kind::TEXT,
        "mosquitto",
        "The user as whom everything but the supervisor runs when the broker is started by root. If there is no user \
         mosquitto, nobody is taken with a warning; any other name must exist.",
    )
    .restart()
    .is(global!(user)),
    Row::new(
        "workers",
        Kind::Special("auto | NUMBER"),
        "auto",
        "How many processes serve clients, 1 to 56. With auto it is one for each processor. Only here, not in the \
         original.",
    )
    .restart()
    .is(State::Built(Built {
        put: Put::Line(workers),
        show: Show::Global(|config| {
            vec![match config.workers {
                Workers::Auto => "auto".to_owned(),
                Workers::Count(n) => n.to_string(),
            }]
        }),
    })),
    Row::new(
        "retry_interval",
        Kind::int_from(0),
        "unset",
        "Was the time after which the original sent a message again.",
    )
    .is(State::Ignored("messages are sent again on reconnect only")),
];

/// The directory is read by `load`; here it must only be there.
fn include_dir(_: &mut Draft, words: &mut Words<'_>) -> Result<(), Problem> {
    Kind::TEXT.parse("include_dir", words).map(drop)
}

fn workers(draft: &mut Draft, words: &mut Words<'_>) -> Result<(), Problem> {
    let word = word_of("workers", words)?;
    let count = |n: &i64| (1..=WORKERS_MAX as i64).contains(n);
    draft.config.workers = match (word, int_of(word).filter(count)) {
        ("auto", _) => Workers::Auto,
        (_, Some(n)) => Workers::Count(u8::try_from(n).unwrap_or(u8::MAX)),
        (_, None) => {
            return Err(Problem::Invalid {
                option: "workers".to_owned(),
                value: word.to_owned(),
                allowed: format!("auto, 1 to {WORKERS_MAX}"),
            });
        }
    };
    Ok(())
}

fn global_max_output_bytes(draft: &mut Draft, words: &mut Words<'_>) -> Result<(), Problem> {
    let word = word_of("global_max_output_bytes", words)?;
    draft.config.global_max_output_bytes = match (word, int_of(word).map(u64::try_from)) {
        ("auto", _) => None,
        (_, Some(Ok(bytes))) => Some(bytes),
        _ => {
            return Err(Problem::Invalid {
                option: "global_max_output_bytes".to_owned(),
                value: word.to_owned(),
                allowed: format!("auto, 0 to {}", i64::MAX),
            });
        }
    };
    Ok(())
}

fn ring_size(draft: &mut Draft, words: &mut Words<'_>) -> Result<(), Problem> {
    let word = word_of("ring_size", words)?;
    let bytes = int_of(word)
        .and_then(|n| u32::try_from(n).ok())
        .filter(|n| (RING_SIZE_BYTES_MIN..=RING_BYTES_MAX).contains(n));
    draft.config.ring_bytes = match (word, bytes) {
        ("auto", _) => None,
        (_, Some(bytes)) => Some(bytes),
        (_, None) => {
            return Err(Problem::Invalid {
                option: "ring_size".to_owned(),
                value: word.to_owned(),
                allowed: format!("auto, {RING_SIZE_BYTES_MIN} to {RING_BYTES_MAX}"),
            });
        }
    };
    Ok(())
}

fn word_of<'a>(option: &str, words: &mut Words<'a>) -> Result<&'a str, Problem> {
    words.word()?.ok_or_else(|| Problem::Empty {
        option: option.to_owned(),
    })
}
