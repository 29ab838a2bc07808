//! What `check` finds about certificates: one sentence for each that there is, for each name without one, and for what would
//! keep an authority from issuing.
//!
//! Owns the weight of each. The questions are `certificates::preflight`'s, and the running server asks them too. Nothing is changed:
//! no folder is made and nobody is asked for a certificate.

use std::path::Path;
use std::time::{Duration, SystemTime};

use bandstand_certificates::acme::{Entry, report};
use bandstand_certificates::local::trusted;
use bandstand_certificates::pem::{Facts, Pair};
use bandstand_certificates::preflight;
use bandstand_certificates::storage::Storage;
use bandstand_config::{CertificateFiles, Finding, Loaded, Weight};
use bandstand_edge::local_authority;

use super::{finding, origin};
use crate::commands::cert::days;

/// Less is left of a certificate that nobody has renewed in time.
const SOON: Duration = Duration::from_hours(7 * 24);

/// All of them. `serves`: the server of this project runs. Names are looked up, which takes seconds where nobody answers.
pub(super) fn look(loaded: &Loaded, serves: bool) -> Vec<Finding> {
    let settings = &loaded.settings;
    let mut found = Vec::new();
    for files in settings.certificate_files() {
        if let CertificateFiles::Pair { cert, key } = files {
            found.push(own(&cert, &key, &origin(loaded, "tls_cert"), SystemTime::now()));
        }
    }
    if settings.local_https && !trusted::is_present(&local_authority::folder(settings)) {
        let what = "browsers do not believe the certificates of this machine yet".to_owned();
        found.push(finding(Weight::Info, what, &origin(loaded, "local_https"), "run `bandstand trust`"));
    }
    let Some(wish) = bandstand_edge::acme_wish(settings) else { return found };
    let storage = Storage::at(&settings.state_dir);
    let entries = report(&storage, &wish.names);
    let missing: Vec<String> = entries
        .iter()
        .filter(|entry| entry.not_after.is_none())
        .flat_map(|entry| entry.names.clone())
        .collect();
    found.extend(entries.iter().map(|entry| obtained(entry, &origin(loaded, "domains"), seconds())));
    let kept = preflight::storage_to_be(&storage).into_iter();
    found.extend(kept.map(|what| finding(Weight::Warning, what, &origin(loaded, "state_dir"), "")));
    let names = preflight::names_blocking(&missing, &wish, serves).unwrap_or_else(|error| vec![error]);
    found
        .extend(names.into_iter().map(|what| finding(Weight::Warning, what, &origin(loaded, "domains"), "")));
    found
}

/// A certificate of the operator's own.
fn own(cert: &Path, key: &Path, place: &str, now: SystemTime) -> Finding {
    let (level, what) = match Pair::read(cert, key) {
        Err(error) => (Weight::Error, error.to_string()),
        Ok(pair) => judge(&pair.facts, now),
    };
    let advice = if level == Weight::Info { "" } else { "put a renewed one there; it is noticed by itself" };
    finding(level, what, place, advice)
}

fn judge(facts: &Facts, now: SystemTime) -> (Weight, String) {
    let names = facts.names.join(", ");
    match facts.not_after.duration_since(now) {
        Err(_) => (Weight::Error, format!("the certificate of {names} is over")),
        Ok(left) => {
            let level = if left < SOON { Weight::Warning } else { Weight::Info };
            (level, format!("the certificate of {names} is valid for {} more", days(left.as_secs())))
        }
    }
}

/// A certificate of an authority's, or names that wait for one.
fn obtained(entry: &Entry, place: &str, now: u64) -> Finding {
    let names = entry.names.join(", ");
    let failure = entry.error.as_ref().map(|error| format!("; the last attempt has failed: {error}"));
    let failure = failure.unwrap_or_default();
    let level = if failure.is_empty() { Weight::Info } else { Weight::Warning };
    let (level, what) = match entry.not_after {
        None => (level, format!("{names}: no certificate yet{failure}")),
        Some(end) if end <= now => (Weight::Warning, format!("{names}: the certificate is over{failure}")),
        Some(end) => {
            let renewal = entry.next.map_or(0, |next| next.saturating_sub(now));
            let (left, renewal) = (days(end - now), days(renewal));
            (
                level,
                format!(
                    "{names}: the certificate is valid for {left} more, its renewal is in {renewal}{failure}"
                ),
            )
        }
    };
    let advice = match level {
        Weight::Info if entry.not_after.is_none() => "serve gets one; `bandstand cert check` rehearses that",
        Weight::Info => "",
        _ => "`bandstand cert check` says more",
    };
    finding(level, what, place, advice)
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::line;

    #[test]
    fn one_sentence_for_each_certificate() {
        const DAY: u64 = 86_400;
        let now = 1_800_000_000;
        let good = Entry {
            names: vec!["a.test".into(), "b.test".into()],
            not_after: Some(now + 60 * DAY),
            next: Some(now + 30 * DAY),
            ..Entry::default()
        };
        let none = Entry { not_after: None, next: None, ..good.clone() };
        let over = Entry { not_after: Some(now - 1), ..good.clone() };
        let bad = Entry { error: Some("no address".into()), ..none.clone() };
        for (entry, wanted) in [
            (
                good,
                "info: a.test, b.test: the certificate is valid for 60 days more, its renewal is in 30 days (here)",
            ),
            (
                none,
                "info: a.test, b.test: no certificate yet (here): serve gets one; `bandstand cert check` rehearses that",
            ),
            (
                over,
                "warning: a.test, b.test: the certificate is over (here): `bandstand cert check` says more",
            ),
            (
                bad,
                "warning: a.test, b.test: no certificate yet; the last attempt has failed: no address (here): \
                 `bandstand cert check` says more",
            ),
        ] {
            assert_eq!(line(&obtained(&entry, "here", now)), wanted);
        }
    }

    #[test]
    fn files_of_ones_own() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let facts = |left: Duration| Facts {
            names: vec!["a.test".into()],
            subject: String::new(),
            issuer: String::new(),
            serial: String::new(),
            not_before: now - SOON,
            not_after: now + left,
        };
        assert_eq!(judge(&facts(SOON * 4), now).0, Weight::Info);
        assert_eq!(
            judge(&facts(SOON / 2), now),
            (Weight::Warning, "the certificate of a.test is valid for 3 days more".into())
        );
        assert_eq!(judge(&facts(Duration::ZERO), now + SOON).0, Weight::Error);
        let missing = own(Path::new("/nowhere/a.pem"), Path::new("/nowhere/a.key"), "--tls-cert", now);
        assert_eq!(missing.level, Weight::Error);
    }
}
