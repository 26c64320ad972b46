//! PURE: the queue and the in-flight window of one persistent session.
//!
//! Messages wait in order, are sent while the client's window has room, and stay until the client has acknowledged
//! them. After a reconnection what was in flight is repeated, in order, before anything new. This room counts and
//! orders; what a message is, and when retained messages are looked up for a [`Next::Gap`], is the caller's.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::base::clock::Instant;
use crate::mqtt::{PacketId, Qos};

/// A message for one session.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<M> {
    /// Usually shared with other sessions.
    pub message: M,
    /// As it goes on the wire.
    pub qos: Qos,
    /// As it goes on the wire.
    pub retain: bool,
    /// Identifiers of the subscriptions that matched.
    pub subscription_ids: Option<Rc<[u32]>>,
    /// Dropped if it still waits by then.
    pub expires_at: Option<Instant>,
    /// What it counts against the limit of bytes.
    pub bytes: usize,
}

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages; 0 is no limit.
    pub messages: u32,
    /// Bytes; 0 is no limit. One message of any size may stand above it.
    pub bytes: u64,
    /// Bytes for which there is room among all queues of the broker.
    pub room: u64,
    /// A full queue drops what has waited longest instead of the new message.
    pub drops_oldest: bool,
}

impl Limits {
    /// As much as anybody likes.
    pub const NONE: Self = Self {
        messages: 0,
        bytes: 0,
        room: u64::MAX,
        drops_oldest: false,
    };
}

/// What became of a new message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    Kept,
    /// The queue is full: so many messages are lost, the new one or some that waited. `first`: since it was empty or
    /// the client came back, so worth a line in the log.
    Dropped {
        messages: u64,
        first: bool,
    },
}

/// A message that goes on the wire.
#[derive(Clone, Debug, PartialEq)]
pub struct Sending<M> {
    /// `None` at QoS 0.
    pub packet_id: Option<PacketId>,
    pub dup: bool,
    pub entry: Entry<M>,
}

/// What to send now.
#[derive(Debug, PartialEq)]
pub enum Next<'a, M, G> {
    /// A message.
    Publish(Sending<M>),
    /// A PUBREL whose PUBCOMP did not come before the connection broke.
    Pubrel(PacketId),
    /// Messages belong here that have not been looked up yet. Nothing behind them is sent until
    /// [`Queue::close_gap`].
    Gap(&'a mut G),
}

/// The messages of one session that its client has not acknowledged. `G` stands for messages not looked up yet.
#[derive(Debug)]
pub struct Queue<M, G> {
    waiting: VecDeque<Item<M>>,
    /// What stands in the gaps of `waiting`, in the same order.
    gaps: VecDeque<G>,
    /// Sent at least once, in the order of the first time, and not answered by PUBACK or PUBREC.
    inflight: VecDeque<InFlight<M>>,
    /// Answered by PUBREC and not by PUBCOMP, in the order of the PUBRECs [MQTT-4.6.0-4].
    released: VecDeque<PacketId>,
    /// PUBRELs that this connection must still repeat.
    repeat: VecDeque<PacketId>,
    /// How many of `inflight`, from the front, this connection has been sent.
    on_wire: usize,
    /// Counts the packet ids given out; see [`id_of`].
    next_sequence: u64,
    /// Messages that may be unacknowledged on this connection; `None` while there is none.
    window: Option<usize>,
    /// Bytes of the messages on the wire that were not answered, and how many there may be; one message of any size
    /// may stand above it.
    bytes_on_wire: u64,
    bytes_on_wire_max: u64,
    /// What waits of QoS 0, and of QoS 1 and 2.
    load0: Load,
    load12: Load,
    /// No message that waits expires before this.
    earliest_expiry: Option<Instant>,
    is_dropping: bool,
}

/// Messages and their bytes.
#[derive(Clone, Copy, Default, Debug)]
struct Load {
    messages: usize,
    bytes: u64,
}

impl Load {
    fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }

    fn remove(&mut self, bytes: usize) {
        self.messages -= 1;
        self.bytes -= bytes as u64;
    }
}

#[derive(Debug)]
enum Item<M> {
    Message(Entry<M>),
    Gap,
}

#[derive(Debug)]
struct InFlight<M> {
    sequence: u64,
    entry: Entry<M>,
}

impl<M, G> Default for Queue<M, G> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            gaps: VecDeque::new(),
            inflight: VecDeque::new(),
            released: VecDeque::new(),
            repeat: VecDeque::new(),
            on_wire: 0,
            next_sequence: 0,
            window: None,
            bytes_on_wire: 0,
            bytes_on_wire_max: u64::MAX,
            load0: Load::default(),
            load12: Load::default(),
            earliest_expiry: None,
            is_dropping: false,
        }
    }
}

impl<M: Clone, G> Queue<M, G> {
    /// A connection attached: repeat what is in flight, and have at most `window` messages unacknowledged on it, and
    /// about `bytes` in them.
    pub fn attach(&mut self, window: u16, bytes: u64) {
        self.window = Some(usize::from(window.max(1)));
        self.bytes_on_wire_max = bytes.max(1);
        self.bytes_on_wire = 0;
        self.on_wire = 0;
        self.repeat.clone_from(&self.released);
        self.is_dropping = false;
    }

    /// The connection is over; everything unacknowledged stays.
    pub fn detach(&mut self) {
        self.window = None;
        self.bytes_on_wire = 0;
        self.on_wire = 0;
        self.repeat.clear();
    }

    /// Whether a connection is attached.
    pub fn is_attached(&self) -> bool {
        self.window.is_some()
    }

    /// Whether a message of QoS 0 may be sent at once without overtaking one that waits. (A client may have changed
    /// its subscription from QoS 1 to QoS 0 since that one came.)
    pub fn is_clear_for_qos0(&self) -> bool {
        self.is_attached() && self.waiting.is_empty() && self.on_wire == self.inflight.len()
    }

    /// Messages that wait and are in flight.
    pub fn len(&self) -> usize {
        self.messages_waiting() + self.inflight.len() + self.released.len()
    }

    /// Whether there is nothing to send and nothing to acknowledge.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.gaps.is_empty()
    }

    /// Puts a message at the end, unless the queue is full and drops the newest.
    pub fn push(&mut self, entry: Entry<M>, limits: Limits, now: Instant) -> Pushed {
        // What goes out of this queue makes room for others in the broker, too.
        let all = limits.room.saturating_add(self.bytes_waiting());
        let new = (entry.qos, entry.bytes as u64);
        let mut messages = 0;
        if self.is_full(limits, all, new) {
            self.drop_expired(now);
        }
        while limits.drops_oldest && self.is_full(limits, all, new) && self.drop_oldest(new.0) {
            messages += 1;
        }
        if self.is_full(limits, all, new) {
            messages += 1;
        } else {
            self.keep(entry);
        }
        if messages == 0 {
            return Pushed::Kept;
        }
        let first = !std::mem::replace(&mut self.is_dropping, true);
        Pushed::Dropped { messages, first }
    }

    fn keep(&mut self, entry: Entry<M>) {
        self.count(&entry);
        self.note_expiry(&entry);
        self.waiting.push_back(Item::Message(entry));
    }

    /// Messages that the window takes at once are not limited, as in the original. Those of QoS 0 and those of QoS 1
    /// and 2 take no room from each other. `all`: bytes that may wait here for the sake of the whole broker.
    fn is_full(&self, limits: Limits, all: u64, (qos, bytes): (Qos, u64)) -> bool {
        let window = self.window.unwrap_or(0);
        let most = usize::try_from(limits.messages).unwrap_or(usize::MAX);
        let (messages, bytes_waiting) = if qos == Qos::AtMostOnce {
            (self.load0.messages, self.load0.bytes)
        } else {
            let in_flight = self.inflight.len() + self.released.len();
            let beyond_window = (self.load12.messages + in_flight).saturating_sub(window);
            (beyond_window, self.load12.bytes)
        };
        let goes_at_once = self.len() < window
            && self.bytes_on_wire + self.bytes_waiting() < self.bytes_on_wire_max;
        (limits.messages > 0 && messages >= most)
            || (!goes_at_once && limits.bytes > 0 && bytes_waiting >= limits.bytes)
            || (!goes_at_once && self.bytes_waiting().saturating_add(bytes) > all)
    }

    /// Drops the message that has waited longest, if one waits. For a message of QoS 0 none of QoS 1 or 2 goes, nor
    /// the other way around.
    fn drop_oldest(&mut self, for_qos: Qos) -> bool {
        let is_zero = for_qos == Qos::AtMostOnce;
        let may_go = |item: &Item<M>| match item {
            Item::Message(entry) => (entry.qos == Qos::AtMostOnce) == is_zero,
            Item::Gap => false,
        };
        let Some(at) = self.waiting.iter().position(may_go) else {
            return false;
        };
        if let Some(Item::Message(entry)) = self.waiting.remove(at) {
            self.uncount(&entry);
        }
        true
    }

    fn messages_waiting(&self) -> usize {
        self.load0.messages + self.load12.messages
    }

    /// Bytes that wait.
    pub fn bytes_waiting(&self) -> u64 {
        self.load0.bytes + self.load12.bytes
    }

    fn drop_expired(&mut self, now: Instant) {
        if self.earliest_expiry.is_none_or(|at| at > now) {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        self.earliest_expiry = None;
        self.waiting.reserve(waiting.len());
        for item in waiting {
            if let Item::Message(entry) = &item {
                if entry.expires_at.is_some_and(|at| at <= now) {
                    self.uncount(entry);
                    continue;
                }
                self.note_expiry(entry);
            }
            self.waiting.push_back(item);
        }
    }

    fn note_expiry(&mut self, entry: &Entry<M>) {
        self.earliest_expiry = match (self.earliest_expiry, entry.expires_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    fn load_of(&mut self, qos: Qos) -> &mut Load {
        match qos {
            Qos::AtMostOnce => &mut self.load0,
            _ => &mut self.load12,
        }
    }

    fn count(&mut self, entry: &Entry<M>) {
        self.load_of(entry.qos).add(entry.bytes);
    }

    fn uncount(&mut self, entry: &Entry<M>) {
        self.load_of(entry.qos).remove(entry.bytes);
    }

    /// Marks the place of messages that are looked up when it is their turn.
    pub fn push_gap(&mut self, gap: G) {
        self.gaps.push_back(gap);
        self.waiting.push_back(Item::Gap);
    }

    /// The gap that comes first.
    pub fn oldest_gap(&mut self) -> Option<&mut G> {
        self.gaps.front_mut()
    }

    /// The gaps, the last one first.
    pub fn newest_gaps(&self) -> impl Iterator<Item = &G> {
        self.gaps.iter().rev()
    }

    /// The gap for which `compare` says that it is the one; it says of others on which side of it they are.
    pub fn find_gap(&mut self, compare: impl FnMut(&G) -> Ordering) -> Option<&mut G> {
        let at = self.gaps.binary_search_by(compare).ok()?;
        self.gaps.get_mut(at)
    }

    /// Everything of the gap that [`Queue::next`] shows has been sent.
    pub fn close_gap(&mut self) {
        if matches!(self.waiting.front(), Some(Item::Gap)) {
            self.waiting.pop_front();
            self.gaps.pop_front();
        }
    }

    /// Sends a message that was looked up for the gap, as if it had stood in front of it. `None`: the window has
    /// no room for it (ask [`Queue::has_window`] first).
    pub fn send_now(&mut self, entry: Entry<M>) -> Option<Sending<M>> {
        if entry.qos != Qos::AtMostOnce && !self.has_window() {
            return None;
        }
        Some(self.send(entry))
    }

    /// Whether one more message may be unacknowledged.
    pub fn has_window(&self) -> bool {
        let used = self.on_wire + self.released.len();
        self.on_wire == self.inflight.len()
            && self.bytes_on_wire < self.bytes_on_wire_max
            && self.window.is_some_and(|window| used < window)
    }

    /// What to send now: repetitions first, then what is new and fits the window.
    pub fn next(&mut self, now: Instant) -> Option<Next<'_, M, G>> {
        let window = self.window?;
        while let Some(packet_id) = self.repeat.pop_front() {
            if self.released.contains(&packet_id) {
                return Some(Next::Pubrel(packet_id));
            }
        }
        if self.on_wire < self.inflight.len() {
            if self.on_wire + self.released.len() >= window
                || self.bytes_on_wire >= self.bytes_on_wire_max
            {
                return None;
            }
            let again = self.inflight.get(self.on_wire)?;
            self.on_wire += 1;
            self.bytes_on_wire += again.entry.bytes as u64;
            return Some(Next::Publish(Sending {
                packet_id: Some(id_of(again.sequence)),
                dup: true,
                entry: again.entry.clone(),
            }));
        }
        self.next_new(now)
    }

    fn next_new(&mut self, now: Instant) -> Option<Next<'_, M, G>> {
        loop {
            match self.waiting.front()? {
                Item::Gap => break,
                Item::Message(entry) => {
                    let expired = entry.expires_at.is_some_and(|at| at <= now);
                    if !expired && entry.qos != Qos::AtMostOnce && !self.has_window() {
                        return None;
                    }
                    let entry = self.pop_message()?;
                    if !expired {
                        return Some(Next::Publish(self.send(entry)));
                    }
                }
            }
        }
        self.gaps.front_mut().map(Next::Gap)
    }

    fn pop_message(&mut self) -> Option<Entry<M>> {
        let Some(Item::Message(entry)) = self.waiting.pop_front() else {
            return None;
        };
        self.uncount(&entry);
        if self.messages_waiting() == 0 {
            self.is_dropping = false;
            self.earliest_expiry = None;
        }
        Some(entry)
    }

    fn send(&mut self, entry: Entry<M>) -> Sending<M> {
        if entry.qos == Qos::AtMostOnce {
            return Sending {
                packet_id: None,
                dup: false,
                entry,
            };
        }
        let sequence = self.free_sequence();
        self.on_wire += 1;
        self.bytes_on_wire += entry.bytes as u64;
        self.inflight.push_back(InFlight {
            sequence,
            entry: entry.clone(),
        });
        Sending {
            packet_id: Some(id_of(sequence)),
            dup: false,
            entry,
        }
    }

    /// Packet ids count up and go around, without those that are in use. The window is at most 65,535, so one is
    /// free when there is room in it.
    fn free_sequence(&mut self) -> u64 {
        loop {
            let sequence = self.next_sequence;
            self.next_sequence += 1;
            let id = id_of(sequence);
            if self.find(id).is_none() && !self.released.contains(&id) {
                return sequence;
            }
        }
    }

    /// Where in `inflight` this packet id is. Sequences ascend, and almost always the id is of the last two times
    /// around.
    fn find(&self, id: PacketId) -> Option<usize> {
        let around = self.next_sequence - self.next_sequence % IDS;
        let sequence = around + u64::from(id.get()) - 1;
        for candidate in [Some(sequence), sequence.checked_sub(IDS)] {
            let Some(candidate) = candidate else { break };
            let found = self
                .inflight
                .binary_search_by_key(&candidate, |m| m.sequence);
            if found.is_ok() {
                return found.ok();
            }
        }
        let oldest = self.inflight.front()?.sequence;
        if oldest + IDS >= sequence {
            return None;
        }
        self.inflight.iter().position(|m| id_of(m.sequence) == id)
    }

    /// PUBACK. Whether there was such a message.
    pub fn puback(&mut self, id: PacketId) -> bool {
        self.take_inflight(id, Qos::AtLeastOnce)
    }

    /// PUBREC. Whether there was such a message; a reason code of 0x80 and above ends it [MQTT-4.3.3-4].
    pub fn pubrec(&mut self, id: PacketId, code: u8) -> bool {
        if !self.take_inflight(id, Qos::ExactlyOnce) {
            return false;
        }
        if code < 0x80 {
            self.released.push_back(id);
        }
        true
    }

    /// PUBCOMP. Whether there was such a PUBREL.
    pub fn pubcomp(&mut self, id: PacketId) -> bool {
        let Some(at) = self.released.iter().position(|r| *r == id) else {
            return false;
        };
        self.released.remove(at);
        true
    }

    fn take_inflight(&mut self, id: PacketId, qos: Qos) -> bool {
        let Some(at) = self.find(id) else {
            return false;
        };
        if self.inflight.get(at).is_none_or(|m| m.entry.qos != qos) {
            return false;
        }
        let is_on_wire = at < self.on_wire;
        if let Some(over) = self.inflight.remove(at).filter(|_| is_on_wire) {
            self.on_wire -= 1;
            self.bytes_on_wire -= over.entry.bytes as u64;
        }
        true
    }
}

/// Packet ids there are.
const IDS: u64 = 65_535;

/// The packet id of the message that got the `sequence`-th id.
fn id_of(sequence: u64) -> PacketId {
    // Zero is not a packet id [MQTT-2.2.1-3], so they go around from 65,535 to one.
    u16::try_from(sequence % IDS)
        .ok()
        .and_then(|n| PacketId::MIN.checked_add(n))
        .unwrap_or(PacketId::MIN)
}

#[cfg(test)]
mod naive;

#[cfg(test)]
mod tests;
