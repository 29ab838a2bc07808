//! Workers as they come and go: added, ready, current, retired, lost.
//!
//! Owns what becomes of their requests then: what a worker has not begun goes to others in the order of arrival, what it
//! has begun it finishes, and what it was lost with is given once more where that is safe. When workers are made and
//! ended is the supervisor's, when a generation becomes current is `server`'s.
//! Invariant: a request is given to workers of the current generation only, a probe to the worker it is for.
//! `docs/decisions/0006-generations.md`.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use bandstand_supervisor::Board;
use bandstand_wire::sequence::Answer;

use super::farewell::Farewell;
use super::link::{Link, Standing};
use super::outlet::Writers;
use super::places::Held;
use super::pool::Pool;
use super::queue::{Inner, Job};
use super::reply::{Event, Failure, Location};

impl Pool {
    /// A worker process of this generation was started; it is given nothing before its hello.
    pub(crate) fn add(&self, number: u32, generation: u32, board: Arc<Board>, writers: Writers) {
        self.lock().links.push(Link::new(number, generation, board, writers));
    }

    /// The worker said hello: what its threads and its loop work on at once. It is given requests if its generation is
    /// the current one.
    pub(crate) fn opened(&self, number: u32, threads: usize, tasks: usize) {
        let now = Instant::now();
        let mut inner = self.lock();
        let current = inner.current;
        let Some(link) = inner.link(number) else { return };
        link.threads = threads;
        link.tasks = tasks;
        link.touched = now;
        if link.standing == Standing::Booting {
            link.standing = Standing::Beside;
            link.follow(current);
        }
        inner.refill(number, now);
    }

    /// From now on this generation's workers are given requests, and no others. What the others have not begun comes
    /// back into the queue, in order; what they have begun they finish. The first generation is current from the start.
    pub(crate) fn switch(&self, generation: u32) {
        let mut inner = self.lock();
        inner.current = generation;
        let mut jobs = Vec::new();
        for link in &mut inner.links {
            link.follow(generation);
            if !link.is_accepting() {
                jobs.extend(link.recall_all());
            }
        }
        inner.requeue(jobs, Instant::now());
    }

    /// With `true` nothing is given to anybody but probes: what is not begun comes back into the queue, and what comes
    /// waits there, within the queue's bounds. With `false` things go on.
    pub(crate) fn hold(&self, on_hold: bool) {
        let mut inner = self.lock();
        inner.on_hold = on_hold;
        let jobs = match on_hold {
            true => inner.links.iter_mut().flat_map(Link::recall_all).collect(),
            false => Vec::new(),
        };
        inner.requeue(jobs, Instant::now());
    }

    /// The worker gets nothing new; what it has not begun goes to others. Its WebSockets are told to go: at once, or,
    /// when it may leave gently until the moment at which it will be killed, its WebSockets and event streams one by one
    /// (`farewell`). Said again without a moment, those that are left are told at once.
    pub(crate) fn retire(&self, number: u32, gently: Option<Instant>) {
        let now = Instant::now();
        let mut wakers = Vec::new();
        let mut inner = self.lock();
        let Some(link) = inner.link(number) else { return };
        if link.is_leaving() && (gently.is_some() || link.farewell.is_none()) {
            return;
        }
        link.standing = Standing::Leaving;
        link.farewell = gently.map(|deadline| Farewell::new(now, deadline));
        let jobs = link.recall_all();
        link.send_away(&mut wakers);
        link.outlets.wake();
        inner.requeue(jobs, now);
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

    /// Workers that may be given requests: those of the current generation.
    pub(crate) fn ready_workers(&self) -> usize {
        self.lock().links.iter().filter(|link| link.is_accepting()).count()
    }
}

impl Inner {
    /// An exchange whose worker is lost: given back to be given once more, or failed.
    fn lose(&self, number: u32, begun: bool, held: Held, wakers: &mut Vec<Waker>) -> Option<Job> {
        let Held { mut job, answer, .. } = held;
        // Of open WebSockets there may be thousands: `remove` says how many.
        if begun && answer != Answer::Connected {
            tracing::error!(
                worker = number,
                request_id = job.name.as_str(),
                "the worker was lost while it worked on this request"
            );
        }
        // What nobody has begun has had no chance yet; how long it may go from hand to hand, `queue_timeout` says.
        let may_go_on = !job.bound && (!begun || (job.repeatable && !job.retried));
        if answer == Answer::Waiting && may_go_on && !self.stopping {
            job.retried |= begun;
            return Some(job);
        }
        job.reply.set_location(Location::Nowhere);
        let event = match answer {
            Answer::Waiting | Answer::Connected => Event::Failed(Failure::WorkerDied),
            Answer::Streaming | Answer::Trailed | Answer::Done => Event::End { broken: true, service_us: 0 },
        };
        wakers.extend(job.reply.push(event));
        None
    }
}
