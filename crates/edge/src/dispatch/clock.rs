//! What takes too long: waits in the queue, silent apps, requests that no thread begins.
//!
//! Owns the limits in time and the one task that looks at them. Who gets a request is `queue`'s.
//! `timeout` holds until the head of an answer; on a thread also between two pieces of its body, since it holds the
//! thread. A stream on the loop holds none, and an accepted WebSocket has its pings: both may be silent for ever. A task
//! whose client has left is cancelled after `timeout`.

use std::task::Waker;
use std::time::{Duration, Instant};

use bandstand_wire::sequence::Answer;
use bandstand_wire::{Flags, limits};

use super::link::Link;
use super::places::Held;
use super::pool::Pool;
use super::queue::{Inner, Work};
use super::reply::{Event, Failure, Location};
use crate::observe::request_id::RequestId;

/// A request that ran out of time: who had it, and its id.
#[derive(Debug, Clone)]
pub(crate) struct Overdue {
    pub(crate) worker: u32,
    pub(crate) name: RequestId,
    /// A thread still works on it, or the worker does not even begin what it is given. Without it the loop was told
    /// to cancel it, and nothing else in the worker suffers.
    pub(crate) stuck: bool,
}

impl Pool {
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
            if link.load(Work::Thread) == 0 || (alone && link.surplus() == 0) {
                continue;
            }
            let patience = link.patience();
            let jobs = link.recall_since(now.checked_sub(patience).unwrap_or(now));
            if jobs.is_empty() {
                continue;
            }
            link.stalled = Some(now);
            link.places.ask_for_idle();
            inner.requeue(jobs, now);
        }
        // A thread may have come back from `close()` without a frame, or a second look be due.
        inner.requeue(Vec::new(), now);
    }

    fn expire(&self, now: Instant) -> Vec<Overdue> {
        let mut wakers = Vec::new();
        let mut late = Vec::new();
        let mut inner = self.lock();
        expire_queues(&mut inner, self.limits.queue_timeout, now, &mut wakers);
        if let Some(timeout) = self.limits.timeout {
            for link in &mut inner.links {
                late.extend(expire_link(link, timeout, now, &mut wakers));
            }
        }
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
        late
    }
}

fn expire_queues(inner: &mut Inner, timeout: Duration, now: Instant, wakers: &mut Vec<Waker>) {
    for queue in &mut inner.queues {
        while let Some(job) = queue.pop_front_if(|job| now >= job.submitted + timeout) {
            job.reply.set_location(Location::Nowhere);
            wakers.extend(job.reply.push(Event::Failed(Failure::QueueTimeout)));
        }
    }
}

fn expire_link(link: &mut Link, timeout: Duration, now: Instant, wakers: &mut Vec<Waker>) -> Vec<Overdue> {
    let silent = link.places.iter().filter(|(_, held)| now >= held.touched + timeout && held.must_speak());
    let silent: Vec<u16> = silent.map(|(place, _)| place).collect();
    let mut late: Vec<Overdue> =
        silent.into_iter().filter_map(|place| give_up(link, place, wakers)).collect();
    let goes_on =
        link.places.iter().filter(|(_, held)| now >= held.touched + timeout && held.is_for_nobody());
    let goes_on: Vec<_> = goes_on.map(|(place, held)| (place, held.id, held.job.name.clone())).collect();
    for (place, id, name) in goes_on {
        link.expire(place, id);
        late.push(Overdue { worker: link.number, name, stuck: false });
    }
    late
}

impl Held {
    /// Whether the app has to say something within the time limit.
    fn must_speak(&self) -> bool {
        // A worker that waits for credit waits for the client, who has a limit of its own.
        let waits_for_client = self.unconsumed >= limits::WINDOW;
        let limited = self.work == Work::Thread || self.answer == Answer::Waiting;
        limited && !self.abandoned && !waits_for_client
    }

    /// Whether a task goes on although its client has left. It was told, and may have something to finish; but its place
    /// is one of `tasks`, and clients that come and go must not use them up.
    fn is_for_nobody(&self) -> bool {
        self.work == Work::Task && self.abandoned && !self.expired
    }
}

/// Ends what the client waits for; the worker is told.
fn give_up(link: &mut Link, place: u16, wakers: &mut Vec<Waker>) -> Option<Overdue> {
    let worker = link.number;
    let held = link.places.at(place)?;
    let (id, work, answer) = (held.id, held.work, held.answer);
    // A worker that has not even begun it is held up as a whole.
    if let Some(job) = link.recall(place) {
        job.reply.set_location(Location::Nowhere);
        wakers.extend(job.reply.push(Event::Failed(Failure::TimedOut)));
        return Some(Overdue { worker, name: job.name, stuck: true });
    }
    let held = link.places.named(place, id)?;
    held.abandoned = true;
    held.job.reply.set_location(Location::Nowhere);
    let event = match answer {
        Answer::Waiting => Event::Failed(Failure::TimedOut),
        _ => Event::End { broken: true, service_us: 0 },
    };
    wakers.extend(held.job.reply.push(event));
    let name = held.job.name.clone();
    link.cancel(place, id, Flags::BROKEN);
    Some(Overdue { worker, name, stuck: work == Work::Thread })
}
