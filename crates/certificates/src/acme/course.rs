//! What is remembered between attempts and between starts: failures, when to try again, when to renew.
//!
//! Owns the record and its file; the rules are `backoff.rs`'s and `renewal.rs`'s. Invariant: a restart changes nothing of it.
//! What cannot be read is as if nothing had happened, which `backoff.rs` makes harmless.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::backoff;
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
}

/// A name that fails.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Trouble {
    /// In a row.
    pub(crate) failures: u32,
    /// Not to be tried before.
    pub(crate) next: Seconds,
    /// The last failed validations, no more than an hour of them can hold.
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

    /// Keeps it. A full disk loses the record, not the certificate.
    pub(crate) fn write(&self, storage: &Storage) {
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        if let Err(error) = storage.put_course(&text) {
            tracing::warn!(%error, folder = %storage.root().display(), "course.json cannot be written");
        }
    }

    /// A name has failed. `asked`: an authority has judged it, or was about to.
    pub(crate) fn fail(&mut self, name: &str, error: &str, asked: bool, now: SystemTime, dice: f64) {
        let trouble = self.names.entry(name.to_owned()).or_default();
        trouble.failures = trouble.failures.saturating_add(1);
        trouble.next = seconds(now + backoff::wait(trouble.failures, asked, dice));
        trouble.error = error.to_owned();
        trouble.at = seconds(now);
        if asked {
            trouble.failed.push(trouble.at);
            let surplus = trouble.failed.len().saturating_sub(backoff::HOURLY);
            trouble.failed.drain(..surplus);
        }
    }

    /// Names are proved: what was is forgotten.
    pub(crate) fn succeed(&mut self, names: &[String]) {
        self.names.retain(|name, _| !names.contains(name));
    }

    /// When a name may be tried. `force` passes over the wait, never over what an hour may see.
    pub(crate) fn may_try(&self, name: &str, force: bool) -> SystemTime {
        let Some(trouble) = self.names.get(name) else { return SystemTime::UNIX_EPOCH };
        let failed: Vec<SystemTime> = trouble.failed.iter().map(|at| moment(*at)).collect();
        let wait = if force { SystemTime::UNIX_EPOCH } else { moment(trouble.next) };
        wait.max(backoff::allowed_from(&failed))
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

    /// Row 69: restarts do not reset what was learned.
    #[test]
    fn row_69_what_failed_is_remembered() {
        let folder = Folder::new();
        let storage = Storage::at(&folder.0);
        storage.prepare().unwrap();
        let mut course = Course::read(&storage);
        assert_eq!(course, Course::default());
        course.fail("shop.test", "no address", true, now(), 0.5);
        course.fail("shop.test", "no address", true, now(), 0.5);
        course.write(&storage);
        let again = Course::read(&storage);
        assert_eq!(again, course);
        assert_eq!(again.failures(&["other.test".into(), "shop.test".into()]), 2);
        assert_eq!(again.may_try("shop.test", false), now() + Duration::from_secs(120));
        assert_eq!(again.may_try("other.test", false), SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn force_passes_over_the_wait_but_not_over_the_hour() {
        let mut course = Course::default();
        course.fail("shop.test", "", true, now(), 0.5);
        assert!(course.may_try("shop.test", false) > now());
        assert!(course.may_try("shop.test", true) <= now());
        course.fail("shop.test", "", true, now(), 0.5);
        course.fail("shop.test", "", true, now(), 0.5);
        assert!(course.may_try("shop.test", true) > now() + Duration::from_secs(3600));
        course.fail("shop.test", "", true, now(), 0.5);
        assert_eq!(course.names["shop.test"].failed.len(), 3, "bounded");
    }

    #[test]
    fn what_was_not_judged_is_not_counted() {
        let mut course = Course::default();
        for _ in 0..50 {
            course.fail("shop.test", "down", false, now(), 0.5);
        }
        assert_eq!(course.may_try("shop.test", false), now() + Duration::from_secs(3600));
        assert!(course.may_try("shop.test", true) <= now());
        course.succeed(&["shop.test".into()]);
        assert_eq!(course, Course::default());
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
