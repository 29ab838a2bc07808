//! What is taken back from a worker that does not begin it.
//!
//! Owns which requests may be taken back, when it is time to look, and for how long a worker that was held up is given
//! nothing. Who looks is `clock`, where they go is `queue`'s; that a request is either taken back or begun, and never
//! both, is the board's. A request that is bound to its worker stays.

use std::time::{Duration, Instant};

use super::{AHEAD, Link};
use crate::dispatch::queue::{Job, Work};

/// A request for which a thread is idle is begun as soon as that thread has the processor and the interpreter. One that
/// still is not begun after this time has met a worker that is held up as a whole.
const WAKE_MOST: Duration = Duration::from_millis(50);
/// A worker that was held up and has an idle thread is tried again after this time: it may have nothing to say.
const SECOND_LOOK: Duration = Duration::from_millis(100);

impl Link {
    /// Requests sent ahead of the threads.
    pub(crate) fn surplus(&mut self) -> usize {
        if self.load(Work::Thread) == 0 { 0 } else { self.busy().saturating_sub(self.threads) }
    }

    /// A worker that was held up, and whose threads now look idle, may be tried again.
    pub(crate) fn look_again(&mut self, now: Instant) {
        if self.stalled.is_some_and(|since| now >= since + SECOND_LOOK) && self.busy() < self.threads {
            self.stalled = None;
        }
    }

    /// Takes back the youngest request that no thread has begun.
    pub(crate) fn recall_youngest(&mut self) -> Option<Job> {
        for at in (0..self.order.len()).rev() {
            let place = self.order[at];
            if self.may_go(place)
                && let Some(job) = self.recall(place)
            {
                return Some(job);
            }
        }
        None
    }

    /// Takes back all requests that were offered to the threads before `before` and that none has begun; oldest first.
    pub(crate) fn recall_since(&mut self, before: Instant) -> Vec<Job> {
        let is_old = |&place: &u16| self.places.at(place).is_some_and(|held| held.touched <= before);
        let places: Vec<u16> = self.order.iter().copied().filter(is_old).collect();
        self.recall_those(places)
    }

    /// Takes back all that is not begun, of threads and loop; oldest first.
    pub(crate) fn recall_all(&mut self) -> Vec<Job> {
        let places = self.places.by_age();
        self.recall_those(places)
    }

    fn recall_those(&mut self, places: Vec<u16>) -> Vec<Job> {
        let mut jobs = Vec::new();
        for place in places {
            if self.may_go(place) {
                jobs.extend(self.recall(place));
            }
        }
        jobs
    }

    /// Whether another worker could have it as well.
    fn may_go(&self, place: u16) -> bool {
        self.places.at(place).is_some_and(|held| !held.job.bound)
    }

    /// Takes a request back, if it was not begun: then it never will be.
    pub(crate) fn recall(&mut self, place: u16) -> Option<Job> {
        let held = self.places.recall(place)?;
        self.unload(place, held.work);
        Some(held.job)
    }

    /// Time after which a request that no thread has begun is looked at again.
    pub(crate) fn patience(&mut self) -> Duration {
        if self.surplus() == 0 {
            return WAKE_MOST;
        }
        // What was sent ahead waits in its worker, as it would have waited in the queue, for about `AHEAD`.
        let least = 2 * AHEAD.as_micros() as u64;
        Duration::from_micros((self.service_us as u64 * 4).clamp(least, 50_000))
    }
}
