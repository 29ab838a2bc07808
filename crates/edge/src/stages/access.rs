//! May this client ask this, and has it not asked too often?
//!
//! Owns the order of the questions that `[paths]` can put to a request: address (`allow`, `deny`), `rate`, `basic_auth`. Files and
//! handshakes of WebSockets are asked as pages are. The rules are those of every path that may be meant
//! (`access::rules`); whoever one of them stops is stopped (`docs/decisions/0007`). Loopback is no exception: behind a proxy that is not
//! declared everybody is loopback. The password was for bandstand, so `Authorization` goes no further: it would stand in the
//! application's reports of errors, and Django REST framework would take it for its own.

use std::time::{Duration, Instant};

use bandstand_config::PathSettings;

use crate::access;
use crate::access::passwords::{self, Proof};
use crate::access::rates::{Quota, Standing};
use crate::exchange::Exchange;
use crate::pipeline::Step;
use crate::refusal::Refusal;
use crate::shared::{Shared, State};

pub(crate) async fn run(shared: &Shared, state: &State, exchange: &mut Exchange) -> Step {
    let all = access::rules(&state.settings, &exchange.path);
    let now = Instant::now();
    if all.clone().any(|rules| !may_come(rules, exchange)) {
        return Step::Refuse(Refusal::AddressDenied);
    }
    for (at, rules) in all.clone().enumerate() {
        // A rule that several inherit counts once.
        let counted =
            |rate: &bandstand_config::Rate| all.clone().take(at).any(|other| other.rate == Some(*rate));
        if let Some(rate) = rules.rate.filter(|rate| !counted(rate)) {
            let quota =
                Quota { rule: u64::from(rate.id), requests: rate.requests, per: rate.per, burst: rate.burst };
            let verdict = shared.rates.take(&quota, exchange.client, now);
            exchange.standing = Some(Box::new(Standing { quota, verdict }));
            if !verdict.allowed {
                return Step::Refuse(Refusal::TooManyRequests);
            }
        }
    }
    let mut asked = false;
    for users in all.filter_map(|rules| rules.basic_auth.as_ref()) {
        asked = true;
        let Some(given) = exchange.fields.first("authorization").and_then(passwords::read) else {
            return Step::Refuse(Refusal::PasswordNeeded);
        };
        let name = str::from_utf8(&given.user).ok();
        let found = name.and_then(|name| users.hash_of(name));
        let other = users.pairs().next().map(|(_, hash)| hash);
        // Who has guessed too often waits, but for those of the same address whose password is known to be right.
        let guesses = shared.rates.look(&GUESSES, exchange.client, now);
        if !guesses.allowed && !shared.passwords.remembers(found, &given, now) {
            exchange.standing = Some(Box::new(Standing { quota: GUESSES, verdict: guesses }));
            return Step::Refuse(Refusal::TooManyRequests);
        }
        match Box::pin(shared.passwords.check(found, other, given, now)).await {
            Proof::Right => {}
            Proof::Wrong => {
                shared.rates.take(&GUESSES, exchange.client, now);
                return Step::Refuse(Refusal::PasswordNeeded);
            }
            Proof::Busy => return Step::Refuse(Refusal::Overloaded),
        }
    }
    if asked {
        exchange.fields.remove("authorization");
    }
    Step::Next
}

/// Wrong passwords of one address, whatever the path: each costs us a hash, and nobody mistypes more often.
const GUESSES: Quota = Quota { rule: u64::MAX - 1, requests: 20, per: Duration::from_secs(60), burst: 20 };

/// `deny` wins over `allow`. A client of whom no address is known came by a Unix socket.
fn may_come(rules: &PathSettings, exchange: &Exchange) -> bool {
    let has = |networks: &bandstand_config::Networks| match exchange.client {
        Some(address) => networks.contains(address),
        None => networks.unix,
    };
    !has(&rules.deny) && rules.allow.as_ref().is_none_or(has)
}
