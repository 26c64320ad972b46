//! Figures: this member's for the others, and what the others hold.

use super::RingMesh;
use crate::base::figures::Figures;
use crate::ring::Mesh as _;
use crate::ring::memory::{Bell, Region, View};

impl<R: Region, V: View, B: Bell> RingMesh<R, V, B> {
    /// Lets others see this member's figures, with those that the ring itself knows filled in.
    pub fn tell_figures(&mut self, figures: &mut Figures) {
        let behind = self.outbox.head() - self.passed(self.live).0.min(self.outbox.head());
        figures.lag_bytes = behind;
        figures.overflow_bytes = self.overflow.bytes() as u64;
        self.cursors.tell_figures(figures);
    }

    /// What the other members counted, as they last told.
    pub fn figures_of_others(&self) -> Figures {
        let mut sum = Figures::default();
        for peer in self.peers.iter().filter(|peer| !peer.gone) {
            if let Some(figures) = peer.cursors.figures() {
                sum.add(&figures);
            }
        }
        sum
    }
}
