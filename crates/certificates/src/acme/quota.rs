//! How much is asked of an authority, whoever asks: orders in some hours, certificates in a week.
//!
//! Owns the record of both and the rule, as functions of the record and the time. Failed validations are `backoff.rs`'s.
//! Invariant: however often the server is started anew, its disk refuses, or somebody says `renew --force`, no limit of Let's Encrypt
//! is reached (https://letsencrypt.org/docs/rate-limits/): 300 orders of an account in 3 hours, 50 new certificates of a registered
//! domain and 5 of the same set of names in 7 days. Authorities whose certificates live for hours have no such limits.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::course::{Seconds, moment, seconds};

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
const HOURS: Duration = Duration::from_secs(3 * 3600);
/// Orders in `HOURS`.
const ORDERS: usize = 200;
/// Certificates of the same names in a `WEEK`: one of the five is left for whoever orders by hand.
const SAME: usize = 4;
/// New certificates of a registered domain in a `WEEK`.
const DOMAIN: usize = 40;
/// Certificates that live shorter are made to be renewed every day.
const SHORT: Duration = Duration::from_secs(3 * 24 * 3600);

/// What one authority was asked for. Moments that are too old for any rule are dropped.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Quota {
    orders: Vec<Seconds>,
    /// By fingerprint of the set of names.
    sets: BTreeMap<String, Vec<Seconds>>,
    /// By registered domain: certificates that renew none of the same names.
    domains: BTreeMap<String, Vec<Seconds>>,
}

impl Quota {
    /// Why nothing may be ordered now. `renews`: a certificate of just these names.
    pub(crate) fn refuses(&self, names: &[String], renews: bool, now: SystemTime) -> Option<String> {
        if within(&self.orders, HOURS, now) >= ORDERS {
            return Some(format!("{ORDERS} orders in three hours are enough"));
        }
        if self.sets.get(&fingerprint(names)).is_some_and(|all| within(all, WEEK, now) >= SAME) {
            return Some(format!("{SAME} certificates of the same names in a week are enough"));
        }
        let full =
            |domain: &String| self.domains.get(domain).is_some_and(|all| within(all, WEEK, now) >= DOMAIN);
        let domain = names.iter().filter(|_| !renews).map(|name| registered(name)).find(full)?;
        Some(format!("{DOMAIN} new certificates of {domain} in a week are enough"))
    }

    /// An order is about to be made.
    pub(crate) fn ordered(&mut self, now: SystemTime) {
        add(&mut self.orders, HOURS, now);
    }

    /// A certificate was made, whatever becomes of it.
    pub(crate) fn issued(&mut self, names: &[String], renews: bool, lifetime: Duration, now: SystemTime) {
        if lifetime < SHORT {
            return;
        }
        add(self.sets.entry(fingerprint(names)).or_default(), WEEK, now);
        self.sets.retain(|_, all| within(all, WEEK, now) > 0);
        if !renews {
            let mut domains: Vec<String> = names.iter().map(|name| registered(name)).collect();
            domains.sort_unstable();
            domains.dedup();
            for domain in domains {
                add(self.domains.entry(domain).or_default(), WEEK, now);
            }
            self.domains.retain(|_, all| within(all, WEEK, now) > 0);
        }
    }
}

/// Moments of the last `span`. Those to come are from a clock that was wrong.
fn within(all: &[Seconds], span: Duration, now: SystemTime) -> usize {
    all.iter().filter(|at| now.duration_since(moment(**at)).is_ok_and(|age| age < span)).count()
}

fn add(all: &mut Vec<Seconds>, span: Duration, now: SystemTime) {
    all.retain(|at| now.duration_since(moment(*at)).is_ok_and(|age| age < span));
    all.push(seconds(now));
}

/// Of the names in any order.
fn fingerprint(names: &[String]) -> String {
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let hash = names.join(",").bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// About what is sold under a public suffix: the last two labels, or three where the last two look like `co.uk`. Taken too
/// wide it stops too early, never too late.
fn registered(name: &str) -> String {
    let labels: Vec<&str> = name.split('.').collect();
    let second_is_short =
        labels.len() > 2 && labels[labels.len() - 1].len() == 2 && labels[labels.len() - 2].len() <= 3;
    let kept = if second_is_short { 3 } else { 2 };
    labels[labels.len().saturating_sub(kept)..].join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn start() -> SystemTime {
        moment(1_800_000_000)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Most certificates that any 7 days saw, with somebody who tries every hour for a month.
    fn most_in_a_week(lifetime: Duration, set_of: impl Fn(u32) -> Vec<String>, renews: bool) -> usize {
        let mut quota = Quota::default();
        let mut made: Vec<SystemTime> = Vec::new();
        for hour in 0..24 * 30 {
            let (now, set) = (start() + Duration::from_secs(3600) * hour, set_of(hour));
            if quota.refuses(&set, renews, now).is_none() {
                quota.ordered(now);
                quota.issued(&set, renews, lifetime, now);
                made.push(now);
            }
        }
        let week = |from: &SystemTime| made.iter().filter(|at| **at >= *from && **at < *from + WEEK).count();
        made.iter().map(week).max().unwrap_or(0)
    }

    /// Row 69: the limits of Let's Encrypt, and who asks how.
    #[test]
    fn row_69_no_week_sees_more_than_an_authority_allows() {
        let same = |_| names(&["shop.test", "www.shop.test"]);
        let turned = |hour: u32| {
            names(if hour.is_multiple_of(2) { &["a.test", "b.test"] } else { &["b.test", "a.test"] })
        };
        let each = |hour| vec![format!("n{hour}.shop.test")];
        let apart = |hour| vec![format!("shop{hour}.test")];
        let (long, short) = (DAY * 90, DAY);
        for (what, found, allowed) in [
            ("the same names", most_in_a_week(long, same, true), 5),
            ("in another order", most_in_a_week(long, turned, true), 5),
            ("names of one domain", most_in_a_week(long, each, false), 50),
        ] {
            assert!((1..allowed).contains(&found), "{what}: {found}");
        }
        let whole_week = 7 * 24;
        assert_eq!(
            most_in_a_week(long, apart, false),
            whole_week,
            "domains that have nothing to do with each other"
        );
        assert_eq!(most_in_a_week(long, each, true), whole_week, "renewals of different names");
        assert_eq!(most_in_a_week(short, same, true), whole_week, "certificates of a day");
    }

    #[test]
    fn row_69_no_three_hours_see_more_orders_than_an_authority_allows() {
        let mut quota = Quota::default();
        let mut made: Vec<SystemTime> = Vec::new();
        for second in 0..40_000 {
            let now = start() + Duration::from_secs(second);
            if quota.refuses(&names(&["a.test"]), false, now).is_none() {
                quota.ordered(now);
                made.push(now);
            }
        }
        let most = made.windows(300).filter(|some| some[299] < some[0] + HOURS).count();
        assert!(made.len() > 500 && most == 0, "{} orders", made.len());
        assert!(quota.orders.len() <= ORDERS, "bounded");
    }

    /// Row 69: a clock that jumps back forgets what it has seen of the future.
    #[test]
    fn row_69_a_clock_that_jumps() {
        let mut quota = Quota::default();
        for _ in 0..SAME {
            quota.issued(&names(&["a.test"]), true, DAY * 90, start() + DAY * 4000);
        }
        assert!(quota.refuses(&names(&["a.test"]), true, start() + DAY * 4001).is_some());
        assert_eq!(quota.refuses(&names(&["a.test"]), true, start()), None);
    }

    #[test]
    fn what_counts_as_one_domain() {
        for (name, wanted) in [
            ("shop.example", "shop.example"),
            ("*.www.shop.example", "shop.example"),
            ("a.b.shop.co.uk", "shop.co.uk"),
            ("localhost", "localhost"),
            ("www.bbc.com", "bbc.com"),
        ] {
            assert_eq!(registered(name), wanted);
        }
    }
}
