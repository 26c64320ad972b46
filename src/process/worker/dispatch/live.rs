//! What came live while an answer to a retained request is under way: the answer must not bring back what that
//! replaced.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::base::ids::{Incarnation, MemberId};
use crate::base::limits::SEEN_LIVE_MAX;
use crate::ipc::mesh::Heads;

/// Where a message stood in the outbox of the worker that took it in. For this worker's own messages `at` is the
/// serial, which orders them as well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spot {
    pub member: MemberId,
    pub incarnation: Incarnation,
    pub at: u64,
}

/// Topics (hashed) whose retained message was replaced live, with the last such message of each worker.
#[derive(Debug, Default)]
pub struct SeenLive(HashMap<u64, Vec<Spot>, RandomState>);

impl SeenLive {
    /// A message that is retained from now on came live.
    pub fn note(&mut self, topic: u64, spot: Spot) {
        if self.0.len() >= SEEN_LIVE_MAX && !self.0.contains_key(&topic) {
            return;
        }
        let spots = self.0.entry(topic).or_default();
        match spots.iter_mut().find(|s| s.member == spot.member) {
            Some(last) => *last = spot,
            None => spots.push(spot),
        }
    }

    /// Whether one came that was published after the outboxes stood at `heads`. The answer to a request with these
    /// heads holds nothing newer: it waits for what it has seen, and since the barrier all of that comes live. One
    /// that was published earlier proves nothing: what replaced it may have gone to the store alone.
    pub fn is_after(&self, topic: u64, heads: &Heads) -> bool {
        let is_after = |spot: &Spot| {
            let head = heads.iter().find(|(member, ..)| *member == spot.member);
            head.is_none_or(|(_, life, at)| (spot.incarnation, spot.at) > (*life, at.0))
        };
        self.0
            .get(&topic)
            .is_some_and(|spots| spots.iter().any(is_after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Position;

    fn spot(worker: usize, life: u32, at: u64) -> Spot {
        Spot {
            member: MemberId::worker(worker).unwrap(),
            incarnation: Incarnation(life),
            at,
        }
    }

    #[test]
    fn only_what_was_published_after_the_request_is_newer_than_the_answer() {
        let of = |worker| MemberId::worker(worker).unwrap();
        let heads = vec![(of(0), Incarnation(2), Position(10))];
        let mut seen = SeenLive::default();
        assert!(!seen.is_after(1, &heads));
        for (spot, expected) in [
            (spot(0, 2, 9), false),
            (spot(0, 2, 10), false),
            (spot(0, 1, 99), false),
            (spot(0, 2, 11), true),
            (spot(0, 3, 1), true),
        ] {
            seen.note(1, spot);
            assert_eq!(seen.is_after(1, &heads), expected, "{spot:?}");
        }
        seen.note(2, spot(0, 2, 1));
        seen.note(2, spot(1, 5, 1));
        assert!(seen.is_after(2, &heads), "worker 1 came after the request");
        assert!(!seen.is_after(3, &heads));
    }
}
