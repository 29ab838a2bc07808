//! What the edge knows of one worker: how much it has to do, what is on its way to it, how long its requests take.
//!
//! Owns the worker's load and its two outboxes. Which worker gets which request is `queue`'s; places and the board are in
//! `places`; moving bytes is `channel`'s.
//! Invariant: `load` is the number of held exchanges without a complete answer, by what they take of the worker; what is
//! said about an exchange goes over the lane of those who work on it.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bandstand_supervisor::Board;
use bandstand_wire::sequence::Answer;
use bandstand_wire::{Flags, Header, Kind, limits};
use tokio::sync::Notify;

use super::places::{Held, Places};
use super::queue::{Job, Lane, Work};

/// Work that may lie ahead of a busy worker. A gap between two requests costs a wake-up of worker and edge, some tens of
/// microseconds on a virtual machine; this is about a hundred of them, and short against what anybody notices. Beyond it,
/// waiting in the common queue is better for everybody. `docs/decisions/0003-dispatch.md` has the measurement.
const AHEAD: Duration = Duration::from_millis(3);
/// Most requests ahead of a worker.
const AHEAD_MOST: usize = 64;
/// Bytes on their way to a worker that does not read them; past it, it is given nothing.
const OUTBOX_MOST: usize = 4 * limits::FRAME_MAX;
/// Places that WebSockets leave to requests, however many there are.
const PLACES_FOR_REQUESTS: usize = 1024;
/// A request for which a thread is idle is begun as soon as that thread has the processor and the interpreter. One that
/// still is not begun after this time has met a worker that is held up as a whole.
const WAKE_MOST: Duration = Duration::from_millis(50);
/// A worker that was held up and has an idle thread is tried again after this time: it may have nothing to say.
const SECOND_LOOK: Duration = Duration::from_millis(100);
/// A sample of service time counts at most this much, so that one slow request does not hide a fast app for long.
const SAMPLE_MOST_US: f32 = 20_000.0;

/// What wakes the writers of a worker, by lane.
pub(crate) type Writers = [Arc<Notify>; 2];

/// Bytes, and descriptors between them, on their way to a worker.
#[derive(Default)]
pub(crate) struct Outbox {
    pub(crate) bytes: Vec<u8>,
    /// `(offset in bytes of the frame it belongs to, descriptor)`, ascending.
    pub(crate) descriptors: VecDeque<(usize, Arc<File>)>,
}

/// One worker as the pool sees it.
pub(crate) struct Link {
    pub(crate) number: u32,
    /// Requests that its threads work on at once.
    pub(crate) threads: usize,
    /// Requests that its loop works on at once; 0 without a loop.
    pub(crate) tasks: usize,
    /// Said hello, and may be given requests.
    pub(crate) accepting: bool,
    /// Leaves once it holds nothing: its channel and lane are shut for writing then.
    pub(crate) leaving: bool,
    /// Since when its threads do not begin what they are given; they are given nothing until the worker moves again, or
    /// a second look is due.
    pub(crate) stalled: Option<Instant>,
    pub(crate) places: Places,
    load: [usize; Work::ALL.len()],
    outboxes: [Outbox; 2],
    writers: Writers,
    /// Places of what the threads have, in the order in which it was offered, answered ones taken out.
    order: VecDeque<u16>,
    service_us: f32,
}

impl Link {
    pub(crate) fn new(number: u32, board: Arc<Board>, writers: Writers) -> Self {
        Self {
            number,
            threads: 0,
            tasks: 0,
            accepting: false,
            leaving: false,
            stalled: None,
            places: Places::new(board),
            load: [0; Work::ALL.len()],
            outboxes: Default::default(),
            writers,
            order: VecDeque::new(),
            service_us: SAMPLE_MOST_US,
        }
    }

    /// Exchanges without a complete answer.
    pub(crate) fn load(&self, work: Work) -> usize {
        self.load[work as usize]
    }

    /// It holds nothing.
    pub(crate) fn is_quiet(&self) -> bool {
        self.load == [0; Work::ALL.len()]
    }

    /// The worker was told to leave and holds nothing any more.
    pub(crate) fn may_leave(&self) -> bool {
        self.leaving && self.is_quiet()
    }

    /// Something is to be written, or nothing will be any more.
    pub(crate) fn wake_writers(&self) {
        self.writers.iter().for_each(|writer| writer.notify_one());
    }

    /// Threads that work on something, `close()` included. Also where places that have become free are noticed.
    fn busy(&mut self) -> usize {
        self.load(Work::Thread) + self.places.closing()
    }

    /// A thread waits for work.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.threads_take_more()
            && self.load(Work::Thread) < self.threads
            && self.busy() < self.threads
            && self.places.free() > 0
    }

    /// One more may be sent to the threads, if only ahead.
    pub(crate) fn has_room(&mut self) -> bool {
        self.threads_take_more()
            && self.load(Work::Thread) < self.threads + self.ahead()
            && self.busy() < limits::PLACES
            && self.places.free() > 0
    }

    fn threads_take_more(&self) -> bool {
        self.accepting && self.threads > 0 && self.stalled.is_none() && self.reads(Lane::Threads)
    }

    /// The loop may be given one more. Nothing is sent ahead of it: it begins what it gets at once, or is held up.
    pub(crate) fn loop_takes(&self, work: Work) -> bool {
        let bound = match work {
            Work::Thread => false,
            Work::Task => self.load(Work::Task) < self.tasks && self.places.free() > 0,
            Work::Socket => self.tasks > 0 && self.places.free() > PLACES_FOR_REQUESTS,
        };
        bound && self.accepting && self.reads(Lane::Loop)
    }

    fn reads(&self, lane: Lane) -> bool {
        self.outboxes[lane as usize].bytes.len() < OUTBOX_MOST
    }

    fn ahead(&self) -> usize {
        ((AHEAD.as_micros() as f32 / self.service_us.max(1.0)) as usize).min(AHEAD_MOST)
    }

    /// How long the worker has work without hearing from us, as far as its past tells. Zero where none is accepted, and
    /// where the loop has something: what it waits for may come at any time.
    pub(crate) fn lead(&self) -> Duration {
        if self.load(Work::Task) + self.load(Work::Socket) > 0 {
            return Duration::ZERO;
        }
        let ahead = self.load(Work::Thread).saturating_sub(self.threads) / self.threads.max(1);
        Duration::from_micros((ahead as f32 * self.service_us) as u64)
    }

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

    /// Puts a request into the outbox of its lane. Gives it back when no place is free.
    pub(crate) fn assign(&mut self, job: Job, now: Instant) -> Result<(), Job> {
        let Some((place, id)) = self.places.offer() else { return Err(job) };
        let work = job.work;
        let lane = work.lane() as usize;
        let outbox = &mut self.outboxes[lane];
        if let Some(descriptor) = &job.descriptor {
            outbox.descriptors.push_back((outbox.bytes.len(), descriptor.clone()));
        }
        Header { kind: Kind::Request, flags: job.flags, place, id }.write(&job.payload, &mut outbox.bytes);
        self.writers[lane].notify_one();
        job.reply.assigned(self.number, place, id, now);
        if work == Work::Thread {
            self.order.push_back(place);
        }
        self.load[work as usize] += 1;
        let held = Held {
            id,
            job,
            work,
            answer: Answer::Waiting,
            touched: now,
            unconsumed: 0,
            interims: 0,
            abandoned: false,
            expired: false,
            closed: false,
        };
        self.places.hold(place, held);
        Ok(())
    }

    /// The answer is complete.
    pub(crate) fn answered(&mut self, place: u16, service_us: u32) {
        let Some(held) = self.places.release(place) else { return };
        self.unload(place, held.work);
        // Time on the loop is time of waiting: it says nothing about how soon a thread is free.
        if held.work == Work::Thread {
            self.service_us = self.service_us * 0.875 + (service_us as f32).min(SAMPLE_MOST_US) * 0.125;
        }
    }

    /// The loop has it now: its thread is free. False if no thread had it.
    pub(crate) fn moved(&mut self, place: u16, id: u64) -> bool {
        match self.places.named(place, id) {
            Some(held) if held.work == Work::Thread => held.work = Work::Task,
            _ => return false,
        }
        self.unload(place, Work::Thread);
        self.load[Work::Task as usize] += 1;
        true
    }

    fn unload(&mut self, place: u16, work: Work) {
        let load = &mut self.load[work as usize];
        *load = load.saturating_sub(1);
        if work == Work::Thread
            && let Some(at) = self.order.iter().position(|&other| other == place)
        {
            self.order.remove(at);
        }
    }

    /// Takes back the youngest request that no thread has begun.
    pub(crate) fn recall_youngest(&mut self) -> Option<Job> {
        for at in (0..self.order.len()).rev() {
            let place = self.order[at];
            if let Some(job) = self.recall(place) {
                return Some(job);
            }
        }
        None
    }

    /// Takes back all requests that were offered to the threads before `before` and that none has begun; oldest first.
    pub(crate) fn recall_since(&mut self, before: Instant) -> Vec<Job> {
        let is_old = |&place: &u16| self.places.at(place).is_some_and(|held| held.touched <= before);
        let places: Vec<u16> = self.order.iter().copied().filter(is_old).collect();
        places.into_iter().filter_map(|place| self.recall(place)).collect()
    }

    /// Takes back all that is not begun, of threads and loop; oldest first.
    pub(crate) fn recall_all(&mut self) -> Vec<Job> {
        self.places.by_age().into_iter().filter_map(|place| self.recall(place)).collect()
    }

    /// Takes a request back, if it was not begun: then it never will be.
    pub(crate) fn recall(&mut self, place: u16) -> Option<Job> {
        let held = self.places.recall(place)?;
        self.unload(place, held.work);
        Some(held.job)
    }

    /// The client has left, or with `Flags::BROKEN` its time is over. A thread sees it on the board at its next write, and
    /// one that waits for credit is woken to see it; the loop is told.
    pub(crate) fn cancel(&mut self, place: u16, id: u64, flags: Flags) {
        let Some(held) = self.places.named(place, id) else { return };
        held.expired |= held.work == Work::Task && flags.has(Flags::BROKEN);
        let work = held.work;
        self.places.cancel(place, id);
        match work {
            Work::Thread => self.grant(place, id, limits::WINDOW as u32),
            Work::Task => self.say(Kind::Cancel, flags, place, id, &[]),
            // A connection that is gone without a word (RFC 6455 §7.1.5).
            Work::Socket => self.close(place, id, 1006, ""),
        }
    }

    /// What the loop still does for it, although nobody waits, is cancelled; said once.
    pub(crate) fn expire(&mut self, place: u16, id: u64) {
        match self.places.named(place, id) {
            Some(held) if held.work != Work::Thread && !held.expired => held.expired = true,
            _ => return,
        }
        self.say(Kind::Cancel, Flags::BROKEN, place, id, &[]);
    }

    /// Lets the worker send more of an answer.
    pub(crate) fn grant(&mut self, place: u16, id: u64, bytes: u32) {
        self.say(Kind::Grant, Flags::NONE, place, id, &bytes.to_le_bytes());
    }

    /// A message of the client for the app of a WebSocket; nothing once it was closed.
    pub(crate) fn message(&mut self, place: u16, id: u64, flags: Flags, bytes: &[u8]) {
        if self.places.named(place, id).is_some_and(|held| held.work == Work::Socket && !held.closed) {
            self.say(Kind::Message, flags, place, id, bytes);
        }
    }

    /// The WebSocket is over; said once.
    pub(crate) fn close(&mut self, place: u16, id: u64, code: u16, reason: &str) {
        match self.places.named(place, id) {
            Some(held) if held.work == Work::Socket && !held.closed => held.closed = true,
            _ => return,
        }
        let header = Header { kind: Kind::Closed, flags: Flags::NONE, place, id };
        header.write_close(code, reason, self.outlet(Lane::Loop));
    }

    /// Puts a frame about a held exchange into the outbox of those who work on it.
    fn say(&mut self, kind: Kind, flags: Flags, place: u16, id: u64, payload: &[u8]) {
        if let Some(lane) = self.places.named(place, id).map(|held| held.work.lane()) {
            Header { kind, flags, place, id }.write(payload, self.outlet(lane));
        }
    }

    fn outlet(&mut self, lane: Lane) -> &mut Vec<u8> {
        self.writers[lane as usize].notify_one();
        &mut self.outboxes[lane as usize].bytes
    }

    /// Swaps the outbox of a lane with an empty one.
    pub(crate) fn take_outbox(&mut self, lane: Lane, outbox: &mut Outbox) {
        std::mem::swap(&mut self.outboxes[lane as usize], outbox);
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

    /// Everything it held, oldest first, when its stream has ended: `(begun, held)`.
    pub(crate) fn into_held(mut self) -> Vec<(bool, Held)> {
        let places = self.places.by_age();
        places.into_iter().filter_map(|place| self.places.salvage(place)).collect()
    }
}
