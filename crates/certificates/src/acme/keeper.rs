//! One turn: looks at what is on the disk, orders what is due, writes what came of it.
//!
//! Owns the course from a set of names to its certificate: authorities in turn, a rehearsal at a test twin after repeated
//! failure, names that fail left out so that the others get theirs. Holds nothing between turns: the disk does, so that
//! another process, a restart or a command finds the same. Invariant: a certificate on the disk is only ever replaced by one
//! that is complete; whatever fails, the old one stays.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use instant_acme::CertificateIdentifier;

use super::account;
use super::authority::Authority;
use super::backoff;
use super::challenge::Stage;
use super::client::Client;
use super::course::{Course, Origin, moment, seconds};
use super::due::{self, Held, Zeal};
use super::failure::{Failure, Refused};
use super::order::{Ask, Issued};
use super::renewal;
use super::wish::Wish;
use crate::pem::Pair;
use crate::storage::Storage;

/// While another process orders.
const ANOTHER: Duration = Duration::from_secs(5);
/// After the disk has failed.
const DISK: Duration = Duration::from_secs(60);
/// When an authority has no advice about renewal, or does not answer, it is asked again.
const ADVICE_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// What came of a turn.
#[derive(Debug)]
pub struct Turn {
    /// When to take the next, if nothing changes.
    pub next: SystemTime,
    /// Names, and why there is no new certificate for them; empty: there is.
    pub outcomes: Vec<(Vec<String>, Option<String>)>,
    /// Another process was at it: nothing was done.
    pub was_busy: bool,
}

/// All certificates of the storage that can be read and are for one of these names.
pub fn held(storage: &Storage, names: &[String]) -> Vec<Held> {
    let read = |(file, pem): (String, Vec<u8>)| match Pair::from_pem(&pem, &pem) {
        Ok(pair) => Some(Held { file, pair }),
        Err(error) => {
            tracing::warn!(file, %error, "a certificate of the storage is damaged");
            None
        }
    };
    let all = storage.certificates().into_iter().filter_map(read);
    all.filter(|held| held.pair.facts.names.iter().any(|name| names.contains(name))).collect()
}

/// What is served of them: for each name the certificate that ends last, also one that is over.
pub fn best(held: &[Held], names: &[String]) -> Vec<Pair> {
    let mut files: Vec<&str> = Vec::new();
    let mut pairs = Vec::new();
    for best in names.iter().filter_map(|name| due::best(name, held)) {
        if !files.contains(&best.file.as_str()) {
            files.push(&best.file);
            pairs.push(best.pair.clone());
        }
    }
    pairs
}

/// Does what is due.
/// Dropped, an order is left as it is; the next turn makes another.
pub async fn turn(wish: &Wish, storage: &Storage, stage: &Arc<dyn Stage>, zeal: Zeal) -> Turn {
    let now = SystemTime::now();
    let idle = |next| Turn { next, outcomes: Vec::new(), was_busy: false };
    let course = Course::read(storage);
    let all = held(storage, &wish.names);
    let due = due::due(&wish.names, &all, &course, now, zeal);
    let ask = next_advice(&wish.names, &all, &course);
    if due.sets.is_empty() && ask.is_none_or(|ask| ask > now) {
        return idle(ask.map_or(due.next, |ask| due.next.min(ask)));
    }
    let _lock = match storage.try_lock() {
        Ok(Some(lock)) => lock,
        Ok(None) => return Turn { was_busy: true, ..idle(now + ANOTHER) },
        Err(error) => {
            tracing::error!(%error, folder = %storage.root().display(), "the lock of the certificates cannot be taken");
            return idle(now + DISK);
        }
    };
    // Whoever had the lock before may have done it all.
    let mut keeper =
        Keeper { wish, storage, stage, course: Course::read(storage), now, outcomes: Vec::new() };
    let all = held(storage, &wish.names);
    keeper.seek_advice(&all).await;
    for (names, file) in due::due(&wish.names, &all, &keeper.course, now, zeal).sets {
        let replaced = file.and_then(|file| all.iter().find(|held| held.file == file));
        keeper.order(names, replaced).await;
    }
    let (course, outcomes) = (keeper.course, keeper.outcomes);
    let all = held(storage, &wish.names);
    let due = due::due(&wish.names, &all, &course, SystemTime::now(), Zeal::Due);
    let next = next_advice(&wish.names, &all, &course).map_or(due.next, |ask| due.next.min(ask));
    // What is due still is what has failed in a way that has no wait.
    let next = if due.sets.is_empty() { next } else { next.min(now + DISK) };
    Turn { next, outcomes, was_busy: false }
}

/// What came of a rehearsal at an authority's test twin: its name, and why it failed; `None`: it would issue.
#[derive(Debug)]
pub struct Rehearsal {
    /// Of the twin.
    pub authority: String,
    /// For people.
    pub error: Option<String>,
}

/// Proves all names at the test twin of each authority that has one, and has no certificate made. Nothing is counted.
pub async fn rehearse(wish: &Wish, storage: &Storage, stage: &Arc<dyn Stage>) -> Vec<Rehearsal> {
    let now = SystemTime::now();
    let course = Course::read(storage);
    let mut keeper = Keeper { wish, storage, stage, course, now, outcomes: Vec::new() };
    let mut rehearsals = Vec::new();
    for twin in wish.authorities.iter().filter_map(Authority::rehearsal) {
        let outcome = keeper.ask_once(&twin, &wish.names, None, true).await;
        let error = outcome.err().map(|failure| match failure {
            Failure::Names(refused) => {
                let each: Vec<String> =
                    refused.iter().map(|one| format!("{}: {}", one.name, one.why)).collect();
                each.join("; ")
            }
            Failure::Authority(why) | Failure::NoAccount(why) | Failure::Ours(why) => why,
        });
        rehearsals.push(Rehearsal { authority: twin.name, error });
    }
    rehearsals
}

/// When the first authority is to be asked for advice.
fn next_advice(names: &[String], held: &[Held], course: &Course) -> Option<SystemTime> {
    let best = names.iter().filter_map(|name| due::best(name, held));
    let known = best.filter_map(|held| {
        course.certificates.get(&held.file).filter(|origin| origin.serial == held.pair.facts.serial)
    });
    known.map(|origin| moment(origin.ask)).min()
}

struct Keeper<'a> {
    wish: &'a Wish,
    storage: &'a Storage,
    stage: &'a Arc<dyn Stage>,
    course: Course,
    now: SystemTime,
    outcomes: Vec<(Vec<String>, Option<String>)>,
}

impl Keeper<'_> {
    /// A certificate for these names; those that fail are left out, and the others are ordered again.
    async fn order(&mut self, names: Vec<String>, replaced: Option<&Held>) {
        let mut sets = vec![names];
        while let Some(names) = sets.pop() {
            if let Some(rest) = self.try_authorities(names, replaced).await {
                sets.extend(rest);
            }
            self.course.write(self.storage);
        }
    }

    /// Asks one authority after the other. Gives the sets that are to be ordered instead of this one.
    async fn try_authorities(
        &mut self,
        names: Vec<String>,
        replaced: Option<&Held>,
    ) -> Option<Vec<Vec<String>>> {
        let mut reasons = Vec::new();
        for authority in &self.wish.authorities {
            if let Some(busy) = self.busy(authority) {
                reasons.push(busy);
                continue;
            }
            tracing::info!(authority = authority.name, names = names.join(", "), "ordering a certificate");
            match self.ask(authority, &names, replaced).await {
                Ok(issued) => {
                    self.keep(authority, &names, &issued).await;
                    return None;
                }
                Err(Failure::Names(refused)) if refused.iter().any(|one| !one.elsewhere) => {
                    return self.leave_out(&names, &refused);
                }
                Err(Failure::Names(refused)) if refused.is_empty() && names.len() > 1 => {
                    // One of them, and nobody says which.
                    return Some(names.into_iter().map(|name| vec![name]).collect());
                }
                Err(Failure::Names(refused)) if refused.is_empty() => {
                    reasons.push(format!("{} refused it", authority.name));
                }
                Err(Failure::Names(refused))
                    if authority != &self.wish.authorities[self.wish.authorities.len() - 1] =>
                {
                    reasons.extend(refused.into_iter().map(|one| format!("{}: {}", one.name, one.why)));
                }
                Err(Failure::Names(refused)) => return self.leave_out(&names, &refused),
                Err(Failure::Authority(why) | Failure::NoAccount(why)) => reasons.push(why),
                Err(Failure::Ours(why)) => {
                    reasons.push(why);
                    break;
                }
            }
        }
        self.fail(&names, &reasons.join("; "), false);
        None
    }

    /// Rehearses where that is due, then orders. An account that is not known there any more is opened anew, once.
    async fn ask(
        &mut self,
        authority: &Authority,
        names: &[String],
        replaced: Option<&Held>,
    ) -> Result<Issued, Failure> {
        let failures = self.course.failures(names);
        if let Some(twin) = authority.rehearsal().filter(|_| backoff::rehearses(failures)) {
            match self.ask_once(&twin, names, None, true).await {
                Ok(_) => tracing::info!(authority = twin.name, "the rehearsal has succeeded"),
                Err(Failure::Names(refused)) if !refused.is_empty() => return Err(Failure::Names(refused)),
                // The twin is no better than what it stands for, and not needed.
                Err(other) => tracing::info!(authority = twin.name, ?other, "no rehearsal"),
            }
        }
        let outcome = match self.ask_once(authority, names, replaced, false).await {
            Err(Failure::NoAccount(_)) => {
                account::forget(self.storage, authority);
                self.ask_once(authority, names, replaced, false).await
            }
            other => other,
        };
        outcome.and_then(|issued| issued.ok_or_else(|| Failure::ours("an order ended without a certificate")))
    }

    async fn ask_once(
        &mut self,
        authority: &Authority,
        names: &[String],
        replaced: Option<&Held>,
        rehearsal: bool,
    ) -> Result<Option<Issued>, Failure> {
        let client = Client::new(self.wish.ca.as_deref()).map_err(Failure::Ours)?;
        let failures = self.course.failures(names);
        let outcome = async {
            let account = account::open(self.storage, self.wish, authority, &client).await?;
            let ask = Ask {
                wish: self.wish,
                stage: self.stage,
                authority,
                account: &account,
                names,
                failures,
                replaces: replaced.and_then(|held| self.replaces(authority, held)),
            };
            match rehearsal {
                true => ask.rehearse().await.map(|()| None),
                false => ask.obtain().await.map(Some),
            }
        };
        let outcome = outcome.await;
        if let (Err(_), Some(until)) = (&outcome, client.busy_until()) {
            self.course.busy.insert(authority.directory.clone(), seconds(until));
        }
        outcome
    }

    /// Only the authority that has issued it can replace it (RFC 9773 §5), and only where it gives advice.
    fn replaces(&self, authority: &Authority, held: &Held) -> Option<CertificateIdentifier<'static>> {
        let origin = self.course.certificates.get(&held.file)?;
        let is_its_own = origin.directory == authority.directory && origin.serial == held.pair.facts.serial;
        if !is_its_own || origin.renew == 0 {
            return None;
        }
        CertificateIdentifier::try_from(held.pair.chain.first()?).ok().map(CertificateIdentifier::into_owned)
    }

    fn busy(&mut self, authority: &Authority) -> Option<String> {
        let until = moment(*self.course.busy.get(&authority.directory)?);
        if until <= self.now || until > self.now + Duration::from_secs(8 * 24 * 3600) {
            self.course.busy.remove(&authority.directory);
            return None;
        }
        let minutes = until.duration_since(self.now).unwrap_or_default().as_secs().div_ceil(60);
        Some(format!("{}: it asked not to be asked for {minutes} min more", authority.name))
    }

    /// Those that were refused are not tried for a while; the rest is ordered at once.
    fn leave_out(&mut self, names: &[String], refused: &[Refused]) -> Option<Vec<Vec<String>>> {
        for one in refused {
            self.fail(std::slice::from_ref(&one.name), &one.why, true);
        }
        let is_refused = |name: &String| refused.iter().any(|one| one.name == *name);
        let rest: Vec<String> = names.iter().filter(|name| !is_refused(name)).cloned().collect();
        // Nobody was left out: the same order again would fail the same.
        if rest.len() == names.len() {
            self.fail(names, "the authority refused a name that was not asked for", true);
            return None;
        }
        (!rest.is_empty()).then(|| vec![rest])
    }

    fn fail(&mut self, names: &[String], why: &str, asked: bool) {
        let dice = dice();
        for name in names {
            self.course.fail(name, why, asked, SystemTime::now(), dice);
            let next = self.course.may_try(name, false).duration_since(SystemTime::now()).unwrap_or_default();
            tracing::warn!(name, again_in_minutes = next.as_secs().div_ceil(60), "no certificate: {why}");
        }
        self.outcomes.push((names.to_vec(), Some(why.to_owned())));
    }

    async fn keep(&mut self, authority: &Authority, names: &[String], issued: &Issued) {
        let file = due::file_of(names);
        if let Err(error) = self.storage.put_certificate(&file, &issued.pem) {
            let folder = self.storage.root().display();
            self.fail(names, &format!("the new certificate cannot be kept in {folder}: {error}"), true);
            return;
        }
        self.course.succeed(names);
        self.course.busy.remove(&authority.directory);
        let serial = issued.pair.facts.serial.clone();
        let origin = Origin { serial, directory: authority.directory.clone(), renew: 0, ask: 0 };
        self.course.certificates.insert(file.clone(), origin);
        self.outcomes.push((names.to_vec(), None));
        let days = issued.pair.facts.not_after.duration_since(self.now).unwrap_or_default().as_secs() / 86400;
        tracing::info!(
            authority = authority.name,
            names = names.join(", "),
            days,
            "a new certificate is there"
        );
        self.course.write(self.storage);
        self.seek_advice(&[Held { file, pair: issued.pair.clone() }]).await;
    }

    /// When to renew, from those who have issued (RFC 9773).
    async fn seek_advice(&mut self, held: &[Held]) {
        let files: Vec<String> = held.iter().map(|held| held.file.clone()).collect();
        for (file, held) in files.into_iter().zip(held) {
            let Some(origin) = self.course.certificates.get(&file).cloned() else { continue };
            let facts = &held.pair.facts;
            if origin.serial != facts.serial || moment(origin.ask) > self.now {
                continue;
            }
            let (window, again) = self.advice(&origin, &held.pair).await;
            if let Some(origin) = self.course.certificates.get_mut(&file) {
                origin.ask = seconds(SystemTime::now() + again);
                if let Some((start, end)) = window {
                    origin.renew = seconds(renewal::by_window(start, end, &facts.serial)).max(1);
                }
            }
            self.course.write(self.storage);
        }
    }

    /// The window, and when to ask again.
    async fn advice(&self, origin: &Origin, pair: &Pair) -> (Option<(SystemTime, SystemTime)>, Duration) {
        let authority = Authority::of(&origin.directory);
        let asked = async {
            let client = Client::new(self.wish.ca.as_deref()).map_err(Failure::Ours)?;
            let account = account::open(self.storage, self.wish, &authority, &client).await?;
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
                (None, ADVICE_AGAIN)
            }
        }
    }
}

/// From 0 to 1.
fn dice() -> f64 {
    getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}
