//! A worker's brain: what is done with each packet of a client and each record of another member.
//!
//! Pure: it is told what came and what time it is, speaks to other members through the `Mesh` that it is lent, and
//! leaves bytes for clients in their outputs. It knows no descriptors. The event loop and the simulation drive it:
//! `record`/`input`/`tick`, then `end_of_turn`, flush, `flushed`, then the outputs.

mod backlog;
mod connect;
mod connection;
mod ending;
mod fan_out;
mod figures;
mod filters;
mod forms;
mod internal;
mod leaving;
mod live;
mod members;
mod mount;
mod publish;
mod rates;
mod say;
mod shared;
mod slow_readers;
mod strangers;
mod subscribe;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::VecDeque;
use std::rc::Rc;

use slotmap::SlotMap;

use backlog::Backlog;
use connect::still_admitted;
pub use connection::{AcceptedFrom, ConnId};
use connection::{Connection, LocalSubscription, Stage, Will};
use ending::Ending;
pub use ending::HangUp;
use fan_out::FanOut;
use leaving::Leaving;
use members::IndexJob;
use rates::Pauses;
use say::Held;
pub use slow_readers::Machine;
use strangers::Strangers;
use subscribe::{PendingSuback, Requests, RetainedWait};
use timers::Wheel;

use crate::base::clock::Instant;
use crate::base::figures::{Figures, count_packet};
use crate::base::ids::{Incarnation, MemberId, MemberMask, Serial};
use crate::base::limits::{
    CONTROL_PACKET_BYTES_MAX, REQUESTS_WAITING_MAX, RETAINED_WAITING_MAX, SMALL_PACKET_BYTES_MAX,
};
use crate::base::log::LogType;
use crate::base::memory::MemoryGuard;
use crate::config::Config;
use crate::ipc::mesh::FilterHash;
use crate::mqtt::frame::frame;
use crate::mqtt::{DecodeError, Packet, Reason, decode};
use crate::net::output::Output;
use crate::ring::{Cx, Mesh};
use crate::router::{Foreign, Index, Interest};

/// The brain of one worker.
pub struct Worker {
    config: Rc<Config>,
    me: MemberId,
    incarnation: Incarnation,
    conns: SlotMap<ConnId, Connection>,
    strangers: Strangers,
    backlog: Backlog,
    /// What this worker's clients subscribed to.
    local: Index<ConnId, LocalSubscription>,
    /// What this worker wants from the others, as it was announced.
    interest: Interest,
    /// What the others want.
    foreign: Foreign,
    /// Members whose index has not come whole: everything is addressed to them.
    joining: MemberMask,
    /// Members that wait for this worker's index.
    index_jobs: VecDeque<IndexJob>,
    /// Connections that are over, with filters that are still in the index.
    leaving: VecDeque<Leaving>,
    /// The store is there: claims can be made.
    store_up: bool,
    /// Stored SUBSCRIBEs that the store has not answered: it may match more than it announced.
    store_subscribing: usize,
    /// Those of them with shared filters: it may match QoS 0 too.
    store_sharing: usize,
    /// The last record of this worker.
    last: Serial,
    /// The last announcement of this worker.
    last_announcement: Serial,
    /// Packets that wait until a record is covered, in that order.
    held: VecDeque<Held>,
    /// SUBACKs that wait for the barrier, in that order.
    subacks: VecDeque<PendingSuback>,
    /// Reason codes in them.
    suback_codes: usize,
    /// Subscribes and unsubscribes of stored sessions.
    stored_requests: Requests<PendingSuback>,
    /// Retained requests, and their answers that came too early.
    retained: Requests<RetainedWait>,
    early_slices: VecDeque<Vec<u8>>,
    next_request: u32,
    /// Wills of clients that a store's death disconnected, for the new store.
    orphaned_wills: Vec<Will>,
    fan_out: FanOut,
    timers: Wheel,
    dirty: VecDeque<ConnId>,
    closed: VecDeque<(ConnId, Output)>,
    silent: VecDeque<ConnId>,
    scratch: Vec<u8>,
    /// The seed of assigned client ids, and how many halves were drawn from it.
    id_state: (u128, u64),
    /// SIGTERM: nothing is read any more.
    quiescing: Option<Serial>,
    bad_records: u64,
    /// What was counted so far; what there is now is filled in when it is asked for.
    counted: Figures,
    /// Whether all members together hold too much, as of a moment ago.
    memory: MemoryGuard,
    machine: Machine,
    pauses: Pauses,
}

impl Worker {
    /// A worker without connections. `id_seed` makes assigned client ids unguessable.
    pub fn new(
        config: Rc<Config>,
        me: MemberId,
        incarnation: Incarnation,
        hash_key: [u64; 2],
        id_seed: u128,
    ) -> Self {
        let hash = FilterHash::new(hash_key);
        Self {
            pauses: Pauses::new(&config),
            config,
            me,
            incarnation,
            conns: SlotMap::with_key(),
            strangers: Strangers::default(),
            backlog: Backlog::default(),
            local: Index::new(),
            interest: Interest::new(hash.clone()),
            foreign: Foreign::new(hash),
            joining: MemberMask::NONE,
            index_jobs: VecDeque::new(),
            leaving: VecDeque::new(),
            store_up: false,
            store_subscribing: 0,
            store_sharing: 0,
            last: Serial(0),
            last_announcement: Serial(0),
            held: VecDeque::new(),
            subacks: VecDeque::new(),
            suback_codes: 0,
            stored_requests: Requests::new(),
            retained: Requests::new(),
            early_slices: VecDeque::new(),
            next_request: 0,
            orphaned_wills: Vec::new(),
            fan_out: FanOut::default(),
            timers: Wheel::default(),
            dirty: VecDeque::new(),
            closed: VecDeque::new(),
            silent: VecDeque::new(),
            scratch: Vec::new(),
            id_state: (id_seed, 0),
            quiescing: None,
            bad_records: 0,
            counted: Figures::default(),
            memory: MemoryGuard::default(),
            machine: Machine::UNKNOWN,
        }
    }

    /// Follows another configuration from now on. Connections keep the terms they were let in on; those of clients
    /// that would not be let in any more end.
    pub fn set_config(&mut self, config: Rc<Config>) {
        self.config = config;
        self.set_rates();
        let refused = |(_, conn): &(ConnId, &Connection)| {
            conn.stage == Stage::Connected && still_admitted(conn, &self.config).is_err()
        };
        let ids: Vec<ConnId> = self
            .conns
            .iter()
            .filter(refused)
            .map(|(id, _)| id)
            .collect();
        for id in ids {
            self.evict(id, Reason::AdministrativeAction as u8);
        }
    }

    /// The option because of which `listener` may not take in another connection now.
    pub fn is_crowded(&self, listener: u16) -> Option<&'static str> {
        self.strangers.are_too_many(listener, &self.config)
    }

    /// Takes in a connection.
    pub fn accept<M: Mesh>(&mut self, from: AcceptedFrom, cx: &mut Cx<'_, M>) -> ConnId {
        self.strangers.came(from.listener);
        let output_bytes_max = usize::try_from(self.config.max_output_bytes).unwrap_or(usize::MAX);
        let conn = Connection::new(from, output_bytes_max, cx.now);
        let id = self.conns.insert(conn);
        self.counted.sockets_accepted += 1;
        self.counted.sockets += 1;
        let within = u64::from(self.config.connect_timeout);
        self.look_at(id, cx.now.after_secs(within), cx.now);
        id
    }

    /// Connections at the moment.
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Whether more bytes of this connection should be read now. Ask again after a turn.
    pub fn wants_input(&self, id: ConnId) -> bool {
        self.quiescing.is_none()
            && self.requests_waiting() < REQUESTS_WAITING_MAX
            && self.conns.get(id).is_some_and(|conn| {
                !conn.is_full()
                    && !conn.pause.is_on()
                    && conn.client.retained_waiting.len() < RETAINED_WAITING_MAX
                    && match conn.stage {
                        // Clients need not wait for CONNACK [MQTT-3.1.4-5], nor with closing; what they said before
                        // counts. So the end of the connection is not to be found before that can be acted on.
                        Stage::Claiming => false,
                        Stage::AwaitConnect => self.store_up,
                        Stage::Connected => true,
                    }
            })
    }

    fn requests_waiting(&self) -> usize {
        self.stored_requests.len() + self.retained.len() + self.suback_codes
    }

    /// As [`Worker::input`], and the client has closed its end behind them. That is still to be told.
    pub fn last_input<M: Mesh>(&mut self, id: ConnId, bytes: &[u8], cx: &mut Cx<'_, M>) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.has_ended = true;
        }
        self.input(id, bytes, cx);
    }

    /// Bytes came from a client. All of them are taken.
    pub fn input<M: Mesh>(&mut self, id: ConnId, bytes: &[u8], cx: &mut Cx<'_, M>) {
        self.take_input(id, bytes, cx);
        self.evict_again(id, cx);
        self.end_late_stranger(id, cx);
    }

    fn take_input<M: Mesh>(&mut self, id: ConnId, bytes: &[u8], cx: &mut Cx<'_, M>) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if !conn.from.is_internal() {
            self.counted.bytes_received += bytes.len() as u64;
        }
        // A CONNECT that comes byte by byte has no more time than one that comes at once.
        if conn.stage != Stage::AwaitConnect {
            conn.heard = cx.now;
        }
        if conn.partial.is_empty() {
            let used = self.consume(id, bytes, cx);
            if let (Some(conn), Some(rest)) = (self.conns.get_mut(id), bytes.get(used..)) {
                conn.partial.extend_from_slice(rest);
            }
            return;
        }
        conn.partial.extend_from_slice(bytes);
        self.consume_partial(id, cx);
    }

    fn consume_partial<M: Mesh>(&mut self, id: ConnId, cx: &mut Cx<'_, M>) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let mut partial = std::mem::take(&mut conn.partial);
        let used = self.consume(id, &partial, cx);
        if let Some(conn) = self.conns.get_mut(id)
            && used < partial.len()
        {
            partial.drain(..used);
            conn.partial = partial;
        }
    }

    /// Acts on the whole packets at the start of `bytes`, as far as there is credit for them; returns how many bytes
    /// they were.
    fn consume<M: Mesh>(&mut self, id: ConnId, bytes: &[u8], cx: &mut Cx<'_, M>) -> usize {
        let mut used = 0;
        while let Some(conn) = self.conns.get(id) {
            let most = match conn.stage {
                Stage::Claiming => break,
                Stage::AwaitConnect if !self.store_up => break,
                Stage::AwaitConnect if conn.from.is_internal() => u32::MAX,
                // Nobody was told anything yet, but what is configured holds.
                Stage::AwaitConnect => self.config.max_packet_size,
                Stage::Connected => conn.client.terms.packet_bytes_max,
            };
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let most = most.min(kind_bytes_max(conn.stage, bytes.get(used).copied()));
            let version = conn.client.version;
            let rest = bytes.get(used..).unwrap_or_default();
            let found = match frame(rest, most) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(e) => {
                    self.malformed(id, e, cx);
                    break;
                }
            };
            let is_message = found.first >> 4 == 3;
            // What the broker itself says has no limits, and is not counted.
            if !conn.from.is_internal() {
                if !self.has_credit(id, is_message, cx) {
                    break;
                }
                self.spend_credit(id, found.len, is_message, cx.now);
                count_packet(&mut self.counted.received, found.first);
            }
            used += found.len;
            let is_all = used == bytes.len();
            if let Some(conn) = self.conns.get_mut(id) {
                conn.is_pointless = conn.has_ended && conn.stage == Stage::AwaitConnect && is_all;
            }
            match decode::decode(found, version) {
                Ok(packet) => self.packet(id, packet, cx),
                Err(e) => self.malformed(id, e, cx),
            }
        }
        used
    }

    fn packet<M: Mesh>(&mut self, id: ConnId, packet: Packet<'_>, cx: &mut Cx<'_, M>) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let connected = conn.stage == Stage::Connected;
        if conn.from.is_internal() {
            return self.internal_packet(id, &packet, connected, cx);
        }
        match packet {
            Packet::Connect(connect) if !connected => self.on_connect(id, &connect, cx),
            // The first packet is CONNECT [MQTT-3.1.0-1], and there is only one [MQTT-3.1.0-2].
            _ if !connected => self.violation(id, "a first packet that is not CONNECT", cx),
            Packet::Publish(publish) => self.on_publish(id, &publish, cx),
            Packet::Puback(ack) => self.on_puback(id, &ack, cx),
            Packet::Pubrec(ack) => self.on_pubrec(id, &ack, cx),
            Packet::Pubrel(ack) => self.on_pubrel(id, &ack, cx),
            Packet::Pubcomp(ack) => self.on_pubcomp(id, &ack, cx),
            Packet::Subscribe(subscribe) => self.on_subscribe(id, &subscribe, cx),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(id, &unsubscribe, cx),
            Packet::Pingreq => self.on_pingreq(id, cx),
            Packet::Disconnect(disconnect) => self.on_disconnect(id, &disconnect, cx),
            Packet::Connect(_) => self.violation(id, "a second CONNECT", cx),
            // No method is configured, and a client that named one was refused [MQTT-4.12.0-7].
            Packet::Auth(_) => self.violation(id, "AUTH without an authentication method", cx),
            Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
                self.violation(id, "a packet that only a server sends", cx);
            }
        }
    }

    fn on_pingreq<M: Mesh>(&mut self, id: ConnId, cx: &mut Cx<'_, M>) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        cx.log.line(
            LogType::Debug,
            format_args!("Received PINGREQ from {}", conn.client.id),
        );
        cx.log.line(
            LogType::Debug,
            format_args!("Sending PINGRESP to {}", conn.client.id),
        );
        self.say(id, &Packet::Pingresp, cx);
    }

    /// A protocol error that no other code names [MQTT-4.13.1-1].
    pub(super) fn violation<M: Mesh>(
        &mut self,
        id: ConnId,
        what: &'static str,
        cx: &mut Cx<'_, M>,
    ) {
        self.close(id, Ending::Protocol(Reason::ProtocolError, what), cx);
    }

    fn malformed<M: Mesh>(&mut self, id: ConnId, error: DecodeError, cx: &mut Cx<'_, M>) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        if conn.stage == Stage::AwaitConnect {
            self.refuse_malformed(id, error, cx);
        } else {
            self.close(id, Ending::Malformed(error), cx);
        }
    }

    /// After the turn's reading and before the flush: what became due meanwhile.
    pub fn end_of_turn<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        self.send_index(cx);
        self.take_leave(cx);
        self.take_early_slices(cx);
        self.pass_subacks(cx);
    }

    /// After the flush: packets whose records are covered go into the outputs.
    pub fn flushed<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        self.let_go(cx);
        self.place_barriers(cx);
        self.fan_out.end_turn();
    }

    /// Whether something is to be done at once, without waiting for an event.
    fn is_due<M: Mesh>(&self, cx: &Cx<'_, M>) -> bool {
        (!self.index_jobs.is_empty() && cx.mesh.overflow_bytes() == 0)
            || self.is_leaving(cx)
            || self.barrier_passed(cx)
    }

    /// When `tick` should come at the latest; `None` is whenever something else happens.
    pub fn next_deadline<M: Mesh>(&self, cx: &Cx<'_, M>) -> Option<Instant> {
        if self.is_due(cx) {
            Some(cx.now)
        } else {
            let due = [self.timers.next(), self.pauses_end(cx.now)];
            due.into_iter().flatten().min()
        }
    }

    /// How many [`Worker::pop_dirty`] has.
    pub fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// A connection that has something in its output.
    pub fn pop_dirty(&mut self) -> Option<ConnId> {
        let id = self.dirty.pop_front()?;
        if let Some(conn) = self.conns.get_mut(id) {
            conn.dirty = false;
        }
        Some(id)
    }

    /// Whether so much waits to be written to a connection that the rest waits. When writing changes that, call
    /// [`Worker::wrote`].
    pub fn is_full(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(Connection::is_full)
    }

    /// What is to be written to a connection; consume what was.
    pub fn output(&mut self, id: ConnId) -> Option<&mut Output> {
        self.conns.get_mut(id).map(|conn| &mut conn.output)
    }

    /// The output of a connection that was full has been written: what waited for that goes on.
    pub fn wrote<M: Mesh>(&mut self, id: ConnId, cx: &mut Cx<'_, M>) {
        self.send_waiting(id, cx);
    }

    /// A connection that is over, with its last bytes: write what can be written, close it, forget it.
    pub fn pop_closed(&mut self) -> Option<(ConnId, Output)> {
        self.closed.pop_front()
    }
}

/// The largest packet that may start with this byte, as in the original, whatever is configured.
fn kind_bytes_max(stage: Stage, first: Option<u8>) -> usize {
    match first.unwrap_or(0) >> 4 {
        _ if stage == Stage::AwaitConnect => CONTROL_PACKET_BYTES_MAX,
        3 => usize::MAX,
        8 | 10 | 15 => CONTROL_PACKET_BYTES_MAX,
        _ => SMALL_PACKET_BYTES_MAX,
    }
}

/// Puts a connection into the list of those with output, once.
fn mark_dirty(dirty: &mut VecDeque<ConnId>, id: ConnId, conn: &mut Connection) {
    if !conn.dirty {
        conn.dirty = true;
        dirty.push_back(id);
    }
}
