//! What has to be ordered now, and when to look again.
//!
//! Owns the decision, as a function of names, certificates, the record and the time. One order per set of names that needs a
//! certificate: at the start that is all of them, so that there is one certificate, one renewal and one line in a public log;
//! a name that is added later gets its own, and a name that fails holds no other back. Invariant: a name is in one set at most,
//! and in none before `course.rs` allows it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::course::{Course, Origin, moment};
use super::renewal;
use crate::pem::{Facts, Pair};

/// Let's Encrypt takes so many names in one order.
const NAMES_MOST: usize = 100;
/// Nobody sleeps longer: clocks may be set meanwhile.
const WAIT_MOST: Duration = Duration::from_secs(48 * 3600);

/// A certificate that is there.
#[derive(Debug, Clone)]
pub struct Held {
    /// Name of its file, without the end.
    pub file: String,
    /// Certificate and key.
    pub pair: Pair,
}

/// How much is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Zeal {
    /// What is due.
    Due,
    /// The same, and what has failed is tried without waiting any more, but for what an hour may see.
    Now,
    /// Everything, due or not.
    Force,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// Sets of names to order, each with the file of the certificate that it takes the place of.
    pub(crate) sets: Vec<(Vec<String>, Option<String>)>,
    /// When there may be something to do, if nothing changes.
    pub(crate) next: SystemTime,
}

/// For each name the certificate that ends last, if any is for it.
pub(crate) fn best<'a>(name: &str, held: &'a [Held]) -> Option<&'a Held> {
    let fits = held.iter().filter(|held| held.pair.facts.names.iter().any(|covered| covered == name));
    fits.max_by_key(|held| held.pair.facts.not_after)
}

/// An authority that suggests to renew at once is followed at once, but not in circles.
const YOUNG: Duration = Duration::from_secs(6 * 3600);

/// When a certificate is to be renewed: as its authority suggests, else by its lifetime.
pub(crate) fn renewal(facts: &Facts, origin: Option<&Origin>) -> SystemTime {
    let by_lifetime = renewal::by_lifetime(facts.not_before, facts.not_after, &facts.serial);
    match origin.filter(|origin| origin.serial == facts.serial && origin.renew > 0) {
        // Advice that comes true when the certificate is over is none.
        Some(origin) if moment(origin.renew) < facts.not_after => {
            let lifetime = facts.not_after.duration_since(facts.not_before).unwrap_or_default();
            moment(origin.renew).max(moment(origin.since) + YOUNG.min(lifetime / 3))
        }
        _ => by_lifetime,
    }
}

/// What has to be done now.
pub(crate) fn due(names: &[String], held: &[Held], course: &Course, now: SystemTime, zeal: Zeal) -> Due {
    let mut next = now + WAIT_MOST;
    let mut sets: BTreeMap<Option<String>, Vec<String>> = BTreeMap::new();
    for name in names {
        let held = best(name, held);
        let from = match held {
            Some(held) if zeal < Zeal::Force => {
                renewal(&held.pair.facts, course.certificates.get(&held.file))
            }
            _ => SystemTime::UNIX_EPOCH,
        };
        let at = from.max(course.may_try(name, zeal > Zeal::Due, now));
        if at <= now {
            let set = sets.entry(held.map(|held| held.file.clone())).or_default();
            if !set.contains(name) {
                set.push(name.clone());
            }
        } else {
            next = next.min(at);
        }
    }
    let split = |(file, names): (Option<String>, Vec<String>)| {
        let parts: Vec<_> = names.chunks(NAMES_MOST).map(|part| (part.to_vec(), file.clone())).collect();
        parts
    };
    Due { sets: sets.into_iter().flat_map(split).collect(), next }
}

/// Name of the file for a certificate of these names.
pub(crate) fn file_of(names: &[String]) -> String {
    let first = names.first().map_or("none", String::as_str);
    let first = crate::storage::file_name(first);
    match names.len() {
        0 | 1 => first,
        more => format!("{first}+{}", more - 1),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::{CertificateParams, KeyPair, SerialNumber};

    use super::*;
    use crate::acme::backoff::Cost;
    use crate::acme::course::seconds;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    pub(crate) fn start() -> SystemTime {
        moment(1_800_000_000)
    }

    /// A certificate of 90 days from `start` on.
    pub(crate) fn held(file: &str, names: &[&str]) -> Held {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.not_before = start().into();
        parameters.not_after = (start() + DAY * 90).into();
        parameters.serial_number = Some(SerialNumber::from_slice(&[1, 2, 3]));
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let pair = Pair::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        Held { file: file.to_owned(), pair }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn sets(due: &Due) -> Vec<(Vec<&str>, Option<&str>)> {
        let sets = due.sets.iter();
        sets.map(|(names, file)| (names.iter().map(String::as_str).collect(), file.as_deref())).collect()
    }

    #[test]
    fn one_order_for_all_that_have_none() {
        let all = names(&["a.test", "b.test", "a.test", "*.a.test"]);
        let due = due(&all, &[], &Course::default(), start(), Zeal::Due);
        assert_eq!(sets(&due), [(vec!["a.test", "b.test", "*.a.test"], None)]);
    }

    #[test]
    fn a_name_that_is_added_gets_its_own() {
        let held = [held("a.test+1", &["a.test", "b.test"])];
        let all = names(&["a.test", "b.test", "c.test"]);
        let due = due(&all, &held, &Course::default(), start() + DAY, Zeal::Due);
        assert_eq!(sets(&due), [(vec!["c.test"], None)]);
    }

    #[test]
    fn renewal_is_of_the_names_that_are_still_wanted() {
        let held = [held("a.test+2", &["a.test", "b.test", "gone.test"])];
        let all = names(&["a.test", "b.test"]);
        let (early, late) = (start() + DAY * 50, start() + DAY * 61);
        let course = Course::default();
        let before = due(&all, &held, &course, early, Zeal::Due);
        assert_eq!(sets(&before), []);
        let renewal = renewal(&held[0].pair.facts, None);
        assert!((start() + DAY * 55..=start() + DAY * 60).contains(&renewal), "at two thirds");
        assert_eq!(due(&all, &held, &course, renewal - DAY, Zeal::Due).next, renewal);
        assert_eq!(before.next, early + WAIT_MOST, "nobody sleeps for long");
        let wanted = [(vec!["a.test", "b.test"], Some("a.test+2"))];
        assert_eq!(sets(&due(&all, &held, &course, late, Zeal::Due)), wanted);
        assert_eq!(sets(&due(&all, &held, &course, early, Zeal::Force)), wanted, "forced");
        assert_eq!(sets(&due(&all, &held, &course, start() + DAY * 900, Zeal::Due)), wanted, "over for long");
    }

    #[test]
    fn the_authority_may_suggest_another_time() {
        let held = [held("a.test", &["a.test"])];
        let all = names(&["a.test"]);
        for (renew, serial, now, wanted) in [
            (10, "010203", 11, true),
            (10, "010203", 9, false),
            (80, "010203", 70, false),
            (10, "0FF1CE", 11, false), // of the certificate before
            (95, "010203", 61, true),  // after its end: no advice
        ] {
            let mut course = Course::default();
            let renew = seconds(start() + DAY * renew);
            // The serial number is written without zeros in front.
            let serial =
                if serial == "010203" { held[0].pair.facts.serial.clone() } else { serial.to_owned() };
            course.certificates.insert("a.test".into(), Origin { serial, renew, ..Origin::default() });
            let due = due(&all, &held, &course, start() + DAY * now, Zeal::Due);
            assert_eq!(!due.sets.is_empty(), wanted, "{renew} {now}");
        }
    }

    /// An authority that wants every certificate renewed at once gets a new one in some hours, and not in circles.
    #[test]
    fn advice_is_not_followed_in_circles() {
        let held = [held("a.test", &["a.test"])];
        let serial = held[0].pair.facts.serial.clone();
        let mut course = Course::default();
        let since = seconds(start() + DAY);
        course.certificates.insert("a.test".into(), Origin { serial, renew: 1, since, ..Origin::default() });
        for (hours, wanted) in [(0, false), (5, false), (6, true)] {
            let now = start() + DAY + Duration::from_secs(3600 * hours);
            assert_eq!(
                !due(&names(&["a.test"]), &held, &course, now, Zeal::Due).sets.is_empty(),
                wanted,
                "{hours}"
            );
        }
    }

    /// Row 69: a name that fails holds no other back, and a clock that jumps back does not stop it for years.
    #[test]
    fn row_69_a_name_that_fails() {
        let mut course = Course::default();
        course.begin(&names(&["bad.test"]), start());
        course.fail("bad.test", "", Cost::Judged, start(), 0.5);
        let all = names(&["a.test", "bad.test"]);
        let now = due(&all, &[], &course, start(), Zeal::Due);
        assert_eq!(sets(&now), [(vec!["a.test"], None)]);
        assert_eq!(now.next, start() + Duration::from_secs(60));
        let forced = due(&all, &[], &course, start(), Zeal::Force);
        assert_eq!(sets(&forced), [(vec!["a.test", "bad.test"], None)]);
        let back = start() - DAY * 3000;
        assert_eq!(sets(&due(&all, &[], &course, back, Zeal::Due)), [(vec!["a.test", "bad.test"], None)]);
    }

    #[test]
    fn no_order_is_too_long() {
        let all: Vec<String> = (0..250).map(|number| format!("n{number}.test")).collect();
        let due = due(&all, &[], &Course::default(), start(), Zeal::Due);
        assert_eq!(due.sets.iter().map(|(names, _)| names.len()).collect::<Vec<_>>(), [100, 100, 50]);
    }

    #[test]
    fn files() {
        for (all, wanted) in [
            (vec!["a.test"], "a.test"),
            (vec!["a.test", "b.test", "c.test"], "a.test+2"),
            (vec!["*.a.test"], "_.a.test"),
        ] {
            assert_eq!(file_of(&names(&all)), wanted);
        }
    }
}
