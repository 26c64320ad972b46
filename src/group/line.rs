//! What waits in one group, in order.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::base::clock::Instant;
use crate::mqtt::Qos;
use crate::queue::{Entry, Limits, Pushed};

/// Messages that no member could take yet. Those of QoS 0 stand apart: order is owed within a QoS, and they wait for
/// no window.
#[derive(Debug)]
pub struct Line<M> {
    /// QoS 1 and 2, by place: what comes back finds its own.
    acknowledged: BTreeMap<u64, Entry<M>>,
    qos0: VecDeque<Entry<M>>,
    last_place: u64,
    bytes0: Bytes,
    bytes12: Bytes,
    /// Nothing that waits expires before this.
    earliest_expiry: Option<Instant>,
    is_dropping: bool,
}

/// Bytes that wait here, and in all lines together. They go with their line, whoever drops it.
#[derive(Debug)]
struct Bytes {
    here: u64,
    all: Rc<Cell<u64>>,
}

impl Bytes {
    fn new(all: &Rc<Cell<u64>>) -> Self {
        let all = Rc::clone(all);
        Self { here: 0, all }
    }

    fn set(&mut self, bytes: u64) {
        self.all.set(self.all.get() - self.here + bytes);
        self.here = bytes;
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl<M> Line<M> {
    /// Nothing waits. `all` is the sum of the bytes in all lines.
    pub fn new(all: &Rc<Cell<u64>>) -> Self {
        Self {
            acknowledged: BTreeMap::new(),
            qos0: VecDeque::new(),
            last_place: 0,
            bytes0: Bytes::new(all),
            bytes12: Bytes::new(all),
            earliest_expiry: None,
            is_dropping: false,
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.acknowledged.is_empty() && self.qos0.is_empty()
    }

    /// Whether a message of QoS 0 waits.
    pub fn has_qos0(&self) -> bool {
        !self.qos0.is_empty()
    }

    /// The QoS, as published, of the first message that is not of QoS 0.
    pub fn first_qos(&self) -> Option<Qos> {
        self.acknowledged.first_key_value().map(|(_, e)| e.qos)
    }

    /// Puts a message at the end, if there is room for it.
    pub fn push(&mut self, entry: Entry<M>, each: Limits, members: usize, now: Instant) -> Pushed {
        // What goes out of this line makes room for others in the broker, too.
        let room = each.room.saturating_add(self.bytes());
        let each = Limits { room, ..each };
        if self.is_full(&entry, each, members) {
            self.drop_expired(now);
        }
        let mut messages = 0;
        while self.is_full(&entry, each, members) {
            messages += 1;
            let is_zero = entry.qos == Qos::AtMostOnce;
            if !each.drops_oldest || self.pop(is_zero).is_none() {
                return self.dropped(messages);
            }
        }
        self.count(&entry);
        if entry.qos == Qos::AtMostOnce {
            self.qos0.push_back(entry);
        } else {
            self.last_place += 1;
            self.acknowledged.insert(self.last_place, entry);
        }
        match messages {
            0 => Pushed::Kept,
            _ => self.dropped(messages),
        }
    }

    fn dropped(&mut self, messages: u64) -> Pushed {
        let first = !std::mem::replace(&mut self.is_dropping, true);
        Pushed::Dropped { messages, first }
    }

    fn bytes(&self) -> u64 {
        self.bytes0.here + self.bytes12.here
    }

    fn bytes_of(&mut self, qos: Qos) -> &mut Bytes {
        match qos {
            Qos::AtMostOnce => &mut self.bytes0,
            _ => &mut self.bytes12,
        }
    }

    /// A message that was given away is here again. Since it had its place, no limit keeps it out.
    pub fn put_back(&mut self, place: u64, entry: Entry<M>) {
        self.count(&entry);
        self.acknowledged.insert(place, entry);
    }

    /// Takes out the first message, with its place.
    pub fn pop(&mut self, of_qos0: bool) -> Option<(u64, Entry<M>)> {
        let (place, entry) = if of_qos0 {
            (0, self.qos0.pop_front()?)
        } else {
            self.acknowledged.pop_first()?
        };
        let bytes = self.bytes_of(entry.qos);
        bytes.set(bytes.here - entry.bytes as u64);
        if self.is_empty() {
            self.is_dropping = false;
            self.earliest_expiry = None;
        }
        Some((place, entry))
    }

    /// Drops what comes first and has expired.
    pub fn drop_expired_front(&mut self, now: Instant) {
        let is_over = |entry: &Entry<M>| entry.expires_at.is_some_and(|at| at <= now);
        while self.qos0.front().is_some_and(is_over) {
            self.pop(true);
        }
        while self
            .acknowledged
            .first_key_value()
            .is_some_and(|(_, entry)| is_over(entry))
        {
            self.pop(false);
        }
    }

    fn count(&mut self, entry: &Entry<M>) {
        let bytes = self.bytes_of(entry.qos);
        bytes.set(bytes.here + entry.bytes as u64);
        self.earliest_expiry = earlier(self.earliest_expiry, entry.expires_at);
    }

    /// Messages of QoS 0 and others take no room from each other.
    fn is_full(&self, entry: &Entry<M>, each: Limits, members: usize) -> bool {
        let messages = (each.messages as usize).saturating_mul(members);
        let bytes = each.bytes.saturating_mul(members as u64);
        let (waiting, waiting_bytes) = match entry.qos {
            Qos::AtMostOnce => (self.qos0.len(), self.bytes0.here),
            _ => (self.acknowledged.len(), self.bytes12.here),
        };
        (messages > 0 && waiting >= messages)
            || (bytes > 0 && waiting_bytes >= bytes)
            || self.bytes().saturating_add(entry.bytes as u64) > each.room
    }

    fn drop_expired(&mut self, now: Instant) {
        if self.earliest_expiry.is_none_or(|at| at > now) {
            return;
        }
        let (mut earliest, mut bytes) = (None, (0, 0));
        let mut stays = |entry: &Entry<M>, bytes: &mut u64| {
            let stays = entry.expires_at.is_none_or(|at| at > now);
            if stays {
                *bytes += entry.bytes as u64;
                earliest = earlier(earliest, entry.expires_at);
            }
            stays
        };
        self.qos0.retain(|entry| stays(entry, &mut bytes.0));
        self.acknowledged
            .retain(|_, entry| stays(entry, &mut bytes.1));
        self.earliest_expiry = earliest;
        self.bytes0.set(bytes.0);
        self.bytes12.set(bytes.1);
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
