//! Who knows a password: HTTP Basic (RFC 7617) against hashes of bcrypt or argon2.
//!
//! Owns the verification and what it may cost. A hash is slow on purpose, so few are made at once, off the threads of the edge, and
//! few wait for it; a pair that was right is remembered for a minute, so that a page with twenty pictures costs one hash.
//! Invariants: nothing is remembered but a digest keyed by this process's own chance; a user that does not exist costs as
//! much as one that does; what was remembered ends with the hash that it was verified against.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use argon2::password_hash::{PasswordHash, PasswordVerifier};
use base64::Engine;
use tokio::sync::Semaphore;

/// Verifications at once; one of argon2 takes a core and, by its defaults, 19 MiB.
const AT_ONCE: usize = 2;
/// Those that may wait for their turn.
const WAITING: usize = 64;
/// How long a pair that was right is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Pairs remembered; past it the oldest minute is forgotten, at worst all.
const MOST_REMEMBERED: usize = 1024;

/// What a client sent in `Authorization`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) user: Vec<u8>,
    pub(crate) password: Vec<u8>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    Right,
    Wrong,
    /// Too many are being verified.
    Busy,
}

/// Verifies; one for the whole edge.
pub(crate) struct Verifier {
    turns: Semaphore,
    waiting: AtomicUsize,
    chance: [RandomState; 2],
    /// Until when a digest of user, password and hash is taken as right.
    right: Mutex<HashMap<u128, Instant>>,
}

/// Reads `Basic` credentials; `None` for anything else.
pub(crate) fn read(value: &[u8]) -> Option<Given> {
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let text = base64::engine::general_purpose::STANDARD.decode(rest.trim_ascii()).ok()?;
    let colon = text.iter().position(|&byte| byte == b':')?;
    Some(Given { user: text[..colon].to_vec(), password: text[colon + 1..].to_vec() })
}

impl Verifier {
    pub(crate) fn new() -> Self {
        Self {
            turns: Semaphore::new(AT_ONCE),
            waiting: AtomicUsize::new(0),
            chance: [RandomState::new(), RandomState::new()],
            right: Mutex::new(HashMap::new()),
        }
    }

    /// Whether `given` has the password of `found`, the hash of that user. Without one it is compared with `other`, somebody's hash,
    /// in vain: that is as slow as any, so the answer tells nothing about which names there are. Dropped while it waits, it has only
    /// lost its turn; a verification that has begun is finished and forgotten.
    pub(crate) async fn check(
        &self,
        found: Option<&str>,
        other: Option<&str>,
        given: Given,
        now: Instant,
    ) -> Proof {
        let Some(hash) = found.or(other) else { return Proof::Wrong };
        if self.remembers(found, &given, now) {
            return Proof::Right;
        }
        let digest = self.digest(&given, hash);
        let Some(_place) = Waiting::new(&self.waiting) else { return Proof::Busy };
        let Ok(_turn) = self.turns.acquire().await else { return Proof::Busy };
        let exists = found.is_some();
        let hash = hash.to_owned();
        let verified = tokio::task::spawn_blocking(move || verify(&given.password, &hash)).await;
        if !(verified.unwrap_or(false) && exists) {
            return Proof::Wrong;
        }
        self.remember(digest, now);
        Proof::Right
    }

    /// Whether `given` was found to have the password of `found` a short while ago.
    pub(crate) fn remembers(&self, found: Option<&str>, given: &Given, now: Instant) -> bool {
        let Some(hash) = found else { return false };
        let digest = self.digest(given, hash);
        self.right().get(&digest).is_some_and(|until| now < *until)
    }

    fn remember(&self, digest: u128, now: Instant) {
        let mut right = self.right();
        if right.len() >= MOST_REMEMBERED {
            right.retain(|_, until| now < *until);
        }
        if right.len() >= MOST_REMEMBERED {
            right.clear();
        }
        right.insert(digest, now + REMEMBERED);
    }

    /// 128 bits that only this process can make.
    fn digest(&self, given: &Given, hash: &str) -> u128 {
        let half = |chance: &RandomState| {
            let mut hasher = chance.build_hasher();
            for part in [given.user.as_slice(), &given.password, hash.as_bytes()] {
                hasher.write_usize(part.len());
                hasher.write(part);
            }
            u128::from(hasher.finish())
        };
        half(&self.chance[0]) << 64 | half(&self.chance[1])
    }

    fn right(&self) -> MutexGuard<'_, HashMap<u128, Instant>> {
        self.right.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those who verify or wait to; given back on drop.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Option<Self> {
        let took = count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < WAITING + AT_ONCE).then_some(n + 1));
        took.ok().map(|_| Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Both libraries compare in constant time. A hash of a kind that is not known matches nothing; the settings refuse it.
fn verify(password: &[u8], hash: &str) -> bool {
    if hash.starts_with("$argon2") {
        return PasswordHash::new(hash)
            .is_ok_and(|hash| argon2::Argon2::default().verify_password(password, &hash).is_ok());
    }
    hash.starts_with("$2") && bcrypt::verify(password, hash).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_basic_is() {
        for (value, expected) in [
            ("Basic YTpi", Some(("a", "b"))),
            ("basic   YTpi ", Some(("a", "b"))),
            ("Basic YTpiOmM=", Some(("a", "b:c"))),
            ("Basic Og==", Some(("", ""))),
            ("Basic YQ==", None),
            ("Basic !!!!", None),
            ("Basic", None),
            ("Bearer YTpi", None),
            ("", None),
        ] {
            let found = read(value.as_bytes());
            let expected =
                expected.map(|(user, password)| Given { user: user.into(), password: password.into() });
            assert_eq!(found, expected, "{value}");
        }
    }

    fn users() -> Vec<(String, String)> {
        // Cheap ones: what is tested is the rule, not the price.
        let bcrypt = bcrypt::hash("open sesame", 4).unwrap();
        let argon = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$".to_owned();
        let mut out = [0; 32];
        let params = argon2::Params::new(8, 1, 1, None).unwrap();
        argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
            .hash_password_into(b"xyzzy", b"somesalt", &mut out)
            .unwrap();
        let digest = base64::engine::general_purpose::STANDARD_NO_PAD.encode(out);
        vec![("ali".into(), bcrypt), ("zoe".into(), argon + &digest), ("old".into(), "plain".into())]
    }

    async fn check(verifier: &Verifier, users: &[(String, String)], given: Given, now: Instant) -> Proof {
        let found = users.iter().find(|(name, _)| name.as_bytes() == given.user);
        let hash = |pair: &(String, String)| pair.1.clone();
        verifier.check(found.map(hash).as_deref(), users.first().map(hash).as_deref(), given, now).await
    }

    fn given(user: &str, password: &str) -> Given {
        Given { user: user.into(), password: password.into() }
    }

    #[tokio::test]
    async fn who_is_let_in() {
        let (verifier, users, now) = (Verifier::new(), users(), Instant::now());
        for (user, password, expected) in [
            ("ali", "open sesame", Proof::Right),
            ("ali", "open sesam", Proof::Wrong),
            ("ali", "", Proof::Wrong),
            ("zoe", "xyzzy", Proof::Right),
            ("zoe", "open sesame", Proof::Wrong),
            // The password of him whose hash stands in.
            ("nobody", "open sesame", Proof::Wrong),
            ("nobody", "open sesame", Proof::Wrong),
            ("old", "plain", Proof::Wrong),
            ("", "", Proof::Wrong),
        ] {
            assert_eq!(
                check(&verifier, &users, given(user, password), now).await,
                expected,
                "{user} {password}"
            );
        }
        assert_eq!(check(&verifier, &[], given("ali", "open sesame"), now).await, Proof::Wrong);
    }

    #[tokio::test]
    async fn what_was_right_is_remembered_for_a_minute_and_for_that_hash() {
        let (verifier, mut users, now) = (Verifier::new(), users(), Instant::now());
        assert_eq!(check(&verifier, &users, given("ali", "open sesame"), now).await, Proof::Right);
        // Nobody gets a turn: whatever is let in now is remembered.
        verifier.turns.close();
        let late = now + REMEMBERED;
        assert_eq!(check(&verifier, &users, given("ali", "open sesame"), now).await, Proof::Right);
        assert_eq!(check(&verifier, &users, given("ali", "other"), now).await, Proof::Busy);
        assert_eq!(check(&verifier, &users, given("ali", "open sesame"), late).await, Proof::Busy);
        users[0].1 = bcrypt::hash("open sesame", 4).unwrap();
        assert_eq!(check(&verifier, &users, given("ali", "open sesame"), now).await, Proof::Busy);
    }

    #[tokio::test]
    async fn memory_is_bounded_and_so_is_the_line() {
        let (verifier, now) = (Verifier::new(), Instant::now());
        for n in 0..10 * MOST_REMEMBERED as u128 {
            verifier.remember(n, now);
            assert!(verifier.right().len() <= MOST_REMEMBERED);
        }
        let places: Vec<_> = (0..WAITING + AT_ONCE).map(|_| Waiting::new(&verifier.waiting)).collect();
        assert!(places.iter().all(Option::is_some) && Waiting::new(&verifier.waiting).is_none());
        assert_eq!(check(&verifier, &users(), given("ali", "open sesame"), now).await, Proof::Busy);
        drop(places);
        assert_eq!(check(&verifier, &users(), given("ali", "open sesame"), now).await, Proof::Right);
    }
}
