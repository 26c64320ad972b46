//! PURE client-side state machine, used by the command line, by the simulation and later by bridges.
//!
//! Bytes and the time come in, bytes to write and [`Event`]s come out. One [`Client`] lives through many
//! connections: it keeps what MQTT calls the session (messages in flight, QoS 2 receiver state) and takes it up
//! again when the server says that it has kept its half. It opens no socket, knows no address and never waits;
//! when to connect again, and what to subscribe to then, is for the caller to decide.
//!
//! The caller's loop:
//! 1. transport is up: [`Client::connected`]; transport is gone: [`Client::lost`];
//! 2. bytes came: [`Client::read`] until it returns no event;
//! 3. [`Client::deadline`] has passed: [`Client::advance`], then [`Client::next_event`] until there is none;
//! 4. write [`Client::output`], and say how much went with [`Client::wrote`];
//! 5. [`Client::is_closing`] and no output left: close the transport, [`Client::lost`].

mod event;
mod outgoing;
mod receive;
mod send;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

pub use event::{Cause, Event, Message, Refusal};
pub use settings::{Settings, WillSettings};

use crate::base::clock::Instant;
use crate::base::limits::CLIENT_PATIENCE_SECS;
use crate::base::log::{Log, LogMask, LogType};
use crate::mqtt::encode::encode;
use crate::mqtt::{Packet, PacketId, Qos};
use outgoing::Outgoing;

/// One MQTT client and its session.
#[derive(Debug)]
pub struct Client {
    settings: Settings,
    phase: Phase,
    server: ServerLimits,
    output: Output,
    events: VecDeque<Event<'static>>,
    outgoing: Outgoing,
    /// Messages of QoS 2 that came and are not released yet.
    unreleased: HashMap<PacketId, Message<'static>, foldhash::fast::RandomState>,
    /// SUBSCRIBE and UNSUBSCRIBE that are not answered yet. Few, so that searching is cheap.
    requests: Vec<PacketId>,
    next_packet_id: PacketId,
    clock: KeepAlive,
    log: Log,
}

/// How far the present connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// No transport.
    Offline,
    /// CONNECT is sent.
    Connecting,
    /// CONNACK was good.
    Online,
    /// Nothing more is read; the output is to be written, then the transport closed.
    Closing,
}

/// What the server allows, from its CONNACK.
#[derive(Clone, Copy, Debug)]
struct ServerLimits {
    receive_maximum: usize,
    packet_bytes_max: usize,
    qos_max: Qos,
    retain: bool,
    keep_alive_secs: u64,
}

/// Bytes to write, and how many of them were.
#[derive(Default, Debug)]
struct Output {
    bytes: Vec<u8>,
    written: usize,
    /// Where the last PUBLISH ends: what stands behind it is answers to the server.
    publish_end: usize,
}

/// The times that keep-alive is about.
#[derive(Default, Debug)]
struct KeepAlive {
    connected: Instant,
    last_in: Instant,
    last_out: Instant,
    ping_sent: Option<Instant>,
}

impl Client {
    /// A client that has no connection and no session yet.
    pub fn new(settings: Settings) -> Self {
        let server = ServerLimits::before_connack(&settings);
        Self {
            settings,
            phase: Phase::Offline,
            server,
            output: Output::default(),
            events: VecDeque::new(),
            outgoing: Outgoing::default(),
            unreleased: HashMap::default(),
            requests: Vec::new(),
            next_packet_id: PacketId::MIN,
            clock: KeepAlive::default(),
            log: Log::new(LogMask::NONE),
        }
    }

    /// The transport is up: CONNECT goes into the output.
    pub fn connected(&mut self, now: Instant) {
        self.lost();
        self.phase = Phase::Connecting;
        self.server = ServerLimits::before_connack(&self.settings);
        self.clock = KeepAlive {
            connected: now,
            last_in: now,
            last_out: now,
            ping_sent: None,
        };
        self.debug(format_args!("sending CONNECT"));
        self.settings.encode_connect(&mut self.output.bytes);
    }

    /// The transport is gone, for whatever reason. The session stays, for the next connection to take up.
    pub fn lost(&mut self) {
        self.phase = Phase::Offline;
        self.output = Output::default();
        self.requests.clear();
        self.clock.ping_sent = None;
    }

    /// Lets time pass: pings when the connection was idle, and gives it up when the server does not answer.
    pub fn advance(&mut self, now: Instant) {
        if self.deadline().is_none_or(|at| at > now) {
            return;
        }
        match self.phase {
            Phase::Connecting => self.close(Cause::NoConnack),
            Phase::Online if self.clock.ping_sent.is_some() => self.close(Cause::NoPingresp),
            Phase::Online => {
                self.clock.ping_sent = Some(now);
                self.send(&Packet::Pingreq, format_args!("PINGREQ"));
            }
            // The peer takes nothing any more, not even a goodbye.
            Phase::Closing => self.output = Output::default(),
            Phase::Offline => {}
        }
    }

    /// When to call [`Client::advance`]; `None` if there is nothing to wait for.
    pub fn deadline(&self) -> Option<Instant> {
        let clock = &self.clock;
        let patience = match self.settings.keep_alive_secs {
            0 => CLIENT_PATIENCE_SECS,
            secs => u64::from(secs),
        };
        match self.phase {
            Phase::Closing if self.output.len() > 0 => Some(clock.last_out.after_secs(patience)),
            Phase::Offline | Phase::Closing => None,
            Phase::Connecting => Some(clock.connected.after_secs(patience)),
            Phase::Online if self.server.keep_alive_secs == 0 => None,
            Phase::Online => {
                let idle_since = match clock.ping_sent {
                    // While bytes move either way the peer lives, however long a large packet takes.
                    Some(sent) => sent.max(clock.last_in).max(clock.last_out),
                    None => clock.last_in.min(clock.last_out),
                };
                Some(idle_since + Duration::from_secs(self.server.keep_alive_secs))
            }
        }
    }

    /// The next event that did not come from bytes. [`Client::read`] returns these first.
    pub fn next_event(&mut self) -> Option<Event<'static>> {
        self.events.pop_front()
    }

    /// The bytes to write.
    pub fn output(&self) -> &[u8] {
        self.output.rest()
    }

    /// The transport took the first `bytes` of [`Client::output`].
    pub fn wrote(&mut self, bytes: usize, now: Instant) {
        if bytes > 0 {
            self.clock.last_out = now;
            self.output.consume(bytes);
        }
    }

    /// Whether the transport is to be closed once the output is written.
    pub fn is_closing(&self) -> bool {
        self.phase == Phase::Closing
    }

    /// Whether the server has accepted the connection, and it is not about to close.
    pub fn is_online(&self) -> bool {
        self.phase == Phase::Online
    }

    /// Publishes of QoS 1 and 2 that the server has not taken over yet.
    pub fn unfinished(&self) -> usize {
        self.outgoing.len()
    }

    /// What the client was made with; the client id is the one that the server assigned, if it did.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Changes what the next connection asks for. The version and the client id name the session: change neither
    /// while there is one.
    pub fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// Lines about packets, if its mask is set to want them.
    pub fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    /// Ends the connection from our side: events that are already there stay, nothing more is read.
    fn close(&mut self, cause: Cause) {
        if self.phase == Phase::Closing {
            return;
        }
        if self.phase == Phase::Online
            && let Some(code) = cause.disconnect_code(self.settings.version)
        {
            self.send_disconnect(code);
        }
        if matches!(cause, Cause::NoConnack | Cause::NoPingresp) {
            // Nobody is there to take it.
            self.output = Output::default();
        }
        self.phase = Phase::Closing;
        self.events.push_back(Event::Closed(cause));
    }

    /// Appends one packet to the output and says so in the log.
    fn send(&mut self, packet: &Packet<'_>, what: std::fmt::Arguments<'_>) {
        self.debug(format_args!("sending {what}"));
        encode(packet, self.settings.version, &mut self.output.bytes);
    }

    fn debug(&mut self, what: std::fmt::Arguments<'_>) {
        if self.log.wants(LogType::Debug) {
            let name = self.settings.name();
            self.log
                .line(LogType::Debug, format_args!("Client {name} {what}"));
        }
    }

    /// A packet identifier that nothing uses. There is always one: the bounds of what is waiting leave room.
    fn take_packet_id(&mut self) -> PacketId {
        loop {
            let id = self.next_packet_id;
            // Zero is not a packet id [MQTT-2.2.1-3], so the counter wraps to one.
            self.next_packet_id = id.checked_add(1).unwrap_or(PacketId::MIN);
            if !self.outgoing.contains(id) && !self.requests.contains(&id) {
                return id;
            }
        }
    }
}

impl Output {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Bytes of answers that the server has not read, and could have us pile up.
    fn answer_bytes(&self) -> usize {
        self.bytes.len() - self.publish_end.max(self.written)
    }

    fn consume(&mut self, bytes: usize) {
        self.written = self.bytes.len().min(self.written.saturating_add(bytes));
        // Moved only when more is gone than stays, so that each byte moves once at most.
        if self.written >= self.bytes.len() - self.written {
            self.bytes.drain(..self.written);
            self.publish_end = self.publish_end.saturating_sub(self.written);
            self.written = 0;
            if self.bytes.is_empty() {
                // One large message must not keep its memory for ever.
                self.bytes.shrink_to(OUTPUT_BYTES_KEPT);
            }
        }
    }
}

/// Capacity of the output that is kept when it is empty.
const OUTPUT_BYTES_KEPT: usize = 1024 * 1024;
