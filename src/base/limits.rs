//! Every bound on one page. What can be configured is a row of `config/options.rs` instead; its default is there.

/// Slots for ring members: the store and the workers. One bit of a `u64` each.
pub const MEMBERS_MAX: usize = 64;
/// Workers at most; the other slots are for the store, the cluster link and what comes later.
pub const WORKERS_MAX: usize = 56;

/// A log line's text, as in the original. Longer text is cut.
pub const LOG_LINE_BYTES_MAX: usize = 1000;
/// Lines that one process holds while its pipe is full. Further lines are dropped and counted.
pub const LOG_BUFFER_BYTES_MAX: usize = 256 * 1024;

/// Remaining length that four bytes can say [MQTT-2.2.3].
pub const REMAINING_LENGTH_MAX: usize = 268_435_455;
/// CONNECT, AUTH and SUBSCRIBE packets, as in the original. Larger ones close the connection.
pub const CONTROL_PACKET_BYTES_MAX: usize = 100_000;
/// PUBACK, PINGREQ, DISCONNECT and the like. Larger ones close the connection.
pub const SMALL_PACKET_BYTES_MAX: usize = 10_000;
/// Levels of a topic or filter: 200 separators, as in the original. Deeper ones are a malformed topic.
pub const TOPIC_LEVELS_MAX: usize = 201;
/// A UTF-8 string or binary field [MQTT-1.5.4].
pub const STRING_BYTES_MAX: usize = 65_535;
/// Topic filters in one SUBSCRIBE or UNSUBSCRIBE: what fits the packet.
pub const FILTERS_PER_PACKET_MAX: usize = CONTROL_PACKET_BYTES_MAX / 3;

/// Seconds that a connection may take to send its CONNECT. Then it is closed.
pub const CONNECT_WITHIN_SECS: u64 = 60;
/// Bytes read from one connection in one turn of the loop; the rest waits for the next turn.
pub const READ_BYTES_PER_TURN: usize = 64 * 1024;
/// Bytes that wait to be written to one connection. Beyond them QoS 0 messages for it are dropped (logged once an
/// episode), and reading from it stops until it takes its answers.
pub const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Payloads of at least this size are shared between connections instead of copied to each.
pub const OUTPUT_SHARED_BYTES_MIN: usize = 4096;
/// Buffers handed to one `writev`.
pub const OUTPUT_CHUNKS_PER_WRITE: usize = 64;
/// Bytes that a client may send while its CONNECT is not answered yet; then reading stops until it is.
pub const CLAIMING_INPUT_BYTES_MAX: usize = CONTROL_PACKET_BYTES_MAX;

/// Bytes in a member's overflow list at which it stops reading from its clients.
/// One packet of the largest size may stand above it.
pub const OVERFLOW_BYTES_PAUSE: usize = 64 * 1024;
/// Bytes that one member reads from its inboxes before it looks after its sockets again.
pub const INBOX_BYTES_PER_TURN: usize = 1024 * 1024;
/// Fragmented records under way from one writer at a time.
pub const FRAGMENT_STREAMS_MAX: usize = 4;
/// A record in a ring at most: a PUBLISH of the largest size and its envelope.
pub const RECORD_BYTES_MAX: usize = REMAINING_LENGTH_MAX + 4096;

/// Inbound QoS 2 messages that one client may have unreleased (our Receive Maximum for v5; others are closed).
pub const QOS2_RECEIVED_MAX: usize = 65_535;
/// Topic aliases that a v5 client may set, as in the original.
pub const TOPIC_ALIAS_MAX: u16 = 10;
/// Retained messages in one slice of an answer.
pub const RETAINED_SLICE_BYTES: usize = 64 * 1024;
/// Filters in one slice of an index or of a session's subscriptions.
pub const INDEX_SLICE_BYTES: usize = 16 * 1024;
/// Claims, subscriptions and retained requests of one worker that the store has not answered yet; at the bound
/// the worker stops reading from its clients.
pub const REQUESTS_WAITING_MAX: usize = 65_536;

/// Publishes of QoS 1 and 2 that a client holds, in flight or waiting: what packet identifiers can name, less a few
/// for subscriptions. At the bound `publish` refuses, and the caller reads no more input.
pub const CLIENT_PUBLISHES_MAX: usize = 60_000;
/// Payload bytes of those publishes. One message of any size may stand above it.
pub const CLIENT_PUBLISH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// SUBSCRIBE and UNSUBSCRIBE packets of a client that the server has not answered yet; further ones are refused.
pub const CLIENT_REQUESTS_MAX: usize = 1024;
/// Bytes that a client may have waiting to be written before it refuses to publish at QoS 0.
pub const CLIENT_OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// Bytes of acknowledgements that a server may leave unread. Then a client gives the connection up.
pub const CLIENT_ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Seconds that a client waits for its CONNACK when it has no keep-alive of its own.
pub const CLIENT_CONNACK_WITHIN_SECS: u64 = 60;
