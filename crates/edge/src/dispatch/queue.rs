//! What waits, and which worker is next.
//!
//! Owns the order of service. Threads: an idle one first, never behind a busy worker while another is idle; ahead of a busy
//! worker only where its requests are short, and then it can be taken back (`wire::board`). Loops: the one with the least
//! to do, up to what it said it takes. What a worker has to do is `link`'s; the lock around all this is `pool`'s.
//! Invariants: nothing waits in a queue while a worker of the current generation takes more of its kind, unless all is on
//! hold; a queue is in the order of arrival, whatever was taken back.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

use bandstand_wire::{Flags, limits};

use super::link::Link;
use super::pool::Limits;
use super::reply::{Location, Reply};
use super::ticket::Request;
use crate::observe::request_id::RequestId;

/// Who works on an exchange, and so over which socket the edge speaks about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// A thread of the worker, over the channel.
    Threads,
    /// The worker's event loop, over its lane.
    Loop,
}

/// What of a worker an exchange takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// A thread.
    Thread,
    /// One of the tasks that a loop works on at once.
    Task,
    /// A place, no more: a WebSocket is mostly silent.
    Socket,
}

impl Work {
    /// All, in the order of their numbers.
    pub(crate) const ALL: [Work; 3] = [Work::Thread, Work::Task, Work::Socket];

    /// Who does it.
    pub(crate) fn lane(self) -> Lane {
        match self {
            Self::Thread => Lane::Threads,
            Self::Task | Self::Socket => Lane::Loop,
        }
    }

    pub(super) fn of(request: &Request) -> Self {
        match request.lane {
            _ if request.flags.has(Flags::WEBSOCKET) => Self::Socket,
            Lane::Threads => Self::Thread,
            Lane::Loop => Self::Task,
        }
    }
}

/// A request ready for any worker.
pub(crate) struct Job {
    /// Request head, fields, inline body.
    pub(crate) payload: Vec<u8>,
    pub(crate) flags: Flags,
    /// The body, when it was spooled to a file.
    pub(crate) descriptor: Option<Arc<File>>,
    pub(crate) reply: Arc<Reply>,
    pub(crate) repeatable: bool,
    pub(crate) name: RequestId,
    pub(crate) work: Work,
    /// Begun by a worker that was lost, and given once more.
    pub(crate) retried: bool,
    /// For the worker that has it, and no other.
    pub(crate) bound: bool,
    pub(crate) submitted: Instant,
    /// Which request it is, by arrival: the order of the queues.
    pub(crate) arrival: u64,
}

impl Job {
    pub(super) fn new(request: Request, now: Instant) -> Self {
        let work = Work::of(&request);
        let Request { payload, flags, descriptor, repeatable, name, lane: _ } = request;
        let reply = Arc::new(Reply::new());
        Self {
            payload,
            flags,
            descriptor,
            reply,
            repeatable,
            name,
            work,
            retried: false,
            bound: false,
            submitted: now,
            arrival: 0,
        }
    }
}

/// What waits, and who may serve it.
pub(super) struct Inner {
    pub(super) limits: Limits,
    /// By what they wait for; each in the order of arrival.
    pub(super) queues: [VecDeque<Job>; Work::ALL.len()],
    pub(super) links: Vec<Link>,
    /// The generation whose workers are given requests.
    pub(super) current: u32,
    /// Nothing is given to anybody; what comes waits.
    pub(super) on_hold: bool,
    /// Nothing new is taken.
    pub(super) stopping: bool,
    pub(super) arrivals: u64,
}

impl Inner {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            queues: Default::default(),
            links: Vec::new(),
            current: 1,
            on_hold: false,
            stopping: false,
            arrivals: 0,
        }
    }

    pub(super) fn link(&mut self, number: u32) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.number == number)
    }

    pub(super) fn queue(&mut self, work: Work) -> &mut VecDeque<Job> {
        &mut self.queues[work as usize]
    }

    pub(super) fn queued(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.queued() == 0 && self.links.iter().all(Link::is_quiet)
    }

    /// The worker for one more request. `None` while others wait for the same: they come first.
    pub(super) fn best(&mut self, work: Work) -> Option<usize> {
        match work {
            _ if self.on_hold || !self.queue(work).is_empty() => None,
            Work::Thread => self.best_threads(),
            Work::Task | Work::Socket => self.best_loop(work),
        }
    }

    /// Idle first, then the one with the least before it; the first among equals, so that few stay warm when few are
    /// needed.
    fn best_threads(&mut self) -> Option<usize> {
        let mut best: Option<(usize, usize)> = None;
        for (at, link) in self.links.iter_mut().enumerate() {
            let load = link.load(Work::Thread);
            let rank = if link.is_idle() {
                if load == 0 {
                    return Some(at);
                }
                load
            } else if link.has_room() {
                limits::PLACES + load
            } else {
                continue;
            };
            if best.is_none_or(|(least, _)| rank < least) {
                best = Some((rank, at));
            }
        }
        best.map(|(_, at)| at)
    }

    /// The one with the least to do: a loop shares one interpreter among all it holds. WebSockets stay, so they are spread
    /// by their own number first.
    fn best_loop(&self, work: Work) -> Option<usize> {
        let takes = self.links.iter().enumerate().filter(|(_, link)| link.loop_takes(work));
        let least = takes.min_by_key(|(_, link)| {
            let (busy, sockets) = (link.load(Work::Thread) + link.load(Work::Task), link.load(Work::Socket));
            if work == Work::Socket { (sockets, busy) } else { (busy, sockets) }
        });
        least.map(|(at, _)| at)
    }

    pub(super) fn give(&mut self, at: usize, job: Job, now: Instant) {
        if let Err(job) = self.links[at].assign(job, now) {
            self.put_back(job);
        }
    }

    /// To where it was in its queue: before all that came later.
    fn put_back(&mut self, job: Job) {
        job.reply.set_location(Location::Queued);
        let queue = self.queue(job.work);
        let at = queue.partition_point(|other| other.arrival < job.arrival);
        queue.insert(at, job);
    }

    /// The worker has moved: the queue's next for it, or something that waits ahead of a busier one.
    pub(super) fn refill(&mut self, number: u32, now: Instant) {
        if self.on_hold {
            return;
        }
        let Some(at) = self.links.iter().position(|link| link.number == number) else { return };
        self.fill_loops(now);
        while !self.queue(Work::Thread).is_empty() && (self.links[at].has_room() || self.links[at].is_idle())
        {
            let Some(job) = self.queue(Work::Thread).pop_front() else { break };
            self.give(at, job, now);
        }
        if self.queue(Work::Thread).is_empty()
            && self.links.len() > 1
            && self.links[at].load(Work::Thread) == 0
            && self.links[at].is_idle()
        {
            let surplus = self.links.iter_mut().map(Link::surplus).enumerate();
            if let Some((from, 1..)) = surplus.max_by_key(|&(_, surplus)| surplus)
                && from != at
                && let Some(job) = self.links[from].recall_youngest()
            {
                self.give(at, job, now);
            }
        }
    }

    /// Requests that were taken back, to where they were in the queue, and from there to whoever is idle.
    pub(super) fn requeue(&mut self, jobs: Vec<Job>, now: Instant) {
        for job in jobs {
            self.put_back(job);
        }
        if self.on_hold {
            return;
        }
        self.fill_loops(now);
        for at in 0..self.links.len() {
            while !self.queue(Work::Thread).is_empty() && self.links[at].is_idle() {
                let Some(job) = self.queue(Work::Thread).pop_front() else { break };
                self.give(at, job, now);
            }
        }
    }

    /// What waits for a loop goes to those that take more.
    fn fill_loops(&mut self, now: Instant) {
        for work in [Work::Socket, Work::Task] {
            while !self.queue(work).is_empty()
                && let Some(at) = self.best_loop(work)
                && let Some(job) = self.queue(work).pop_front()
            {
                self.give(at, job, now);
            }
        }
    }
}
