//! Cursor pages: how far a reader has applied each outbox, whether it sleeps, whether its loop turns, and its
//! figures. Only its owner writes to one.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::base::figures::Figures;
use crate::base::ids::{Incarnation, MemberId};

use super::figures::{read_blocks, write_blocks};
use super::layout::{
    CURSORS_MAGIC, FIGURES_AT, HEARTBEAT_AT, INCARNATION_AT, MAGIC_AT, SLEEP_AT, cell_at, low,
};
use super::memory::{Region, View};

/// This member's cursor page.
pub struct OwnCursors<R> {
    region: R,
    beats: u32,
    sleep: u32,
    figures: u32,
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
            figures: 0,
        }
    }

    /// The loop has turned once more.
    pub fn beat(&mut self) {
        self.beats = self.beats.wrapping_add(1);
        // Relaxed: only its change is looked at.
        self.region.store(HEARTBEAT_AT, self.beats, Relaxed);
    }

    /// Lets others see this member's figures.
    pub fn tell_figures(&mut self, figures: &Figures) {
        write_blocks(&self.region, FIGURES_AT, &mut self.figures, [0; 2], figures);
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

    /// Its figures as it last told them, unless it is just telling others.
    pub fn figures(&self) -> Option<Figures> {
        let mut figures = Figures::default();
        read_blocks(&self.view, FIGURES_AT, &mut figures).map(|_| figures)
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

const fn is_asleep(sleep: u32) -> bool {
    sleep & 1 == 1
}
