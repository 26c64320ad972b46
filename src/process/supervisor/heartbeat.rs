//! Whether a child is alive in more than name, and whether this process was awake to judge it. Pure.

use std::time::Duration;

use crate::base::clock::Instant;
use crate::base::limits::{HEARTBEAT_CHECK_MILLIS, HEARTBEAT_MISSED_MAX, READER_STUCK_MILLIS};
use crate::sys::process::ProcessorTime;

/// What one look at one heart says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It beats, or it is too early to tell.
    Well,
    /// It has stood still for [`HEARTBEAT_MISSED_MAX`] looks on time, not counting when no processor was free for it.
    Hung,
}

/// One heart as the supervisor has seen it.
#[derive(Debug, Default)]
pub struct Heart {
    beats: Option<u32>,
    /// As it was at the last look.
    time: ProcessorTime,
    /// How long it has stood still although it could have run.
    stood: Duration,
    /// How long it could have run before the last look, at most [`CHECK`].
    could: Duration,
    /// How long others say that it held them up, as far as it could have run then. Forgotten slowly.
    blame: Duration,
}

impl Heart {
    /// Looks at the counter that the child moves. Only consecutive looks on time count: whoever overslept cannot
    /// say that others did not move. On a machine with too much to do, a child that gets little `time` on a processor is
    /// not hung, it is hungry; without that figure it is held to be fed.
    pub fn look(&mut self, beats: u32, look: Look, time: Option<ProcessorTime>) -> Verdict {
        let moved = self.beats.replace(beats) != Some(beats);
        self.could = time.map_or(CHECK, |time| self.could_run(time));
        self.blame = self.blame.saturating_sub(CHECK / BLAME_SHARE);
        if moved || look == Look::Late {
            self.stood = Duration::ZERO;
            return Verdict::Well;
        }
        self.stood += self.could;
        if self.stood >= CHECK * HEARTBEAT_MISSED_MAX {
            Verdict::Hung
        } else {
            Verdict::Well
        }
    }

    /// How long the child could have run since the last look.
    fn could_run(&mut self, time: ProcessorTime) -> Duration {
        let last = std::mem::replace(&mut self.time, time);
        let could = if time.is_ready {
            // It runs as soon as it may: so it could for as long as it did.
            time.used.saturating_sub(last.used)
        } else {
            CHECK.saturating_sub(time.waited.saturating_sub(last.waited))
        };
        could.min(CHECK)
    }

    /// Another member says that this one has held it up for [`READER_STUCK_MILLIS`], and says so again after as long a
    /// time. Whether to believe that it would not, rather than could not, go on.
    pub fn is_to_blame(&mut self) -> bool {
        let could_millis = u64::try_from(self.could.as_millis()).unwrap_or(u64::MAX);
        let millis = READER_STUCK_MILLIS * could_millis / HEARTBEAT_CHECK_MILLIS;
        self.blame += Duration::from_millis(millis);
        self.blame >= Duration::from_millis(READER_STUCK_MILLIS * 9 / 10)
    }
}

/// The time between two looks that are on time.
const CHECK: Duration = Duration::from_millis(HEARTBEAT_CHECK_MILLIS);

/// Blame is forgotten at one part in so many of the time that passes: who gets less of a processor than that is never
/// to blame.
const BLAME_SHARE: u32 = 4;

/// Whether the supervisor looked when it meant to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    OnTime,
    Late,
}

/// The supervisor's own clock, which runs only while the supervisor does: one that was stopped, or whose machine
/// slept, goes on where it was. Every deadline for a child is on this clock.
#[derive(Debug)]
pub struct AttentiveClock {
    real: Instant,
    attentive: Instant,
    /// Overslept since the last look.
    late: bool,
    next_look: Instant,
}

impl AttentiveClock {
    /// Starts at `real`.
    pub fn new(real: Instant) -> Self {
        Self {
            real,
            attentive: real,
            late: false,
            next_look: real.after_millis(HEARTBEAT_CHECK_MILLIS),
        }
    }

    /// The supervisor is awake at `real`; it meant to be within [`HEARTBEAT_CHECK_MILLIS`]. Gives its own time.
    pub fn awake(&mut self, real: Instant) -> Instant {
        let passed = real - self.real;
        self.real = self.real.max(real);
        self.attentive = self.attentive + passed.min(STEP_MAX);
        if passed > STEP_MAX {
            self.late = true;
        }
        self.attentive
    }

    /// Whether it is time for a look at the hearts, and whether that one is on time.
    pub fn look(&mut self) -> Option<Look> {
        if self.attentive < self.next_look {
            return None;
        }
        self.next_look = self.attentive.after_millis(HEARTBEAT_CHECK_MILLIS);
        if std::mem::take(&mut self.late) {
            Some(Look::Late)
        } else {
            Some(Look::OnTime)
        }
    }

    /// When the next look is due, on this clock.
    pub fn next_look(&self) -> Instant {
        self.next_look
    }
}

/// A turn that took longer than this is a pause of the supervisor or of the machine.
const STEP_MAX: Duration = Duration::from_millis(HEARTBEAT_CHECK_MILLIS + 100);

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the clock with these steps in milliseconds, the heart moving at the steps where `beats` says so. Gives
    /// the real milliseconds at which it was found hung.
    fn run(steps: &[(u64, bool)]) -> Option<u64> {
        let start = Instant(1_000_000_000);
        let (mut real, mut clock, mut heart) =
            (start, AttentiveClock::new(start), Heart::default());
        let mut beats = 0;
        for (millis, moves) in steps {
            real = real.after_millis(*millis);
            beats += u32::from(*moves);
            clock.awake(real);
            if let Some(look) = clock.look()
                && heart.look(beats, look, None) == Verdict::Hung
            {
                return Some(u64::try_from((real - start).as_millis()).unwrap());
            }
        }
        None
    }

    #[test]
    fn a_hung_child_is_found_within_two_seconds() {
        for step in [50, 125, 250, 260] {
            let found = run(&vec![(step, false); 100]).unwrap();
            assert!(found <= 2000, "{step}: {found}");
        }
        assert_eq!(run(&vec![(250, true); 1000]), None);
    }

    #[test]
    fn a_child_that_beats_every_other_look_is_well() {
        let steps: Vec<_> = (0..1000).map(|n| (250, n % 2 == 0)).collect();
        assert_eq!(run(&steps), None);
    }

    #[test]
    fn a_supervisor_that_is_paused_or_always_late_kills_nobody() {
        assert_eq!(run(&[(250, true), (3_600_000, false), (250, false)]), None);
        assert_eq!(run(&vec![(800, false); 100]), None);
        // Frozen and thawed again and again: five looks between, one too few each time.
        let mut steps = Vec::new();
        for _ in 0..100 {
            steps.extend([(10_000, false), (250, false), (250, false), (250, false)]);
        }
        assert_eq!(run(&steps), None);
    }

    #[test]
    fn a_child_that_gets_no_processor_is_not_hung() {
        let mut heart = Heart::default();
        assert!((0..1000).all(|_| heart.look(0, Look::OnTime, ready(0)) == Verdict::Well));
        // Nor is one whose waits are over just when it is looked at.
        let waited = |looks| ProcessorTime {
            waited: CHECK * looks,
            ..ProcessorTime::default()
        };
        let mut waits = 1..1000;
        assert!(waits.all(|n| heart.look(0, Look::OnTime, Some(waited(n))) == Verdict::Well));
        // One that turns in circles beside others is found, only later.
        let mut looks = 0;
        while heart.look(0, Look::OnTime, ready(looks * 125)) == Verdict::Well {
            looks += 1;
        }
        assert_eq!(looks, 2 * u64::from(HEARTBEAT_MISSED_MAX));
    }

    #[test]
    fn who_could_have_read_is_to_blame() {
        let mut heart = Heart::default();
        heart.look(1, Look::OnTime, Some(ProcessorTime::default()));
        assert!(heart.is_to_blame());
        assert_eq!(blamed_after(125), Some(3));
        assert_eq!(blamed_after(60), None);
        assert_eq!(blamed_after(0), None);
    }

    /// Which complaint about a child is believed that beats, and gets so many milliseconds between two looks.
    fn blamed_after(millis: u64) -> Option<u64> {
        let mut heart = Heart::default();
        heart.look(0, Look::OnTime, ready(0));
        (1..1000).find(|complaint| {
            for look in 2 * complaint - 1..=2 * complaint {
                heart.look(
                    u32::try_from(look).unwrap(),
                    Look::OnTime,
                    ready(look * millis),
                );
            }
            heart.is_to_blame()
        })
    }

    /// One that always wants a processor, and had so many milliseconds.
    fn ready(millis: u64) -> Option<ProcessorTime> {
        Some(ProcessorTime {
            used: Duration::from_millis(millis),
            is_ready: true,
            ..ProcessorTime::default()
        })
    }

    #[test]
    fn a_pause_between_two_looks_spoils_the_second_one() {
        let start = Instant(1_000_000_000);
        let mut clock = AttentiveClock::new(start);
        clock.awake(start.after_millis(250));
        assert_eq!(clock.look(), Some(Look::OnTime));
        // Woken by something else right after a pause, and on time for the look.
        clock.awake(start.after_millis(5250));
        assert_eq!(clock.look(), Some(Look::Late));
        clock.awake(start.after_millis(5300));
        assert_eq!(clock.look(), None);
        clock.awake(start.after_millis(5550));
        assert_eq!(clock.look(), Some(Look::OnTime));
    }

    #[test]
    fn the_clock_loses_what_it_slept() {
        let start = Instant(1_000_000_000);
        let mut clock = AttentiveClock::new(start);
        let now = clock.awake(start.after_secs(3600));
        assert!(now - start < Duration::from_secs(1));
        // A clock that goes back (it cannot) stands still.
        assert_eq!(clock.awake(start), now);
    }
}
