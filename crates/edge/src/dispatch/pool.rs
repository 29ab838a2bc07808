//! One queue and the workers that serve it.
//!
//! Owns the order of service: an idle thread first, never behind a busy worker while another is idle; ahead of a busy
//! worker only where its requests are short, and then it can be taken back (`wire::board`). The queue is bounded in
//! length and in waiting time. A request whose worker died is given once more, where that is safe.
//! One lock guards it all: with it held nothing waits, and a request takes it twice for well under a microsecond
//! each time. `docs/decisions/0003-dispatch.md` has the numbers.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use bandstand_supervisor::Board;
use bandstand_wire::sequence::Answer;
use bandstand_wire::{Flags, Frame, Kind, ResponseHead, WireError, limits};
use tokio::sync::Notify;

use super::link::{Held, Link, Outbox};
use super::reply::{Event, Failure, HeadFrame, Location, Reply};
use crate::observe::request_id::RequestId;

/// Interim answers (103) that one request may have.
const INTERIMS_MOST: u8 = 16;

/// Bounds of a pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Requests that may wait.
    pub(crate) queue: usize,
    /// Longest wait for a place.
    pub(crate) queue_timeout: Duration,
    /// Longest silence of the app: until the head, and between two pieces of the body. `None`: for ever.
    pub(crate) timeout: Option<Duration>,
}

/// A request as a stage gives it away.
pub(crate) struct Request {
    /// Request head, fields, inline body.
    pub(crate) payload: Vec<u8>,
    pub(crate) flags: Flags,
    /// The body, when it was spooled to a file.
    pub(crate) descriptor: Option<Arc<File>>,
    /// Safe to give to a second worker even if the first had begun it (RFC 9110 §9.2.1).
    pub(crate) repeatable: bool,
    /// Its id, for the log.
    pub(crate) name: RequestId,
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
    /// Already given once more.
    pub(crate) retried: bool,
    pub(crate) submitted: Instant,
}

/// A request that ran out of time: who had it, and its id.
#[derive(Debug, Clone)]
pub(crate) struct Overdue {
    pub(crate) worker: u32,
    pub(crate) name: RequestId,
}

/// The queue and its workers.
pub(crate) struct Pool {
    inner: Mutex<Inner>,
    limits: Limits,
    /// Something is held or queued: the clock task has to look.
    clock: Notify,
}

struct Inner {
    queue: VecDeque<Job>,
    links: Vec<Link>,
    stopping: bool,
}

/// A place in the pool's books, given back on drop.
pub(crate) struct Ticket {
    pool: Arc<Pool>,
    reply: Arc<Reply>,
}

impl Pool {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        let inner = Inner { queue: VecDeque::new(), links: Vec::new(), stopping: false };
        Arc::new(Self { inner: Mutex::new(inner), limits, clock: Notify::new() })
    }

    /// Gives a request away. Its events come to `Ticket::reply`; dropping the ticket gives the request up.
    pub(crate) fn submit(self: &Arc<Self>, request: Request) -> Ticket {
        let Request { payload, flags, descriptor, repeatable, name } = request;
        let reply = Arc::new(Reply::new());
        let now = Instant::now();
        let job = Job {
            payload,
            flags,
            descriptor,
            reply: reply.clone(),
            repeatable,
            name,
            retried: false,
            submitted: now,
        };
        let mut inner = self.lock();
        let was_quiet = inner.is_quiet();
        if inner.stopping {
            drop(inner);
            drop(job.reply.push(Event::Failed(Failure::Stopping)));
        } else if let Some(at) = inner.best() {
            inner.give(at, job, now);
            drop(inner);
        } else if inner.queue.len() >= self.limits.queue {
            drop(inner);
            drop(job.reply.push(Event::Failed(Failure::QueueFull)));
        } else {
            job.reply.set_location(Location::Queued);
            inner.queue.push_back(job);
            drop(inner);
        }
        if was_quiet {
            self.clock.notify_one();
        }
        Ticket { pool: self.clone(), reply }
    }

    /// A worker process was started; it is given nothing before its hello.
    pub(crate) fn add(&self, number: u32, board: Arc<Board>, writer: Arc<Notify>) {
        self.lock().links.push(Link::new(number, board, writer));
    }

    /// The worker said hello.
    pub(crate) fn opened(&self, number: u32, threads: usize) {
        let mut inner = self.lock();
        if let Some(link) = inner.link(number) {
            link.threads = threads;
            link.accepting = !link.leaving;
            inner.refill(number, Instant::now());
        }
    }

    /// The worker gets nothing new; what it has not begun goes to others.
    pub(crate) fn retire(&self, number: u32) {
        let mut inner = self.lock();
        let now = Instant::now();
        if let Some(link) = inner.link(number) {
            link.accepting = false;
            link.leaving = true;
            link.writer.notify_one();
            let jobs = link.recall_since(now);
            inner.requeue(jobs, now);
        }
    }

    /// The worker's stream has ended. What it held is given to others where that is safe, or failed.
    pub(crate) fn remove(&self, number: u32) {
        let mut wakers = Vec::new();
        let mut inner = self.lock();
        let Some(at) = inner.links.iter().position(|link| link.number == number) else { return };
        let link = inner.links.remove(at);
        let mut again = Vec::new();
        for (begun, held) in link.into_held() {
            if held.abandoned {
                continue;
            }
            let Held { mut job, answer, .. } = held;
            let again_is_safe = !begun || job.repeatable;
            if begun {
                tracing::error!(
                    worker = number,
                    request_id = job.name.as_str(),
                    "the worker was lost while it worked on this request"
                );
            }
            if answer == Answer::Waiting && !job.retried && again_is_safe && !inner.stopping {
                job.retried = true;
                again.push(job);
            } else {
                job.reply.set_location(Location::Nowhere);
                let event = match answer {
                    Answer::Waiting => Event::Failed(Failure::WorkerDied),
                    _ => Event::End { broken: true, service_us: 0 },
                };
                wakers.extend(job.reply.push(event));
            }
        }
        inner.requeue(again, Instant::now());
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Takes in one frame about an exchange.
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
            link.writer.notify_one();
        }
        // A worker that breaks the protocol is about to go: what it were given now would have had its second chance.
        result?;
        inner.refill(number, now);
        Ok(())
    }

    /// Takes what is to be written to a worker; swaps buffers, so that neither side allocates. True when nothing will
    /// follow: the worker is to leave and holds nothing.
    pub(crate) fn take_outbox(&self, number: u32, outbox: &mut Outbox) -> bool {
        let mut inner = self.lock();
        let Some(link) = inner.link(number) else { return true };
        std::mem::swap(&mut link.outbox, outbox);
        link.may_leave()
    }

    /// The connection has consumed part of a streamed answer; the worker may send as much again.
    pub(crate) fn consumed(&self, reply: &Reply, bytes: usize) {
        let Location::Held { worker, place, id } = reply.location() else { return };
        if bytes == 0 {
            return;
        }
        let mut inner = self.lock();
        let Some(link) = inner.link(worker) else { return };
        let Some(held) = link.held(place, id) else { return };
        held.unconsumed = held.unconsumed.saturating_sub(bytes);
        held.touched = Instant::now();
        link.grant(place, id, u32::try_from(bytes).unwrap_or(u32::MAX));
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

    /// Sees to everything that takes long: waits in the queue, silent apps, requests sent ahead of a thread that did not
    /// come back. Gives the requests that ran out of time. Runs for ever; sleeps while there is nothing to see to.
    pub(crate) async fn watch_clock(&self, mut overdue: impl FnMut(Overdue)) {
        const COARSE: Duration = Duration::from_millis(100);
        const FINE: Duration = Duration::from_millis(2);
        let mut coarse_due = Instant::now();
        loop {
            if self.is_quiet() {
                self.clock.notified().await;
            }
            let ahead = self.lock().links.iter_mut().any(|link| link.surplus() > 0 || !link.accepting);
            tokio::time::sleep(if ahead { FINE } else { COARSE / 2 }).await;
            let now = Instant::now();
            self.unstick(now);
            if now >= coarse_due {
                coarse_due = now + COARSE;
                for late in self.expire(now) {
                    overdue(late);
                }
            }
        }
    }

    /// Requests that no thread begins, because it is held up, go to idle workers or back to the queue.
    fn unstick(&self, now: Instant) {
        let mut inner = self.lock();
        let alone = inner.links.iter().filter(|link| link.accepting).count() < 2;
        for at in 0..inner.links.len() {
            let link = &mut inner.links[at];
            link.look_again(now);
            // With an idle thread and no other worker there is no better place than where they are.
            if link.unanswered == 0 || (alone && link.surplus() == 0) {
                continue;
            }
            let patience = link.patience();
            let jobs = link.recall_since(now.checked_sub(patience).unwrap_or(now));
            if jobs.is_empty() {
                continue;
            }
            let link = &mut inner.links[at];
            link.stalled = Some(now);
            link.ask_for_idle();
            inner.requeue(jobs, now);
        }
        // A thread may have come back from `close()` without a frame, or a second look be due.
        inner.requeue(Vec::new(), now);
    }

    fn expire(&self, now: Instant) -> Vec<Overdue> {
        let mut wakers = Vec::new();
        let mut late = Vec::new();
        let mut inner = self.lock();
        while inner.queue.front().is_some_and(|job| now >= job.submitted + self.limits.queue_timeout) {
            if let Some(job) = inner.queue.pop_front() {
                job.reply.set_location(Location::Nowhere);
                wakers.extend(job.reply.push(Event::Failed(Failure::QueueTimeout)));
            }
        }
        if let Some(timeout) = self.limits.timeout {
            for link in &mut inner.links {
                late.extend(expire_link(link, timeout, now, &mut wakers));
            }
        }
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
        late
    }

    /// The connection no longer wants the answer.
    fn abandon(&self, reply: &Arc<Reply>) {
        if reply.location() == Location::Nowhere {
            return;
        }
        let mut inner = self.lock();
        let now = Instant::now();
        match reply.location() {
            Location::Queued => inner.queue.retain(|job| !Arc::ptr_eq(&job.reply, reply)),
            Location::Held { worker, place, id } => {
                if let Some(link) = inner.link(worker)
                    && link.held(place, id).is_some()
                {
                    if link.recall(place).is_some() {
                        inner.refill(worker, now);
                    } else if let Some(held) = link.held(place, id) {
                        held.abandoned = true;
                        link.cancel(place, id);
                    }
                }
            }
            Location::Nowhere => {}
        }
        reply.set_location(Location::Nowhere);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn link(&mut self, number: u32) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.number == number)
    }

    fn is_quiet(&self) -> bool {
        self.queue.is_empty() && self.links.iter().all(|link| link.unanswered == 0)
    }

    /// The worker for one more request: idle first, then the one with the least before it; the first among equals, so
    /// that few stay warm when few are needed. `None` while requests wait: they come first.
    fn best(&mut self) -> Option<usize> {
        if !self.queue.is_empty() {
            return None;
        }
        let mut best: Option<(usize, usize)> = None;
        for (at, link) in self.links.iter_mut().enumerate() {
            let rank = if link.is_idle() {
                if link.unanswered == 0 {
                    return Some(at);
                }
                link.unanswered
            } else if link.has_room() {
                limits::PLACES + link.unanswered
            } else {
                continue;
            };
            if best.is_none_or(|(least, _)| rank < least) {
                best = Some((rank, at));
            }
        }
        best.map(|(_, at)| at)
    }

    fn give(&mut self, at: usize, job: Job, now: Instant) {
        if let Err(job) = self.links[at].assign(job, now) {
            job.reply.set_location(Location::Queued);
            self.queue.push_front(job);
        }
    }

    /// The worker has moved: the queue's next for it, or something that waits ahead of a busier one.
    fn refill(&mut self, number: u32, now: Instant) {
        let Some(at) = self.links.iter().position(|link| link.number == number) else { return };
        while !self.queue.is_empty() && (self.links[at].has_room() || self.links[at].is_idle()) {
            let Some(job) = self.queue.pop_front() else { break };
            self.give(at, job, now);
        }
        if self.queue.is_empty()
            && self.links.len() > 1
            && self.links[at].unanswered == 0
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

    /// Requests that were taken back, oldest first, to the head of the queue, and from there to whoever is idle.
    fn requeue(&mut self, jobs: Vec<Job>, now: Instant) {
        for job in jobs.into_iter().rev() {
            job.reply.set_location(Location::Queued);
            self.queue.push_front(job);
        }
        for at in 0..self.links.len() {
            while !self.queue.is_empty() && self.links[at].is_idle() {
                let Some(job) = self.queue.pop_front() else { break };
                self.give(at, job, now);
            }
        }
    }
}

fn on_frame(
    link: &mut Link,
    frame: Frame<'_>,
    descriptors: &mut VecDeque<OwnedFd>,
    wakers: &mut Vec<Waker>,
    now: Instant,
) -> Result<(), WireError> {
    let header = frame.header;
    if header.kind == Kind::Idle {
        return Ok(()); // `refill` looks at the board
    }
    let Some(held) = link.held(header.place, header.id) else {
        return Err(WireError::OutOfSequence("about a request that the worker does not hold"));
    };
    let answer = held.answer.on(header.kind, header.flags)?;
    let (event, service_us) = read_event(&frame, held, descriptors)?;
    held.answer = answer;
    held.touched = now;
    let done = held.answer == Answer::Done;
    if !held.abandoned {
        if done {
            held.job.reply.set_location(Location::Nowhere);
            held.job.reply.set_service(service_us);
        }
        if let Some(event) = event {
            wakers.extend(held.job.reply.push(event));
        }
    }
    if done {
        link.answered(header.place, service_us);
    }
    Ok(())
}

/// What a frame says to the connection, and the service time if it is the last.
fn read_event(
    frame: &Frame<'_>,
    held: &mut Held,
    descriptors: &mut VecDeque<OwnedFd>,
) -> Result<(Option<Event>, u32), WireError> {
    let flags = frame.header.flags;
    match frame.header.kind {
        Kind::Response => {
            let (head, _, body) = ResponseHead::decode(frame.payload)?;
            let descriptor = if flags.has(Flags::DESCRIPTOR) {
                let came = descriptors.pop_front();
                Some(came.ok_or(WireError::Malformed("the descriptor did not come with its frame"))?)
            } else {
                None
            };
            let whole = flags.has(Flags::WHOLE) || descriptor.is_some();
            held.take_in(if whole { 0 } else { body.len() })?;
            let service_us = head.service_us;
            Ok((
                Some(Event::Head(HeadFrame { payload: frame.payload.to_vec(), whole, descriptor })),
                service_us,
            ))
        }
        Kind::Interim => {
            ResponseHead::decode(frame.payload)?;
            // They have no credit, so their number is what bounds them.
            held.interims += 1;
            if held.interims > INTERIMS_MOST {
                return Err(WireError::OutOfSequence("more interim answers than anybody has a use for"));
            }
            Ok((Some(Event::Interim(frame.payload.to_vec())), 0))
        }
        // Costs no credit, so it must not cost memory.
        Kind::Chunk if frame.payload.is_empty() => Ok((None, 0)),
        Kind::Chunk => {
            held.take_in(frame.payload.len())?;
            Ok((Some(Event::Chunk(frame.payload.to_vec())), 0))
        }
        Kind::End => {
            let service_us = frame.number()?;
            Ok((Some(Event::End { broken: flags.has(Flags::BROKEN), service_us }), service_us))
        }
        _ => Err(WireError::OutOfSequence("not a frame about an answer")),
    }
}

impl Held {
    /// A worker that sends more than its credit is at fault: the edge's memory is bounded by it.
    fn take_in(&mut self, bytes: usize) -> Result<(), WireError> {
        self.unconsumed += bytes;
        // A grant on its way when the client left adds one window.
        if self.unconsumed > 2 * limits::WINDOW + limits::CHUNK_MAX && !self.abandoned {
            return Err(WireError::OutOfSequence("more of an answer than the credit allows"));
        }
        Ok(())
    }
}

fn expire_link(link: &mut Link, timeout: Duration, now: Instant, wakers: &mut Vec<Waker>) -> Vec<Overdue> {
    let mut late = Vec::new();
    for place in 0..link.held.len() {
        let Some(held) = &link.held[place] else { continue };
        // A worker that waits for credit waits for the client, who has a limit of its own.
        let waits_for_client = held.unconsumed >= limits::WINDOW;
        if held.abandoned || waits_for_client || now < held.touched + timeout {
            continue;
        }
        let (id, answer) = (held.id, held.answer);
        // A worker that has not even begun it is held up as a whole.
        if let Some(job) = link.recall(place as u16) {
            job.reply.set_location(Location::Nowhere);
            wakers.extend(job.reply.push(Event::Failed(Failure::TimedOut)));
            late.push(Overdue { worker: link.number, name: job.name });
        } else if let Some(held) = &mut link.held[place] {
            held.abandoned = true;
            held.job.reply.set_location(Location::Nowhere);
            let event = match answer {
                Answer::Waiting => Event::Failed(Failure::TimedOut),
                _ => Event::End { broken: true, service_us: 0 },
            };
            wakers.extend(held.job.reply.push(event));
            late.push(Overdue { worker: link.number, name: held.job.name.clone() });
            link.cancel(place as u16, id);
        }
    }
    late
}

impl Ticket {
    /// Where the events come.
    pub(crate) fn reply(&self) -> &Reply {
        &self.reply
    }

    /// For stories in which the test is the worker.
    #[cfg(test)]
    pub(crate) fn share_reply(&self) -> Arc<Reply> {
        self.reply.clone()
    }

    /// Part of a streamed answer has left.
    pub(crate) fn consumed(&self, bytes: usize) {
        self.pool.consumed(&self.reply, bytes);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.pool.abandon(&self.reply);
    }
}
