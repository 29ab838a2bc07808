//! When to try again after a failure.
//!
//! Owns the rule, as functions of what has failed and when; the record of it is `course.rs`'s. Invariant: however often the
//! server is restarted and whoever asks, a name is not validated more than [`HOURLY`] times an hour in vain, well below the
//! five of Let's Encrypt (https://letsencrypt.org/docs/rate-limits/, "Authorization Failures per Identifier per Account").

use std::time::{Duration, SystemTime};

/// After the first failure.
const FIRST: Duration = Duration::from_secs(60);
/// At most, when the authority has judged the name: somebody has to change something, and a day is soon enough to see it.
const MOST: Duration = Duration::from_secs(24 * 3600);
/// At most, when no authority has judged it: nobody has to change anything, and a certificate may be about to end.
const MOST_UNJUDGED: Duration = Duration::from_secs(3600);
/// How far clocks differ without one of them being wrong.
pub(crate) const CLOCKS: Duration = Duration::from_secs(300);
/// Failed validations of a name in an hour.
pub(crate) const HOURLY: usize = 3;
/// So many are remembered: those that count, and those that are begun at one authority after the other.
pub(crate) const REMEMBERED: usize = 16;
/// The window of [`HOURLY`], and a margin for clocks that differ.
const WINDOW: Duration = Duration::from_secs(3600 + 60);
/// After so many failures an authority that has a test twin is asked there first.
const REHEARSE_AFTER: u32 = 3;

/// What an attempt has cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cost {
    /// No authority has looked for a name.
    Nothing,
    /// One has begun to; what it found is not known, and may be counted as failed.
    Tried,
    /// One has refused a name.
    Judged,
}

/// How long to wait after so many failures in a row (from 1). `dice` is from 0 to 1: the wait is between 3/4 and 5/4, so
/// that those whom one outage has hit do not come back at once.
pub(crate) fn wait(failures: u32, cost: Cost, dice: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let most = if cost == Cost::Judged { MOST } else { MOST_UNJUDGED };
    doubled.min(most).mul_f64(0.75 + dice.clamp(0.0, 1.0) / 2.0)
}

/// The earliest moment that [`HOURLY`] allows; `failed` are the moments of failed validations, in any order.
pub(crate) fn allowed_from(failed: &[SystemTime]) -> SystemTime {
    let mut failed = failed.to_vec();
    failed.sort_unstable();
    match failed.len().checked_sub(HOURLY) {
        Some(oldest) => failed[oldest] + WINDOW,
        None => SystemTime::UNIX_EPOCH,
    }
}

/// Whether the test twin is asked before the authority is.
pub(crate) fn rehearses(failures: u32) -> bool {
    failures >= REHEARSE_AFTER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_a_minute_to_a_day() {
        for (failures, cost, minutes) in [
            (1, Cost::Judged, 1),
            (2, Cost::Judged, 2),
            (3, Cost::Judged, 4),
            (6, Cost::Judged, 32),
            (10, Cost::Judged, 512),
            (11, Cost::Judged, 1024),
            (12, Cost::Judged, 1440),
            (u32::MAX, Cost::Judged, 1440),
            (6, Cost::Nothing, 32),
            (7, Cost::Tried, 60),
            (u32::MAX, Cost::Nothing, 60),
        ] {
            let wanted = Duration::from_secs(minutes * 60);
            assert_eq!(wait(failures, cost, 0.5), wanted, "{failures}");
            assert_eq!(wait(failures, cost, 0.0), wanted.mul_f64(0.75), "{failures}");
            assert_eq!(wait(failures, cost, 1.0), wanted.mul_f64(1.25), "{failures}");
        }
    }

    /// Row 69: whatever the dice say and however often the server is started anew, an hour sees three failures at most.
    #[test]
    fn row_69_no_hour_sees_more_than_its_share() {
        for dice in [0.0, 0.3, 1.0] {
            let mut now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
            let mut failed = Vec::new();
            for failures in 1..200 {
                // Impatience: as if every restart forgot the wait, but not what was counted.
                now = now.max(allowed_from(&failed))
                    + wait(1, Cost::Judged, dice).min(Duration::from_secs(failures));
                failed.push(now);
            }
            for (i, start) in failed.iter().enumerate() {
                let hour = failed[i..].iter().take_while(|at| **at < *start + Duration::from_secs(3600));
                assert!(hour.count() <= HOURLY);
            }
        }
    }

    #[test]
    fn rehearsal_begins_with_the_third_failure() {
        assert_eq!([0, 1, 2, 3, 9].map(rehearses), [false, false, false, true, true]);
    }
}
