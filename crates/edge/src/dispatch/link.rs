//! What the edge knows of one worker: its places, what is on its way to it, how long its requests take.
//!
//! Owns the worker's board and outbox. Which worker gets which request is `pool`'s; moving bytes is `channel`'s.
//! Invariant: `unanswered` is the number of held requests without a complete answer; a place is reused only when its
//! word on the board is free.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bandstand_supervisor::Board;
use bandstand_wire::sequence::Answer;
use bandstand_wire::{Flags, Header, Kind, board, limits};
use tokio::sync::Notify;

use super::pool::Job;

/// Work that may lie ahead of a busy worker. A gap between two requests costs a wake-up of worker and edge, some tens of
/// microseconds on a virtual machine; this is about a hundred of them, and short against what anybody notices. Beyond it,
/// waiting in the common queue is better for everybody. `docs/decisions/0003-dispatch.md` has the measurement.
const AHEAD: Duration = Duration::from_millis(3);
/// Most requests ahead of a worker.
const AHEAD_MOST: usize = 64;
/// Bytes on their way to a worker that does not read them; past it, it is given nothing.
const OUTBOX_MOST: usize = 4 * limits::FRAME_MAX;
/// A request for which a thread is idle is begun as soon as that thread has the processor and the interpreter. One that
/// still is not begun after this time has met a worker that is held up as a whole.
const WAKE_MOST: Duration = Duration::from_millis(50);
/// A worker that was held up and has an idle thread is tried again after this time: it may have nothing to say.
const SECOND_LOOK: Duration = Duration::from_millis(100);
/// A sample of service time counts at most this much, so that one slow request does not hide a fast app for long.
const SAMPLE_MOST_US: f32 = 20_000.0;

/// A request that a worker has.
pub(crate) struct Held {
    pub(crate) id: u64,
    pub(crate) job: Job,
    pub(crate) answer: Answer,
    /// Last frame about it, or when it was offered.
    pub(crate) touched: Instant,
    /// Bytes of the answer sent to the connection and not yet granted again.
    pub(crate) unconsumed: usize,
    /// Interim answers so far.
    pub(crate) interims: u8,
    /// Its connection has left, or was told that the time is over.
    pub(crate) abandoned: bool,
}

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
    pub(crate) threads: usize,
    /// Said hello, and may be given requests.
    pub(crate) accepting: bool,
    /// Leaves once it holds nothing: its channel is shut for writing then.
    pub(crate) leaving: bool,
    /// Since when it does not begin what it is given; it is given nothing until it moves again, or a second look is due.
    pub(crate) stalled: Option<Instant>,
    pub(crate) unanswered: usize,
    pub(crate) outbox: Outbox,
    pub(crate) writer: Arc<Notify>,
    pub(crate) held: Vec<Option<Held>>,
    board: Arc<Board>,
    free: Vec<u16>,
    /// Places in the order in which they were offered, answered ones taken out.
    order: VecDeque<u16>,
    /// Answered, but the worker's thread is still in `close()`: `(place, id)`.
    finishing: Vec<(u16, u64)>,
    service_us: f32,
    next_id: u64,
}

impl Link {
    pub(crate) fn new(number: u32, board: Arc<Board>, writer: Arc<Notify>) -> Self {
        Self {
            number,
            threads: 0,
            accepting: false,
            leaving: false,
            stalled: None,
            unanswered: 0,
            outbox: Outbox::default(),
            writer,
            held: (0..limits::PLACES).map(|_| None).collect(),
            board,
            free: (0..limits::PLACES as u16).rev().collect(),
            order: VecDeque::new(),
            finishing: Vec::new(),
            service_us: SAMPLE_MOST_US,
            next_id: 1,
        }
    }

    /// The worker was told to leave and holds nothing any more.
    pub(crate) fn may_leave(&self) -> bool {
        self.leaving && self.unanswered == 0
    }

    /// Threads that work on something, `close()` included. Also where places that have become free are noticed.
    pub(crate) fn busy(&mut self) -> usize {
        let Self { board, finishing, free, .. } = self;
        finishing.retain(|&(place, id)| {
            let running = board::is_running(board.word(place), id);
            if !running {
                free.push(place);
            }
            running
        });
        self.unanswered + self.finishing.len()
    }

    /// A thread waits for work.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.takes_more()
            && self.unanswered < self.threads
            && self.busy() < self.threads
            && !self.free.is_empty()
    }

    fn takes_more(&self) -> bool {
        self.accepting && self.stalled.is_none() && self.outbox.bytes.len() < OUTBOX_MOST
    }

    /// One more may be sent, if only ahead.
    pub(crate) fn has_room(&mut self) -> bool {
        self.takes_more()
            && self.unanswered < self.threads + self.ahead()
            && self.busy() < limits::PLACES
            && !self.free.is_empty()
    }

    fn ahead(&self) -> usize {
        ((AHEAD.as_micros() as f32 / self.service_us.max(1.0)) as usize).min(AHEAD_MOST)
    }

    /// How long the worker has work without hearing from us, as far as its past tells. Zero where none is accepted.
    pub(crate) fn lead(&self) -> Duration {
        let ahead = self.unanswered.saturating_sub(self.threads) / self.threads.max(1);
        Duration::from_micros((ahead as f32 * self.service_us) as u64)
    }

    /// Requests sent ahead of the threads.
    pub(crate) fn surplus(&mut self) -> usize {
        if self.unanswered == 0 { 0 } else { self.busy().saturating_sub(self.threads) }
    }

    /// A worker that was held up, and whose threads now look idle, may be tried again.
    pub(crate) fn look_again(&mut self, now: Instant) {
        if self.stalled.is_some_and(|since| now >= since + SECOND_LOOK) && self.busy() < self.threads {
            self.stalled = None;
        }
    }

    /// Puts a request into the outbox. Gives it back when no place is free.
    pub(crate) fn assign(&mut self, job: Job, now: Instant) -> Result<(), Job> {
        let Some(place) = self.free.pop() else { return Err(job) };
        let id = self.next_id;
        self.next_id = (self.next_id + 1) & board::ID_MAX;
        board::offer(self.board.word(place), id);
        if let Some(descriptor) = &job.descriptor {
            self.outbox.descriptors.push_back((self.outbox.bytes.len(), descriptor.clone()));
        }
        Header { kind: Kind::Request, flags: job.flags, place, id }
            .write(&job.payload, &mut self.outbox.bytes);
        job.reply.assigned(self.number, place, id, now);
        self.order.push_back(place);
        self.unanswered += 1;
        self.held[usize::from(place)] = Some(Held {
            id,
            job,
            answer: Answer::Waiting,
            touched: now,
            unconsumed: 0,
            interims: 0,
            abandoned: false,
        });
        self.writer.notify_one();
        Ok(())
    }

    /// The held request that a frame names.
    pub(crate) fn held(&mut self, place: u16, id: u64) -> Option<&mut Held> {
        self.held.get_mut(usize::from(place))?.as_mut().filter(|held| held.id == id)
    }

    /// The answer is complete: the place is free, or will be when `close()` returns.
    pub(crate) fn answered(&mut self, place: u16, service_us: u32) -> Option<Held> {
        let held = self.held.get_mut(usize::from(place))?.take()?;
        self.leave(place);
        self.service_us = self.service_us * 0.875 + (service_us as f32).min(SAMPLE_MOST_US) * 0.125;
        if board::is_running(self.board.word(place), held.id) {
            self.finishing.push((place, held.id));
        } else {
            self.free.push(place);
        }
        Some(held)
    }

    fn leave(&mut self, place: u16) {
        self.unanswered = self.unanswered.saturating_sub(1);
        if let Some(at) = self.order.iter().position(|&other| other == place) {
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

    /// Takes back all requests that were offered before `before` and that no thread has begun; oldest first.
    pub(crate) fn recall_since(&mut self, before: Instant) -> Vec<Job> {
        let is_old =
            |&place: &u16| self.held[usize::from(place)].as_ref().is_some_and(|held| held.touched <= before);
        let places: Vec<u16> = self.order.iter().copied().filter(is_old).collect();
        places.into_iter().filter_map(|place| self.recall(place)).collect()
    }

    /// Takes a request back, if no thread has begun it: then none ever will.
    pub(crate) fn recall(&mut self, place: u16) -> Option<Job> {
        let slot = self.held.get_mut(usize::from(place))?;
        let id = slot.as_ref()?.id;
        if !board::recall(self.board.word(place), id) {
            return None;
        }
        let held = slot.take()?;
        self.leave(place);
        self.free.push(place);
        Some(held.job)
    }

    /// A thread sees at its next write that the client has left; one that waits for credit is woken to see it.
    pub(crate) fn cancel(&mut self, place: u16, id: u64) {
        board::cancel(self.board.word(place), id);
        self.grant(place, id, limits::WINDOW as u32);
    }

    /// Lets the worker send more of an answer.
    pub(crate) fn grant(&mut self, place: u16, id: u64, bytes: u32) {
        Header { kind: Kind::Grant, flags: Flags::NONE, place, id }
            .write(&bytes.to_le_bytes(), &mut self.outbox.bytes);
        self.writer.notify_one();
    }

    /// Asks to be told when the threads that are in `close()` come back.
    pub(crate) fn ask_for_idle(&self) {
        for &(place, id) in &self.finishing {
            board::notify(self.board.word(place), id);
        }
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

    /// Everything it held, when its stream has ended: `(begun, held)`. What can still be taken back was never begun; a
    /// word that is free again belongs to a request that was begun and finished.
    pub(crate) fn into_held(mut self) -> Vec<(bool, Held)> {
        let order = std::mem::take(&mut self.order);
        order
            .into_iter()
            .filter_map(|place| {
                let held = self.held[usize::from(place)].take()?;
                let begun = !board::recall(self.board.word(place), held.id);
                Some((begun, held))
            })
            .collect()
    }
}
