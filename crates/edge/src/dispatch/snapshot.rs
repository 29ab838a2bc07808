//! What the pool is like at one moment, for `status` and for those who decide how many workers there are to be.
//!
//! Owns the picture. It is taken under the pool's lock and only when somebody asks; names of requests are decoded then.
//! Of what a worker holds the oldest `RUNNING_MOST` requests are listed; WebSockets are only counted.

use std::time::{Duration, Instant};

use super::link::Link;
use super::pool::Pool;
use super::queue::Work;
use super::title::Title;
use crate::observe::request_id::RequestId;

/// Requests of one worker that are listed.
const RUNNING_MOST: usize = 256;

/// The pool at one moment.
#[derive(Debug, Clone)]
pub(crate) struct PoolSnapshot {
    /// Requests that wait.
    pub(crate) queued: usize,
    /// How long the oldest of them waits; zero when none does.
    pub(crate) oldest: Duration,
    pub(crate) links: Vec<LinkSnapshot>,
}

/// One worker at that moment.
#[derive(Debug, Clone)]
pub(crate) struct LinkSnapshot {
    pub(crate) number: u32,
    /// It may be given requests.
    pub(crate) accepting: bool,
    /// Requests that its threads, and its loop, work on at once.
    pub(crate) threads: usize,
    pub(crate) tasks: usize,
    /// Exchanges on threads, tasks, WebSockets (`Work::ALL`).
    pub(crate) load: [usize; 3],
    /// Answers completed.
    pub(crate) served: u64,
    /// Since when it has had nothing to do. `None`: it has something, or has not said hello.
    pub(crate) idle_since: Option<Instant>,
    /// What its threads and its loop work on, the oldest first.
    pub(crate) held: Vec<Running>,
}

/// A request that a worker has.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    /// Of the exchange, as the worker's stacks tell it.
    pub(crate) id: u64,
    pub(crate) name: RequestId,
    pub(crate) method: String,
    /// Path without the query.
    pub(crate) target: String,
    /// How long the worker has had it.
    pub(crate) since: Duration,
    /// `Thread` or `Task`.
    pub(crate) work: Work,
}

impl Pool {
    /// The pool as it is now.
    pub(crate) fn snapshot(&self) -> PoolSnapshot {
        let now = Instant::now();
        let inner = self.lock();
        let oldest = inner.queues.iter().filter_map(|queue| queue.front()).map(|job| job.submitted).min();
        PoolSnapshot {
            queued: inner.queued(),
            oldest: oldest.map(|since| now.saturating_duration_since(since)).unwrap_or_default(),
            links: inner.links.iter().map(|link| look_at(link, now)).collect(),
        }
    }
}

fn look_at(link: &Link, now: Instant) -> LinkSnapshot {
    let idle = link.is_quiet() && (link.threads > 0 || link.tasks > 0);
    LinkSnapshot {
        number: link.number,
        accepting: link.is_accepting(),
        threads: link.threads,
        tasks: link.tasks,
        load: Work::ALL.map(|work| link.load(work)),
        served: link.served,
        idle_since: idle.then_some(link.touched),
        held: running(link, now),
    }
}

fn running(link: &Link, now: Instant) -> Vec<Running> {
    let mut requests: Vec<_> =
        link.places.iter().map(|(_, held)| held).filter(|held| held.work != Work::Socket).collect();
    requests.sort_unstable_by_key(|held| held.id);
    let oldest = requests.into_iter().take(RUNNING_MOST);
    oldest
        .map(|held| {
            let Title { method, target } = Title::of(held);
            let assigned = held.job.reply.trace().assigned.unwrap_or(now);
            Running {
                id: held.id,
                name: held.job.name.clone(),
                method,
                target,
                since: now.saturating_duration_since(assigned),
                work: held.work,
            }
        })
        .collect()
}
