//! How often an address may come: the generic cell rate algorithm (GCRA, ITU-T I.371) over a table of fixed size.
//!
//! Owns one number for each (rule, address): the theoretical arrival time, until when its requests are paid for. An IPv6
//! client owns a /64, so that counts as one address. Leaves to the caller what a refusal looks like.
//! Invariant: the table never grows. A row is given up only when it is worth nothing (its time has passed) or when all rows of
//! its set owe more; which set an address falls into is keyed by chance, so to push a row out one has to run up higher debts from
//! seven other addresses that nobody can choose: more requests than the row forbids.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Locks that share the table, so that threads of the edge rarely meet.
const SHARDS: usize = 32;
/// Sets of a shard.
const SETS: usize = 256;
/// Rows of a set: what is compared when one has to go.
const WAYS: usize = 8;

/// How much of something is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Quota {
    /// Which rule; two rules never share their counts.
    pub(crate) rule: u64,
    /// So many, at an even pace, …
    pub(crate) requests: u32,
    /// … in this time; more than zero.
    pub(crate) per: Duration,
    /// So many at once, at least 1.
    pub(crate) burst: u32,
}

/// What became of a request under a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) allowed: bool,
    /// How many more may come at once.
    pub(crate) remaining: u32,
    /// Until one may come that may not now; zero while some remain.
    pub(crate) retry: Duration,
    /// Until the whole burst is there again.
    pub(crate) whole: Duration,
}

/// Under which quota a request came, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) quota: Quota,
    pub(crate) verdict: Verdict,
}

/// All rows: 65,536 of them, 1 MiB, made when the first is needed.
pub(crate) struct Rates {
    began: Instant,
    chance: RandomState,
    shards: [Mutex<Vec<Row>>; SHARDS],
}

#[derive(Debug, Clone, Copy, Default)]
struct Row {
    /// Hash of rule and address.
    key: u64,
    /// In nanoseconds since `began`; a row of the past is free.
    paid_until: u64,
}

impl Rates {
    pub(crate) fn new(now: Instant) -> Self {
        Self { began: now, chance: RandomState::new(), shards: [const { Mutex::new(Vec::new()) }; SHARDS] }
    }

    /// Counts one request. `address` is nothing for a client of whom none is known: they all are one.
    pub(crate) fn take(&self, quota: &Quota, address: Option<IpAddr>, now: Instant) -> Verdict {
        self.settle(quota, address, now, true)
    }

    /// What `take` would say, without counting.
    pub(crate) fn look(&self, quota: &Quota, address: Option<IpAddr>, now: Instant) -> Verdict {
        self.settle(quota, address, now, false)
    }

    fn settle(&self, quota: &Quota, address: Option<IpAddr>, now: Instant, counts: bool) -> Verdict {
        let now = nanos(now.saturating_duration_since(self.began));
        let key = self.chance.hash_one((quota, address.map(network)));
        // Different bits choose the shard and the set.
        let shard = (key >> 56) as usize % SHARDS;
        let set = key as usize % SETS * WAYS;
        let mut rows = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
        if rows.is_empty() {
            rows.resize(SETS * WAYS, Row::default());
        }
        let row = row_of(&mut rows[set..set + WAYS], key);
        let paid_until = if row.key == key { row.paid_until } else { 0 };
        let (verdict, paid_until) = judge(quota, paid_until, now);
        if verdict.allowed && counts {
            *row = Row { key, paid_until };
        }
        verdict
    }
}

/// The row of this key, else the one that is worth least.
fn row_of(set: &mut [Row], key: u64) -> &mut Row {
    let at = set
        .iter()
        .position(|row| row.key == key)
        .unwrap_or_else(|| (0..set.len()).min_by_key(|&at| set[at].paid_until).unwrap_or(0));
    &mut set[at]
}

/// GCRA: each request costs an interval; nobody may be ahead of his time by more than the burst. Gives the verdict, and until when
/// is paid if it is a yes.
fn judge(quota: &Quota, paid_until: u64, now: u64) -> (Verdict, u64) {
    let interval = (nanos(quota.per) / u64::from(quota.requests.max(1))).max(1);
    let most = interval.saturating_mul(u64::from(quota.burst.max(1)));
    let paid_until = paid_until.max(now);
    let next = paid_until.saturating_add(interval);
    let allowed = next - now <= most;
    let ahead = if allowed { next - now } else { paid_until - now };
    let remaining = (most.saturating_sub(ahead) / interval) as u32;
    let retry = if remaining > 0 { 0 } else { ahead.saturating_add(interval).saturating_sub(most) };
    let verdict = Verdict {
        allowed,
        remaining,
        retry: Duration::from_nanos(retry),
        whole: Duration::from_nanos(ahead),
    };
    (verdict, next)
}

/// Whom one client can be: an IPv4 address, or the 64 bits of IPv6 that a network is given.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

/// 584 years of them fit.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn quota(requests: u32, per: Duration, burst: u32) -> Quota {
        Quota { rule: 1, requests, per, burst }
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn an_even_pace_with_a_burst() {
        let began = Instant::now();
        let rates = Rates::new(began);
        let quota = quota(2, SECOND, 3);
        // When (ms), allowed, remaining, ms to wait.
        for (at, allowed, remaining, retry) in [
            (0, true, 2, 0),
            (0, true, 1, 0),
            (0, true, 0, 500),
            (0, false, 0, 500),
            (400, false, 0, 100),
            (500, true, 0, 500),
            (500, false, 0, 500),
            (1500, true, 1, 0),
            (9000, true, 2, 0),
        ] {
            let verdict = rates.take(&quota, ip("192.0.2.1"), began + Duration::from_millis(at));
            let retry = Duration::from_millis(retry);
            assert_eq!(
                (verdict.allowed, verdict.remaining, verdict.retry),
                (allowed, remaining, retry),
                "{at}"
            );
        }
    }

    #[test]
    fn a_refused_request_costs_nothing_and_a_look_neither() {
        let began = Instant::now();
        let rates = Rates::new(began);
        let quota = quota(1, SECOND, 1);
        assert!(rates.look(&quota, None, began).allowed);
        assert!(rates.take(&quota, None, began).allowed);
        for _ in 0..100 {
            assert!(!rates.take(&quota, None, began).allowed);
            assert!(!rates.look(&quota, None, began).allowed);
        }
        assert!(rates.take(&quota, None, began + SECOND).allowed);
    }

    #[test]
    fn who_is_the_same() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8::1", "2001:db8::ffff:0:0:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("127.0.0.1", "127.0.0.1", true),
        ] {
            let began = Instant::now();
            let rates = Rates::new(began);
            let quota = quota(1, SECOND, 1);
            assert!(rates.take(&quota, ip(one), began).allowed);
            assert_eq!(!rates.take(&quota, ip(other), began).allowed, same, "{one} {other}");
            let another = Quota { rule: 2, ..quota };
            assert!(rates.take(&another, ip(one), began).allowed);
        }
    }

    #[test]
    fn a_crowd_neither_grows_the_table_nor_frees_who_is_stopped() {
        let began = Instant::now();
        let rates = Rates::new(began);
        let quota = quota(10, Duration::from_secs(60), 10);
        let hot = ip("192.0.2.1");
        while rates.take(&quota, hot, began).allowed {}
        // Each of them comes once: none owes as much as the hot one.
        for n in 0..400_000_u32 {
            rates.take(&quota, Some(IpAddr::V4(n.into())), began);
        }
        assert!(!rates.take(&quota, hot, began).allowed);
        for shard in &rates.shards {
            let rows = shard.lock().unwrap();
            assert_eq!((rows.len(), rows.capacity()), (SETS * WAYS, SETS * WAYS));
        }
    }

    #[test]
    fn extremes_do_not_overflow() {
        let began = Instant::now();
        for quota in [
            quota(u32::MAX, Duration::from_nanos(1), u32::MAX),
            quota(1, Duration::from_secs(u64::MAX), u32::MAX),
            quota(0, Duration::ZERO, 0),
        ] {
            let rates = Rates::new(began);
            rates.take(&quota, None, began);
            assert!(rates.take(&quota, None, began).retry <= Duration::from_nanos(u64::MAX));
            rates.take(&quota, None, began + Duration::from_secs(1 << 30));
        }
    }
}
