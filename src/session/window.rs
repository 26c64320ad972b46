//! What goes to a client at QoS 1 and 2: packet ids under way, and what waits for one.
//!
//! Of a transient session. Those of persistent sessions are the store's (`queue`).

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use foldhash::fast::FixedState;

use crate::base::clock::Instant;
use crate::base::ids::ShareToken;
use crate::base::limits::WINDOW_MESSAGES_MAX;
use crate::mqtt::{PacketId, Qos};
use crate::queue::Limits;

/// The sending side of one transient session.
#[derive(Debug)]
pub struct Window {
    maximum: u16,
    last_id: u16,
    /// This broker gives out the ids, so nobody can choose them such that their hashes collide.
    in_flight: HashMap<PacketId, (Awaits, u64), FixedState>,
    /// Bytes of those that the client has not confirmed, and how many there may be; one message of any size may stand
    /// above it.
    bytes: u64,
    bytes_max: u64,
    waiting: VecDeque<Queued>,
    waiting_bytes: u64,
    /// Messages are being dropped, and the log said so.
    pub dropping: bool,
    /// Of shared messages that expired while they waited.
    expired: Vec<ShareToken>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Awaits {
    Puback,
    Pubrec,
    Pubcomp,
}

/// Where a message of QoS 1 or 2 goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// To the wire, with this packet id.
    Wire(PacketId),
    /// To the end of the queue, for which this many that waited were dropped.
    Queue { dropped: u64 },
    /// Nowhere: the queue is full, although this many that waited were dropped.
    Full { dropped: u64 },
}

/// A message that waits, with what is its receiver's own.
#[derive(Clone, Debug)]
pub struct Queued {
    pub qos: Qos,
    pub retain: bool,
    pub subscription_ids: Vec<u32>,
    /// Of a shared message: the store waits to hear of it.
    pub token: Option<ShareToken>,
    pub message: Rc<QueuedMessage>,
}

/// A message that waits for one or many receivers.
#[derive(Debug, PartialEq, Eq)]
pub struct QueuedMessage {
    pub topic: Box<str>,
    pub properties: Box<[u8]>,
    pub payload: Box<[u8]>,
    pub expires_at: Option<Instant>,
}

impl Window {
    /// A window for at most `maximum` unacknowledged messages, and [`WINDOW_MESSAGES_MAX`], with about `bytes` in them.
    pub fn new(maximum: u16, bytes: u64) -> Self {
        Self {
            maximum: maximum.min(WINDOW_MESSAGES_MAX),
            last_id: 0,
            in_flight: HashMap::default(),
            bytes: 0,
            bytes_max: bytes.max(1),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            dropping: false,
            expired: Vec::new(),
        }
    }

    /// Decides where a message of `bytes` payload goes. `blocked`: the client takes nothing at the moment.
    /// A packet id that is given is under way from now on.
    pub fn place(&mut self, qos: Qos, bytes: usize, blocked: bool, limits: Limits) -> Place {
        let bytes = bytes as u64;
        if self.waiting.is_empty()
            && !blocked
            && self.has_room()
            && let Some(id) = self.assign(qos, bytes)
        {
            self.dropping = false;
            return Place::Wire(id);
        }
        // What goes out of this queue makes room for others in the broker, too.
        let all = limits.room.saturating_add(self.waiting_bytes);
        let mut dropped = 0;
        while self.is_full(limits, all, bytes) {
            if !limits.drops_oldest || !self.drop_oldest() {
                return Place::Full { dropped };
            }
            dropped += 1;
        }
        Place::Queue { dropped }
    }

    fn is_full(&self, limits: Limits, all: u64, bytes: u64) -> bool {
        let most = usize::try_from(limits.messages).unwrap_or(usize::MAX);
        (limits.messages > 0 && self.waiting.len() >= most)
            || (limits.bytes > 0 && self.waiting_bytes >= limits.bytes)
            || self.waiting_bytes.saturating_add(bytes) > all
    }

    /// Drops the message that has waited longest, if one waits. Shared ones are the store's to give to another.
    fn drop_oldest(&mut self) -> bool {
        let Some(at) = self.waiting.iter().position(|q| q.token.is_none()) else {
            return false;
        };
        let dropped = self.waiting.remove(at);
        self.waiting_bytes -= dropped.map_or(0, |q| q.message.payload.len() as u64);
        true
    }

    fn pop(&mut self) -> Option<Queued> {
        let queued = self.waiting.pop_front()?;
        self.waiting_bytes -= queued.message.payload.len() as u64;
        Some(queued)
    }

    /// Whether a message waits.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Bytes of the messages that wait.
    pub fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes
    }

    fn has_room(&self) -> bool {
        self.in_flight.len() < usize::from(self.maximum) && self.bytes < self.bytes_max
    }

    /// The next packet id that is not under way. Once around, ids that are under way are passed over once, and all
    /// others are given out; since the window leaves some, that is a few looks for each on average.
    fn assign(&mut self, qos: Qos, bytes: u64) -> Option<PacketId> {
        let awaits = if qos == Qos::ExactlyOnce {
            Awaits::Pubrec
        } else {
            Awaits::Puback
        };
        for _ in 0..u16::MAX {
            // Zero is not a packet id [MQTT-2.2.1-3], so the counter wraps to one.
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if let Some(id) = PacketId::new(self.last_id)
                && let Entry::Vacant(free) = self.in_flight.entry(id)
            {
                free.insert((awaits, bytes));
                self.bytes += bytes;
                return Some(id);
            }
        }
        None
    }

    /// Puts a message at the end of the queue, after [`Window::place`] said so.
    pub fn queue(&mut self, queued: Queued) {
        self.waiting_bytes += queued.message.payload.len() as u64;
        self.waiting.push_back(queued);
    }

    /// The next message that may go to the wire now, if any; expired ones are dropped on the way.
    pub fn next(&mut self, now: Instant) -> Option<(PacketId, Queued)> {
        while self.has_room() {
            let queued = self.pop()?;
            if queued.message.expires_at.is_some_and(|at| at <= now) {
                self.expired.extend(queued.token);
                continue;
            }
            self.dropping &= !self.waiting.is_empty();
            let id = self.assign(queued.qos, queued.message.payload.len() as u64)?;
            return Some((id, queued));
        }
        None
    }

    /// The shared messages that expired since the last time.
    pub fn take_expired(&mut self) -> Vec<ShareToken> {
        std::mem::take(&mut self.expired)
    }

    /// The shared messages that wait.
    pub fn shared_waiting(&self) -> impl Iterator<Item = ShareToken> {
        self.waiting.iter().filter_map(|queued| queued.token)
    }

    /// A PUBACK came. False if no PUBACK was due for this packet id.
    pub fn puback(&mut self, id: PacketId) -> bool {
        self.finish(id, Awaits::Puback)
    }

    /// A PUBREC came: a PUBREL is due if it was expected (or repeated). An error code ends the delivery
    /// [MQTT-4.3.3-4]. False if there is no such packet id.
    pub fn pubrec(&mut self, id: PacketId, refused: bool) -> bool {
        if refused {
            return self.finish(id, Awaits::Pubrec);
        }
        match self.in_flight.get_mut(&id) {
            Some((awaits, bytes)) if *awaits != Awaits::Puback => {
                *awaits = Awaits::Pubcomp;
                // It has arrived.
                self.bytes -= std::mem::take(bytes);
                true
            }
            _ => false,
        }
    }

    /// A message was not sent after all: its packet id is free.
    pub fn give_up(&mut self, id: PacketId) {
        let _ = self.finish(id, Awaits::Puback) || self.finish(id, Awaits::Pubrec);
    }

    /// A PUBCOMP came. False if no PUBCOMP was due for this packet id.
    pub fn pubcomp(&mut self, id: PacketId) -> bool {
        self.finish(id, Awaits::Pubcomp)
    }

    fn finish(&mut self, id: PacketId, due: Awaits) -> bool {
        if self
            .in_flight
            .get(&id)
            .is_none_or(|(awaits, _)| *awaits != due)
        {
            return false;
        }
        let over = self.in_flight.remove(&id);
        self.bytes -= over.map_or(0, |(_, bytes)| bytes);
        if self.in_flight.is_empty() && self.waiting.is_empty() {
            self.in_flight = HashMap::default();
            self.waiting = VecDeque::new();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Limits = Limits {
        messages: 2,
        ..Limits::NONE
    };
    const NOW: Instant = Instant(5);

    fn id(n: u16) -> PacketId {
        PacketId::new(n).unwrap()
    }

    fn queued(qos: Qos, expires_at: Option<Instant>) -> Queued {
        let message = QueuedMessage {
            topic: "t".into(),
            properties: Box::default(),
            payload: Box::new([1]),
            expires_at,
        };
        Queued {
            qos,
            retain: false,
            subscription_ids: Vec::new(),
            token: None,
            message: Rc::new(message),
        }
    }

    #[test]
    fn beyond_the_window_messages_wait_and_beyond_the_queue_they_are_dropped() {
        let mut window = Window::new(1, u64::MAX);
        assert_eq!(
            window.place(Qos::AtLeastOnce, 1, false, MOST),
            Place::Wire(id(1))
        );
        for _ in 0..2 {
            assert_eq!(
                window.place(Qos::AtLeastOnce, 1, false, MOST),
                Place::Queue { dropped: 0 }
            );
            window.queue(queued(Qos::AtLeastOnce, None));
        }
        assert_eq!(
            window.place(Qos::AtLeastOnce, 1, false, MOST),
            Place::Full { dropped: 0 }
        );
        assert!(window.next(NOW).is_none());
        assert!(window.puback(id(1)));
        assert_eq!(window.next(NOW).map(|(id, _)| id), Some(id(2)));
        assert!(!window.puback(id(1)));
    }

    #[test]
    fn qos2_takes_its_four_steps_in_order() {
        let mut window = Window::new(5, u64::MAX);
        assert_eq!(
            window.place(Qos::ExactlyOnce, 1, false, MOST),
            Place::Wire(id(1))
        );
        assert!(!window.pubcomp(id(1)) && !window.puback(id(1)));
        assert!(window.pubrec(id(1), false));
        assert!(
            window.pubrec(id(1), false),
            "a repeated PUBREC is answered again"
        );
        assert!(window.pubcomp(id(1)));
        assert!(!window.pubrec(id(1), false));
    }

    #[test]
    fn packet_ids_wrap_past_zero_and_skip_those_in_flight() {
        let mut window = Window::new(3, u64::MAX);
        assert_eq!(
            window.place(Qos::ExactlyOnce, 1, false, MOST),
            Place::Wire(id(1))
        );
        for n in 2..=u16::MAX {
            assert_eq!(
                window.place(Qos::AtLeastOnce, 1, false, MOST),
                Place::Wire(id(n))
            );
            assert!(window.puback(id(n)));
        }
        assert_eq!(
            window.place(Qos::AtLeastOnce, 1, false, MOST),
            Place::Wire(id(2))
        );
    }

    /// Whoever keeps nearly every packet id under way and acknowledges the others one by one makes each next id hard
    /// to find; that must not take the time of a search through all of them.
    #[test]
    fn a_full_window_finds_its_next_packet_id_at_once() {
        let mut window = Window::new(u16::MAX, u64::MAX);
        let held = WINDOW_MESSAGES_MAX - 1;
        for n in 1..=held {
            let placed = window.place(Qos::AtLeastOnce, 1, false, MOST);
            assert_eq!(placed, Place::Wire(id(n)));
        }
        // Ten times around; by searching it would be three billion steps.
        let free = u32::from(u16::MAX - held);
        for n in 0..10 * free {
            let expected = held + 1 + u16::try_from(n % free).unwrap();
            let placed = window.place(Qos::ExactlyOnce, 1, false, MOST);
            assert_eq!(placed, Place::Wire(id(expected)));
            assert!(window.pubrec(id(expected), false) && window.pubcomp(id(expected)));
        }
        window.place(Qos::AtLeastOnce, 1, false, MOST);
        assert_eq!(
            window.place(Qos::AtLeastOnce, 1, false, MOST),
            Place::Queue { dropped: 0 }
        );
    }

    #[test]
    fn an_expired_message_is_not_sent() {
        let mut window = Window::new(1, u64::MAX);
        window.place(Qos::AtLeastOnce, 1, false, MOST);
        window.queue(queued(Qos::AtLeastOnce, Some(Instant(5))));
        window.queue(queued(Qos::AtLeastOnce, Some(Instant(6))));
        window.puback(id(1));
        assert_eq!(
            window.next(NOW).and_then(|(_, q)| q.message.expires_at),
            Some(Instant(6))
        );
    }

    #[test]
    fn a_full_queue_drops_the_oldest_if_it_is_to() {
        let limits = Limits {
            drops_oldest: true,
            ..MOST
        };
        let mut window = Window::new(1, u64::MAX);
        window.place(Qos::AtLeastOnce, 1, false, limits);
        for n in 0..4 {
            let place = window.place(Qos::AtLeastOnce, 1, false, limits);
            let dropped = u64::from(n > 1);
            assert_eq!(place, Place::Queue { dropped });
            window.queue(queued(Qos::AtLeastOnce, Some(Instant(100 + n))));
        }
        assert!(window.puback(id(1)));
        let next = window.next(NOW).and_then(|(_, q)| q.message.expires_at);
        assert_eq!(next, Some(Instant(102)));
        assert_eq!(window.waiting_bytes(), 1);
    }

    #[test]
    fn bytes_that_wait_are_limited_here_and_for_the_broker() {
        let limits = Limits {
            bytes: 2,
            ..Limits::NONE
        };
        let mut window = Window::new(1, u64::MAX);
        window.place(Qos::AtLeastOnce, 1, false, limits);
        for _ in 0..2 {
            let place = window.place(Qos::AtLeastOnce, 100, false, limits);
            assert_eq!(place, Place::Queue { dropped: 0 }, "the last may exceed it");
            window.queue(queued(Qos::AtLeastOnce, None));
        }
        assert_eq!(
            window.place(Qos::AtLeastOnce, 1, false, limits),
            Place::Full { dropped: 0 }
        );
        let room = |room| Limits {
            room,
            ..Limits::NONE
        };
        assert_eq!(
            window.place(Qos::AtLeastOnce, 5, false, room(4)),
            Place::Full { dropped: 0 }
        );
        let place = window.place(Qos::AtLeastOnce, 5, false, room(5));
        assert_eq!(place, Place::Queue { dropped: 0 });
    }

    #[test]
    fn bytes_under_way_are_limited_to_about_as_many() {
        let mut window = Window::new(20, 15);
        let place = |window: &mut Window, qos| window.place(qos, 10, false, MOST);
        let wire = |n| Place::Wire(id(n));
        assert_eq!(place(&mut window, Qos::AtLeastOnce), wire(1));
        assert_eq!(place(&mut window, Qos::ExactlyOnce), wire(2));
        let queue = Place::Queue { dropped: 0 };
        assert_eq!(place(&mut window, Qos::AtLeastOnce), queue);
        assert!(window.pubrec(id(2), false), "it has arrived");
        assert_eq!(place(&mut window, Qos::AtLeastOnce), wire(3));
        assert_eq!(place(&mut window, Qos::AtLeastOnce), queue);
        assert!(window.pubcomp(id(2)) && window.puback(id(1)) && window.puback(id(3)));
        assert_eq!(window.bytes, 0);
    }
}
