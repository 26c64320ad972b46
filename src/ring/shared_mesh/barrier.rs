//! Barriers: who has applied what, and waiting for it.

use crate::base::ids::{Incarnation, MemberId};
use crate::base::limits::POSITION_WAITS_MAX;

use super::RingMesh;
use crate::ring::layout::low;
use crate::ring::memory::{Bell, Region, View};

impl<R: Region, V: View, B: Bell> RingMesh<R, V, B> {
    /// Asks readers to ring at the nearest position that is waited for and has not passed.
    pub(super) fn arm(&mut self) {
        let published = self.outbox.published();
        while let Some(&nearest) = self.waits.front() {
            if nearest > published || !self.passed_by_all(nearest) {
                break;
            }
            self.waits.pop_front();
            self.wait_is_over = true;
        }
        self.set_wish();
    }

    pub(super) fn set_wish(&mut self) {
        // With half of the ring free there is room for the next record or fragment, and it is worth a wake-up.
        let room = (!self.overflow.is_empty()).then(|| {
            self.outbox
                .head()
                .saturating_sub(self.outbox.ring_bytes() / 2)
        });
        let wait = self.waits.front().copied();
        self.armed = match (wait, room) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        };
        if let Some(position) = self.armed {
            self.outbox.ask_for_ring(position);
        }
    }

    /// Enters a position to wait for, in order. At the bound it is joined to the furthest, which passes later.
    pub(super) fn enter_wait(&mut self, position: u64) {
        let Err(index) = self.waits.binary_search(&position) else {
            return;
        };
        if self.waits.len() >= POSITION_WAITS_MAX {
            if index == self.waits.len() {
                self.waits.pop_back();
                self.waits.push_back(position);
            }
            return;
        }
        self.waits.insert(index, position);
    }

    /// Whether all live members have applied this member's outbox up to `position`; wakes those that sleep short.
    pub(super) fn all_applied_mine(&mut self, position: u64) -> bool {
        let published = self.outbox.published();
        let mut all = true;
        for peer in self.peers.iter_mut().filter(|peer| !peer.gone) {
            if peer.cursor_now(self.me, self.incarnation, published) < position {
                all = false;
                peer.ring_if_asleep();
            }
        }
        all
    }

    /// Whether this member and all live others have applied `of`'s outbox, which this member reads, up to `position`;
    /// wakes those that sleep short.
    pub(super) fn all_applied(
        &mut self,
        of: MemberId,
        incarnation: Incarnation,
        mut position: u64,
    ) -> bool {
        let Some(writer) = self.find(of) else {
            return false;
        };
        let head = writer.inbox.published();
        if writer.gone {
            // It publishes no more; what it says about later positions means all that it did publish.
            position = position.min(head.unwrap_or(position));
        } else if head.is_none_or(|head| head < position) || writer.inbox.read() < position {
            return false;
        }
        let mut all = !writer.inbox.has_joined() || writer.inbox.read() >= position;
        let base = if writer.inbox.has_joined() {
            writer.inbox.read()
        } else {
            position
        };
        for index in 0..self.peers.len() {
            let (Some(other), Some(writer)) = (self.peers.get(index), self.find(of)) else {
                break;
            };
            if other.member == of || other.gone {
                continue;
            }
            let cursor = match other.cursors.cursor(of, incarnation) {
                Some(word) => {
                    let ahead = word.wrapping_sub(low(base)).cast_signed();
                    base.saturating_add_signed(i64::from(ahead))
                }
                // Counted but not joined yet: it will read from its start on. Not counted: it will start at what is
                // published then, or never.
                None => writer
                    .inbox
                    .start_of(other.member, other.incarnation)
                    .unwrap_or(u64::MAX),
            };
            if cursor < position {
                all = false;
                if let Some(other) = self.peers.get_mut(index) {
                    other.ring_if_asleep();
                }
            }
        }
        all
    }

    /// Whether an incarnation that is not among the peers is one of the past. Incarnations count up: one that is
    /// newer than all that this member knows of is one that it has not been told of yet.
    pub(super) fn is_of_the_past(&self, of: MemberId, incarnation: Incarnation) -> bool {
        let newest = self.newest.get(of.slot()).copied().unwrap_or_default();
        incarnation < newest.max(self.incarnation) || (incarnation == newest && of != self.me)
    }
}
