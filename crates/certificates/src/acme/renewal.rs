//! When a certificate is renewed.
//!
//! Owns the rule, as functions of a certificate and of what the authority suggests. Invariant: the same certificate gives the
//! same moment in every process and after every restart, because the choice within a window comes from its serial number.
//! Source: RFC 9773 §4.2; where an authority suggests nothing, two thirds of the lifetime, which is right for certificates of
//! a week and of a year alike.

use std::time::{Duration, SystemTime};

/// How much earlier than two thirds it may be, as a share of the lifetime.
const SPREAD: f64 = 0.05;
/// Between two questions about the window, whatever the authority says.
const ASK_SOONEST: Duration = Duration::from_secs(3600);
const ASK_LATEST: Duration = Duration::from_secs(24 * 3600);

/// Without advice: at two thirds of the lifetime or a little before.
pub(crate) fn by_lifetime(not_before: SystemTime, not_after: SystemTime, serial: &str) -> SystemTime {
    let lifetime = not_after.duration_since(not_before).unwrap_or_default();
    not_before + lifetime.mul_f64(2.0 / 3.0 - SPREAD * share(serial))
}

/// A moment of the window that the authority suggests (RFC 9773 §4.2: uniformly random). A window that has passed, or that
/// is turned around, gives its own moment in the past: at once.
pub(crate) fn by_window(start: SystemTime, end: SystemTime, serial: &str) -> SystemTime {
    start + end.duration_since(start).unwrap_or_default().mul_f64(share(serial))
}

/// When to ask for the window again; `advice` is what the authority says in Retry-After.
pub(crate) fn ask_again(advice: Duration) -> Duration {
    advice.clamp(ASK_SOONEST, ASK_LATEST)
}

/// From 0 to 1, by the text (FNV-1a, whose high bits are mixed once more).
pub(crate) fn share(text: &str) -> f64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn at(days: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * days
    }

    #[test]
    fn two_thirds_of_any_lifetime() {
        for lifetime in [6, 45, 64, 90, 398] {
            let (from, until) = (at(100), at(100 + lifetime));
            for serial in ["01", "02", "ffee"] {
                let renewal = by_lifetime(from, until, serial).duration_since(from).unwrap();
                let share = renewal.as_secs_f64() / (DAY * lifetime).as_secs_f64();
                assert!((0.61..=0.667).contains(&share), "{lifetime} days: {share}");
            }
        }
        assert_eq!(by_lifetime(at(5), at(4), "01"), at(5), "dates that are turned around");
    }

    #[test]
    fn within_the_window_and_always_at_the_same_moment() {
        let mut seen = Vec::new();
        for number in 0..200 {
            let serial = format!("{number:x}");
            let chosen = by_window(at(10), at(12), &serial);
            assert!((at(10)..=at(12)).contains(&chosen));
            assert_eq!(chosen, by_window(at(10), at(12), &serial));
            seen.push(chosen);
        }
        let early = seen.iter().filter(|moment| **moment < at(11)).count();
        assert!((60..140).contains(&early), "spread over the window: {early} of 200 in its first half");
        assert_eq!(by_window(at(12), at(10), "01"), at(12), "a window that is turned around");
    }

    #[test]
    fn how_often_the_window_is_asked_for() {
        for (advice, wanted) in [(0, 1), (6, 6), (1000, 24)] {
            let hour = Duration::from_secs(3600);
            assert_eq!(ask_again(hour * advice), hour * wanted);
        }
    }
}
