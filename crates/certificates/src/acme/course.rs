//! What is remembered between attempts and between starts: failures, when to try again, when to renew.
//!
//! Owns the record and its file; the rules are `backoff.rs`'s and `renewal.rs`'s. Invariant: a restart changes nothing of it.
//! What cannot be read is as if nothing had happened, which `backoff.rs` makes harmless.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::backoff::{self, Cost};
use super::quota::Quota;
use crate::storage::Storage;

/// Seconds since 1970. What is in the file.
pub(crate) type Seconds = u64;

/// Everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Course {
    /// By name: those that fail.
    pub(crate) names: BTreeMap<String, Trouble>,
    /// By name of the certificate's file.
    pub(crate) certificates: BTreeMap<String, Origin>,
    /// By directory: not to be asked before.
    pub(crate) busy: BTreeMap<String, Seconds>,
    /// By directory: what it was asked for.
    pub(crate) quotas: BTreeMap<String, Quota>,
}

/// A name that fails.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Trouble {
    /// In a row.
    pub(crate) failures: u32,
    /// Not to be tried before.
    pub(crate) next: Seconds,
    /// The last validations that failed, or were begun and never heard of again.
    pub(crate) failed: Vec<Seconds>,
    /// The last reason, for people.
    pub(crate) error: String,
    /// When that was.
    pub(crate) at: Seconds,
}

/// Where a certificate is from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Origin {
    /// Its serial number: what is said here is of this certificate only.
    pub(crate) serial: String,
    /// Directory of the authority.
    pub(crate) directory: String,
    /// The moment within the window that the authority has suggested; 0: none.
    pub(crate) renew: Seconds,
    /// When to ask for the window again; 0: not asked yet.
    pub(crate) ask: Seconds,
    /// When it came.
    pub(crate) since: Seconds,
}

impl Course {
    /// As it was left.
    pub(crate) fn read(storage: &Storage) -> Self {
        let Some(bytes) = storage.course() else { return Self::default() };
        serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(%error, folder = %storage.root().display(), "course.json cannot be read; begun anew");
            Self::default()
        })
    }

    /// Keeps it; false: the disk does not. A full disk loses the record, not the certificate.
    pub(crate) fn write(&self, storage: &Storage) -> bool {
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        let kept = storage.put_course(&text);
        if let Err(error) = &kept {
            tracing::warn!(%error, folder = %storage.root().display(), "course.json cannot be written");
        }
        kept.is_ok()
    }

    /// Names are about to be validated: until [`Course::end`] says otherwise that counts as failed, since a process that is killed
    /// in the middle says nothing more.
    pub(crate) fn begin(&mut self, names: &[String], now: SystemTime) {
        for name in names {
            let failed = &mut self.names.entry(name.clone()).or_default().failed;
            failed.push(seconds(now));
            let surplus = failed.len().saturating_sub(backoff::REMEMBERED);
            failed.drain(..surplus);
        }
    }

    /// What was begun at `now` has cost these names nothing.
    pub(crate) fn end(&mut self, names: &[String], now: SystemTime) {
        for name in names {
            let Some(trouble) = self.names.get_mut(name) else { continue };
            if let Some(place) = trouble.failed.iter().rposition(|at| *at == seconds(now)) {
                trouble.failed.remove(place);
            }
            if *trouble == Trouble::default() {
                self.names.remove(name);
            }
        }
    }

    /// There is no certificate for a name. Whether it was validated in vain is what `begin` and `end` say.
    pub(crate) fn fail(&mut self, name: &str, error: &str, cost: Cost, now: SystemTime, dice: f64) {
        let trouble = self.names.entry(name.to_owned()).or_default();
        trouble.failures = trouble.failures.saturating_add(1);
        trouble.next = seconds(now + backoff::wait(trouble.failures, cost, dice));
        trouble.error = error.to_owned();
        trouble.at = seconds(now);
    }

    /// Names are proved: what was is forgotten.
    pub(crate) fn succeed(&mut self, names: &[String]) {
        self.names.retain(|name, _| !names.contains(name));
    }

    /// When a name may be tried. `force` passes over the wait, never over what an hour may see. What the record has of times
    /// to come is from a clock that was wrong, and keeps nobody waiting.
    pub(crate) fn may_try(&self, name: &str, force: bool, now: SystemTime) -> SystemTime {
        let Some(trouble) = self.names.get(name) else { return SystemTime::UNIX_EPOCH };
        let has_been = |at: &SystemTime| *at <= now + backoff::CLOCKS;
        let failed: Vec<SystemTime> = trouble.failed.iter().map(|at| moment(*at)).filter(has_been).collect();
        let wait = if force || !has_been(&moment(trouble.at)) { 0 } else { trouble.next };
        moment(wait).max(backoff::allowed_from(&failed))
    }

    /// Failures in a row of the worst of these names.
    pub(crate) fn failures(&self, names: &[String]) -> u32 {
        names
            .iter()
            .filter_map(|name| self.names.get(name))
            .map(|trouble| trouble.failures)
            .max()
            .unwrap_or(0)
    }
}

/// Since 1970.
pub(crate) fn seconds(at: SystemTime) -> Seconds {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The moment; what no clock reaches is as far as it matters.
pub(crate) fn moment(seconds: Seconds) -> SystemTime {
    const YEAR_9999: Seconds = 253_402_300_799;
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(YEAR_9999))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::tests::Folder;

    fn now() -> SystemTime {
        moment(1_800_000_000)
    }

    fn fail(course: &mut Course, cost: Cost) {
        course.begin(&["shop.test".to_owned()], now());
        if cost == Cost::Nothing {
            course.end(&["shop.test".to_owned()], now());
        }
        course.fail("shop.test", "no address", cost, now(), 0.5);
    }

    /// Row 69: restarts do not reset what was learned.
    #[test]
    fn row_69_what_failed_is_remembered() {
        let folder = Folder::new();
        let storage = Storage::at(&folder.0);
        storage.prepare().unwrap();
        let mut course = Course::read(&storage);
        assert_eq!(course, Course::default());
        fail(&mut course, Cost::Judged);
        fail(&mut course, Cost::Judged);
        assert!(course.write(&storage));
        let again = Course::read(&storage);
        assert_eq!(again, course);
        assert_eq!(again.failures(&["other.test".into(), "shop.test".into()]), 2);
        assert_eq!(again.may_try("shop.test", false, now()), now() + Duration::from_secs(120));
        assert_eq!(again.may_try("other.test", false, now()), SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn force_passes_over_the_wait_but_not_over_the_hour() {
        for cost in [Cost::Tried, Cost::Judged] {
            let mut course = Course::default();
            fail(&mut course, cost);
            assert!(course.may_try("shop.test", false, now()) > now());
            assert!(course.may_try("shop.test", true, now()) <= now());
            fail(&mut course, cost);
            fail(&mut course, cost);
            assert!(course.may_try("shop.test", true, now()) > now() + Duration::from_secs(3600));
            fail(&mut course, cost);
            for _ in 0..100 {
                fail(&mut course, cost);
            }
            assert_eq!(course.names["shop.test"].failed.len(), backoff::REMEMBERED, "bounded");
        }
    }

    /// Row 69: whoever is killed in the middle of a validation, again and again, does not go on for ever.
    #[test]
    fn row_69_what_was_begun_counts_until_it_is_over() {
        let names = ["a.test".to_owned(), "b.test".to_owned()];
        let mut course = Course::default();
        for _ in 0..3 {
            assert!(course.may_try("a.test", false, now()) <= now(), "no wait, but counted");
            course.begin(&names, now());
        }
        assert!(course.may_try("a.test", true, now()) > now() + Duration::from_secs(3600));
        for _ in 0..3 {
            course.end(&names[..1], now());
        }
        assert!(course.may_try("a.test", true, now()) <= now());
        assert!(course.may_try("b.test", true, now()) > now());
        assert_eq!(course.names.len(), 1, "nothing is left of the first");
    }

    #[test]
    fn what_was_not_judged_is_not_counted() {
        let mut course = Course::default();
        for _ in 0..50 {
            fail(&mut course, Cost::Nothing);
        }
        assert_eq!(course.may_try("shop.test", false, now()), now() + Duration::from_secs(3600));
        assert!(course.may_try("shop.test", true, now()) <= now());
        course.succeed(&["shop.test".into()]);
        assert_eq!(course, Course::default());
    }

    /// Row 69: years in the future the clock was wrong, and nobody waits for them.
    #[test]
    fn row_69_a_clock_that_has_jumped_back() {
        let mut course = Course::default();
        for _ in 0..20 {
            fail(&mut course, Cost::Judged);
        }
        let day = Duration::from_secs(24 * 3600);
        for (back, waits) in
            [(Duration::ZERO, true), (day / 24 / 60, true), (day, false), (day * 3000, false)]
        {
            let then = now() - back;
            assert_eq!(course.may_try("shop.test", false, then) > then, waits, "{back:?}");
            assert_eq!(course.may_try("shop.test", true, then) > then, waits, "{back:?}");
        }
    }

    #[test]
    fn a_file_that_is_none() {
        let folder = Folder::new();
        let storage = Storage::at(&folder.0);
        storage.prepare().unwrap();
        storage.put_course(b"\xff{").unwrap();
        assert_eq!(Course::read(&storage), Course::default());
        assert!(moment(u64::MAX) > now(), "a number that no clock reaches");
    }
}
