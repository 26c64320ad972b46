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

/// Bytes read from one connection in one turn of the loop; the rest waits for the next turn.
pub const READ_BYTES_PER_TURN: usize = 64 * 1024;
/// What a client that has been quiet may send at once, in time at its rate (`client_message_rate` and the like).
pub const RATE_BURST_MILLIS: u64 = 1000;
/// Seconds that a packet far beyond its rate makes its client wait at most, so that nobody waits for ever.
pub const RATE_DEBT_SECS_MAX: u64 = 600;
/// `max_output_bytes` at least: room for the packets that answer one read.
pub const OUTPUT_BYTES_MIN: i64 = 4096;
/// `global_max_output_bytes auto` is this part of the machine's memory (one eighth).
pub const OUTPUT_MEMORY_SHARE: u64 = 8;
/// When clients are disconnected since too much waits for all of them, so many of them go that this part (one
/// eighth) of the bound is free again.
pub const OUTPUT_FREED_SHARE: u64 = 8;
/// Payloads of at least this size are shared between connections instead of copied to each.
pub const OUTPUT_SHARED_BYTES_MIN: usize = 4096;
/// Buffers handed to one `writev`.
pub const OUTPUT_CHUNKS_PER_WRITE: usize = 64;

/// Bytes in a member's overflow list at which it stops reading from its clients.
/// One packet of the largest size may stand above it.
pub const OVERFLOW_BYTES_PAUSE: usize = 64 * 1024;
/// Bytes that one member reads from its inboxes before it looks after its sockets again.
pub const INBOX_BYTES_PER_TURN: usize = 1024 * 1024;
/// Fragmented records under way from one writer at a time.
pub const FRAGMENT_STREAMS_MAX: usize = 4;
/// A record in a ring at most: a PUBLISH of the largest size, and room for what may stand beside it: its envelope,
/// subscription identifiers, the smaller messages of a slice of retained ones.
pub const RECORD_BYTES_MAX: usize = REMAINING_LENGTH_MAX + 1024 * 1024;

/// QoS 1 and 2 messages under way to one client of a transient session, where `max_inflight_messages` and the client
/// set no limit. What packet ids can name, less some, so that a free one is always near.
pub const WINDOW_MESSAGES_MAX: u16 = 60_000;
/// Inbound QoS 2 messages that one client may have unreleased (our Receive Maximum for v5; others are closed).
pub const QOS2_RECEIVED_MAX: usize = 65_535;
/// Bytes of the topics that have an alias towards one client, all together. Further topics get none.
pub const ALIASED_TOPIC_BYTES_MAX: usize = 128 * 1024;
/// A mount point. Longer ones are refused: what is left for topics must be worth it.
pub const MOUNT_POINT_BYTES_MAX: usize = 32_768;
/// Separators in a mount point, for the same reason.
pub const MOUNT_POINT_LEVELS_MAX: usize = 100;
/// Retained messages in one slice of an answer. The next one is asked for when the client has taken these, so that they
/// also find room in its queue.
pub const RETAINED_SLICE_BYTES: usize = 64 * 1024;
pub const RETAINED_SLICE_MESSAGES: usize = 256;
/// Filters in one slice of an index or of a session's subscriptions.
pub const INDEX_SLICE_BYTES: usize = 16 * 1024;
/// Slices of an index that a member sends in one turn to those that joined; the rest waits for the next turn.
pub const INDEX_SLICES_PER_TURN: usize = 4;
/// Filters of connections that are over that a worker takes out of its index in one turn. The rest finds nobody.
pub const FILTERS_LEFT_PER_TURN: usize = 5_000;
/// Filters that a worker looks at in one turn to clear away those that only a dead member wanted.
pub const FILTERS_CLEARED_PER_TURN: usize = 5_000;
/// Filters whose SUBACK waits, and subscriptions and retained requests that the store has not answered yet, of one
/// worker; at the bound it stops reading from its clients.
pub const REQUESTS_WAITING_MAX: usize = 65_536;

/// Retained requests of one connection that the store has not answered; further ones wait in the worker.
pub const RETAINED_REQUESTS_MAX: usize = 16;
/// Filters of one connection that wait to be asked for; at the bound it is not read until some were. What one
/// SUBSCRIBE brings may stand above it.
pub const RETAINED_WAITING_MAX: usize = 4096;
/// Seconds between two looks at a connection's silence at most.
pub const SILENCE_CHECK_SECS: u64 = 60;

/// Publishes of QoS 1 and 2 that a client holds, in flight or waiting: what packet identifiers can name, less a few
/// for subscriptions. At the bound `publish` refuses, and the caller reads no more input.
pub const CLIENT_PUBLISHES_MAX: usize = 60_000;
/// Payload bytes of those publishes. One message of any size may stand above it.
pub const CLIENT_PUBLISH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// SUBSCRIBE and UNSUBSCRIBE packets of a client that the server has not answered yet; further ones are refused.
pub const CLIENT_REQUESTS_MAX: usize = 1024;
/// Bytes that a client may have waiting to be written before it refuses to publish at QoS 0.
pub const CLIENT_OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// A file of default options of the client programs. A larger one is an error.
pub const CLIENT_DEFAULTS_BYTES_MAX: usize = 64 * 1024;
/// Bytes of acknowledgements that a server may leave unread. Then a client gives the connection up.
pub const CLIENT_ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Seconds that a client without keep-alive waits for its CONNACK, and for its last bytes to be taken.
pub const CLIENT_PATIENCE_SECS: u64 = 60;

/// Connections accepted from one listening socket in one turn.
pub const ACCEPTS_PER_TURN: usize = 64;
/// Listening sockets that one worker accepts from, lent ones included. Further ones are left to others.
pub const LISTENING_SOCKETS_MAX: usize = 4096;
/// How long accepting rests when descriptors have run out: at first, and at most.
pub const ACCEPT_REST_MILLIS_MIN: u64 = 100;
/// See [`ACCEPT_REST_MILLIS_MIN`].
pub const ACCEPT_REST_MILLIS_MAX: u64 = 1000;
/// Descriptors that a member keeps free of client connections: its own, and a doorbell and two rings for every
/// sibling that may come and go.
pub const DESCRIPTORS_RESERVED: usize = 32 + 4 * MEMBERS_MAX;
/// Descriptors that a process of the broker needs for itself, besides those for members and listening sockets.
pub const DESCRIPTORS_OWN: u64 = 12;
/// Descriptors that the supervisor has for each member: channel, log, process, two rings and a doorbell.
pub const DESCRIPTORS_PER_CHILD: u64 = 8;
/// Descriptors that a member has for each other one: two rings and a doorbell, and one that is on its way.
pub const DESCRIPTORS_PER_PEER: u64 = 4;
/// Clients that a worker must have descriptors for, or the broker does not start.
pub const DESCRIPTORS_CLIENTS_MIN: u64 = 4;
/// So long without running out of descriptors ends an episode; running out again is logged again.
pub const EXHAUSTION_EPISODE_SECS: u64 = 10;
/// Bytes written to one connection in one turn; the rest waits for the next turn.
pub const WRITE_BYTES_PER_TURN: usize = 1024 * 1024;
/// Closed connections that are kept until the client has taken the last packet. Beyond them the oldest is cut off.
pub const LINGERING_SOCKETS_MAX: usize = 256;
/// How long one of them is kept at most.
pub const LINGER_MILLIS: u64 = 1000;
/// Bytes that one of them may still send, or still has to be sent. Beyond them it is cut off.
pub const LINGER_BYTES_MAX: usize = 64 * 1024;

/// Descriptors that one wait reports.
pub const EVENTS_PER_TURN: usize = 512;
/// Connections that a worker looks after before it looks into its inboxes again.
pub const CONNECTIONS_BETWEEN_INBOXES: usize = 64;
/// Bytes that a worker writes to connections before it looks into its inboxes again.
pub const WRITE_BYTES_BETWEEN_INBOXES: usize = 1024 * 1024;
/// Bytes that such a look into the inboxes reads.
pub const INBOX_BYTES_BETWEEN: usize = 128 * 1024;
/// How often a member lets others see its figures, at most. At rest it does at least every [`SLEEP_MILLIS_MAX`].
pub const FIGURES_MILLIS: u64 = 100;
/// The longest sleep of a member, well below [`HEARTBEAT_MILLIS`].
pub const SLEEP_MILLIS_MAX: u64 = 250;
/// A control message between the supervisor and a child. Larger ones end the child.
pub const CONTROL_MESSAGE_BYTES_MAX: usize = 128;
/// Control messages that wait for a child that does not read; at the bound it is killed. In the other direction, a
/// child ends.
pub const CONTROL_QUEUE_MAX: usize = 4096;
/// How long a member that was told to stop, or whose supervisor is gone, may take for each step.
pub const STOP_STEP_MILLIS: u64 = 2000;
/// How long control rests when its connection to a worker has ended, before it asks for another.
pub const SEVERED_REST_MILLIS: u64 = 100;
/// How soon a member tries again what does not wake it: log lines for a full pipe, messages for a busy supervisor.
pub const RETRY_MILLIS: u64 = 10;
/// Seconds that a new child waits for its first control message.
pub const CHILD_HELLO_WITHIN_SECS: u64 = 10;

/// Milliseconds between two beats of a child's heart at most, also when nothing happens.
pub const HEARTBEAT_MILLIS: u64 = 500;
/// Milliseconds between two looks of the supervisor at the hearts.
pub const HEARTBEAT_CHECK_MILLIS: u64 = 250;
/// Consecutive looks, each on time, that find a heart unmoved: then the child is killed. The time in which no processor
/// was free for it does not count.
pub const HEARTBEAT_MISSED_MAX: u32 = 6;
/// So many deaths of one child within [`DEATHS_WITHIN_SECS`], and its successor is held back.
pub const DEATHS_BEFORE_HOLD_BACK: usize = 5;
/// See [`DEATHS_BEFORE_HOLD_BACK`]; a child that lives this long is forgiven its ancestors.
pub const DEATHS_WITHIN_SECS: u64 = 10;
/// Seconds that the first successor is held back; doubled each time.
pub const HOLD_BACK_FIRST_SECS: u64 = 1;
/// Seconds that a successor is held back at most.
pub const HOLD_BACK_SECS_MAX: u64 = 10;
/// Milliseconds that a worker may be down before its listening sockets are lent to a sibling.
pub const LEND_AFTER_MILLIS: u64 = 200;
/// Seconds from a child's start to its `Mapped`. Then it is killed, as with the next two.
pub const START_WITHIN_SECS: u64 = 10;
/// Seconds from a child's `Welcome` to its `Ready`.
pub const JOIN_WITHIN_SECS: u64 = 10;
/// Seconds from the end of a child's control channel to its own.
pub const END_WITHIN_SECS: u64 = 1;
/// Seconds in which every member drains a dead one's outbox.
pub const DRAIN_WITHIN_SECS: u64 = 10;
/// Members that one member may report as stuck within [`ACCUSATIONS_WITHIN_SECS`]; then it is the one at fault.
pub const ACCUSATIONS_MAX: usize = 3;
/// See [`ACCUSATIONS_MAX`].
pub const ACCUSATIONS_WITHIN_SECS: u64 = 60;
/// Seconds that workers have for their wills and acknowledgements at SIGTERM, before they are told to end.
pub const QUIESCE_WITHIN_SECS: u64 = 4;
/// Seconds that the workers, and after them the store, then have to end by themselves.
pub const STOP_WITHIN_SECS: u64 = 3;
/// One configuration file. Larger ones are refused.
pub const CONFIG_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Files that `include_dir` may bring in, all together. More are refused.
pub const CONFIG_FILES_MAX: usize = 1000;
/// Faults of a configuration that are listed; further ones are counted.
pub const CONFIG_ERRORS_MAX: usize = 50;
/// Listeners in a configuration. More are refused.
pub const LISTENERS_MAX: usize = 256;
/// `-p` on the command line, as in the original. More are refused.
pub const COMMAND_LINE_PORTS_MAX: usize = 10;
/// The prefix of assigned client ids, as in the original. Longer ones are refused.
pub const AUTO_ID_PREFIX_BYTES_MAX: usize = 50;
/// A configuration snapshot that a child reads. Larger ones end the child.
pub const CONFIG_SNAPSHOT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Topics that the store looks at in one turn for transient sessions, and again for stored ones; the rest waits for
/// the next turn.
pub const RETAINED_STEPS_PER_TURN: usize = 2_000;
/// Members of shared subscriptions that the store finds without room in one turn; the groups that it has not served
/// wait for the next turn.
pub const SHARED_STEPS_PER_TURN: usize = 2_000;
/// Topics that one search for expired retained messages looks at.
pub const RETAINED_SWEEP_STEPS: usize = 10_000;
/// The same, for a message that finds no room among the retained ones.
pub const RETAINED_SWEEP_STEPS_WHEN_FULL: usize = 100;
/// Slices of retained messages that the store sends in one turn.
pub const RETAINED_SLICES_PER_TURN: usize = 16;
/// Bytes of filters whose retained messages one persistent session still has to get; what it subscribes to beyond
/// them brings it no retained messages. Ten SUBSCRIBE packets of the largest size.
pub const RETAINED_SCAN_BYTES_MAX: usize = 10 * CONTROL_PACKET_BYTES_MAX;
/// SUBSCRIBEs of persistent sessions that wait for their barrier, of all workers together; more than the workers send
/// when they keep to their own bound.
pub const SUBSCRIBING_MAX: usize = REQUESTS_WAITING_MAX * WORKERS_MAX;
/// Seconds between searches for expired retained messages (they are never sent, only their memory waits).
pub const RETAINED_SWEEP_SECS: u64 = 10;
/// Sessions and wills that the store lets come due in one turn.
pub const TIMERS_PER_TURN: usize = 1000;
/// Milliseconds between looks at clients that can be forgotten.
pub const FADING_CHECK_MILLIS: u64 = 100;
/// Topics that are remembered as seen live while an answer to a retained request is under way. Beyond them an older
/// retained message may follow a newer live one.
pub const SEEN_LIVE_MAX: usize = 65_536;
/// Answers to retained requests that came before what they must follow; more are taken as they come.
pub const EARLY_SLICES_MAX: usize = 1024;
/// Wills kept for the next store when a store dies.
pub const ORPHANED_WILLS_MAX: usize = 1_000_000;
/// Bytes read from all connections of a worker in one turn of the loop; the rest waits for the next turn.
pub const INPUT_BYTES_PER_TURN: usize = 1024 * 1024;
/// `ring_size` at least. A smaller ring works ([`RING_BYTES_MIN`]), but not well.
pub const RING_SIZE_BYTES_MIN: u32 = 64 * 1024;
/// Connections that may wait in the accept queue of one listening socket; the system may allow fewer.
pub const LISTEN_BACKLOG: i32 = 4096;
/// A line that a child logged; longer ones (of a panic, perhaps) are cut.
pub const LOG_CHILD_LINE_BYTES_MAX: usize = 4096;
/// Bytes of one child's log that the supervisor reads in one turn.
pub const LOG_READ_BYTES_PER_TURN: usize = 256 * 1024;
/// `ring_size auto`, on the smallest machine.
pub const RING_BYTES_AUTO_MIN: u32 = 256 * 1024;
/// `ring_size auto`, on the largest.
pub const RING_BYTES_AUTO_MAX: u32 = 4 * 1024 * 1024;
/// All outboxes together take at most one part in so many of the machine's memory.
pub const RING_MEMORY_SHARE: u64 = 256;
/// Bytes of a ring at least: a page of most machines. A power of two.
pub const RING_BYTES_MIN: u32 = 4096;
/// Bytes of a ring at most, so that the difference of two 32-bit positions is never ambiguous. A power of two.
pub const RING_BYTES_MAX: u32 = 1 << 30;
/// A record larger than this part of its ring (one eighth) is cut into fragments.
pub const RING_RECORD_SHARE: u32 = 8;
/// Bytes that one writer's inbox may give before the next writer has its turn.
pub const INBOX_BYTES_PER_WRITER: usize = 64 * 1024;
/// A reader that holds a full ring for so long without any progress is reported.
pub const READER_STUCK_MILLIS: u64 = 500;
/// What one look at a reader that holds a full ring adds to its time at most, so that a pause of this process or
/// of the whole machine is not held against the reader.
pub const READER_STUCK_STEP_MILLIS: u64 = 50;
/// Positions that a member waits for one by one; at the bound further ones wait for the furthest.
pub const POSITION_WAITS_MAX: usize = 64;
/// A buffer for records that grew beyond this is given back when smaller records follow.
pub const RECORD_BUFFER_KEEP_BYTES: usize = 1024 * 1024;
/// Descriptors that the supervisor looks after in one turn.
pub const SUPERVISOR_EVENTS_PER_TURN: usize = 128;
/// Control messages that the supervisor takes from one child in one turn.
pub const CONTROL_MESSAGES_PER_TURN: usize = 256;
/// Milliseconds after which the supervisor tries again to send what a child, or a log destination, did not take.
pub const SUPERVISOR_RETRY_MILLIS: u64 = 10;
/// Reads of a connection that was taken over, of READ_BYTES_PER_TURN each, before it is closed with data unread.
pub const EVICTION_READS_MAX: u16 = 64;
