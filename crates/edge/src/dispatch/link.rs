//! What the edge knows of one worker: how much it has to do, what is on its way to it, how long its requests take.
//!
//! Owns the worker's standing and its load; what is taken back from it is `recall`'s. Which worker gets which request is `queue`'s; places and the board are in
//! `places`; what is said to it is in `outlet`.
//! Invariant: `load` is the number of held exchanges without a complete answer, by what they take of the worker.
//!
//! ```text
//!   Booting ──hello──► Beside ◄──switch──► Current
//!      └───────────────────┴──retire──────────┴────► Leaving
//! ```

mod recall;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bandstand_supervisor::Board;
use bandstand_wire::limits;
use bandstand_wire::sequence::Answer;

use super::farewell::Farewell;
use super::guard::Guard;
use super::outlet::{Line, Outlets, Writers};
use super::places::{Held, Places};
use super::queue::{Job, Work};

/// Work that may lie ahead of a busy worker. A gap between two requests costs a wake-up of worker and edge, some tens of
/// microseconds on a virtual machine; this is about a hundred of them, and short against what anybody notices. Beyond it,
/// waiting in the common queue is better for everybody. `docs/decisions/0003-dispatch.md` has the measurement.
const AHEAD: Duration = Duration::from_millis(3);
/// Most requests ahead of a worker.
const AHEAD_MOST: usize = 64;
/// Places that WebSockets leave to requests, however many there are.
const PLACES_FOR_REQUESTS: usize = 1024;
/// A sample of service time counts at most this much, so that one slow request does not hide a fast app for long.
const SAMPLE_MOST_US: f32 = 20_000.0;

/// Whether a worker is given requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has not said hello.
    Booting,
    /// It is ready, but its generation is not the current one: it is given nothing but probes.
    Beside,
    /// It is given requests.
    Current,
    /// It is given nothing, and leaves once it holds nothing: its channel and lane are shut for writing then.
    Leaving,
}

/// One worker as the pool sees it.
pub(crate) struct Link {
    pub(crate) number: u32,
    pub(crate) generation: u32,
    /// Requests that its threads work on at once.
    pub(crate) threads: usize,
    /// Requests that its loop works on at once; 0 without a loop.
    pub(crate) tasks: usize,
    pub(crate) standing: Standing,
    /// Since when its threads do not begin what they are given; they are given nothing until the worker moves again, or
    /// a second look is due.
    pub(crate) stalled: Option<Instant>,
    pub(crate) places: Places,
    pub(crate) outlets: Outlets,
    /// What is over its time, and how its guard answers.
    pub(crate) guard: Guard,
    /// How it sends away those that stay, when it leaves gently.
    pub(crate) farewell: Option<Farewell>,
    /// Answers completed.
    pub(crate) served: u64,
    /// When it was last given something or said something.
    pub(crate) touched: Instant,
    load: [usize; Work::ALL.len()],
    /// Places of what the threads have, in the order in which it was offered, answered ones taken out.
    order: VecDeque<u16>,
    service_us: f32,
}

impl Link {
    pub(crate) fn new(number: u32, generation: u32, board: Arc<Board>, writers: Writers) -> Self {
        Self {
            number,
            generation,
            threads: 0,
            tasks: 0,
            standing: Standing::Booting,
            stalled: None,
            places: Places::new(board),
            outlets: Outlets::new(writers),
            guard: Guard::default(),
            farewell: None,
            served: 0,
            touched: Instant::now(),
            load: [0; Work::ALL.len()],
            order: VecDeque::new(),
            service_us: SAMPLE_MOST_US,
        }
    }

    /// Takes its standing from the generation that is current.
    pub(crate) fn follow(&mut self, current: u32) {
        self.standing = match self.standing {
            Standing::Beside | Standing::Current if self.generation == current => Standing::Current,
            Standing::Beside | Standing::Current => Standing::Beside,
            other => other,
        };
    }

    /// It may be given requests.
    pub(crate) fn is_accepting(&self) -> bool {
        self.standing == Standing::Current
    }

    /// It was told to leave.
    pub(crate) fn is_leaving(&self) -> bool {
        self.standing == Standing::Leaving
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
        self.is_leaving() && self.is_quiet()
    }

    /// Exchanges that it works on, answered ones that it has not finished with included.
    pub(crate) fn exchanges(&mut self) -> usize {
        self.load.iter().sum::<usize>() + self.places.closing() + self.places.lingering()
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
        self.is_accepting() && self.threads > 0 && self.stalled.is_none() && self.outlets.reads(Line::Channel)
    }

    /// The loop may be given one more. Nothing is sent ahead of it: it begins what it gets at once, or is held up.
    pub(crate) fn loop_takes(&self, work: Work) -> bool {
        let bound = match work {
            Work::Thread => false,
            Work::Task => self.load(Work::Task) < self.tasks && self.places.free() > 0,
            Work::Socket => self.tasks > 0 && self.places.free() > PLACES_FOR_REQUESTS,
        };
        bound && self.is_accepting() && self.outlets.reads(Line::Lane)
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

    /// For tests in which much is sent ahead, without the requests that teach it.
    #[cfg(test)]
    pub(crate) fn assume_quick(&mut self) {
        self.service_us = 1.0;
    }

    /// Puts a request into the outbox of its lane. Gives it back when no place is free.
    pub(crate) fn assign(&mut self, job: Job, now: Instant) -> Result<(), Job> {
        let Some((place, id)) = self.places.offer() else { return Err(job) };
        let work = job.work;
        self.outlets.request(&job, place, id);
        job.reply.assigned(self.number, self.generation, place, id, now);
        if work == Work::Thread {
            self.order.push_back(place);
        }
        self.load[work as usize] += 1;
        self.touched = now;
        let held = Held {
            id,
            job,
            work,
            answer: Answer::Waiting,
            touched: now,
            unconsumed: 0,
            interims: 0,
            is_events: false,
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
        self.served += 1;
        // Time on the loop is time of waiting: it says nothing about how soon a thread is free.
        if held.work == Work::Thread {
            self.service_us = self.service_us * 0.875 + (service_us as f32).min(SAMPLE_MOST_US) * 0.125;
        }
    }

    /// The loop has it now: its thread is free. False if no thread had it.
    pub(crate) fn moved(&mut self, place: u16, id: u64) -> bool {
        let expired = match self.places.named(place, id) {
            Some(held) if held.work == Work::Thread => {
                held.work = Work::Task;
                std::mem::take(&mut held.expired)
            }
            _ => return false,
        };
        self.unload(place, Work::Thread);
        self.load[Work::Task as usize] += 1;
        if expired {
            self.expire(place, id); // the thread was told; the loop was not
        }
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

    /// Everything it held, oldest first, when its stream has ended: `(begun, held)`.
    pub(crate) fn into_held(mut self) -> Vec<(bool, Held)> {
        let places = self.places.by_age();
        places.into_iter().filter_map(|place| self.places.salvage(place)).collect()
    }
}
