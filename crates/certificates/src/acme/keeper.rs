//! One turn: looks at what is on the disk, orders what is due, writes what came of it.
//!
//! Owns the course from a set of names to its certificate: authorities in turn, a rehearsal at a test twin after repeated
//! failure, names that fail left out so that the others get theirs. Holds nothing between turns: the disk does, so that
//! another process, a restart or a command finds the same. Invariant: a certificate on the disk is only ever replaced by one
//! that is complete; whatever fails, the old one stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use super::account;
use super::advice;
use super::authority::Authority;
use super::backoff::{self, Cost};
use super::challenge::Stage;
use super::client::Client;
use super::course::{Course, Origin, moment, seconds};
use super::due::{self, Held, Zeal};
use super::failure::{Failure, Refused};
use super::order::{Ask, Issued};
use super::wish::Wish;
use crate::pem::Pair;
use crate::storage::Storage;

/// While another process orders.
const ANOTHER: Duration = Duration::from_secs(5);
/// After the disk has failed.
const DISK: Duration = Duration::from_secs(60);

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
    let ask = advice::next(&wish.names, &all, &course, now);
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
    let mut keeper = Keeper {
        wish,
        storage,
        stage,
        course: Course::read(storage),
        now,
        tried: false,
        outcomes: Vec::new(),
    };
    let all = held(storage, &wish.names);
    advice::seek(&mut keeper.course, wish, storage, &all, now).await;
    for (names, file) in due::due(&wish.names, &all, &keeper.course, now, zeal).sets {
        let replaced = file.and_then(|file| all.iter().find(|held| held.file == file));
        keeper.order(names, replaced).await;
    }
    let (course, outcomes) = (keeper.course, keeper.outcomes);
    let all = held(storage, &wish.names);
    let due = due::due(&wish.names, &all, &course, SystemTime::now(), Zeal::Due);
    let next = advice::next(&wish.names, &all, &course, now).map_or(due.next, |ask| due.next.min(ask));
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
    let mut keeper = Keeper { wish, storage, stage, course, now, tried: false, outcomes: Vec::new() };
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

struct Keeper<'a> {
    wish: &'a Wish,
    storage: &'a Storage,
    stage: &'a Arc<dyn Stage>,
    course: Course,
    now: SystemTime,
    /// An authority has begun to look for the names of the order that runs.
    tried: bool,
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
        let (mut reasons, mut cost) = (Vec::new(), Cost::Nothing);
        let renews = replaced.is_some_and(|held| is_same(&held.pair.facts.names, &names));
        for authority in &self.wish.authorities {
            if let Some(reason) = self.busy(authority).or_else(|| self.is_enough(authority, &names, renews)) {
                reasons.push(reason);
                continue;
            }
            // Whoever cannot keep what comes of it, nor remember that it was asked for, asks for nothing.
            if let Err(why) = self.begin(authority, &names) {
                reasons.push(why);
                break;
            }
            tracing::info!(authority = authority.name, names = names.join(", "), "ordering a certificate");
            let outcome = self.ask(authority, &names, replaced).await;
            self.end(&names, &outcome);
            cost = cost.max(if self.tried { Cost::Tried } else { Cost::Nothing });
            match outcome {
                Ok(issued) => {
                    self.keep(authority, &names, renews, &issued).await;
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
                    cost = Cost::Judged;
                    reasons.push(format!("{} refused it", authority.name));
                }
                Err(Failure::Names(refused))
                    if authority != &self.wish.authorities[self.wish.authorities.len() - 1] =>
                {
                    cost = Cost::Judged;
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
        self.fail(&names, &reasons.join("; "), cost);
        None
    }

    /// Puts on the disk that these names are about to be validated.
    fn begin(&mut self, authority: &Authority, names: &[String]) -> Result<(), String> {
        (self.tried, self.now) = (false, SystemTime::now());
        self.course.quotas.entry(authority.directory.clone()).or_default().ordered(self.now);
        self.course.begin(names, self.now);
        let kept = self.storage.has_room().map_err(|error| error.to_string());
        let kept = kept.and_then(|()| self.course.write(self.storage).then_some(()).ok_or_else(String::new));
        kept.map_err(|why| {
            self.course.end(names, self.now);
            let folder = self.storage.root().display();
            format!("nothing is ordered while nothing can be kept in {folder}: {why}")
        })
    }

    /// Names count as failed where an authority has refused them, or has begun to look and then said nothing.
    fn end(&mut self, names: &[String], outcome: &Result<Issued, Failure>) {
        let is_spent = |name: &&String| match outcome {
            Ok(_) => false,
            Err(_) if !self.tried => false,
            Err(Failure::Names(refused)) if !refused.is_empty() => {
                refused.iter().any(|one| one.name == **name)
            }
            Err(_) => true,
        };
        let others: Vec<String> = names.iter().filter(|name| !is_spent(name)).cloned().collect();
        self.course.end(&others, self.now);
    }

    fn is_enough(&self, authority: &Authority, names: &[String], renews: bool) -> Option<String> {
        let refused = self.course.quotas.get(&authority.directory)?.refuses(names, renews, self.now)?;
        Some(format!("{}: {refused}", authority.name))
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
        let began = AtomicBool::new(false);
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
                replaces: replaced.and_then(|held| advice::replaces(&self.course, authority, held)),
                began: &began,
            };
            match rehearsal {
                true => ask.rehearse().await.map(|()| None),
                false => ask.obtain().await.map(Some),
            }
        };
        let outcome = outcome.await;
        self.tried |= began.load(Ordering::Relaxed) && !rehearsal;
        if let (Err(_), Some(until)) = (&outcome, client.busy_until()) {
            self.course.busy.insert(authority.directory.clone(), seconds(until));
        }
        outcome
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
            self.fail(std::slice::from_ref(&one.name), &one.why, Cost::Judged);
        }
        let is_refused = |name: &String| refused.iter().any(|one| one.name == *name);
        let rest: Vec<String> = names.iter().filter(|name| !is_refused(name)).cloned().collect();
        // Nobody was left out: the same order again would fail the same.
        if rest.len() == names.len() {
            self.fail(names, "the authority refused a name that was not asked for", Cost::Judged);
            return None;
        }
        (!rest.is_empty()).then(|| vec![rest])
    }

    fn fail(&mut self, names: &[String], why: &str, cost: Cost) {
        let (dice, now) = (dice(), SystemTime::now());
        for name in names {
            self.course.fail(name, why, cost, now, dice);
            let next = self.course.may_try(name, false, now).duration_since(now).unwrap_or_default();
            tracing::warn!(name, again_in_minutes = next.as_secs().div_ceil(60), "no certificate: {why}");
        }
        self.outcomes.push((names.to_vec(), Some(why.to_owned())));
    }

    async fn keep(&mut self, authority: &Authority, names: &[String], renews: bool, issued: &Issued) {
        let (file, facts) = (due::file_of(names), &issued.pair.facts);
        let lifetime = facts.not_after.duration_since(facts.not_before).unwrap_or_default();
        let quota = self.course.quotas.entry(authority.directory.clone()).or_default();
        quota.issued(names, renews, lifetime, self.now);
        if let Err(error) = self.storage.put_certificate(&file, &issued.pem) {
            let folder = self.storage.root().display();
            self.fail(
                names,
                &format!("the new certificate cannot be kept in {folder}: {error}"),
                Cost::Tried,
            );
            return;
        }
        self.course.succeed(names);
        self.course.busy.remove(&authority.directory);
        let serial = issued.pair.facts.serial.clone();
        let (directory, since) = (authority.directory.clone(), seconds(self.now));
        let origin = Origin { serial, directory, since, ..Origin::default() };
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
        let held = Held { file, pair: issued.pair.clone() };
        advice::seek(&mut self.course, self.wish, self.storage, &[held], self.now).await;
    }
}

/// In any order.
fn is_same(one: &[String], other: &[String]) -> bool {
    one.len() == other.len() && one.iter().all(|name| other.contains(name))
}

/// From 0 to 1.
fn dice() -> f64 {
    getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}
