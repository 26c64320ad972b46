//! Whether the broker holds more memory than it may.

/// Compares what is held with the limit. It is over from the first byte beyond the limit until a sixteenth of it is
/// free again, so that it does not come and go with every message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemoryGuard {
    is_over: bool,
}

impl MemoryGuard {
    /// All processes hold so many bytes now, and may hold `limit`. True if it is over the limit since now, or no longer.
    pub fn note(&mut self, bytes: u64, limit: u64) -> bool {
        let enough = limit - limit / 16;
        let is_over = bytes > limit || (self.is_over && bytes > enough);
        std::mem::replace(&mut self.is_over, is_over) != is_over
    }

    /// Whether more is held than may be.
    pub fn is_over(self) -> bool {
        self.is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_beyond_the_limit_until_there_is_some_room() {
        let mut guard = MemoryGuard::default();
        for (bytes, is_over, is_news) in [
            (160, false, false),
            (161, true, true),
            (200, true, false),
            (151, true, false),
            (150, false, true),
            (160, false, false),
        ] {
            assert_eq!(guard.note(bytes, 160), is_news, "{bytes}");
            assert_eq!(guard.is_over(), is_over, "{bytes}");
        }
        assert!(!guard.note(u64::MAX, u64::MAX), "no limit");
    }
}
