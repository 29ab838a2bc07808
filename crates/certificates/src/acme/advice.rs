//! When to renew, asked of those who have issued (ACME renewal information, RFC 9773).
//!
//! Owns whom to ask, how often, and which certificate an order takes the place of. When within the window is `renewal.rs`'s, and what
//! an authority cannot shift is `due.rs`'s. Invariant: without an answer renewal is by lifetime, and nobody waits for one.

use std::time::{Duration, SystemTime};

use instant_acme::CertificateIdentifier;

use super::account;
use super::authority::Authority;
use super::client::Client;
use super::course::{Course, Origin, moment, seconds};
use super::due::{self, Held};
use super::failure::Failure;
use super::renewal;
use super::wish::Wish;
use crate::pem::Pair;
use crate::storage::Storage;

/// When an authority has no advice, or does not answer, it is asked again; nothing that it says is longer.
const AGAIN: Duration = Duration::from_secs(24 * 3600);

/// When the first authority is to be asked.
pub(super) fn next(names: &[String], held: &[Held], course: &Course, now: SystemTime) -> Option<SystemTime> {
    let best = names.iter().filter_map(|name| due::best(name, held));
    let known = best.filter_map(|held| {
        course.certificates.get(&held.file).filter(|origin| origin.serial == held.pair.facts.serial)
    });
    known.map(|origin| at(origin, now)).min()
}

/// Asks for the windows that are due, and remembers them.
pub(super) async fn seek(
    course: &mut Course,
    wish: &Wish,
    storage: &Storage,
    held: &[Held],
    now: SystemTime,
) {
    for Held { file, pair } in held {
        let Some(origin) = course.certificates.get(file).cloned() else { continue };
        if origin.serial != pair.facts.serial || at(&origin, now) > now {
            continue;
        }
        let (window, again) = ask(wish, storage, &origin, pair).await;
        if let Some(origin) = course.certificates.get_mut(file) {
            origin.ask = seconds(SystemTime::now() + again);
            if let Some((start, end)) = window {
                origin.renew = seconds(renewal::by_window(start, end, &pair.facts.serial)).max(1);
            }
        }
        course.write(storage);
    }
}

/// Only the authority that has issued it can replace it (RFC 9773 §5), and only where it gives advice.
pub(super) fn replaces(
    course: &Course,
    authority: &Authority,
    held: &Held,
) -> Option<CertificateIdentifier<'static>> {
    let origin = course.certificates.get(&held.file)?;
    let is_its_own = origin.directory == authority.directory && origin.serial == held.pair.facts.serial;
    if !is_its_own || origin.renew == 0 {
        return None;
    }
    CertificateIdentifier::try_from(held.pair.chain.first()?).ok().map(CertificateIdentifier::into_owned)
}

/// A moment that is further away than any that was ever set is from a clock that was wrong.
fn at(origin: &Origin, now: SystemTime) -> SystemTime {
    let at = moment(origin.ask);
    if at > now + AGAIN + Duration::from_secs(3600) { now } else { at }
}

/// The window, and when to ask again.
async fn ask(
    wish: &Wish,
    storage: &Storage,
    origin: &Origin,
    pair: &Pair,
) -> (Option<(SystemTime, SystemTime)>, Duration) {
    let authority = Authority::of(&origin.directory);
    let asked = async {
        let client = Client::new(wish.ca.as_deref()).map_err(Failure::Ours)?;
        let account = account::open(storage, wish, &authority, &client).await?;
        let leaf = pair.chain.first().ok_or_else(|| Failure::ours("an empty chain"))?;
        let identifier = CertificateIdentifier::try_from(leaf).map_err(Failure::Ours)?;
        account.renewal_info(&identifier).await.map_err(|error| Failure::of(&authority, error, &[]))
    };
    match asked.await {
        Ok((info, again)) => {
            let window = info.suggested_window;
            (Some((window.start.into(), window.end.into())), renewal::ask_again(again))
        }
        Err(failure) => {
            tracing::debug!(?failure, "no advice about renewal; it is by lifetime");
            (None, AGAIN)
        }
    }
}
