//! Doing a thing at most once a second, by whoever comes first.
//!
//! Owns one atomic number. Invariant: within a second of a `due` that was true, all others are false, on every thread; a
//! clock that was set back makes it due at once, it never waits for the old time to come again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

const SECOND_MS: u64 = 1000;

/// When something was last done, in milliseconds since 1970.
#[derive(Debug)]
pub(super) struct EverySecond(AtomicU64);

impl EverySecond {
    /// Never done: due at once.
    pub(super) fn never() -> EverySecond {
        EverySecond(AtomicU64::new(u64::MAX))
    }

    /// Done just now.
    pub(super) fn since(now_ms: u64) -> EverySecond {
        EverySecond(AtomicU64::new(now_ms))
    }

    /// True when a second has passed, and then for one caller only, who must do it.
    pub(super) fn due(&self, now_ms: u64) -> bool {
        // Relaxed: the number guards nothing but itself.
        let last = self.0.load(Ordering::Relaxed);
        if last <= now_ms && now_ms - last < SECOND_MS {
            return false;
        }
        self.0.compare_exchange(last, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Milliseconds since 1970; 0 for a clock set before it.
pub(super) fn millis(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_a_second_whatever_the_clock_does() {
        let every = EverySecond::never();
        for (now_ms, expected) in [
            (5_000, true),
            (5_000, false),
            (5_999, false),
            (6_000, true),
            (6_001, false),
            (3_000, true),
            (3_500, false),
            (4_000, true),
        ] {
            assert_eq!(every.due(now_ms), expected, "{now_ms}");
        }
        assert!(!EverySecond::since(1_000).due(1_999));
        assert!(EverySecond::since(1_000).due(2_000));
    }
}
