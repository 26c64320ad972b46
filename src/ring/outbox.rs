//! The writer's side of an outbox: places records behind the head and publishes them a batch at a time.
//!
//! It knows no readers: whoever calls says up to which position there is room (`limit`).

use std::sync::atomic::Ordering::{Relaxed, Release};

use crate::base::ids::{Incarnation, MemberId, MemberMask};
use crate::base::limits::RING_RECORD_SHARE;

use super::layout::{
    HEAD_AT, INCARNATION_AT, MAGIC_AT, OUTBOX_MAGIC, RING_AT, RING_BYTES_AT, RING_ME_AT, high, low,
    start_at,
};
use super::memory::Region;
use super::record::{BatchHeader, FragmentHeader, HEADER_BYTES, HEADER_LEN, RecordHeader, stride};

/// Bytes in several pieces, taken from the front.
pub struct Pieces<'a> {
    rest: &'a [&'a [u8]],
    first: &'a [u8],
}

impl<'a> Pieces<'a> {
    pub fn new(pieces: &'a [&'a [u8]]) -> Self {
        Self {
            rest: pieces,
            first: &[],
        }
    }

    /// Gives away up to `n` bytes from the front, piece by piece.
    #[inline]
    pub fn take(&mut self, mut n: usize, mut give: impl FnMut(&[u8])) {
        loop {
            if let Some((taken, first)) = self.first.split_at_checked(n) {
                self.first = first;
                if !taken.is_empty() {
                    give(taken);
                }
                return;
            }
            n -= self.first.len();
            if !self.first.is_empty() {
                give(self.first);
            }
            let Some((first, rest)) = self.rest.split_first() else {
                self.first = &[];
                return;
            };
            (self.first, self.rest) = (first, rest);
        }
    }
}

/// A record that is, or will be, in the ring in fragments.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    pub number: u32,
    pub total: u32,
    pub sent: u32,
}

/// This member's outbox.
pub struct Outbox<R> {
    region: R,
    ring_bytes: u32,
    /// End of what is written.
    head: u64,
    /// End of what readers may see: `head`, except while a batch is open.
    published: u64,
    batch: Option<Batch>,
    streams: u32,
    ring_me_at: u32,
}

struct Batch {
    start: u64,
    to: MemberMask,
}

impl<R: Region> Outbox<R> {
    /// An empty outbox in a region that was just created, all zeroes.
    pub fn new(region: R, incarnation: Incarnation, ring_bytes: u32) -> Self {
        region.store(MAGIC_AT, OUTBOX_MAGIC, Relaxed);
        region.store(INCARNATION_AT, incarnation.0, Relaxed);
        region.store(RING_BYTES_AT, ring_bytes, Relaxed);
        // Others see these through the supervisor, who hands the region on after it heard from us.
        region.store(HEAD_AT, 0, Release);
        Self {
            region,
            ring_bytes,
            head: 0,
            published: 0,
            batch: None,
            streams: 0,
            ring_me_at: 0,
        }
    }

    /// End of what is written.
    #[inline]
    pub fn head(&self) -> u64 {
        self.head
    }

    /// End of what readers may see.
    pub fn published(&self) -> u64 {
        self.published
    }

    pub fn ring_bytes(&self) -> u64 {
        u64::from(self.ring_bytes)
    }

    pub fn region(&self) -> &R {
        &self.region
    }

    /// The largest payload that goes into the ring in one piece.
    #[inline]
    pub fn whole_bytes_max(&self) -> usize {
        let share = self.ring_bytes / RING_RECORD_SHARE;
        (share as usize).saturating_sub(HEADER_BYTES)
    }

    /// Room that must be there so that one more record or fragment certainly fits.
    pub fn room_for_next(&self) -> u64 {
        u64::from(self.ring_bytes / RING_RECORD_SHARE) + BATCH_BYTES
    }

    /// Whether the end of this lap is near enough that skipping to the next one keeps pages from being touched.
    #[inline]
    pub fn worth_a_skip(&self) -> bool {
        self.batch.is_none() && self.offset(self.head) >= self.ring_bytes / LAP_SHARE
    }

    /// Goes on at the ring's start, so that the same few pages are used again. Only when no batch is open and all
    /// readers have caught up: then there is room for it, whatever is left of this lap.
    pub fn skip_to_next_lap(&mut self) {
        debug_assert!(self.batch.is_none());
        let bytes = self.ring_bytes - self.offset(self.head);
        let nobody = BatchHeader {
            bytes,
            to: MemberMask::NONE,
        };
        self.copy_in(self.head, &nobody.encode());
        self.head += u64::from(bytes);
    }

    /// Writes a whole record if it fits below `limit`.
    #[inline]
    pub fn put(
        &mut self,
        limit: u64,
        to: MemberMask,
        kind: u8,
        bytes: u32,
        payload: &mut Pieces<'_>,
    ) -> bool {
        let stride = stride(u64::from(bytes));
        if !self.room(limit, stride) {
            return false;
        }
        let header = RecordHeader {
            bytes,
            kind,
            fragment: false,
            to,
        };
        let mut at = self.open_batch(to);
        self.copy_in(at, &header.encode());
        at += HEADER_BYTES as u64;
        payload.take(bytes as usize, |piece| {
            self.copy_in(at, piece);
            at += piece.len() as u64;
        });
        self.head += stride;
        true
    }

    /// Starts a record that is too large for one piece.
    pub fn new_stream(&mut self, total: u32) -> Stream {
        self.streams = self.streams.wrapping_add(1);
        Stream {
            number: self.streams,
            total,
            sent: 0,
        }
    }

    /// Writes as many fragments of `stream` as fit below `limit`; true once all of it is written.
    pub fn put_fragments(
        &mut self,
        limit: u64,
        to: MemberMask,
        kind: u8,
        stream: &mut Stream,
        payload: &mut Pieces<'_>,
    ) -> bool {
        let part_max = self.ring_bytes / RING_RECORD_SHARE - 2 * HEADER_LEN;
        while stream.sent < stream.total {
            let part = part_max.min(stream.total - stream.sent);
            let bytes = part + HEADER_LEN;
            let stride = stride(u64::from(bytes));
            if !self.room(limit, stride) {
                return false;
            }
            let header = RecordHeader {
                bytes,
                kind,
                fragment: true,
                to,
            };
            let fragment = FragmentHeader {
                stream: stream.number,
                total: stream.total,
                offset: stream.sent,
            };
            let mut at = self.open_batch(to);
            self.copy_in(at, &header.encode());
            at += HEADER_BYTES as u64;
            self.copy_in(at, &fragment.encode());
            at += HEADER_BYTES as u64;
            payload.take(part as usize, |piece| {
                self.copy_in(at, piece);
                at += piece.len() as u64;
            });
            self.head += stride;
            stream.sent += part;
        }
        true
    }

    /// Lets readers see what is written, if that is more than they saw; says for whom it is.
    pub fn publish(&mut self) -> Option<MemberMask> {
        let mut addressed = MemberMask::NONE;
        if let Some(batch) = self.batch.take() {
            addressed = batch.to;
            let header = BatchHeader {
                bytes: low(self.head - batch.start),
                to: batch.to,
            };
            self.copy_in(batch.start, &header.encode());
        }
        if self.head == self.published {
            return None;
        }
        self.published = self.head;
        // Release: a reader that loads this head with Acquire sees every byte below it.
        self.region.store(HEAD_AT, low(self.head), Release);
        Some(addressed)
    }

    /// Tells a reader that it starts at the published head. Nothing may be open.
    pub fn tell_start(&mut self, reader: MemberId, incarnation: Incarnation) {
        debug_assert_eq!(self.head, self.published);
        let at = start_at(reader.slot());
        self.region.store(at + 4, low(self.published), Relaxed);
        self.region.store(at + 8, high(self.published), Relaxed);
        // Release: whoever finds its incarnation here with Acquire finds its position too.
        self.region.store(at, incarnation.0, Release);
    }

    /// Asks readers to ring when their cursor goes past `position`. A fence must follow before the cursors are
    /// looked at for the last time.
    pub fn ask_for_ring(&mut self, position: u64) {
        let word = low(position);
        if self.ring_me_at != word {
            self.ring_me_at = word;
            self.region.store(RING_ME_AT, word, Relaxed);
        }
    }

    #[inline]
    fn room(&self, limit: u64, stride: u64) -> bool {
        let batch = if self.batch.is_some() { 0 } else { BATCH_BYTES };
        self.head + batch + stride <= limit
    }

    /// The position of the next record, in a batch for `to` and others.
    #[inline]
    fn open_batch(&mut self, to: MemberMask) -> u64 {
        if let Some(batch) = &mut self.batch {
            batch.to = batch.to.union(to);
        } else {
            // The header is written when the batch is closed. Nobody looks at it before.
            self.batch = Some(Batch {
                start: self.head,
                to,
            });
            self.head += BATCH_BYTES;
        }
        self.head
    }

    #[inline]
    fn offset(&self, position: u64) -> u32 {
        low(position) & (self.ring_bytes - 1)
    }

    /// Copies to a position of the ring, around its end if need be.
    #[inline]
    fn copy_in(&self, position: u64, bytes: &[u8]) {
        let offset = self.offset(position);
        let to_end = (self.ring_bytes - offset) as usize;
        let at = RING_AT + offset as usize;
        match bytes.split_at_checked(to_end) {
            None => self.region.copy_in(at, bytes),
            Some((first, rest)) => {
                self.region.copy_in(at, first);
                self.region.copy_in(RING_AT, rest);
            }
        }
    }
}

const BATCH_BYTES: u64 = HEADER_BYTES as u64;

/// A lap is cut short once a quarter of it is used: enough that a skip is rare, and that what is left of the ring
/// until the readers have followed holds a burst.
const LAP_SHARE: u32 = 4;
