//! When a worker that died is started again, and when to give up.
//!
//! Pure rules: no clock, no process. Each worker passes its count of quick deaths on to the one that takes its place, so
//! one place that dies over and over backs off without holding up the others.
//! Invariant: a generation that was current once is never given up; one that boots is given up at once, because then
//! the cause is the project or its settings, and somebody is looking: at the terminal, or at a reload.

use std::time::Duration;

/// A worker that was ready at least this long did not die of how it was started.
const LONG_LIFE: Duration = Duration::from_secs(10);
/// Wait after the first death of one that never was ready: short, as most of them are accidents.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Longest wait: a project that imports in one second then costs a tenth of a core while it is broken, and is back ten
/// seconds after its database is.
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// Quick deaths in a row, from worker to successor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Backoff {
    quick_deaths: u32,
}

/// Whether the generation has ever been of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum History {
    NeverReady,
    WasReady,
}

/// What follows a death that nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Start another after this wait; it inherits the count.
    Restart { delay: Duration, backoff: Backoff },
    /// The project does not start: say so and end.
    GiveUp,
}

/// Judges a death. `ready_for`: how long the worker was ready, `None` if it never was.
pub(crate) fn after_death(history: History, backoff: Backoff, ready_for: Option<Duration>) -> Verdict {
    match (history, ready_for) {
        (History::NeverReady, None) => Verdict::GiveUp,
        (_, Some(life)) if life >= LONG_LIFE => {
            Verdict::Restart { delay: Duration::ZERO, backoff: Backoff::default() }
        }
        // One that was ready has shown that the project starts: its first quick death counts as an accident.
        (_, Some(_)) if backoff == Backoff::default() => {
            Verdict::Restart { delay: Duration::ZERO, backoff: Backoff { quick_deaths: 1 } }
        }
        _ => Verdict::Restart {
            delay: delay(backoff.quick_deaths),
            backoff: Backoff { quick_deaths: backoff.quick_deaths.saturating_add(1) },
        },
    }
}

fn delay(quick_deaths: u32) -> Duration {
    let doubled = 2_u32.checked_pow(quick_deaths).and_then(|factor| FIRST_DELAY.checked_mul(factor));
    doubled.map_or(LONGEST_DELAY, |delay| delay.min(LONGEST_DELAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Option<Duration> = None;

    fn ready(milliseconds: u64) -> Option<Duration> {
        Some(Duration::from_millis(milliseconds))
    }

    #[test]
    fn delays_in_a_row_of_deaths() {
        let lives = [
            // life, milliseconds until the next start
            (NEVER, 100),
            (ready(0), 200),
            (ready(9_999), 400),
            (NEVER, 800),
            (NEVER, 1_600),
            (NEVER, 3_200),
            (NEVER, 6_400),
            (NEVER, 10_000),
            (NEVER, 10_000),
            (ready(10_000), 0),
            (NEVER, 100),
            (ready(3_600_000), 0),
            (ready(1), 0),
            (ready(1), 200),
            (ready(1), 400),
        ];
        let mut backoff = Backoff::default();
        for (row, (life, expected)) in lives.into_iter().enumerate() {
            match after_death(History::WasReady, backoff, life) {
                Verdict::Restart { delay, backoff: next } => {
                    assert_eq!(delay, Duration::from_millis(expected), "row {row}");
                    backoff = next;
                }
                Verdict::GiveUp => panic!("row {row}: gave up a fleet that had been ready"),
            }
        }
    }

    #[test]
    fn gives_up_only_when_nothing_was_ever_ready() {
        assert_eq!(after_death(History::NeverReady, Backoff::default(), NEVER), Verdict::GiveUp);
        for life in [NEVER, ready(0), ready(60_000)] {
            assert_ne!(after_death(History::WasReady, Backoff::default(), life), Verdict::GiveUp, "{life:?}");
        }
    }

    #[test]
    fn the_count_never_overflows() {
        let worn_out = Backoff { quick_deaths: u32::MAX };
        assert_eq!(
            after_death(History::WasReady, worn_out, NEVER),
            Verdict::Restart { delay: LONGEST_DELAY, backoff: worn_out }
        );
    }
}
