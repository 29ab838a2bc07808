//! The application does not start: since when, and when somebody tries again.
//!
//! Owns what clients and load balancers are told then, and whether waiting is worth it. The conductor keeps it; requests ask
//! with one relaxed load while all is well. Invariant: nothing is refused for it while a worker can be given requests.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Since when workers or templates of the current generation die while they start.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    is_on: AtomicBool,
    told: Mutex<Option<Told>>,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    since: SystemTime,
    /// When a worker may be ready again.
    back: Instant,
}

impl Outage {
    /// One more has died while it started; another may be ready at `back`.
    pub(crate) fn falter(&self, back: Instant) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let since = told.map_or_else(SystemTime::now, |told| told.since);
        *told = Some(Told { since, back });
        self.is_on.store(true, Ordering::Relaxed);
    }

    /// A worker is ready.
    pub(crate) fn is_over(&self) {
        self.is_on.store(false, Ordering::Relaxed);
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether the last that were started have died. Some worker may be there nevertheless.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Since when; `None` while it is not.
    pub(crate) fn since(&self) -> Option<SystemTime> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.map(|told| told.since)
    }

    /// Whether a request that may wait so long would wait in vain.
    pub(crate) fn outlasts(&self, now: Instant, wait: Duration) -> bool {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.is_some_and(|told| told.back > now + wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_worth_it_or_not() {
        let outage = Outage::default();
        let now = Instant::now();
        let second = Duration::from_secs(1);
        assert!(!outage.is_on() && !outage.outlasts(now, Duration::ZERO) && outage.since().is_none());
        outage.falter(now + 2 * second);
        let first = outage.since();
        for (wait, vain) in
            [(Duration::ZERO, true), (second, true), (2 * second, false), (30 * second, false)]
        {
            assert_eq!(outage.outlasts(now, wait), vain, "{wait:?}");
        }
        outage.falter(now + 10 * second);
        assert_eq!(outage.since(), first, "it is the same outage");
        assert!(outage.outlasts(now, 5 * second));
        outage.is_over();
        assert!(!outage.is_on() && outage.since().is_none());
    }
}
