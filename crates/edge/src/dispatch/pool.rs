//! The pool of workers, as the rest of the edge sees it: requests go in, frames arrive.
//!
//! Owns the lock and what a request and a frame do under it; the order of service is `queue`'s, workers that come and go
//! `roster`'s, what a worker's frames mean `frames`', what takes too long `clock`'s, what a waiting connection says
//! `ticket`'s. The queue is bounded in length and in waiting time.
//! One lock guards it all: with it held nothing waits, and a request takes it twice for well under a microsecond
//! each time. `docs/decisions/0003-dispatch.md`, `0005-asgi.md` and `0006-generations.md` have the reasons.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use bandstand_wire::{Frame, WireError};
use tokio::sync::Notify;

use super::frames::on_frame;
use super::link::{Link, Standing};
use super::outlet::{Line, Outbox};
use super::queue::{Inner, Job};
use super::reply::{Event, Failure, Location};
use super::ticket::{Request, Ticket};

/// Bounds of a pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Requests that may wait.
    pub(crate) queue: usize,
    /// Longest wait for a place.
    pub(crate) queue_timeout: Duration,
    /// Longest silence of the app: until the head and, where a thread is held, between two pieces of the body. `None`:
    /// for ever.
    pub(crate) timeout: Option<Duration>,
}

/// The queue and its workers.
pub(crate) struct Pool {
    inner: Mutex<Inner>,
    /// Something is held or queued: the clock task has to look.
    pub(super) clock: Notify,
}

impl Pool {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::new(Inner::new(limits)), clock: Notify::new() })
    }

    /// Bounds for what comes, and for what is there.
    pub(crate) fn set_limits(&self, limits: Limits) {
        self.lock().limits = limits;
    }

    /// Gives a request away. Its events come to `Ticket::reply`; dropping the ticket gives the request up.
    pub(crate) fn submit(self: &Arc<Self>, request: Request) -> Ticket {
        let now = Instant::now();
        let mut job = Job::new(request, now);
        let reply = job.reply.clone();
        let mut inner = self.lock();
        let was_quiet = inner.is_quiet();
        inner.arrivals += 1;
        job.arrival = inner.arrivals;
        if inner.stopping {
            drop(inner);
            drop(reply.push(Event::Failed(Failure::Stopping)));
        } else if let Some(at) = inner.best(job.work) {
            inner.give(at, job, now);
            drop(inner);
        } else if inner.queued() >= inner.limits.queue {
            drop(inner);
            drop(reply.push(Event::Failed(Failure::QueueFull)));
        } else {
            reply.set_location(Location::Queued);
            inner.queue(job.work).push_back(job);
            drop(inner);
        }
        if was_quiet {
            self.clock.notify_one();
        }
        Ticket::new(self.clone(), reply)
    }

    /// Gives a request to this very worker, though its generation may not be the current one, and though all else is on
    /// hold; no other worker is ever given it. `None` when the worker is not ready, or is leaving.
    pub(crate) fn probe(self: &Arc<Self>, number: u32, request: Request) -> Option<Ticket> {
        let now = Instant::now();
        let mut job = Job::new(request, now);
        job.bound = true;
        let reply = job.reply.clone();
        let mut inner = self.lock();
        let link = inner.link(number)?;
        if !matches!(link.standing, Standing::Beside | Standing::Current) {
            return None;
        }
        link.assign(job, now).ok()?;
        drop(inner);
        self.clock.notify_one();
        Some(Ticket::new(self.clone(), reply))
    }

    /// Takes in frames about exchanges, until `next` has none.
    ///
    /// # Errors
    /// A frame that names no held request, or comes out of order: the worker is at fault, its channel is over.
    pub(crate) fn on_frames(
        &self,
        number: u32,
        mut next: impl FnMut(&mut dyn FnMut(Frame<'_>) -> Result<(), WireError>) -> Result<bool, WireError>,
        descriptors: &mut VecDeque<OwnedFd>,
        wakers: &mut Vec<Waker>,
    ) -> Result<(), WireError> {
        let now = Instant::now();
        let mut inner = self.lock();
        let Some(link) = inner.link(number) else { return Ok(()) };
        let mut result = Ok(true);
        while matches!(result, Ok(true)) {
            result = next(&mut |frame| on_frame(link, frame, descriptors, wakers, now));
        }
        link.stalled = None;
        link.touched = now;
        if link.may_leave() {
            link.outlets.wake();
        }
        // A worker that breaks the protocol is about to go: what it were given now would have had its second chance.
        result?;
        inner.refill(number, now);
        Ok(())
    }

    /// Takes what is to be written to a worker; swaps buffers, so that neither side allocates. True when nothing will
    /// follow: the worker is to leave and holds nothing.
    pub(crate) fn take_outbox(&self, number: u32, line: Line, outbox: &mut Outbox) -> bool {
        let mut inner = self.lock();
        let Some(link) = inner.link(number) else { return true };
        link.outlets.take(line, outbox);
        link.may_leave()
    }

    /// How long all workers together can do without us: the least lead of any. Zero when one may become idle sooner.
    pub(crate) fn lead(&self) -> Duration {
        let inner = self.lock();
        let accepting = inner.links.iter().filter(|link| link.is_accepting());
        accepting.map(Link::lead).min().unwrap_or_default()
    }

    /// No new requests; queued ones still run, also those that were on hold.
    pub(crate) fn stop(&self) {
        let mut inner = self.lock();
        inner.stopping = true;
        inner.on_hold = false;
        inner.requeue(Vec::new(), Instant::now());
    }

    /// Nothing is queued and nothing is held.
    #[cfg(test)]
    pub(crate) fn is_quiet(&self) -> bool {
        self.lock().is_quiet()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
