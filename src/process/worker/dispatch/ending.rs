//! How connections end: DISCONNECT, loss, takeover, errors; the will, and the release of the client id.

use super::connection::{Connection, Stage, Will};
use super::say::say_good_bye;
use super::{ConnId, Worker};
use crate::base::clock::Instant;
use crate::base::figures::count_packet;
use crate::base::ids::{ClientNumber, MemberId};
use crate::base::limits::{EVICTION_READS_MAX, SILENCE_CHECK_SECS};
use crate::base::log::LogType;
use crate::config::Config;
use crate::ipc::mesh::{Class, Message, Release, ToStore, WillFate};
use crate::mqtt::{DecodeError, Disconnect, Properties, Property, Reason};
use crate::ring::{Cx, Mesh};

/// What the event loop saw of a connection's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HangUp {
    /// The peer closed it.
    Eof,
    /// The socket failed.
    Error(std::io::ErrorKind),
}

/// Why a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// DISCONNECT without will.
    Clean,
    /// DISCONNECT with reason 0x04, or any other but 0.
    CleanWithWill,
    /// The connection was lost.
    Lost(HangUp),
    /// CONNECT is refused.
    Refused(Reason, &'static str),
    /// The client takes no packet that is large enough for CONNACK.
    Unanswerable,
    /// There are as many connections as this option allows.
    Crowded(&'static str),
    /// A packet could not be decoded.
    Malformed(DecodeError),
    /// A packet was not allowed, and why.
    Protocol(Reason, &'static str),
    /// Nothing came for too long.
    Silent,
    /// No CONNECT came for too long.
    NoConnect,
    /// The store says so: taken over by another connection, or worse.
    Evicted(u8),
    /// So many bytes wait for it, and too many for all clients.
    TooSlow(u64),
    /// The store died, and every session with it.
    StoreLost,
    /// The broker ends.
    ShuttingDown,
}

impl Ending {
    /// The reason code that a 5.0 client is told, if it is told one, and words that explain it.
    pub(super) fn reason(self) -> Option<(u8, &'static str)> {
        let (reason, what) = match self {
            Self::Clean
            | Self::CleanWithWill
            | Self::Lost(_)
            | Self::Crowded(_)
            | Self::NoConnect
            | Self::Unanswerable => return None,
            Self::Refused(reason, what) | Self::Protocol(reason, what) => (reason, what),
            Self::Malformed(error) => (error.reason, error.what),
            Self::Silent => (Reason::KeepAliveTimeout, ""),
            Self::Evicted(code) => return Some((code, "")),
            Self::TooSlow(_) => (
                Reason::QuotaExceeded,
                "too much waits for clients that do not read",
            ),
            Self::StoreLost => (Reason::UnspecifiedError, "the broker starts over"),
            Self::ShuttingDown => (Reason::ServerShuttingDown, ""),
        };
        Some((reason as u8, what))
    }
}

impl Worker {
    /// The event loop lost a connection.
    pub fn hang_up<M: Mesh>(&mut self, id: ConnId, why: HangUp, cx: &mut Cx<'_, M>) {
        self.close(id, Ending::Lost(why), cx);
    }

    pub(super) fn on_disconnect<M: Mesh>(
        &mut self,
        id: ConnId,
        packet: &Disconnect<'_>,
        cx: &mut Cx<'_, M>,
    ) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        cx.log.line(
            LogType::Debug,
            format_args!("Received DISCONNECT from {}", conn.client.id),
        );
        for property in packet.properties.iter() {
            if let Property::SessionExpiryInterval(seconds) = property {
                // A session that was to end with the connection cannot be prolonged [MQTT-3.14.2-2].
                if conn.client.expiry_at_connect == 0 && seconds != 0 {
                    return self.violation(id, "a session expiry where there was none", cx);
                }
                conn.client.expiry = seconds;
            }
        }
        let ending = if packet.code == 0 {
            Ending::Clean
        } else {
            Ending::CleanWithWill
        };
        self.close(id, ending, cx);
    }

    /// Ends a connection: says why where the client can hear it, ends its session here, publishes or hands over its
    /// will, releases its client id.
    pub(super) fn close<M: Mesh>(&mut self, id: ConnId, ending: Ending, cx: &mut Cx<'_, M>) {
        let Some(mut conn) = self.conns.remove(id) else {
            return;
        };
        if conn.from.is_internal() {
            // Nobody need be told, and the store never knew of it.
            return self.closed.push_back((id, conn.output));
        }
        if conn.stage != Stage::Connected && !conn.from.is_internal() {
            self.strangers.left(conn.from.listener);
        }
        self.backlog.change(conn.client.window.waiting_bytes(), 0);
        self.log_ending(&conn, ending, cx);
        let before = conn.output.len();
        say_good_bye(&mut conn, ending);
        if conn.output.len() > before {
            let is_connected = conn.stage == Stage::Connected;
            let first_byte = if is_connected { DISCONNECT } else { CONNACK };
            count_packet(&mut self.counted.sent, first_byte);
        }
        self.note_over(&mut conn);
        self.forget_requests(id);
        self.pauses.forget(id, &conn);
        match conn.stage {
            Stage::AwaitConnect => {}
            Stage::Claiming => {
                self.unsubscribe_all(id, &mut conn);
                self.release(id, WillFate::Done, None, cx);
            }
            Stage::Connected => self.end_session(id, &mut conn, ending, cx),
        }
        self.closed.push_back((id, conn.output));
    }

    fn end_session<M: Mesh>(
        &mut self,
        id: ConnId,
        conn: &mut Connection,
        ending: Ending,
        cx: &mut Cx<'_, M>,
    ) {
        self.unsubscribe_all(id, conn);
        self.give_back_unsent(id, conn, cx);
        let client = &mut conn.client;
        let expiry = Some(client.expiry).filter(|expiry| *expiry != client.expiry_at_connect);
        let will = client.will.take().filter(|_| ending != Ending::Clean);
        match will {
            None => self.release(id, WillFate::Done, expiry, cx),
            Some(will) if ending == Ending::StoreLost => self.orphaned_wills.push(will),
            Some(will)
                if will.delay_secs > 0 && client.expiry > 0 && ending != Ending::ShuttingDown =>
            {
                self.release(id, WillFate::Delayed, expiry, cx);
            }
            Some(will) => {
                let release = Release {
                    claim: id.claim(),
                    will: WillFate::Done,
                    expiry,
                };
                self.publish_will(&will, client.number, Some(release), cx);
            }
        }
    }

    fn release<M: Mesh>(
        &mut self,
        id: ConnId,
        will: WillFate,
        expiry: Option<u32>,
        cx: &mut Cx<'_, M>,
    ) {
        let release = Release {
            claim: id.claim(),
            will,
            expiry,
        };
        self.last = ToStore::Release(release).append(cx.mesh, &mut self.scratch);
    }

    /// Publishes a will; with a release, both are one record: neither can happen without the other.
    pub(super) fn publish_will<M: Mesh>(
        &mut self,
        will: &Will,
        publisher: ClientNumber,
        releases: Option<Release>,
        cx: &mut Cx<'_, M>,
    ) {
        let message = Message {
            qos: will.qos,
            retain: will.retain,
            publisher,
            packet_id: None,
            releases,
            expires_at: expires_at(Properties::trusted(&will.properties), cx.now),
            topic: &will.topic,
            properties: &will.properties,
            payload: &will.payload,
        };
        self.route(&message, cx);
    }

    /// What this worker wants for a subscription: a transient session everything; a stored one QoS 0 only, the rest
    /// comes through the store.
    pub(super) fn class_of(&self, stored: bool) -> Class {
        if stored { Class::QOS0 } else { Class::BOTH }
    }

    /// Without `connection_messages` no client that comes or goes leaves a line, whatever the reason; a limit that acts
    /// still does.
    fn log_ending<M: Mesh>(&self, conn: &Connection, ending: Ending, cx: &mut Cx<'_, M>) {
        if !self.config.connection_messages && !matches!(ending, Ending::TooSlow(_)) {
            return;
        }
        let (id, peer) = (&*conn.client.id, conn.from.peer);
        let id = if id.is_empty() { "<unknown>" } else { id };
        let notice = LogType::Notice;
        let log = &mut cx.log;
        let mut disconnected = |why: &dyn std::fmt::Display| {
            log.line(
                notice,
                format_args!("Client {id} [{peer}] disconnected: {why}."),
            );
        };
        match ending {
            Ending::Clean | Ending::CleanWithWill => {
                log.line(notice, format_args!("Client {id} [{peer}] disconnected."))
            }
            Ending::Lost(HangUp::Eof) => log.line(
                notice,
                format_args!("Client {id} [{peer}] closed its connection."),
            ),
            Ending::Lost(HangUp::Error(kind)) => disconnected(&kind),
            Ending::Refused(_, what) => log.line(
                notice,
                format_args!("Client {id} [{peer}] refused: {what}."),
            ),
            Ending::Unanswerable => log.line(
                notice,
                format_args!("Client {id} [{peer}] refused: it cannot take CONNACK."),
            ),
            // In the words of the original, which has no id yet when it finds out.
            Ending::Crowded(option) => {
                let ip = peer.ip();
                log.line(
                    notice,
                    format_args!("Client connection from {ip} denied: {option} exceeded."),
                );
            }
            Ending::Malformed(error) => disconnected(&format_args!("malformed packet ({error})")),
            Ending::Protocol(_, what) => disconnected(&format_args!("protocol error ({what})")),
            Ending::Silent => log.line(
                notice,
                format_args!("Client {id} [{peer}] has exceeded timeout, disconnecting."),
            ),
            Ending::NoConnect => disconnected(&"no CONNECT came"),
            Ending::Evicted(code) => disconnected(&why_evicted(code)),
            Ending::TooSlow(bytes) => disconnected(&format_args!(
                "{bytes} bytes wait for it (global_max_output_bytes)"
            )),
            Ending::StoreLost => disconnected(&"the store is restarted"),
            Ending::ShuttingDown => {}
        }
    }

    /// Keep-alive timers: connections that may have been silent for too long come out of `pop_silent`.
    pub fn tick<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        self.end_slow_readers(cx);
        self.end_pauses(cx);
        while let Some(due) = self.timers.take_due(cx.now) {
            for id in due {
                let Some(conn) = self.conns.get(id).filter(|c| c.look_at <= cx.now) else {
                    continue;
                };
                match silence_ends(conn, &self.config) {
                    None => {}
                    Some(at) if at > cx.now => self.look_at(id, at, cx.now),
                    Some(_) if conn.stage == Stage::Claiming => {
                        let what = "its client id was not free in time";
                        self.close(id, Ending::Refused(Reason::ServerUnavailable, what), cx);
                    }
                    // Whoever waits to be let in has had its time, even if it could not be served.
                    Some(_) if conn.stage == Stage::AwaitConnect && !self.wants_input(id) => {
                        self.close(id, Ending::NoConnect, cx);
                    }
                    // While nothing is read, silence says nothing about the client.
                    Some(_) if !self.wants_input(id) => {
                        self.look_at(id, cx.now.after_secs(1), cx.now);
                    }
                    Some(_) => {
                        // If the socket has something after all, silence begins anew.
                        self.look_at(id, cx.now.after_secs(1), cx.now);
                        self.silent.push_back(id);
                    }
                }
            }
        }
    }

    /// Looks at a connection at `at`, or before. Entries of connections that are over stay in the timers until their
    /// time comes, so none is for a distant one.
    pub(super) fn look_at(&mut self, id: ConnId, at: Instant, now: Instant) {
        let at = at.min(now.after_secs(SILENCE_CHECK_SECS));
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        // One that comes earlier looks further when it comes.
        if conn.look_at <= now || at < conn.look_at {
            conn.look_at = at;
            self.timers.set(at, id);
        }
    }

    /// A connection whose keep-alive has passed: the loop reads it once more, and calls [`Worker::silent`] only if
    /// that found nothing.
    pub fn pop_silent(&mut self) -> Option<ConnId> {
        self.silent.pop_front()
    }

    /// Whether [`Worker::pop_silent`] has one.
    pub fn has_silent(&self) -> bool {
        !self.silent.is_empty()
    }

    /// The client has come back on another connection. What it sent on this one before is still its word: the loop
    /// reads what has arrived, then it is closed.
    pub(super) fn evict(&mut self, id: ConnId, reason: u8) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.evicting = Some((reason, 0));
            self.silent.push_back(id);
        }
    }

    /// After input of a connection that is to be closed: look again, a bounded number of times.
    pub(super) fn evict_again<M: Mesh>(&mut self, id: ConnId, cx: &mut Cx<'_, M>) {
        let Some((reason, looks)) = self
            .conns
            .get_mut(id)
            .and_then(|conn| conn.evicting.as_mut())
        else {
            return;
        };
        *looks += 1;
        if *looks <= EVICTION_READS_MAX {
            self.silent.push_back(id);
        } else {
            let ending = Ending::Evicted(*reason);
            self.close(id, ending, cx);
        }
    }

    /// Nothing came from this connection, not even now.
    pub fn silent<M: Mesh>(&mut self, id: ConnId, cx: &mut Cx<'_, M>) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        if let Some((reason, _)) = conn.evicting {
            // What was read and had to wait is the client's word too.
            if conn.pause.is_on() {
                self.consume_partial(id, cx);
            }
            return self.close(id, Ending::Evicted(reason), cx);
        }
        match silence_ends(conn, &self.config) {
            None => {}
            Some(at) if at > cx.now => self.look_at(id, at, cx.now),
            Some(_) if conn.stage == Stage::Connected => self.close(id, Ending::Silent, cx),
            Some(_) => self.close(id, Ending::NoConnect, cx),
        }
    }

    /// After input of a connection that has not been let in: one that sends its CONNECT drop by drop has no more time.
    pub(super) fn end_late_stranger<M: Mesh>(&mut self, id: ConnId, cx: &mut Cx<'_, M>) {
        let late = |conn: &Connection| {
            conn.stage == Stage::AwaitConnect
                && silence_ends(conn, &self.config).is_some_and(|at| at <= cx.now)
        };
        if self.conns.get(id).is_some_and(late) {
            self.close(id, Ending::NoConnect, cx);
        }
    }

    /// SIGTERM, first step: nothing is read any more, and every will is published, as the original does.
    pub fn quiesce<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        let ids: Vec<ConnId> = self.conns.keys().collect();
        for id in ids {
            let Some(conn) = self
                .conns
                .get_mut(id)
                .filter(|c| c.stage == Stage::Connected)
            else {
                continue;
            };
            if let Some(will) = conn.client.will.take() {
                // With the release: should this worker not live to close the connection, the store finds nothing
                // left to publish.
                let release = Release {
                    claim: id.claim(),
                    will: WillFate::Done,
                    expiry: None,
                };
                let number = conn.client.number;
                self.publish_will(&will, number, Some(release), cx);
            }
        }
        self.quiescing = Some(self.last);
    }

    /// Whether every other member has applied what this worker said before it became quiet.
    pub fn is_quiet<M: Mesh>(&self, cx: &Cx<'_, M>) -> bool {
        let everyone = cx.mesh.live();
        self.quiescing.is_some_and(|last| cx.mesh.covered() >= last)
            && cx.mesh.passed(everyone) >= cx.mesh.head()
    }

    /// SIGTERM, second step: every client is told and closed.
    pub fn stop<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        let ids: Vec<ConnId> = self.conns.keys().collect();
        for id in ids {
            self.close(id, Ending::ShuttingDown, cx);
        }
    }

    /// The store died: in memory, every session died with it. Wills are kept for its successor.
    pub(super) fn start_over<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        self.store_up = false;
        self.store_subscribing = 0;
        self.store_sharing = 0;
        self.foreign.forget(MemberId::STORE);
        let ids: Vec<ConnId> = self.conns.keys().collect();
        for id in ids {
            if self
                .conns
                .get(id)
                .is_some_and(|conn| conn.stage != Stage::AwaitConnect)
            {
                self.close(id, Ending::StoreLost, cx);
            }
        }
        self.subacks.clear();
        self.suback_codes = 0;
        self.stored_requests.clear();
        self.retained.clear();
        self.early_slices.clear();
    }
}

fn why_evicted(code: u8) -> String {
    match code {
        0x8e => "session taken over".to_owned(),
        0x98 => "not let in by the new configuration".to_owned(),
        code => format!("reason {code:#04x}"),
    }
}

/// The first bytes of the two packets that a good-bye can be.
const CONNACK: u8 = 0x20;
const DISCONNECT: u8 = 0xe0;

/// When a connection has been silent for too long; `None` if it may be silent for ever.
fn silence_ends(conn: &Connection, config: &Config) -> Option<Instant> {
    match conn.stage {
        // Until it is let in, it is heard of once: when it is accepted.
        Stage::AwaitConnect | Stage::Claiming => {
            Some(conn.heard.after_secs(u64::from(config.connect_timeout)))
        }
        Stage::Connected if conn.client.keep_alive == 0 => None,
        Stage::Connected => Some(conn.heard.after_secs(super::connect::keep_alive_grace_secs(
            conn.client.keep_alive,
        ))),
    }
}

/// When a message with these properties expires.
pub(super) fn expires_at(properties: Properties<'_>, now: Instant) -> Option<Instant> {
    if properties.is_empty() {
        return None;
    }
    properties.iter().find_map(|property| match property {
        // One of 0 is for those who are there to take it, as in the original; so it lives for a moment.
        Property::MessageExpiryInterval(seconds) => Some(now.after_secs(u64::from(seconds.max(1)))),
        _ => None,
    })
}
