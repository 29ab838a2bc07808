//! How fast a body may leave (`X-Accel-Limit-Rate`).
//!
//! Owns the count of bytes against time: a body begins with what one second may bring, as nginx has it, and goes on at its
//! rate. Leaves the waiting to the senders, who know what else they wait for. Reads no clock.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// Pieces of less than this part of a second are waited for: each costs a system call, and in TLS a record.
const LEAST_PART: u64 = 8;
/// A larger piece is not waited for.
const LEAST_MOST_BYTES: u64 = 16 * 1024;

/// What one body may send, and when.
#[derive(Debug, Default)]
pub(crate) struct Pace(Option<Paced>);

#[derive(Debug)]
struct Paced {
    /// Bytes a second.
    rate: u64,
    begun: Option<Instant>,
    sent: u64,
}

impl Pace {
    /// `rate` is in bytes a second; `None` is as fast as the client takes it.
    pub(crate) fn new(rate: Option<NonZeroU64>) -> Self {
        Self(rate.map(|rate| Paced { rate: rate.get().min(FASTEST), begun: None, sent: 0 }))
    }

    /// Whether there is a limit at all.
    pub(crate) fn is_limited(&self) -> bool {
        self.0.is_some()
    }

    /// How many bytes may leave now: at least one, and without a limit `u64::MAX`.
    ///
    /// # Errors
    /// None; at the instant that is given there will be some.
    pub(crate) fn room(&mut self, now: Instant) -> Result<u64, Instant> {
        let Some(Paced { rate, begun, sent }) = &mut self.0 else { return Ok(u64::MAX) };
        let begun = *begun.get_or_insert(now);
        let elapsed = now.saturating_duration_since(begun).as_micros();
        let allowed = u128::from(*rate) * (elapsed + SECOND) / SECOND;
        let room = u64::try_from(allowed).unwrap_or(u64::MAX).saturating_sub(*sent);
        let least = (*rate / LEAST_PART).clamp(1, LEAST_MOST_BYTES);
        if room >= least {
            return Ok(room);
        }
        let wanted = u128::from(sent.saturating_add(least)) * SECOND;
        let at = wanted.div_ceil(u128::from(*rate)).saturating_sub(SECOND);
        Err(begun + Duration::from_micros(u64::try_from(at).unwrap_or(u64::MAX).min(LONGEST_US)))
    }

    /// So many bytes have left.
    pub(crate) fn left(&mut self, bytes: u64) {
        if let Some(paced) = &mut self.0 {
            paced.sent = paced.sent.saturating_add(bytes);
        }
    }
}

/// A terabyte a second: past it there is nothing to count, and below it nothing overflows.
const FASTEST: u64 = 1 << 40;
/// In microseconds.
const SECOND: u128 = 1_000_000;
/// A body that lasts for years: far enough, and no instant overflows.
const LONGEST_US: u64 = 1 << 52;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_second_ahead_and_then_the_rate() {
        for rate in [1, 7, 1_000, 50_000, 1 << 30, u64::MAX] {
            let mut pace = Pace::new(NonZeroU64::new(rate));
            let begun = Instant::now();
            let mut now = begun;
            let mut sent: u128 = 0;
            for _ in 0..100 {
                match pace.room(now) {
                    Ok(room) => {
                        pace.left(room);
                        sent += u128::from(room);
                        assert!(room > 0);
                    }
                    Err(then) => {
                        assert!(then > now, "{rate}: waiting brings something");
                        now = then;
                        assert!(pace.room(now).is_ok(), "{rate}: at the promised time there is room");
                    }
                }
            }
            let most = u128::from(rate) * ((now - begun).as_micros() + SECOND) / SECOND;
            assert!(sent <= most, "{rate}: {sent} of {most}");
        }
        let mut none = Pace::new(None);
        none.left(u64::MAX);
        assert_eq!(none.room(Instant::now()), Ok(u64::MAX));
    }
}
