//! The pool of workers, as the rest of the edge sees it: requests go in, workers come and go, frames arrive.
//!
//! Owns the lock and what each of these does under it; the order of service is `queue`'s, what a worker's frames mean
//! `frames`', what takes too long `clock`'s, what a waiting connection says `ticket`'s. The queue is bounded in length and
//! in waiting time. A request whose worker died is given once more, where that is safe.
//! One lock guards it all: with it held nothing waits, and a request takes it twice for well under a microsecond
//! each time. `docs/decisions/0003-dispatch.md` and `0005-asgi.md` have the reasons.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use bandstand_supervisor::Board;
use bandstand_wire::sequence::Answer;
use bandstand_wire::{Frame, WireError};
use tokio::sync::Notify;

use super::frames::on_frame;
use super::link::{Link, Outbox, Writers};
use super::queue::{Inner, Job, Lane, Work};
use super::reply::{Event, Failure, Location, Reply};
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
    pub(super) limits: Limits,
    /// Something is held or queued: the clock task has to look.
    pub(super) clock: Notify,
}

impl Pool {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), limits, clock: Notify::new() })
    }

    /// Gives a request away. Its events come to `Ticket::reply`; dropping the ticket gives the request up.
    pub(crate) fn submit(self: &Arc<Self>, request: Request) -> Ticket {
        let work = Work::of(&request);
        let Request { payload, flags, descriptor, repeatable, name, lane: _ } = request;
        let reply = Arc::new(Reply::new());
        let now = Instant::now();
        let job = Job {
            payload,
            flags,
            descriptor,
            reply: reply.clone(),
            repeatable,
            name,
            work,
            retried: false,
            submitted: now,
        };
        let mut inner = self.lock();
        let was_quiet = inner.is_quiet();
        if inner.stopping {
            drop(inner);
            drop(job.reply.push(Event::Failed(Failure::Stopping)));
        } else if let Some(at) = inner.best(work) {
            inner.give(at, job, now);
            drop(inner);
        } else if inner.queued() >= self.limits.queue {
            drop(inner);
            drop(job.reply.push(Event::Failed(Failure::QueueFull)));
        } else {
            job.reply.set_location(Location::Queued);
            inner.queue(work).push_back(job);
            drop(inner);
        }
        if was_quiet {
            self.clock.notify_one();
        }
        Ticket::new(self.clone(), reply)
    }

    /// A worker process was started; it is given nothing before its hello.
    pub(crate) fn add(&self, number: u32, board: Arc<Board>, writers: Writers) {
        self.lock().links.push(Link::new(number, board, writers));
    }

    /// The worker said hello: what its threads and its loop work on at once.
    pub(crate) fn opened(&self, number: u32, threads: usize, tasks: usize) {
        let mut inner = self.lock();
        if let Some(link) = inner.link(number) {
            link.threads = threads;
            link.tasks = tasks;
            link.accepting = !link.leaving;
            inner.refill(number, Instant::now());
        }
    }

    /// The worker gets nothing new; what it has not begun goes to others, and its WebSockets are told to go.
    pub(crate) fn retire(&self, number: u32) {
        let mut wakers = Vec::new();
        let mut inner = self.lock();
        if let Some(link) = inner.link(number).filter(|link| !link.leaving) {
            link.accepting = false;
            link.leaving = true;
            let jobs = link.recall_all();
            let open = link.places.iter().filter(|(_, held)| held.answer == Answer::Connected);
            for (_, held) in open.filter(|(_, held)| !held.abandoned) {
                wakers.extend(held.job.reply.push(Event::Restart));
            }
            link.wake_writers();
            inner.requeue(jobs, Instant::now());
        }
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The worker's stream has ended. What it held is given to others where that is safe, or failed.
    pub(crate) fn remove(&self, number: u32) {
        let mut wakers = Vec::new();
        let mut inner = self.lock();
        let Some(at) = inner.links.iter().position(|link| link.number == number) else { return };
        let link = inner.links.remove(at);
        let mut again = Vec::new();
        let mut open = 0;
        for (begun, held) in link.into_held() {
            open += usize::from(held.answer == Answer::Connected);
            if !held.abandoned {
                again.extend(inner.lose(number, begun, held, &mut wakers));
            }
        }
        inner.requeue(again, Instant::now());
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
        if open > 0 {
            tracing::error!(
                worker = number,
                websockets = open,
                "the worker was lost with its open WebSockets"
            );
        }
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
        if link.may_leave() {
            link.wake_writers();
        }
        // A worker that breaks the protocol is about to go: what it were given now would have had its second chance.
        result?;
        inner.refill(number, now);
        Ok(())
    }

    /// Takes what is to be written to a worker; swaps buffers, so that neither side allocates. True when nothing will
    /// follow: the worker is to leave and holds nothing.
    pub(crate) fn take_outbox(&self, number: u32, lane: Lane, outbox: &mut Outbox) -> bool {
        let mut inner = self.lock();
        let Some(link) = inner.link(number) else { return true };
        link.take_outbox(lane, outbox);
        link.may_leave()
    }

    /// Workers that may be given requests.
    pub(crate) fn ready_workers(&self) -> usize {
        self.lock().links.iter().filter(|link| link.accepting).count()
    }

    /// How long all workers together can do without us: the least lead of any. Zero when one may become idle sooner.
    pub(crate) fn lead(&self) -> Duration {
        let inner = self.lock();
        let accepting = inner.links.iter().filter(|link| link.accepting);
        accepting.map(Link::lead).min().unwrap_or_default()
    }

    /// No new requests; queued ones still run.
    pub(crate) fn stop(&self) {
        self.lock().stopping = true;
    }

    /// Nothing is queued and nothing is held.
    pub(crate) fn is_quiet(&self) -> bool {
        self.lock().is_quiet()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
