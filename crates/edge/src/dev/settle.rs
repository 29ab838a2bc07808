//! When a burst of changes is over.
//!
//! Owns the debounce: an editor writes a file in several steps (truncate, write, rename), and a checkout many files. A state
//! machine without a clock; callers bring the time. Invariant: a change is taken `QUIET` after the last one, and at most
//! `MOST` after the first, however long the burst.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::rules::Kind;

/// Without another change for so long, a burst is over. Two steps of one save are a millisecond apart.
pub(crate) const QUIET: Duration = Duration::from_millis(20);

/// A burst that goes on is taken as it is; what comes later is the next one.
pub(crate) const MOST: Duration = Duration::from_millis(200);

/// Changes that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Burst {
    /// The first file of the most important kind, for the log.
    pub(crate) path: PathBuf,
    /// What the most important change asks for.
    pub(crate) kind: Kind,
    /// How many different events there were.
    pub(crate) count: usize,
    /// When the first came.
    pub(crate) first: Instant,
    last: Instant,
}

/// Nothing, or a burst that goes on.
#[derive(Debug, Default)]
pub(crate) struct Settle(Option<Burst>);

impl Settle {
    /// One more change.
    pub(crate) fn note(&mut self, now: Instant, path: &Path, kind: Kind) {
        match &mut self.0 {
            None => self.0 = Some(Burst { path: path.to_owned(), kind, count: 1, first: now, last: now }),
            Some(burst) => {
                let same = burst.path == path;
                if kind < burst.kind {
                    (burst.kind, burst.path) = (kind, path.to_owned());
                }
                burst.count += usize::from(!same);
                burst.last = now;
            }
        }
    }

    /// When to look again.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.0.as_ref().map(|burst| (burst.last + QUIET).min(burst.first + MOST))
    }

    /// The burst, if it is over.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Burst> {
        if self.due()? > now {
            return None;
        }
        self.0.take()
    }

    /// What the burst that goes on asks for.
    pub(crate) fn pending(&self) -> Option<Kind> {
        self.0.as_ref().map(|burst| burst.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes as `(milliseconds, path, kind)`, and when the burst is over.
    #[test]
    fn bursts_end() {
        use Kind::{Code, Page, Style};
        let busy: Vec<(u64, &str, Kind)> = (0..30).map(|at| (at * 10, "a.py", Code)).collect();
        for (changes, due, path, kind, count) in [
            (&[(0, "a.py", Code)][..], 20, "a.py", Code, 1),
            (&[(0, "a.py", Code), (5, "a.py", Code)], 25, "a.py", Code, 1),
            (&[(0, "a.css", Style), (3, "b.js", Page)], 23, "b.js", Page, 2),
            (&[(0, "a.css", Style), (3, "b.py", Code), (9, "c.js", Page)], 29, "b.py", Code, 3),
            (&busy, 200, "a.py", Code, 1),
        ] {
            let zero = Instant::now();
            let at = |ms: u64| zero + Duration::from_millis(ms);
            let mut settle = Settle::default();
            assert_eq!((settle.due(), settle.take(zero)), (None, None));
            for (ms, path, kind) in changes {
                settle.note(at(*ms), Path::new(path), *kind);
            }
            assert_eq!(settle.due(), Some(at(due)), "{changes:?}");
            assert_eq!(settle.take(at(due - 1)), None, "{changes:?}");
            let burst = settle.take(at(due)).unwrap();
            assert_eq!((burst.path.to_str().unwrap(), burst.kind, burst.first), (path, kind, zero));
            assert_eq!(burst.count, count, "{changes:?}");
            assert_eq!((settle.due(), settle.pending()), (None, None), "it is taken once");
        }
    }
}
