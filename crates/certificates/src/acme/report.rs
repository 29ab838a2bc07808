//! What there is of certificates, for people and programs.
//!
//! Owns the shape that `cert status` and the control socket show. Reads the disk only, so that it can be asked whether a server
//! runs or not.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::course::{Course, seconds};
use super::due;
use super::keeper::held;
use crate::storage::Storage;

/// A certificate, or names that wait for one. Times are seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// Names it is for, of those that are wanted.
    pub names: Vec<String>,
    /// Where it is from: `acme`, `files` or `local`.
    pub source: String,
    /// Who made it; empty: there is none yet.
    pub issuer: String,
    /// Its serial number, in hexadecimal digits.
    pub serial: String,
    /// Its end.
    pub not_after: Option<u64>,
    /// When it is renewed, or tried again after a failure.
    pub next: Option<u64>,
    /// The last failure, since the last success.
    pub error: Option<String>,
    /// When that was.
    pub failed_at: Option<u64>,
    /// In a row.
    pub failures: u32,
}

/// One entry a certificate that serves, and one a name that has none, in the order of the names.
pub fn report(storage: &Storage, names: &[String]) -> Vec<Entry> {
    let course = Course::read(storage);
    let all = held(storage, names);
    let mut entries: Vec<(Option<&str>, Entry)> = Vec::new();
    for name in names {
        let best = due::best(name, &all);
        let file = best.map(|best| best.file.as_str());
        let place = entries.iter().position(|(of, _)| file.is_some() && *of == file);
        let place = place.unwrap_or_else(|| {
            entries.push((file, Entry { source: "acme".to_owned(), ..Entry::default() }));
            entries.len() - 1
        });
        let entry = &mut entries[place].1;
        entry.names.push(name.clone());
        // A name that is being tried has no failure yet.
        let trouble = course.names.get(name).filter(|trouble| trouble.failures > 0);
        let mut next = trouble.map(|_| course.may_try(name, false, SystemTime::now()));
        if let Some(best) = best {
            let facts = &best.pair.facts;
            entry.issuer.clone_from(&facts.issuer);
            entry.serial.clone_from(&facts.serial);
            entry.not_after = Some(seconds(facts.not_after));
            let renewal = due::renewal(facts, course.certificates.get(&best.file));
            next = Some(next.unwrap_or(SystemTime::UNIX_EPOCH).max(renewal));
        }
        if let Some(trouble) = trouble {
            entry.error = Some(trouble.error.clone());
            entry.failed_at = Some(trouble.at);
            entry.failures = trouble.failures;
        }
        entry.next = next.map(seconds).or(entry.next);
    }
    entries.into_iter().map(|(_, entry)| entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::backoff::Cost;
    use crate::storage::tests::Folder;

    #[test]
    fn certificates_and_names_without() {
        let folder = Folder::new();
        let storage = Storage::at(&folder.0);
        let names: Vec<String> = ["a.test", "bad.test", "b.test"].map(str::to_owned).into();
        assert_eq!(report(&storage, &names).len(), 3, "without a folder nothing is there");
        storage.prepare().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(["a.test".to_owned(), "b.test".to_owned()]).unwrap();
        let pem = key.serialize_pem() + &parameters.self_signed(&key).unwrap().pem();
        storage.put_certificate("a.test+1", pem.as_bytes()).unwrap();
        storage.put_certificate("damaged", b"nothing").unwrap();
        let (mut course, now) = (Course::default(), SystemTime::now());
        course.fail("bad.test", "no address", Cost::Judged, now, 0.5);
        course.write(&storage);
        let [good, bad] = &report(&storage, &names)[..] else { panic!() };
        assert_eq!(good.names, ["a.test", "b.test"]);
        assert!(good.not_after.is_some() && good.error.is_none() && good.next.is_some());
        assert_eq!(
            (bad.names.as_slice(), bad.error.as_deref()),
            (["bad.test".to_owned()].as_slice(), Some("no address"))
        );
        assert_eq!(bad.next, Some(seconds(now) + 60));
    }
}
