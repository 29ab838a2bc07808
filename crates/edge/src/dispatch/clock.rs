//! What takes too long: waits in the queue, silent apps, requests that no thread begins.
//!
//! Owns the limits in time and the one task that looks at them. Who gets a request is `queue`'s, what is done about
//! one that is over its time and does not end `guard`'s.
//! `timeout` holds until the head of an answer; on a thread also between two pieces of its body, since it holds the
//! thread. A stream on the loop holds none, and an accepted WebSocket has its pings: both may be silent for ever. What
//! goes on for a client that has left is over its time after `timeout`, too.

use std::task::Waker;
use std::time::{Duration, Instant};

use bandstand_wire::sequence::Answer;
use bandstand_wire::{Flags, limits};

use super::guard::Verdict;
use super::link::Link;
use super::places::Held;
use super::pool::Pool;
use super::queue::{Inner, Work};
use super::reply::{Event, Failure, Location};

impl Pool {
    /// Sees to everything that takes long: waits in the queue, silent apps, requests sent ahead of a thread that did not
    /// come back, sockets of workers that leave. Tells what the fleet has to do. Runs for ever; sleeps while there is
    /// nothing to see to.
    pub(crate) async fn watch_clock(&self, mut tell: impl FnMut(Verdict)) {
        const COARSE: Duration = Duration::from_millis(100);
        const FINE: Duration = Duration::from_millis(2);
        let mut coarse_due = Instant::now();
        loop {
            if self.is_at_rest() {
                self.clock.notified().await;
            }
            let fine = self.lock().links.iter_mut().any(|link| link.surplus() > 0);
            tokio::time::sleep(if fine { FINE } else { COARSE / 2 }).await;
            let now = Instant::now();
            self.unstick(now);
            if now >= coarse_due {
                coarse_due = now + COARSE;
                self.expire(now).into_iter().for_each(&mut tell);
            }
        }
    }

    /// Nothing can take too long.
    fn is_at_rest(&self) -> bool {
        let inner = self.lock();
        inner.is_quiet() && !inner.links.iter().any(|link| link.guard.is_awaited())
    }

    /// Requests that no thread begins, because it is held up, go to idle workers or back to the queue.
    pub(super) fn unstick(&self, now: Instant) {
        let mut inner = self.lock();
        let alone = inner.links.iter().filter(|link| link.is_accepting()).count() < 2;
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

    /// Ends what is over its time at this moment.
    pub(super) fn expire(&self, now: Instant) -> Vec<Verdict> {
        let mut wakers = Vec::new();
        let mut verdicts = Vec::new();
        let mut inner = self.lock();
        let limits = inner.limits;
        expire_queues(&mut inner, limits.queue_timeout, now, &mut wakers);
        for link in &mut inner.links {
            if let Some(timeout) = limits.timeout {
                expire_link(link, timeout, now, &mut wakers, &mut verdicts);
            }
            link.part(now, &mut wakers);
            link.see_to_late(now, &mut verdicts);
        }
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
        verdicts
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

fn expire_link(
    link: &mut Link,
    timeout: Duration,
    now: Instant,
    wakers: &mut Vec<Waker>,
    verdicts: &mut Vec<Verdict>,
) {
    let over = link.places.iter().filter(|(_, held)| now >= held.touched + timeout);
    let over: Vec<_> = over
        .filter(|(_, held)| held.must_speak() || held.is_for_nobody())
        .map(|(place, held)| (place, held.id, held.abandoned))
        .collect();
    for (place, id, abandoned) in over {
        if abandoned {
            link.interrupt(place, id, now);
            link.expire(place, id);
        } else {
            give_up(link, place, now, wakers, verdicts);
        }
    }
}

impl Held {
    /// Whether the app has to say something within the time limit.
    fn must_speak(&self) -> bool {
        // A worker that waits for credit waits for the client, who has a limit of its own.
        let waits_for_client = self.unconsumed >= limits::WINDOW;
        let limited = self.work == Work::Thread || self.answer == Answer::Waiting;
        limited && !self.abandoned && !waits_for_client
    }

    /// Whether it goes on although its client has left. The app was told, and may have something to finish; but it holds
    /// a thread or one of `tasks`, and clients that come and go must not use them up.
    fn is_for_nobody(&self) -> bool {
        self.work != Work::Socket && self.abandoned && !self.expired
    }
}

/// Ends what the client waits for; the worker is told, and interrupted.
fn give_up(link: &mut Link, place: u16, now: Instant, wakers: &mut Vec<Waker>, verdicts: &mut Vec<Verdict>) {
    // A worker that has not even begun it is held up as a whole.
    if let Some(job) = link.recall(place) {
        job.reply.set_location(Location::Nowhere);
        wakers.extend(job.reply.push(Event::Failed(Failure::TimedOut)));
        link.is_held_up(&job.name, now, verdicts);
        return;
    }
    let Some(id) = link.places.at(place).map(|held| held.id) else { return };
    link.interrupt(place, id, now);
    let Some(held) = link.places.named(place, id) else { return };
    held.abandoned = true;
    held.job.reply.set_location(Location::Nowhere);
    let event = match held.answer {
        Answer::Waiting => Event::Failed(Failure::TimedOut),
        _ => Event::End { broken: true, service_us: 0 },
    };
    wakers.extend(held.job.reply.push(event));
    link.cancel(place, id, Flags::BROKEN);
}
