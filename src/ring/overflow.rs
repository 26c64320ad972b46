//! Records that found no room in the ring, in their order. PURE.
//!
//! Once one is here, all later ones go here too, so that a reader sees them in the order of their making. The
//! bound is kept by whoever makes records: it reads from no client above `OVERFLOW_BYTES_PAUSE`.

use std::collections::VecDeque;

use crate::base::ids::{MemberId, MemberMask, Serial};
use crate::base::limits::RECORD_BUFFER_KEEP_BYTES;

use super::outbox::{Pieces, Stream};

/// A record that waits, without its payload.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub to: MemberMask,
    pub kind: u8,
    pub serial: Serial,
    /// Bytes of payload that are not in the ring yet.
    pub bytes: u32,
    /// Set when it goes into the ring in fragments.
    pub stream: Option<Stream>,
}

/// The list.
#[derive(Default)]
pub struct Overflow {
    entries: VecDeque<Waiting>,
    /// Payloads of the small records, one after the other; the first `used` bytes are of records that have left.
    small: Vec<u8>,
    used: usize,
    bytes: usize,
}

struct Waiting {
    entry: Entry,
    payload: Payload,
}

enum Payload {
    /// In `Overflow::small`.
    Small,
    /// Its own buffer, given back as soon as it is through; `usize` bytes of it already are.
    Large(Vec<u8>, usize),
}

impl Overflow {
    /// Bytes that wait, with what an entry costs beside its payload.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a record whose payload is what is left in `payload`.
    pub fn push(&mut self, entry: Entry, payload: &mut Pieces<'_>) {
        let len = entry.bytes as usize;
        let payload = if entry.stream.is_some() {
            let mut large = Vec::with_capacity(len);
            payload.take(len, |piece| large.extend_from_slice(piece));
            Payload::Large(large, 0)
        } else {
            payload.take(len, |piece| self.small.extend_from_slice(piece));
            Payload::Small
        };
        self.bytes += len + ENTRY_BYTES;
        self.entries.push_back(Waiting { entry, payload });
    }

    /// The record whose turn it is, and its payload.
    pub fn front(&self) -> Option<(Entry, &[u8])> {
        let Waiting { entry, payload } = self.entries.front()?;
        let bytes = match payload {
            Payload::Small => self
                .small
                .get(self.used..)
                .and_then(|rest| rest.get(..entry.bytes as usize)),
            Payload::Large(large, sent) => large.get(*sent..),
        };
        Some((*entry, bytes.unwrap_or_default()))
    }

    /// Some fragments of the first record went into the ring.
    pub fn advance(&mut self, stream: Stream) {
        let Some(Waiting {
            entry,
            payload: Payload::Large(_, used),
        }) = self.entries.front_mut()
        else {
            return;
        };
        let left = stream.total - stream.sent;
        let done = (entry.bytes - left) as usize;
        entry.bytes = left;
        entry.stream = Some(stream);
        *used += done;
        self.bytes -= done;
    }

    /// The first record is in the ring, or has nobody left who wants it.
    pub fn pop(&mut self) {
        let Some(Waiting { entry, payload }) = self.entries.pop_front() else {
            return;
        };
        let len = entry.bytes as usize;
        self.bytes -= len + ENTRY_BYTES;
        if let Payload::Small = payload {
            self.used += len;
        }
        if self.entries.is_empty() {
            self.small.clear();
            self.small.shrink_to(RECORD_BUFFER_KEEP_BYTES);
            self.used = 0;
        } else if self.used > self.small.len() / 2 && self.used >= COMPACT_BYTES_MIN {
            self.small.drain(..self.used);
            self.used = 0;
        }
    }

    /// `member` is gone: nothing here is for it, nor for the next one in its slot.
    pub fn forget(&mut self, member: MemberId) {
        for waiting in &mut self.entries {
            waiting.entry.to = waiting.entry.to.without(member);
        }
    }
}

/// What an entry costs beside its payload, so that many empty records are not free.
const ENTRY_BYTES: usize = size_of::<Waiting>();
/// Bytes of records that have left before the others are moved to the front.
const COMPACT_BYTES_MIN: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(serial: u64, bytes: u32) -> Entry {
        Entry {
            to: MemberMask(2),
            kind: 1,
            serial: Serial(serial),
            bytes,
            stream: None,
        }
    }

    #[test]
    fn records_leave_in_the_order_in_which_they_came() {
        let mut overflow = Overflow::default();
        for i in 0..1000u64 {
            let payload = vec![i.to_le_bytes()[0]; 40];
            overflow.push(entry(i, 40), &mut Pieces::new(&[&payload]));
            if i % 3 == 0 {
                overflow.pop();
            }
        }
        let mut next = 334;
        while let Some((entry, payload)) = overflow.front() {
            assert_eq!(entry.serial, Serial(next));
            assert_eq!(payload, [next.to_le_bytes()[0]; 40]);
            overflow.pop();
            next += 1;
        }
        assert_eq!(next, 1000);
        assert_eq!(overflow.bytes(), 0);
    }

    #[test]
    fn a_large_record_leaves_bit_by_bit_and_its_bytes_count_down() {
        let mut overflow = Overflow::default();
        let mut stream = Stream {
            number: 1,
            total: 100,
            sent: 20,
        };
        let large = Entry {
            stream: Some(stream),
            ..entry(1, 80)
        };
        let payload: Vec<u8> = (20..100).collect();
        overflow.push(large, &mut Pieces::new(&[&payload]));
        let before = overflow.bytes();
        stream.sent = 50;
        overflow.advance(stream);
        assert_eq!(overflow.bytes(), before - 30);
        let (entry, rest) = overflow.front().unwrap();
        assert_eq!((entry.bytes, rest), (50, &payload[30..]));
        overflow.pop();
        assert_eq!(overflow.bytes(), 0);
    }
}
