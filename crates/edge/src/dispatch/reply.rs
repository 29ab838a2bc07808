//! Where a connection picks up the answer to the request it gave away.
//!
//! Owns the events of one exchange between the channel that reads them and the connection that writes them out. Bounded
//! by the channel's credit: a worker sends at most `wire::limits::WINDOW` bytes that the connection has not consumed.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// What a worker, or the want of one, had to say.
#[derive(Debug)]
pub(crate) enum Event {
    /// An interim head (103), in wire form.
    Interim(Vec<u8>),
    /// The head of the answer.
    Head(HeadFrame),
    /// More of the body.
    Chunk(Vec<u8>),
    /// Fields after the body, in wire form; `End` follows.
    Trailers(Vec<u8>),
    /// The body is over; `broken` when the app failed within it.
    End { broken: bool, service_us: u32 },
    /// There will be no (more) answer.
    Failed(Failure),
    /// The app accepts the WebSocket: a head with status 101 in wire form, valid.
    Accept(Vec<u8>),
    /// A message from the app, or a piece of it; `whole` on the last. Its bytes are credit, given back with
    /// `Ticket::consumed`.
    Message { text: bool, whole: bool, bytes: Vec<u8> },
    /// The app closes the WebSocket; nothing follows.
    Close { code: u16, reason: String },
    /// So many more bytes of messages may be sent to the app.
    Credit(u32),
    /// The worker is leaving: the WebSocket is to be closed with 1012.
    Restart,
}

/// The frame that holds the head, and perhaps all, of an answer.
#[derive(Debug)]
pub(crate) struct HeadFrame {
    /// `ResponseHead`, fields, first bytes of the body: valid, the channel has decoded it once.
    pub(crate) payload: Vec<u8>,
    /// Nothing follows.
    pub(crate) whole: bool,
    /// The body is this file.
    pub(crate) descriptor: Option<OwnedFd>,
}

/// Why there is no answer. `refusal` turns it into a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The queue was full.
    QueueFull,
    /// No place became free in time.
    QueueTimeout,
    /// The server is stopping.
    Stopping,
    /// The worker died with the request.
    WorkerDied,
    /// The app took longer than `timeout`.
    TimedOut,
}

/// Where the request is, for whoever wants it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Location {
    /// In the queue.
    Queued,
    /// With a worker, at a place on its board, under an id.
    Held { worker: u32, place: u16, id: u64 },
    /// Answered, failed, or given up by its connection.
    Nowhere,
}

/// Times and names of the exchange, for its record.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Trace {
    /// When a worker was found for it (the last time).
    pub(crate) assigned: Option<Instant>,
    /// That worker's number.
    pub(crate) worker: Option<u32>,
    /// That worker's generation.
    pub(crate) generation: Option<u32>,
    /// Microseconds the app worked, as the worker measured.
    pub(crate) service_us: Option<u32>,
    /// How many workers have had it.
    pub(crate) attempts: u8,
}

/// The meeting point of one exchange.
#[derive(Debug)]
pub(crate) struct Reply {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    events: VecDeque<Event>,
    waker: Option<Waker>,
    location: Location,
    trace: Trace,
}

impl Reply {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                events: VecDeque::new(),
                waker: None,
                location: Location::Nowhere,
                trace: Trace::default(),
            }),
        }
    }

    /// Adds an event; gives the waker to call once no lock is held.
    #[must_use]
    pub(crate) fn push(&self, event: Event) -> Option<Waker> {
        let mut state = self.lock();
        if let Event::End { service_us, .. } = &event {
            state.trace.service_us = Some(*service_us);
        }
        match (event, state.events.back_mut()) {
            // A worker may say it in as many frames as it likes.
            (Event::Credit(more), Some(Event::Credit(credit))) => *credit = credit.saturating_add(more),
            (event, _) => state.events.push_back(event),
        }
        state.waker.take()
    }

    /// The next event. Safe to drop: no event is lost.
    pub(crate) fn poll_next(&self, context: &mut Context<'_>) -> Poll<Event> {
        let mut state = self.lock();
        if let Some(event) = state.events.pop_front() {
            return Poll::Ready(event);
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    pub(crate) fn location(&self) -> Location {
        self.lock().location
    }

    pub(crate) fn set_location(&self, location: Location) {
        self.lock().location = location;
    }

    /// A worker was found for it.
    pub(crate) fn assigned(&self, worker: u32, generation: u32, place: u16, id: u64, now: Instant) {
        let mut state = self.lock();
        state.location = Location::Held { worker, place, id };
        state.trace.assigned = Some(now);
        state.trace.worker = Some(worker);
        state.trace.generation = Some(generation);
        state.trace.attempts = state.trace.attempts.saturating_add(1);
    }

    pub(crate) fn set_service(&self, service_us: u32) {
        self.lock().trace.service_us = Some(service_us);
    }

    pub(crate) fn trace(&self) -> Trace {
        self.lock().trace
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
