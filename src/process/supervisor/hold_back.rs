//! How soon a child that died is started again. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::clock::Instant;
use crate::base::limits::{
    DEATHS_BEFORE_HOLD_BACK, DEATHS_WITHIN_SECS, HOLD_BACK_FIRST_SECS, HOLD_BACK_SECS_MAX,
};

/// The deaths of one slot.
#[derive(Debug, Default)]
pub struct HoldBack {
    recent: VecDeque<Instant>,
    /// How often in a row the slot was held back; 0 is never.
    level: u32,
}

impl HoldBack {
    /// The slot's child has died at `now`, `lived` after it was started. Says how long its successor waits.
    pub fn died(&mut self, now: Instant, lived: Duration) -> Duration {
        let window = Duration::from_secs(DEATHS_WITHIN_SECS);
        if lived >= window {
            *self = Self::default();
        }
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|at| now - *at >= window)
            || self.recent.len() > DEATHS_BEFORE_HOLD_BACK
        {
            self.recent.pop_front();
        }
        // Once held back, every short life counts: the delays alone would spread the deaths over a longer time.
        if self.level > 0 || self.recent.len() >= DEATHS_BEFORE_HOLD_BACK {
            self.level = self.level.saturating_add(1);
        }
        match self.level.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => {
                let secs = HOLD_BACK_FIRST_SECS.saturating_mul(2u64.saturating_pow(doublings));
                Duration::from_secs(secs.min(HOLD_BACK_SECS_MAX))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_deaths_are_forgiven_and_the_fifth_waits_longer_each_time() {
        let mut hold_back = HoldBack::default();
        let mut now = Instant(1);
        let mut waits = Vec::new();
        for _ in 0..10 {
            now = now.after_secs(1);
            let wait = hold_back.died(now, Duration::from_secs(1));
            waits.push(wait.as_secs());
            now = now + wait;
        }
        assert_eq!(waits, [0, 0, 0, 0, 1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn rare_deaths_never_wait() {
        let mut hold_back = HoldBack::default();
        for n in 0..50 {
            let now = Instant(1).after_secs(n * 3);
            assert_eq!(hold_back.died(now, Duration::from_secs(3)), Duration::ZERO);
        }
    }

    #[test]
    fn a_long_life_ends_the_holding_back() {
        let mut hold_back = HoldBack::default();
        let short = Duration::from_millis(1);
        for _ in 0..6 {
            hold_back.died(Instant(5), short);
        }
        assert!(!hold_back.died(Instant(5), short).is_zero());
        let later = Instant(5).after_secs(60);
        assert!(hold_back.died(later, Duration::from_secs(10)).is_zero());
    }
}
