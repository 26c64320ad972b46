//! The mesh over rings: membership, reading, writing, and who wakes whom.
//!
//! Every wake-up hangs on one pattern, on both sides: *store what you did, fence, look at what the other did*. A
//! member that goes to sleep stores its flag, fences, and looks at all heads and cursors it waits for; one that
//! published a head or a cursor stores that, fences, and looks at the flags. Whichever fence comes second sees what
//! the other stored, so never do both miss each other. The loom tests run this code and find a lost wake-up as soon
//! as the fence is left out.

mod barrier;
mod figures;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::base::clock::Instant;
use crate::base::ids::{Incarnation, MemberId, MemberMask, Position, Serial};
use crate::base::limits::{
    INBOX_BYTES_PER_TURN, INBOX_BYTES_PER_WRITER, MEMBERS_MAX, RECORD_BYTES_MAX,
};

use super::Mesh;
use super::cursors::{ForeignCursors, OwnCursors};
use super::doorbell::Doorbell;
use super::inbox::{Inbox, Step};
use super::layout::{self, CURSORS_BYTES, low};
use super::memory::{Bell, Region, View};
use super::outbox::{Outbox, Pieces};
use super::overflow::{Entry, Overflow};
use super::peer::Peer;
use super::shm::{ForeignMap, OwnMap};

/// The mesh as a process has it.
pub type SharedMesh = RingMesh<OwnMap, ForeignMap, Doorbell>;

/// A record that was copied out of a ring, without its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received {
    pub from: MemberId,
    pub incarnation: Incarnation,
    pub kind: u8,
    /// Where it ends in its writer's outbox.
    pub end: Position,
}

/// The mesh over any memory and doorbells: the kernel's, or those of a test.
pub struct RingMesh<R, V, B> {
    me: MemberId,
    incarnation: Incarnation,
    outbox: Outbox<R>,
    overflow: Overflow,
    cursors: OwnCursors<R>,
    bell: B,
    peers: Vec<Peer<V, B>>,
    live: MemberMask,
    /// All live readers have applied this outbox up to here, when last looked.
    least_cursor: u64,
    serial: Serial,
    /// For whom something was published since the last flush.
    addressed: MemberMask,
    /// Positions of `wake_when_passed` that have not passed, ascending.
    waits: VecDeque<u64>,
    /// One of them passed, and the caller has had no turn since to see it.
    wait_is_over: bool,
    /// The position at which readers are asked to ring: the nearest of `waits`, or the one that makes room.
    armed: Option<u64>,
    /// Whose inbox is read now, and how many bytes more of it.
    turn: usize,
    turn_bytes: usize,
    /// Bytes that may be read before the next flush.
    budget: usize,
    /// The newest incarnation that was ever in a slot.
    newest: [Incarnation; MEMBERS_MAX],
    looked_for_stuck: Option<Instant>,
}

/// Why a member cannot be added. All of it is between the supervisor and us.
#[derive(Debug)]
pub enum RingError {
    /// The slot still has an incarnation that was not removed.
    SlotTaken(MemberId),
    /// No ring has this size.
    RingBytes(u32),
    /// The region cannot be mapped, is not sealed, or has another size.
    Region(MemberId, io::Error),
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SlotTaken(member) => write!(f, "slot of {member} is still taken"),
            Self::RingBytes(bytes) => write!(f, "a ring cannot have {bytes} bytes"),
            Self::Region(member, error) => write!(f, "shared memory of {member}: {error}"),
        }
    }
}

impl std::error::Error for RingError {}

impl SharedMesh {
    /// Maps what is this member's own, as the supervisor created it and before it is sealed. The regions' descriptors
    /// are closed.
    pub fn new(
        me: MemberId,
        incarnation: Incarnation,
        outbox: OwnedFd,
        cursors: OwnedFd,
        doorbell: OwnedFd,
        ring_bytes: u32,
    ) -> Result<Self, RingError> {
        if !layout::ring_bytes_are_valid(ring_bytes) {
            return Err(RingError::RingBytes(ring_bytes));
        }
        let failed = |error| RingError::Region(me, error);
        let outbox_bytes = layout::outbox_bytes(ring_bytes);
        let outbox = OwnMap::new(outbox.as_fd(), outbox_bytes).map_err(failed)?;
        let cursors = OwnMap::new(cursors.as_fd(), CURSORS_BYTES).map_err(failed)?;
        let doorbell = Doorbell::new(doorbell);
        Ok(Self::over(
            me,
            incarnation,
            ring_bytes,
            outbox,
            cursors,
            doorbell,
        ))
    }

    /// Another member lives: counts it as a reader, tells it where it starts, and reads its outbox from where it
    /// says. The regions' descriptors are closed.
    pub fn add_peer(
        &mut self,
        member: MemberId,
        incarnation: Incarnation,
        outbox: OwnedFd,
        cursors: OwnedFd,
        doorbell: OwnedFd,
        ring_bytes: u32,
    ) -> Result<(), RingError> {
        if !layout::ring_bytes_are_valid(ring_bytes) {
            return Err(RingError::RingBytes(ring_bytes));
        }
        let failed = |error| RingError::Region(member, error);
        let outbox_bytes = layout::outbox_bytes(ring_bytes);
        let outbox = ForeignMap::new(outbox.as_fd(), outbox_bytes).map_err(failed)?;
        let cursors = ForeignMap::new(cursors.as_fd(), CURSORS_BYTES).map_err(failed)?;
        let doorbell = Doorbell::new(doorbell);
        self.admit(member, incarnation, ring_bytes, outbox, cursors, doorbell)
    }

    /// What becomes readable when somebody rings.
    pub fn doorbell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl<R: Region, V: View, B: Bell> RingMesh<R, V, B> {
    /// A member over its own new regions, all zeroes, with a doorbell that others ring.
    pub fn over(
        me: MemberId,
        incarnation: Incarnation,
        ring_bytes: u32,
        outbox: R,
        cursors: R,
        bell: B,
    ) -> Self {
        // Even the small rings of the loom tests hold a fragment in each of their shares.
        assert!(ring_bytes.is_power_of_two() && ring_bytes >= 512);
        let mut newest = [Incarnation(0); MEMBERS_MAX];
        if let Some(newest) = newest.get_mut(me.slot()) {
            *newest = incarnation;
        }
        Self {
            me,
            incarnation,
            outbox: Outbox::new(outbox, incarnation, ring_bytes),
            overflow: Overflow::default(),
            cursors: OwnCursors::new(cursors, incarnation),
            bell,
            peers: Vec::new(),
            live: MemberMask::NONE,
            least_cursor: 0,
            serial: Serial(0),
            addressed: MemberMask::NONE,
            waits: VecDeque::new(),
            wait_is_over: false,
            armed: None,
            turn: 0,
            turn_bytes: INBOX_BYTES_PER_WRITER,
            budget: INBOX_BYTES_PER_TURN,
            newest,
            looked_for_stuck: None,
        }
    }

    /// `add_peer` over regions that are there already.
    pub fn admit(
        &mut self,
        member: MemberId,
        incarnation: Incarnation,
        ring_bytes: u32,
        outbox: V,
        cursors: V,
        bell: B,
    ) -> Result<(), RingError> {
        if member == self.me || self.find(member).is_some() {
            return Err(RingError::SlotTaken(member));
        }
        let inbox = Inbox::new(outbox, self.me, incarnation, ring_bytes);
        let cursors = ForeignCursors::new(cursors);
        // A start is where a batch starts. What was written so far is not for the newcomer.
        self.publish();
        let start = self.outbox.published();
        // Counted before it is told: from now on nothing that it must read is overwritten.
        self.peers
            .push(Peer::new(member, incarnation, inbox, cursors, bell, start));
        self.live = self.live.with(member);
        self.look_at_cursors();
        self.outbox.tell_start(member, incarnation);
        if let Some(peer) = self.peers.last() {
            peer.ring();
        }
        if let Some(newest) = self.newest.get_mut(member.slot()) {
            *newest = incarnation;
        }
        Ok(())
    }

    /// A member has died: it is no reader any more. Its outbox is read on to its last published head.
    pub fn peer_gone(&mut self, member: MemberId, incarnation: Incarnation) {
        self.join_those_who_said_where();
        let peer = self
            .peers
            .iter_mut()
            .find(|peer| peer.member == member && peer.incarnation == incarnation);
        let Some(peer) = peer else {
            return;
        };
        peer.gone = true;
        self.live = self.live.without(member);
        self.addressed = self.addressed.without(member);
        self.overflow.forget(member);
        self.look_at_cursors();
    }

    /// Whether all that a dead member published was handed out, and told in a flush. Also when it never said where
    /// to start, or lied.
    pub fn drained(&mut self, member: MemberId) -> bool {
        self.join_those_who_said_where();
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.member == member) else {
            return true;
        };
        if !peer.gone {
            return false;
        }
        let drained = !peer.inbox.has_more() && peer.inbox.told() == peer.inbox.read();
        if drained {
            peer.inbox.drop_unfinished();
        }
        drained
    }

    /// Everybody has drained a dead member: its regions are unmapped, its slot is free.
    pub fn remove_peer(&mut self, member: MemberId, incarnation: Incarnation) {
        self.peer_gone(member, incarnation);
        self.peers
            .retain(|peer| peer.member != member || peer.incarnation != incarnation);
        self.turn = 0;
    }

    /// Whether every live member has told this one where to start.
    pub fn joined(&mut self) -> bool {
        self.join_those_who_said_where();
        !self
            .peers
            .iter()
            .any(|peer| !peer.gone && peer.inbox.is_waiting())
    }

    /// Copies the next record for this member to `out` (which is emptied first). All members have their turn;
    /// `None` when there is no more, or when enough was read for one turn of the loop: a flush starts the next.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Option<Received> {
        let mut empty = 0;
        while empty < self.peers.len() && self.budget > 0 {
            let cursors = &self.cursors;
            let Some(peer) = self.peers.get_mut(self.turn) else {
                self.turn = 0;
                continue;
            };
            if peer.inbox.is_waiting() {
                join(peer, self.incarnation, cursors);
            }
            let allowed = self.turn_bytes.min(self.budget);
            let mut left = allowed;
            let step = peer.inbox.next(out, &mut left);
            self.turn_bytes -= allowed - left;
            self.budget -= allowed - left;
            match step {
                Step::Record { kind, end } => {
                    return Some(Received {
                        from: peer.member,
                        incarnation: peer.incarnation,
                        kind,
                        end: Position(end),
                    });
                }
                Step::Empty => empty += 1,
                Step::Spent => empty = 0,
            }
            self.turn += 1;
            self.turn_bytes = INBOX_BYTES_PER_WRITER;
        }
        None
    }

    /// Ends a turn: releases the head, then the cursors, then wakes those who sleep and should not.
    pub fn flush(&mut self) {
        self.budget = INBOX_BYTES_PER_TURN;
        self.join_those_who_said_where();
        self.drain_overflow();
        self.publish();
        self.arm();
        let advanced = self.publish_cursors();
        if self.addressed.is_empty() && self.waits.is_empty() && !advanced {
            return;
        }
        // Heads and cursors are stored before this fence, sleep flags and wishes looked at after it.
        self.outbox.region().fence();
        self.wake_readers();
        if advanced {
            self.ring_writers_that_wait();
        }
        self.addressed = MemberMask::NONE;
    }

    /// Before the loop waits: from now on others ring. False if there is something to do at once, or not all is
    /// flushed; then this member counts as awake.
    pub fn prepare_sleep(&mut self) -> bool {
        let wait_is_over = std::mem::take(&mut self.wait_is_over);
        if wait_is_over || self.outbox.head() != self.outbox.published() {
            return false;
        }
        self.cursors.fall_asleep();
        // Flag and wishes are stored before this fence, heads and cursors looked at after it.
        self.outbox.region().fence();
        let busy = self.has_news() || self.armed.is_some_and(|p| self.passed_by_all(p));
        if busy {
            self.cursors.wake_up();
        }
        !busy
    }

    /// After the loop has waited: others need not ring any more.
    pub fn awake(&mut self) {
        self.cursors.wake_up();
    }

    /// After the doorbell was found readable: makes it silent. Not needed with an edge-triggered poll.
    pub fn hush(&self) {
        self.bell.hush();
    }

    /// The loop turns: the supervisor sees it.
    pub fn beat(&mut self) {
        self.cursors.beat();
    }

    /// A reader that is to be reported: it holds this member's full ring for too long without any progress. Ask in every turn, and every few milliseconds while there is overflow; the time between two looks counts
    /// for 50 ms at most, so that no pause of ours is held against others.
    pub fn stuck(&mut self, now: Instant) -> Option<(MemberId, Incarnation)> {
        let last = self.looked_for_stuck.replace(now).unwrap_or(now);
        let step = now.since(last);
        let full = !self.overflow.is_empty();
        if full {
            self.look_at_cursors();
        }
        let held_below = (self.outbox.head() + self.outbox.room_for_next())
            .saturating_sub(self.outbox.ring_bytes());
        let mut stuck = None;
        for peer in self.peers.iter_mut().filter(|peer| !peer.gone) {
            let too_long = peer.is_stuck(full && peer.cursor < held_below, step);
            if stuck.is_none() && too_long {
                stuck = Some((peer.member, peer.incarnation));
            }
        }
        stuck
    }

    /// A writer whose outbox lied, which is read no further, or a reader whose cursor is impossible: to be reported, once.
    pub fn lying(&mut self) -> Option<(MemberId, Incarnation)> {
        self.peers.iter_mut().find_map(|peer| {
            (peer.report_broken() || peer.report_impossible())
                .then_some((peer.member, peer.incarnation))
        })
    }

    fn find(&self, member: MemberId) -> Option<&Peer<V, B>> {
        self.peers.iter().find(|peer| peer.member == member)
    }

    /// Lets readers see what was written. They are woken in the flush.
    fn publish(&mut self) {
        if let Some(to) = self.outbox.publish() {
            self.addressed = self.addressed.union(to);
        }
    }

    fn publish_cursors(&mut self) -> bool {
        let mut advanced = false;
        for peer in &mut self.peers {
            if let Some(position) = peer.advance() {
                self.cursors.advance(peer.member, position);
                advanced = true;
            }
        }
        advanced
    }

    /// Wakes those for whom something was published; those that somebody waits for; and those whose lag keeps half
    /// of the ring from being used.
    fn wake_readers(&mut self) {
        let published = self.outbox.published();
        let lag_max = self.outbox.ring_bytes() / 2;
        let awaited = self.waits.back().copied().unwrap_or(0);
        for peer in self.peers.iter_mut().filter(|peer| !peer.gone) {
            let must_wake = self.addressed.contains(peer.member) || {
                if peer.cursor < awaited || published - peer.cursor > lag_max {
                    peer.refresh(self.me, self.incarnation, published);
                }
                peer.cursor < awaited || published - peer.cursor > lag_max
            };
            if must_wake {
                peer.ring_if_asleep();
            }
        }
    }

    /// Rings each writer that asked for it at a position which this member's cursor has just passed.
    fn ring_writers_that_wait(&mut self) {
        for peer in &mut self.peers {
            if let Some(before) = peer.advanced_from.take()
                && !peer.gone
            {
                let to_wish = peer.inbox.ring_me_at().wrapping_sub(low(before));
                let step = low(peer.inbox.told() - before);
                if to_wish != 0 && to_wish <= step {
                    peer.ring_if_asleep();
                }
            }
        }
    }

    /// After `fall_asleep`: whether there is any reason not to.
    fn has_news(&mut self) -> bool {
        let incarnation = self.incarnation;
        self.peers.iter_mut().any(|peer| {
            join(peer, incarnation, &self.cursors)
                || peer.inbox.has_more()
                || peer.inbox.told() != peer.inbox.read()
                || peer.has_broken_to_report()
        })
    }

    fn join_those_who_said_where(&mut self) {
        for peer in &mut self.peers {
            join(peer, self.incarnation, &self.cursors);
        }
    }

    /// Loads all cursors; the least of them bounds what may be written.
    #[cold]
    fn look_at_cursors(&mut self) {
        let published = self.outbox.published();
        let mut least = self.outbox.head();
        for peer in self.peers.iter_mut().filter(|peer| !peer.gone) {
            peer.refresh(self.me, self.incarnation, published);
            least = least.min(peer.cursor);
        }
        self.least_cursor = least;
    }

    fn passed_by_all(&self, position: u64) -> bool {
        let published = self.outbox.published();
        self.peers
            .iter()
            .filter(|peer| !peer.gone)
            .all(|peer| peer.cursor_now(self.me, self.incarnation, published) >= position)
    }

    /// How far the head may go.
    #[inline]
    fn limit(&self) -> u64 {
        self.least_cursor + self.outbox.ring_bytes()
    }

    #[cold]
    fn skip_lap_if_all_have_caught_up(&mut self) {
        let head = self.outbox.head();
        for peer in self.peers.iter_mut().filter(|peer| !peer.gone) {
            if peer.cursor != head {
                peer.refresh(self.me, self.incarnation, self.outbox.published());
            }
            if peer.cursor != head {
                return;
            }
        }
        self.least_cursor = head;
        self.outbox.skip_to_next_lap();
    }

    /// What does not go into the ring in one piece at once.
    #[cold]
    fn append_in_parts_or_later(&mut self, to: MemberMask, kind: u8, bytes: u32, parts: &[&[u8]]) {
        let mut pieces = Pieces::new(parts);
        let mut entry = Entry {
            to,
            kind,
            serial: self.serial,
            bytes,
            stream: None,
        };
        if bytes as usize > self.outbox.whole_bytes_max() {
            let mut stream = self.outbox.new_stream(bytes);
            if self.overflow.is_empty() {
                self.look_at_cursors();
                let limit = self.limit();
                if self
                    .outbox
                    .put_fragments(limit, to, kind, &mut stream, &mut pieces)
                {
                    return;
                }
            }
            entry.bytes = stream.total - stream.sent;
            entry.stream = Some(stream);
        }
        self.overflow.push(entry, &mut pieces);
    }

    /// Moves what fits from the overflow list into the ring.
    fn drain_overflow(&mut self) {
        if self.overflow.is_empty() {
            return;
        }
        self.look_at_cursors();
        let limit = self.limit();
        while let Some((entry, payload)) = self.overflow.front() {
            let payload = &[payload];
            let mut pieces = Pieces::new(payload);
            let done = match entry.stream {
                _ if entry.to.is_empty() => true,
                None => self
                    .outbox
                    .put(limit, entry.to, entry.kind, entry.bytes, &mut pieces),
                Some(mut stream) => {
                    let done = self.outbox.put_fragments(
                        limit,
                        entry.to,
                        entry.kind,
                        &mut stream,
                        &mut pieces,
                    );
                    if !done {
                        self.overflow.advance(stream);
                    }
                    done
                }
            };
            if !done {
                return;
            }
            self.overflow.pop();
        }
    }
}

/// Starts to read a peer's outbox if it has said where. True when that happened now.
fn join<R: Region, V: View, B: Bell>(
    peer: &mut Peer<V, B>,
    reader: Incarnation,
    cursors: &OwnCursors<R>,
) -> bool {
    let joined = peer.inbox.is_waiting() && peer.inbox.join(reader);
    if joined {
        cursors.join(peer.member, peer.incarnation, peer.inbox.read());
    }
    joined
}

impl<R: Region, V: View, B: Bell> Mesh for RingMesh<R, V, B> {
    fn me(&self) -> MemberId {
        self.me
    }

    fn live(&self) -> MemberMask {
        self.live
    }

    #[inline]
    fn append(&mut self, to: MemberMask, kind: u8, parts: &[&[u8]]) -> Serial {
        self.serial.0 += 1;
        let to = to.intersection(self.live);
        if to.is_empty() {
            return self.serial;
        }
        let len: usize = parts.iter().map(|part| part.len()).sum();
        // Ours to keep: no packet that was let in makes a larger record.
        assert!(len <= RECORD_BYTES_MAX, "record of {len} bytes");
        let bytes = u32::try_from(len).unwrap_or(u32::MAX);
        if self.overflow.is_empty() && len <= self.outbox.whole_bytes_max() {
            if self.outbox.worth_a_skip() {
                self.skip_lap_if_all_have_caught_up();
            }
            let put = |mesh: &mut Self| {
                let limit = mesh.limit();
                let mut pieces = Pieces::new(parts);
                mesh.outbox.put(limit, to, kind, bytes, &mut pieces)
            };
            if put(self) {
                return self.serial;
            }
            self.look_at_cursors();
            if put(self) {
                return self.serial;
            }
        }
        self.append_in_parts_or_later(to, kind, bytes, parts);
        self.serial
    }

    fn covered(&self) -> Serial {
        match self.overflow.front() {
            Some((first, _)) => Serial(first.serial.0 - 1),
            None => self.serial,
        }
    }

    fn overflow_bytes(&self) -> usize {
        self.overflow.bytes()
    }

    fn head(&self) -> Position {
        Position(self.outbox.head())
    }

    fn passed(&self, by: MemberMask) -> Position {
        let published = self.outbox.published();
        let least = self
            .peers
            .iter()
            .filter(|peer| !peer.gone && by.contains(peer.member))
            .map(|peer| peer.cursor_now(self.me, self.incarnation, published))
            .min();
        Position(least.unwrap_or_else(|| self.outbox.head()))
    }

    fn wake_when_passed(&mut self, position: Position) {
        self.enter_wait(position.0);
        self.set_wish();
        if self.outbox.head() == self.outbox.published() {
            // All is flushed, and maybe no flush follows before the sleep.
            self.outbox.region().fence();
            self.wake_readers();
        }
    }

    fn applied(&self, of: MemberId) -> Option<(Incarnation, Position)> {
        let peer = self.find(of)?;
        peer.inbox
            .has_joined()
            .then(|| (peer.incarnation, Position(peer.inbox.read())))
    }

    fn published(&self, of: MemberId) -> Option<(Incarnation, Position)> {
        let peer = self.find(of)?;
        let head = peer.inbox.published()?;
        Some((peer.incarnation, Position(head)))
    }

    fn everyone_applied(
        &mut self,
        of: MemberId,
        incarnation: Incarnation,
        position: Position,
    ) -> bool {
        if of == self.me && incarnation == self.incarnation {
            return self.all_applied_mine(position.0);
        }
        match self.find(of) {
            Some(writer) if writer.incarnation == incarnation => {
                self.all_applied(of, incarnation, position.0)
            }
            _ => self.is_of_the_past(of, incarnation),
        }
    }
}
