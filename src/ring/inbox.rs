//! The reader's side of somebody else's outbox. Nothing that is read there is believed before it is checked: a
//! writer that lies is *broken*, is read no further, and is reported.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use crate::base::ids::{Incarnation, MemberId};
use crate::base::limits::{FRAGMENT_STREAMS_MAX, RECORD_BUFFER_KEEP_BYTES};

use super::layout::{
    HEAD_AT, INCARNATION_AT, MAGIC_AT, OUTBOX_MAGIC, RING_AT, RING_BYTES_AT, RING_ME_AT, low,
    start_at,
};
use super::memory::View;
use super::record::{
    BatchHeader, FragmentHeader, HEADER_BYTES, HEADER_LEN, Malformed, RecordHeader,
};

/// What reading on has brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A record is in the buffer.
    Record {
        kind: u8,
        /// Where it ends.
        end: u64,
    },
    /// There is no more, or the writer is broken.
    Empty,
    /// There may be more, but the bytes that were allowed are spent.
    Spent,
}

/// One foreign outbox.
pub struct Inbox<V> {
    view: V,
    ring_bytes: u32,
    me: MemberId,
    state: State,
    /// All before it has been handed out.
    read: u64,
    /// What the cursor page says.
    told: u64,
    /// All before it is published.
    head: u64,
    /// End of the batch in which `read` is.
    batch_end: u64,
    streams: Vec<Stream>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The writer has not said yet where this reader starts.
    Waiting,
    Joined,
    Broken,
}

/// A large record of which some fragments have come.
struct Stream {
    number: u32,
    kind: u8,
    total: u32,
    bytes: Vec<u8>,
}

impl<V: View> Inbox<V> {
    /// Reads as `me` from an outbox that should be of this incarnation, with a ring of this size.
    pub fn new(view: V, me: MemberId, writer: Incarnation, ring_bytes: u32) -> Self {
        let is_what_it_should_be = view.load(MAGIC_AT, Relaxed) == OUTBOX_MAGIC
            && view.load(INCARNATION_AT, Relaxed) == writer.0
            && view.load(RING_BYTES_AT, Relaxed) == ring_bytes;
        let state = if is_what_it_should_be {
            State::Waiting
        } else {
            State::Broken
        };
        Self {
            view,
            ring_bytes,
            me,
            state,
            read: 0,
            told: 0,
            head: 0,
            batch_end: 0,
            streams: Vec::new(),
        }
    }

    /// The writer's memory.
    pub fn view(&self) -> &V {
        &self.view
    }

    pub fn has_joined(&self) -> bool {
        self.state == State::Joined
    }

    pub fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    pub fn is_waiting(&self) -> bool {
        self.state == State::Waiting
    }

    /// All before it has been handed out.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// What the cursor page says.
    pub fn told(&self) -> u64 {
        self.told
    }

    /// The cursor page says now what has been read.
    pub fn set_told(&mut self) {
        self.told = self.read;
    }

    /// Where the writer wants `reader` to start, once it has said so to this incarnation of it.
    pub fn start_of(&self, reader: MemberId, incarnation: Incarnation) -> Option<u64> {
        let at = start_at(reader.slot());
        // Acquire: with the incarnation comes the position that was stored before it.
        if self.view.load(at, Acquire) != incarnation.0 {
            return None;
        }
        let low = self.view.load(at + 4, Relaxed);
        let high = self.view.load(at + 8, Relaxed);
        Some(u64::from(high) << 32 | u64::from(low))
    }

    /// Starts to read if the writer has said where. True when that happened now.
    pub fn join(&mut self, incarnation: Incarnation) -> bool {
        if self.state != State::Waiting {
            return false;
        }
        let Some(start) = self.start_of(self.me, incarnation) else {
            return false;
        };
        if start >= POSITION_MAX || !start.is_multiple_of(HEADER_BYTES as u64) {
            self.break_off();
            return false;
        }
        self.state = State::Joined;
        (self.read, self.told, self.head, self.batch_end) = (start, start, start, start);
        true
    }

    /// Whether the writer has published more than was read. Never for one that is broken.
    pub fn has_more(&mut self) -> bool {
        if self.state != State::Joined {
            return false;
        }
        self.read != self.head || self.look()
    }

    /// The published head at this moment, if it makes sense.
    pub fn published(&self) -> Option<u64> {
        if self.state != State::Joined {
            return None;
        }
        let ahead = self.ahead();
        (ahead <= self.ring_bytes).then(|| self.read + u64::from(ahead))
    }

    /// The position at which the writer wants to be rung.
    pub fn ring_me_at(&self) -> u32 {
        self.view.load(RING_ME_AT, Relaxed)
    }

    /// Reads on to the next record for this member, `budget` bytes at most.
    #[inline]
    pub fn next(&mut self, out: &mut Vec<u8>, budget: &mut usize) -> Step {
        if self.state != State::Joined {
            return Step::Empty;
        }
        match self.try_next(out, budget) {
            Ok(step) => step,
            Err(Malformed) => {
                self.break_off();
                Step::Empty
            }
        }
    }

    /// The writer has died: what it never finished is dropped.
    pub fn drop_unfinished(&mut self) {
        self.streams = Vec::new();
    }

    fn break_off(&mut self) {
        self.state = State::Broken;
        self.drop_unfinished();
    }

    #[inline]
    fn try_next(&mut self, out: &mut Vec<u8>, budget: &mut usize) -> Result<Step, Malformed> {
        loop {
            if *budget == 0 {
                return Ok(Step::Spent);
            }
            if self.read == self.batch_end {
                if self.read == self.head && !self.look() {
                    return if self.state == State::Broken {
                        Err(Malformed)
                    } else {
                        Ok(Step::Empty)
                    };
                }
                self.enter_batch()?;
                *budget = budget.saturating_sub(SKIP_COST);
                continue;
            }
            let header = self.header(self.read);
            let header = RecordHeader::decode(header, self.batch_end - self.read)?;
            let payload_at = self.read + HEADER_BYTES as u64;
            self.read += header.stride();
            if !header.to.contains(self.me) {
                *budget = budget.saturating_sub(SKIP_COST);
                continue;
            }
            let len = header.bytes as usize;
            *budget = budget.saturating_sub(len + HEADER_BYTES);
            if header.fragment {
                let Some(kind) = self.fragment(header, payload_at, out)? else {
                    continue;
                };
                return Ok(self.record(kind));
            }
            if out.capacity() > RECORD_BUFFER_KEEP_BYTES && len <= RECORD_BUFFER_KEEP_BYTES {
                *out = Vec::new();
            }
            out.clear();
            self.copy_out(payload_at, len, out);
            return Ok(self.record(header.kind));
        }
    }

    fn record(&self, kind: u8) -> Step {
        Step::Record {
            kind,
            end: self.read,
        }
    }

    /// Steps into the batch at `read`, or over it if nothing in it is for this member.
    #[inline]
    fn enter_batch(&mut self) -> Result<(), Malformed> {
        let batch = BatchHeader::decode(self.header(self.read), self.head - self.read)?;
        self.batch_end = self.read + u64::from(batch.bytes);
        self.read = if batch.to.contains(self.me) {
            self.read + HEADER_BYTES as u64
        } else {
            self.batch_end
        };
        Ok(())
    }

    /// Adds a fragment to its record; gives the kind once the record is whole, and in `out`.
    fn fragment(
        &mut self,
        header: RecordHeader,
        payload_at: u64,
        out: &mut Vec<u8>,
    ) -> Result<Option<u8>, Malformed> {
        let part = header.bytes.checked_sub(HEADER_LEN).ok_or(Malformed)?;
        let fragment = FragmentHeader::decode(self.header(payload_at), part)?;
        let known = self
            .streams
            .iter()
            .position(|s| s.number == fragment.stream);
        let index = match known {
            Some(index) => index,
            None if fragment.offset == 0 && self.streams.len() < FRAGMENT_STREAMS_MAX => {
                self.streams.push(Stream {
                    number: fragment.stream,
                    kind: header.kind,
                    total: fragment.total,
                    bytes: Vec::new(),
                });
                self.streams.len() - 1
            }
            None => return Err(Malformed),
        };
        // Taken out, so that the ring can be read meanwhile.
        let mut stream = self.streams.swap_remove(index);
        let have = stream.bytes.len();
        let fits = usize::try_from(fragment.offset).is_ok_and(|offset| offset == have);
        if !fits || fragment.total != stream.total || header.kind != stream.kind {
            return Err(Malformed);
        }
        // Memory grows with what has come, not with what a writer says that will come.
        let part_at = payload_at + HEADER_BYTES as u64;
        self.copy_out(part_at, part as usize, &mut stream.bytes);
        if fragment.offset + part == fragment.total {
            *out = stream.bytes;
            return Ok(Some(stream.kind));
        }
        self.streams.push(stream);
        Ok(None)
    }

    /// Looks for a newer head; true if there is something beyond `read`.
    fn look(&mut self) -> bool {
        let ahead = self.ahead();
        let known = self.head - self.read;
        let back = u64::from(ahead) < known;
        if ahead > self.ring_bytes || back || !ahead.is_multiple_of(HEADER_LEN) {
            self.break_off();
            return false;
        }
        self.head = self.read + u64::from(ahead);
        ahead > 0
    }

    /// How far the published head is ahead of what was read, if it is ahead at all.
    fn ahead(&self) -> u32 {
        // Acquire: all bytes below this head are there.
        self.view
            .load(HEAD_AT, Acquire)
            .wrapping_sub(low(self.read))
    }

    #[inline]
    fn offset(&self, position: u64) -> u32 {
        low(position) & (self.ring_bytes - 1)
    }

    #[inline]
    fn header(&self, position: u64) -> [u8; HEADER_BYTES] {
        self.view.header(RING_AT + self.offset(position) as usize)
    }

    /// Appends what is at a position of the ring, around its end if need be.
    #[inline]
    fn copy_out(&self, position: u64, len: usize, out: &mut Vec<u8>) {
        let offset = self.offset(position);
        let to_end = (self.ring_bytes - offset) as usize;
        let at = RING_AT + offset as usize;
        if len <= to_end {
            self.view.copy_out(at, len, out);
        } else {
            self.view.copy_out(at, to_end, out);
            self.view.copy_out(RING_AT, len - to_end, out);
        }
    }
}

/// Positions stay far from where adding to them could overflow.
const POSITION_MAX: u64 = 1 << 62;
/// What it costs to step over something: a cache line, whatever its length.
const SKIP_COST: usize = 64;
