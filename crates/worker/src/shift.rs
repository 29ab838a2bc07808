//! What the threads of a worker share with its event loop: who works on, who waits, and what goes over to the loop.
//!
//! Owns the three ways between them: a request that is better off on the loop is handed over before it is begun; a
//! thread that waits for an async view is announced as `Moved` and leaves its seat; an answer that the loop streams
//! leaves its thread. `python/bandstand/bridge.py` is the other half; `docs/decisions/0005-asgi.md` the reason.
//! Invariant: `Moved` is sent once for an exchange, and only when its seat is taken over.

use std::sync::Arc;

use bandstand_wire::{Flags, RequestHead};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::asgi::{Cycle, Turn};
use crate::channel::Request;
use crate::lane::Lane;
use crate::seats::{Relief, Seats};
use crate::wsgi::report;

type Reinforce = Box<dyn Fn(Python<'_>) -> PyResult<()> + Send + Sync>;

/// One for a worker.
pub(crate) struct Shift {
    lane: Py<Lane>,
    turn: Arc<Turn>,
    seats: Arc<Seats>,
    threads: u16,
    choose: Option<Py<PyAny>>,
    always: bool,
    /// Makes one more thread.
    reinforce: Arc<PyOnceLock<Reinforce>>,
}

/// What a request in the hands of a thread has of it.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) turn: Arc<Turn>,
    seats: Arc<Seats>,
    reinforce: Arc<PyOnceLock<Reinforce>>,
}

impl Shift {
    pub(crate) fn new(
        lane: Py<Lane>,
        threads: u16,
        threads_max: u16,
        choose: Option<Py<PyAny>>,
        always: bool,
    ) -> Self {
        let turn = Arc::clone(lane.get().turn());
        let seats = Arc::new(Seats::new(usize::from(threads), usize::from(threads_max)));
        Self { lane, turn, seats, threads, choose, always, reinforce: Arc::new(PyOnceLock::new()) }
    }

    pub(crate) fn threads(&self) -> u16 {
        self.threads
    }

    pub(crate) fn seats(&self) -> &Seats {
        &self.seats
    }

    /// Says how one more thread is made. Once.
    pub(crate) fn set_reinforce(
        &self,
        reinforce: impl Fn(Python<'_>) -> PyResult<()> + Send + Sync + 'static,
    ) {
        Python::attach(|py| {
            let _ = self.reinforce.set(py, Box::new(reinforce));
        });
    }

    pub(crate) fn way(&self) -> Way {
        Way {
            turn: Arc::clone(&self.turn),
            seats: Arc::clone(&self.seats),
            reinforce: Arc::clone(&self.reinforce),
        }
    }

    /// Whether the loop should answer this request. What cannot be told stays here.
    pub(crate) fn prefers_loop(&self, py: Python<'_>, request: &Request) -> bool {
        let Some(choose) = &self.choose else { return false };
        let flags = request.header.flags;
        // A streamed body has already begun to come over the channel.
        if flags.has(Flags::STREAM) || flags.has(Flags::PINNED) || (!self.always && !self.seats.are_short()) {
            return false;
        }
        let Ok((head, ..)) = RequestHead::decode(&request.payload) else { return false };
        let Some(path) = head.path.strip_prefix(head.root_path).and_then(|path| str::from_utf8(path).ok())
        else {
            return false;
        };
        choose.call1(py, (path,)).and_then(|answer| answer.is_truthy(py)).unwrap_or_else(|error| {
            report::exception(py, None, "while the road of a request was chosen", &error);
            false
        })
    }

    /// The loop answers this request, which nobody has begun.
    pub(crate) fn hand_over(&self, py: Python<'_>, request: Request) {
        Lane::hand_over(self.lane.bind(py), request);
    }
}

impl Way {
    /// From the loop: the thread of this exchange waits for it. True when its seat is taken over.
    pub(crate) fn relieve(&self, py: Python<'_>) -> bool {
        match self.seats.leave() {
            Relief::Standing => true,
            Relief::Nobody => false,
            Relief::New => {
                let made = self.reinforce.get(py).is_some_and(|reinforce| {
                    reinforce(py)
                        .inspect_err(|error| report::exception(py, None, "while a thread was made", error))
                        .is_ok()
                });
                if !made {
                    self.seats.not_made();
                }
                made
            }
        }
    }

    /// `callback(expired)` is called when the client of this exchange leaves, or its time is over; a second one takes the
    /// place of the first.
    pub(crate) fn watch(&self, id: u64, callback: Py<PyAny>) {
        self.turn.insert(id, Cycle::Watch(callback));
    }
}
