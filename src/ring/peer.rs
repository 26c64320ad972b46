//! Another member as this one sees it: a writer whose outbox is read, and a reader of this member's outbox.

use std::time::Duration;

use crate::base::ids::{Incarnation, MemberId};
use crate::base::limits::{READER_STUCK_MILLIS, READER_STUCK_STEP_MILLIS};

use super::cursors::ForeignCursors;
use super::inbox::Inbox;
use super::layout::low;
use super::memory::{Bell, View};

/// Another member.
pub struct Peer<V, B> {
    pub member: MemberId,
    pub incarnation: Incarnation,
    /// It has died; its outbox is read to its end.
    pub gone: bool,
    pub inbox: Inbox<V>,
    pub cursors: ForeignCursors<V>,
    /// How far it has applied this member's outbox, as last seen.
    pub cursor: u64,
    /// Where this member's cursor in its outbox was before it was moved in this flush.
    pub advanced_from: Option<u64>,
    bell: B,
    /// The last sleep of its out of which this member has rung it. One ring is enough for one sleep.
    rung: u32,
    /// Its cursor went back or beyond the head.
    impossible: bool,
    /// Time for which it has held the full ring without moving its cursor from `held_at`, as counted here.
    held: Duration,
    held_at: u64,
    /// It was reported for good.
    reported: bool,
}

impl<V: View, B: Bell> Peer<V, B> {
    /// A member that starts to read this member's outbox at `start`.
    pub fn new(
        member: MemberId,
        incarnation: Incarnation,
        inbox: Inbox<V>,
        cursors: ForeignCursors<V>,
        bell: B,
        start: u64,
    ) -> Self {
        Self {
            member,
            incarnation,
            gone: false,
            inbox,
            cursors,
            cursor: start,
            advanced_from: None,
            bell,
            rung: 0,
            impossible: false,
            held: Duration::ZERO,
            held_at: start,
            reported: false,
        }
    }

    /// The cursor in its outbox as it should be told now, if it has moved.
    pub fn advance(&mut self) -> Option<u64> {
        let told = self.inbox.told();
        if told == self.inbox.read() {
            return None;
        }
        self.advanced_from = Some(told);
        self.inbox.set_told();
        Some(self.inbox.told())
    }

    /// Wakes it whatever it does.
    pub fn ring(&self) {
        self.bell.ring();
    }

    /// Wakes it if it sleeps, once a sleep.
    #[inline]
    pub fn ring_if_asleep(&mut self) {
        if let Some(sleep) = self.cursors.asleep()
            && self.rung != sleep
        {
            self.rung = sleep;
            self.bell.ring();
        }
    }

    /// How far it has applied `me`'s outbox, whose published head is `published`. Until it says that it reads that
    /// incarnation, that is where it starts; a cursor that makes no sense counts as the last one that did.
    #[inline]
    pub fn cursor_now(&self, me: MemberId, incarnation: Incarnation, published: u64) -> u64 {
        self.cursor_word(me, incarnation, published)
            .ok()
            .flatten()
            .unwrap_or(self.cursor)
    }

    /// Takes note of how far it has applied `me`'s outbox, and of a cursor that makes no sense.
    #[inline]
    pub fn refresh(&mut self, me: MemberId, incarnation: Incarnation, published: u64) {
        match self.cursor_word(me, incarnation, published) {
            Ok(Some(cursor)) => self.cursor = cursor,
            Ok(None) => {}
            Err(Impossible) => self.impossible = true,
        }
    }

    #[inline]
    fn cursor_word(
        &self,
        me: MemberId,
        incarnation: Incarnation,
        published: u64,
    ) -> Result<Option<u64>, Impossible> {
        let Some(word) = self.cursors.cursor(me, incarnation) else {
            return Ok(None);
        };
        let ahead = u64::from(word.wrapping_sub(low(self.cursor)));
        // One that went back is ahead by nearly 2^32, more than any ring holds.
        if ahead > published - self.cursor {
            return Err(Impossible);
        }
        Ok(Some(self.cursor + ahead))
    }

    /// Counts the time for which it holds the full ring: `step` since the last look, in which its cursor did
    /// not move. True when it is to be reported.
    pub fn is_stuck(&mut self, holds_full_ring: bool, step: Duration) -> bool {
        if !holds_full_ring || self.cursor != self.held_at {
            self.held_at = self.cursor;
            self.held = Duration::ZERO;
            return false;
        }
        self.held += step.min(Duration::from_millis(READER_STUCK_STEP_MILLIS));
        if self.held < Duration::from_millis(READER_STUCK_MILLIS) {
            return false;
        }
        self.held = Duration::ZERO;
        true
    }

    /// True once, if its cursor was impossible.
    pub fn report_impossible(&mut self) -> bool {
        self.impossible && !std::mem::replace(&mut self.reported, true)
    }

    /// Whether its outbox lied, and nobody was told yet.
    pub fn has_broken_to_report(&self) -> bool {
        self.inbox.is_broken() && !self.gone && !self.reported
    }

    /// True once, if its outbox lied.
    pub fn report_broken(&mut self) -> bool {
        self.has_broken_to_report() && !std::mem::replace(&mut self.reported, true)
    }
}

/// A cursor that went back or beyond the head.
struct Impossible;
