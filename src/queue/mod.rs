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

/// How much may wait; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub messages: u32,
    pub bytes: u64,
}

/// What became of a new message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    Kept,
    /// The queue is full. `first`: since it was empty or the client came back, so worth a line in the log.
    Dropped {
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
    messages_waiting: usize,
    bytes_waiting: u64,
    /// No message that waits expires before this.
    earliest_expiry: Option<Instant>,
    is_dropping: bool,
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
            messages_waiting: 0,
            bytes_waiting: 0,
            earliest_expiry: None,
            is_dropping: false,
        }
    }
}

impl<M: Clone, G> Queue<M, G> {
    /// A connection attached: repeat what is in flight, and have at most `window` messages unacknowledged on it.
    pub fn attach(&mut self, window: u16) {
        self.window = Some(usize::from(window.max(1)));
        self.on_wire = 0;
        self.repeat.clone_from(&self.released);
        self.is_dropping = false;
    }

    /// The connection is over; everything unacknowledged stays.
    pub fn detach(&mut self) {
        self.window = None;
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
        self.messages_waiting + self.inflight.len() + self.released.len()
    }

    /// Whether there is nothing to send and nothing to acknowledge.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.gaps.is_empty()
    }

    /// Puts a message at the end. A full queue drops the newest.
    pub fn push(&mut self, entry: Entry<M>, limits: Limits, now: Instant) -> Pushed {
        if self.is_full(limits) {
            self.drop_expired(now);
            if self.is_full(limits) {
                let first = !std::mem::replace(&mut self.is_dropping, true);
                return Pushed::Dropped { first };
            }
        }
        self.messages_waiting += 1;
        self.bytes_waiting += entry.bytes as u64;
        self.earliest_expiry = match (self.earliest_expiry, entry.expires_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.waiting.push_back(Item::Message(entry));
        Pushed::Kept
    }

    /// Messages that the window takes at once are not limited, as in the original.
    fn is_full(&self, limits: Limits) -> bool {
        let window = self.window.unwrap_or(0);
        let beyond_window = self.len().saturating_sub(window);
        let most = usize::try_from(limits.messages).unwrap_or(usize::MAX);
        let has_room = self.len() < window;
        (limits.messages > 0 && beyond_window >= most)
            || (limits.bytes > 0 && !has_room && self.bytes_waiting >= limits.bytes)
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
                    Self::uncount(entry, &mut self.messages_waiting, &mut self.bytes_waiting);
                    continue;
                }
                self.earliest_expiry = match (self.earliest_expiry, entry.expires_at) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
            self.waiting.push_back(item);
        }
    }

    fn uncount(entry: &Entry<M>, messages: &mut usize, bytes: &mut u64) {
        *messages -= 1;
        *bytes -= entry.bytes as u64;
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
        self.on_wire == self.inflight.len() && self.window.is_some_and(|window| used < window)
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
            if self.on_wire + self.released.len() >= window {
                return None;
            }
            let again = self.inflight.get(self.on_wire)?;
            self.on_wire += 1;
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
        Self::uncount(&entry, &mut self.messages_waiting, &mut self.bytes_waiting);
        if self.messages_waiting == 0 {
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
        self.inflight.remove(at);
        self.on_wire -= usize::from(at < self.on_wire);
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
mod tests {
    use super::*;

    type Plain = Queue<u32, &'static str>;

    const NONE: Limits = Limits {
        messages: 0,
        bytes: 0,
    };

    fn entry(message: u32, qos: Qos) -> Entry<u32> {
        Entry {
            message,
            qos,
            retain: false,
            subscription_ids: None,
            expires_at: None,
            bytes: 10,
        }
    }

    fn filled(messages: u32, qos: Qos) -> Plain {
        let mut queue = Plain::default();
        for n in 0..messages {
            assert_eq!(queue.push(entry(n, qos), NONE, Instant(0)), Pushed::Kept);
        }
        queue
    }

    /// Everything that may be sent: (packet id or 0, dup, message); a PUBREL has message `u32::MAX`.
    fn sent(queue: &mut Plain) -> Vec<(u16, bool, u32)> {
        let mut sent = Vec::new();
        loop {
            match queue.next(Instant(0)) {
                Some(Next::Publish(m)) => {
                    sent.push((m.packet_id.map_or(0, PacketId::get), m.dup, m.entry.message));
                }
                Some(Next::Pubrel(id)) => sent.push((id.get(), false, u32::MAX)),
                Some(Next::Gap(_)) | None => return sent,
            }
        }
    }

    fn id(n: u16) -> PacketId {
        PacketId::new(n).unwrap()
    }

    #[test]
    fn the_window_limits_what_is_sent_and_an_acknowledgement_opens_it() {
        let mut queue = filled(3, Qos::AtLeastOnce);
        assert_eq!(sent(&mut queue), [], "nobody is attached");
        queue.attach(2);
        assert_eq!(sent(&mut queue), [(1, false, 0), (2, false, 1)]);
        assert!(queue.puback(id(1)) && !queue.puback(id(1)));
        assert_eq!(sent(&mut queue), [(3, false, 2)]);
    }

    #[test]
    fn what_is_in_flight_is_repeated_in_order_before_anything_new() {
        let mut queue = filled(4, Qos::ExactlyOnce);
        queue.attach(3);
        sent(&mut queue);
        queue.pubrec(id(2), 0);
        queue.detach();
        queue.attach(10);
        assert_eq!(
            sent(&mut queue),
            [
                (2, false, u32::MAX),
                (1, true, 0),
                (3, true, 2),
                (4, false, 3)
            ]
        );
    }

    #[test]
    fn a_smaller_window_after_reconnecting_holds_back_repetitions() {
        let mut queue = filled(4, Qos::AtLeastOnce);
        queue.attach(3);
        sent(&mut queue);
        queue.detach();
        queue.attach(1);
        assert_eq!(sent(&mut queue), [(1, true, 0)]);
        assert!(queue.puback(id(1)));
        assert_eq!(sent(&mut queue), [(2, true, 1)]);
    }

    #[test]
    fn a_refused_qos_2_message_is_over() {
        let mut queue = filled(1, Qos::ExactlyOnce);
        queue.attach(1);
        sent(&mut queue);
        assert!(!queue.puback(id(1)), "not the answer to QoS 2");
        assert!(queue.pubrec(id(1), 0x97));
        assert!(queue.is_empty() && !queue.pubcomp(id(1)));
    }

    #[test]
    fn a_full_queue_drops_the_newest_and_says_so_once() {
        let mut queue = Plain::default();
        let two = Limits {
            messages: 2,
            bytes: 0,
        };
        let push = |queue: &mut Plain, n| queue.push(entry(n, Qos::AtLeastOnce), two, Instant(0));
        queue.attach(1);
        for n in 0..3 {
            assert_eq!(push(&mut queue, n), Pushed::Kept, "the window takes one");
        }
        assert_eq!(push(&mut queue, 3), Pushed::Dropped { first: true });
        assert_eq!(push(&mut queue, 4), Pushed::Dropped { first: false });
        queue.detach();
        queue.attach(9);
        assert_eq!(sent(&mut queue).len(), 3);
    }

    #[test]
    fn bytes_are_limited_too() {
        let mut queue = Plain::default();
        let limits = Limits {
            messages: 0,
            bytes: 15,
        };
        let mut push = || queue.push(entry(0, Qos::AtLeastOnce), limits, Instant(0));
        assert_eq!((push(), push()), (Pushed::Kept, Pushed::Kept));
        assert_eq!(push(), Pushed::Dropped { first: true });
    }

    #[test]
    fn expired_messages_are_not_sent_and_make_room() {
        let mut queue = Plain::default();
        let one = Limits {
            messages: 1,
            bytes: 0,
        };
        let mut dying = entry(0, Qos::AtLeastOnce);
        dying.expires_at = Some(Instant(5));
        queue.push(dying.clone(), one, Instant(0));
        let dropped = queue.push(entry(1, Qos::AtLeastOnce), one, Instant(4));
        assert_eq!(dropped, Pushed::Dropped { first: true });
        let kept = queue.push(entry(2, Qos::AtLeastOnce), one, Instant(5));
        assert_eq!((kept, queue.len()), (Pushed::Kept, 1));
        queue.push(dying, NONE, Instant(0));
        queue.attach(5);
        assert!(matches!(queue.next(Instant(6)), Some(Next::Publish(m)) if m.entry.message == 2));
        assert!(queue.next(Instant(6)).is_none());
        assert_eq!(queue.messages_waiting, 0);
    }

    #[test]
    fn qos_0_needs_no_window_but_keeps_its_place() {
        let mut queue = filled(1, Qos::AtMostOnce);
        queue.push(entry(1, Qos::AtLeastOnce), NONE, Instant(0));
        queue.push(entry(2, Qos::AtMostOnce), NONE, Instant(0));
        assert!(!queue.is_clear_for_qos0());
        queue.attach(1);
        assert_eq!(
            sent(&mut queue),
            [(0, false, 0), (1, false, 1), (0, false, 2)]
        );
        assert!(queue.is_clear_for_qos0());
        queue.push(entry(3, Qos::AtLeastOnce), NONE, Instant(0));
        assert!(!queue.is_clear_for_qos0(), "a message waits for the window");
    }

    #[test]
    fn nothing_behind_a_gap_is_sent_before_it_is_closed() {
        let mut queue = filled(1, Qos::AtLeastOnce);
        queue.push_gap("retained");
        queue.push(entry(1, Qos::AtLeastOnce), NONE, Instant(0));
        queue.attach(2);
        assert_eq!(sent(&mut queue), [(1, false, 0)]);
        assert_eq!(queue.next(Instant(0)), Some(Next::Gap(&mut "retained")));
        let now = queue.send_now(entry(7, Qos::AtLeastOnce));
        assert!(now.is_some_and(|m| m.packet_id == Some(id(2))));
        assert!(
            queue.send_now(entry(8, Qos::AtLeastOnce)).is_none(),
            "no window"
        );
        queue.close_gap();
        queue.puback(id(1));
        assert_eq!(sent(&mut queue), [(3, false, 1)]);
    }

    #[test]
    fn packet_ids_go_around_and_skip_those_in_use() {
        let mut queue = filled(1, Qos::AtLeastOnce);
        queue.attach(3);
        sent(&mut queue);
        for n in 0..200_000_u32 {
            queue.push(entry(n, Qos::AtLeastOnce), NONE, Instant(0));
            let packet_id = sent(&mut queue)[0].0;
            assert!(packet_id > 1, "1 is still in flight");
            assert!(queue.puback(id(packet_id)));
        }
        assert!(queue.puback(id(1)) && queue.is_empty());
    }
}
