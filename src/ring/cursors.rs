//! Cursor pages: how far a reader has applied each outbox, whether it sleeps, whether its loop turns. Only its
//! owner writes to one.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::base::ids::{Incarnation, MemberId};

use super::layout::{
    CURSORS_BYTES, CURSORS_MAGIC, HEARTBEAT_AT, INCARNATION_AT, MAGIC_AT, SLEEP_AT, cell_at, low,
};
use super::memory::{Region, View};
use super::shm::ForeignMap;

/// This member's cursor page.
pub struct OwnCursors<R> {
    region: R,
    beats: u32,
    sleep: u32,
}

impl<R: Region> OwnCursors<R> {
    /// In a region that was just created, all zeroes.
    pub fn new(region: R, incarnation: Incarnation) -> Self {
        region.store(MAGIC_AT, CURSORS_MAGIC, Relaxed);
        region.store(INCARNATION_AT, incarnation.0, Relaxed);
        Self {
            region,
            beats: 0,
            sleep: 0,
        }
    }

    /// The loop has turned once more.
    pub fn beat(&mut self) {
        self.beats = self.beats.wrapping_add(1);
        // Relaxed: only its change is looked at.
        self.region.store(HEARTBEAT_AT, self.beats, Relaxed);
    }

    /// From now on others must ring. A fence must follow, and then a last look at what they do.
    pub fn fall_asleep(&mut self) {
        debug_assert!(!is_asleep(self.sleep));
        self.set_sleep(self.sleep.wrapping_add(1));
    }

    /// From now on others need not ring.
    pub fn wake_up(&mut self) {
        if is_asleep(self.sleep) {
            self.set_sleep(self.sleep.wrapping_add(1));
        }
    }

    fn set_sleep(&mut self, sleep: u32) {
        self.sleep = sleep;
        // Relaxed: the fences on both sides order it.
        self.region.store(SLEEP_AT, sleep, Relaxed);
    }

    /// Says that this member reads `writer`'s outbox from `position` on.
    pub fn join(&self, writer: MemberId, incarnation: Incarnation, position: u64) {
        let cell = cell_at(writer.slot());
        self.region.store(cell + 4, low(position), Relaxed);
        // Release: whoever finds this incarnation with Acquire finds no cursor of an earlier one.
        self.region.store(cell, incarnation.0, Release);
    }

    /// Says that this member has applied `writer`'s outbox up to `position`.
    pub fn advance(&self, writer: MemberId, position: u64) {
        // Release: whoever sees the cursor with Acquire sees what was done before, and may reuse the ring.
        self.region
            .store(cell_at(writer.slot()) + 4, low(position), Release);
    }
}

/// Another member's cursor page.
pub struct ForeignCursors<V> {
    view: V,
}

impl<V: View> ForeignCursors<V> {
    pub fn new(view: V) -> Self {
        Self { view }
    }

    /// The number of the sleep that this member is in.
    #[inline]
    pub fn asleep(&self) -> Option<u32> {
        let sleep = self.view.load(SLEEP_AT, Relaxed);
        is_asleep(sleep).then_some(sleep)
    }

    /// The low half of its cursor in the outbox of that incarnation, once it says that it reads it.
    #[inline]
    pub fn cursor(&self, writer: MemberId, incarnation: Incarnation) -> Option<u32> {
        let cell = cell_at(writer.slot());
        if self.view.load(cell, Acquire) != incarnation.0 {
            return None;
        }
        // Acquire: this reader is done with everything below.
        Some(self.view.load(cell + 4, Acquire))
    }
}

/// The supervisor's view of a member's cursor page: its heartbeat.
pub struct HeartbeatView {
    map: ForeignMap,
}

impl HeartbeatView {
    /// Maps a sealed cursor page.
    pub fn map(cursors: BorrowedFd<'_>) -> io::Result<Self> {
        ForeignMap::new(cursors, CURSORS_BYTES).map(|map| Self { map })
    }

    /// How often the member's loop has turned. Progress is any change of it.
    pub fn beats(&self) -> u32 {
        self.map.load(HEARTBEAT_AT, Relaxed)
    }
}

const fn is_asleep(sleep: u32) -> bool {
    sleep & 1 == 1
}
