//! How fast somebody may send: credit that is spent by sending and that time brings back.

use crate::base::clock::Instant;
use crate::base::limits::{RATE_BURST_MILLIS, RATE_DEBT_SECS_MAX};

/// What is allowed in a second; 0 is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Rates {
    pub messages: u32,
    pub bytes: u32,
}

impl Rates {
    /// Whether there is no limit.
    pub fn are_none(self) -> bool {
        self == Self::default()
    }
}

/// What may be sent now. Who has been quiet for long has the credit of [`RATE_BURST_MILLIS`]; a packet that is larger
/// than the credit is let through, and paid for afterwards.
#[derive(Clone, Copy, Default, Debug)]
pub struct Credit {
    messages: Bucket,
    bytes: Bucket,
}

impl Credit {
    /// When a packet may be taken that is a message or not; `None` is now.
    pub fn wait(&self, is_message: bool, rates: Rates, now: Instant) -> Option<Instant> {
        let messages = self.messages.wait(rates.messages, now);
        let messages = messages.filter(|_| is_message);
        messages.max(self.bytes.wait(rates.bytes, now))
    }

    /// A packet of so many bytes was taken.
    pub fn take(&mut self, bytes: usize, is_message: bool, rates: Rates, now: Instant) {
        self.messages
            .take(usize::from(is_message), rates.messages, now);
        self.bytes.take(bytes, rates.bytes, now);
    }
}

/// A bucket of credit, kept as the time until which it is spent: an empty bucket is spent until now, a full one until
/// a burst ago, and one in debt until later.
#[derive(Clone, Copy, Default, Debug)]
struct Bucket {
    spent_until: Instant,
}

impl Bucket {
    fn wait(self, per_second: u32, now: Instant) -> Option<Instant> {
        let at = Instant(
            self.spent_until(now)
                .0
                .saturating_add(nanos_of(1, per_second)?),
        );
        (at > now).then_some(at)
    }

    fn take(&mut self, count: usize, per_second: u32, now: Instant) {
        let Some(nanos) = nanos_of(count, per_second) else {
            return;
        };
        let spent = self.spent_until(now).0.saturating_add(nanos);
        self.spent_until = Instant(spent).min(now.after_secs(RATE_DEBT_SECS_MAX));
    }

    /// Never more than a full bucket.
    fn spent_until(self, now: Instant) -> Instant {
        let full = now.0.saturating_sub(RATE_BURST_MILLIS * 1_000_000);
        self.spent_until.max(Instant(full))
    }
}

/// The time that brings credit for so many; `None` if there is no limit.
fn nanos_of(count: usize, per_second: u32) -> Option<u64> {
    let nanos = (count as u128 * 1_000_000_000).checked_div(u128::from(per_second))?;
    Some(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn messages(n: u32) -> Rates {
        Rates {
            messages: n,
            bytes: 0,
        }
    }

    #[test]
    fn a_burst_passes_and_then_one_at_a_time() {
        let (rates, mut credit) = (messages(10), Credit::default());
        let now = Instant(100 * SECOND);
        for _ in 0..10 {
            assert_eq!(credit.wait(true, rates, now), None);
            credit.take(1000, true, rates, now);
        }
        let next = Instant(now.0 + SECOND / 10);
        assert_eq!(credit.wait(true, rates, now), Some(next));
        // What is no message needs no credit for one.
        assert_eq!(credit.wait(false, rates, now), None);
        credit.take(1000, false, rates, now);
        assert_eq!(credit.wait(true, rates, next), None);
        credit.take(1000, true, rates, next);
        assert_eq!(
            credit.wait(true, rates, next),
            Some(Instant(next.0 + SECOND / 10))
        );
    }

    #[test]
    fn a_large_packet_passes_and_is_paid_for_but_not_for_ever() {
        let (rates, mut credit) = (
            Rates {
                messages: 0,
                bytes: 1000,
            },
            Credit::default(),
        );
        let now = Instant(100 * SECOND);
        credit.take(5000, true, rates, now);
        let wait = credit.wait(true, rates, now).unwrap();
        assert_eq!(wait, Instant(now.0 + 4 * SECOND + SECOND / 1000));
        credit.take(usize::MAX, true, rates, now);
        let wait = credit.wait(true, rates, now).unwrap();
        assert!(wait <= now.after_secs(RATE_DEBT_SECS_MAX + 1));
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let (rates, mut credit) = (messages(0), Credit::default());
        for _ in 0..1000 {
            credit.take(1_000_000, true, rates, Instant(0));
        }
        assert_eq!(credit.wait(true, rates, Instant(0)), None);
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_a_burst_and_the_rate(
            rate in 1..1000u32,
            pauses in prop::collection::vec(0..SECOND, 1..200),
        ) {
            let (rates, mut credit) = (messages(rate), Credit::default());
            let start = Instant(100 * SECOND);
            let (mut now, mut taken) = (start, 0u64);
            for pause in pauses {
                now = Instant(now.0 + pause);
                for _ in 0..50 {
                    if credit.wait(true, rates, now).is_none() {
                        credit.take(1, true, rates, now);
                        taken += 1;
                    }
                }
                let seconds = now.since(start).as_secs_f64() + RATE_BURST_MILLIS as f64 / 1000.0;
                prop_assert!(taken as f64 <= f64::from(rate) * seconds + 1.001);
            }
        }
    }
}
