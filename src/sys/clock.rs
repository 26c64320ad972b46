//! Reading the clocks. Only loops do this; deciding code is told.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::base::clock::Instant;

/// `CLOCK_BOOTTIME` now. Monotonic time stands in on kernels without it (before 2.6.39).
pub fn now() -> Instant {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .or_else(|_| clock_gettime(ClockId::CLOCK_MONOTONIC))
        .map_or(Duration::ZERO, Duration::from);
    Instant::default() + time
}

/// Time since 1970. It may jump, so it is for log lines and for what people read, never for deciding how long
/// something took.
pub fn wall() -> Duration {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_go_back() {
        let first = now();
        assert!(first.0 > 0);
        assert!(now() >= first);
    }

    #[test]
    fn the_wall_clock_is_the_standard_library_s() {
        let theirs = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        assert!(wall() >= theirs);
    }
}
