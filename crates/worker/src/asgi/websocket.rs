//! One WebSocket in an ASGI app: `scope`, `receive` and `send`.
//!
//! Owns what the app and the lane do to one exchange, as `http` does for a request; what may come when is `socket`'s.
//! Framing, pings, sizes and UTF-8 are the edge's: here are whole messages, which come and leave in pieces if they are
//! larger than a frame.
//! Invariant: `receive` never waits once the WebSocket is over; after the client has left `send` raises.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bandstand_wire::{Flags, WireError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::answer::Loose;
use super::awaitable::{Done, Ready};
use super::http::later;
use super::message::{self, WebSocketMessage};
use super::socket::{ABNORMAL, RESTART, Socket};
use super::turn::{Turn, Waiters};
use super::{describe, disconnected, is_departure};
use crate::exchange::Exchange;
use crate::wsgi::report;

/// One WebSocket.
#[pyclass(module = "bandstand._worker", frozen, weakref)]
pub(crate) struct WebSocketCycle {
    turn: Arc<Turn>,
    place: u16,
    id: u64,
    state: Mutex<State>,
}

struct State {
    socket: Socket,
    /// The app's; let go at the end, so that an app which keeps its request in it makes no circle.
    scope: Option<Py<PyDict>>,
    waiters: Waiters,
    /// The app's task, held so that it is not collected while it waits.
    task: Option<Py<PyAny>>,
    /// The app's task has ended; what waits for credit still leaves.
    ended: bool,
    /// The place is free.
    finished: bool,
}

impl State {
    /// Frees the place, unless something still waits for credit. True the first time.
    fn free(&mut self) -> bool {
        if self.finished || !self.socket.is_drained() {
            return false;
        }
        self.finished = true;
        self.socket.answer.exchange.finish();
        true
    }
}

impl WebSocketCycle {
    pub(crate) fn new(turn: Arc<Turn>, exchange: Exchange, scope: Py<PyDict>) -> Self {
        let (place, id) = (exchange.place(), exchange.id());
        let state = State {
            socket: Socket::new(exchange),
            scope: Some(scope),
            waiters: Waiters::default(),
            task: None,
            ended: false,
            finished: false,
        };
        Self { turn, place, id, state: Mutex::new(state) }
    }

    /// The app's task, if it has not ended: `None` inside before there is one.
    pub(crate) fn work(&self, py: Python<'_>) -> Option<Option<Py<PyAny>>> {
        let state = self.lock();
        (!state.ended).then(|| state.task.as_ref().map(|task| task.clone_ref(py)))
    }

    /// Holds the app's task while it works.
    pub(crate) fn keep(&self, task: Bound<'_, PyAny>) {
        let mut state = self.lock();
        if !state.ended {
            state.task = Some(task.unbind());
        }
    }

    /// More credit.
    pub(crate) fn grant(&self, py: Python<'_>, more: u32) -> PyResult<()> {
        let mut state = self.lock();
        if state.socket.grant(py, more) {
            return self.wake(py, state);
        }
        drop(state);
        self.turn.settle(py)
    }

    /// A message from the client, or a piece of it.
    ///
    /// # Errors
    /// Text that is no UTF-8, which the edge has to refuse.
    pub(crate) fn message(&self, py: Python<'_>, flags: Flags, piece: &[u8]) -> Result<(), WireError> {
        let mut state = self.lock();
        state.socket.receive(flags, piece)?;
        let waiters = if flags.has(Flags::WHOLE) { state.waiters.take() } else { Waiters::default() };
        drop(state);
        waiters.wake(py);
        Ok(())
    }

    /// The WebSocket is over; messages that came before are still given out.
    pub(crate) fn closed(&self, py: Python<'_>, code: u16, reason: &str) -> PyResult<()> {
        let mut state = self.lock();
        state.socket.close_by_client(code, reason);
        self.wake(py, state)
    }

    /// The client has left without a word.
    pub(crate) fn disconnect(&self, py: Python<'_>) -> PyResult<()> {
        self.closed(py, ABNORMAL, "")
    }

    /// Nobody waits for the app to come to its end: its task is cancelled. It may still clean up.
    pub(crate) fn expire(&self, py: Python<'_>) -> PyResult<()> {
        let task = self.lock().task.as_ref().map(|task| task.clone_ref(py));
        self.disconnect(py)?;
        task.map_or(Ok(()), |task| task.call_method0(py, intern!(py, "cancel")).map(drop))
    }

    /// Nothing more comes over the lane.
    pub(crate) fn lane_ended(&self, py: Python<'_>) -> PyResult<()> {
        self.closed(py, RESTART, "")
    }

    /// Wakes whoever waits, and frees the place if only credit was missing for that.
    fn wake(&self, py: Python<'_>, mut state: MutexGuard<'_, State>) -> PyResult<()> {
        let waiters = state.waiters.take();
        let finished = state.ended && state.free();
        drop(state);
        waiters.wake(py);
        self.settle(py, finished)
    }

    fn settle(&self, py: Python<'_>, finished: bool) -> PyResult<()> {
        self.turn.settle(py)?;
        if finished { self.turn.remove(py, self.id) } else { Ok(()) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl WebSocketCycle {
    /// Its place on the board.
    #[getter]
    pub(crate) fn place(&self) -> u16 {
        self.place
    }

    /// Its id on the channel.
    #[getter]
    fn id(&self) -> u64 {
        self.id
    }

    /// The scope, until the app's task has ended.
    #[getter]
    fn scope<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyDict>> {
        self.lock().scope.as_ref().map(|scope| scope.bind(py).clone())
    }

    /// The ASGI callable `receive`.
    fn receive<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        match slf.get().poll(slf.py())? {
            Some(message) => Ready::with(message),
            None => later(slf, "receive_later"),
        }
    }

    /// The ASGI callable `send`.
    fn send<'py>(slf: &Bound<'py, Self>, message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let (dict, kind) = message::read(message)?;
        let message = WebSocketMessage::parse(kind.to_str()?, dict)?;
        let mut state = this.lock();
        state.socket.apply(message)?;
        let is_drained = state.socket.is_drained();
        let waiters = if state.socket.is_over() { state.waiters.take() } else { Waiters::default() };
        drop(state);
        waiters.wake(py);
        this.turn.settle(py)?;
        if is_drained { Done::get(py) } else { later(slf, "send_later") }
    }

    /// The next message for the app, or None.
    fn poll<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let next = self.lock().socket.next();
        // Credit may have been given back.
        self.turn.settle(py)?;
        next.map(|next| next.message(py)).transpose()
    }

    /// Whether all that was sent is on its way.
    fn drained(&self) -> PyResult<bool> {
        let mut state = self.lock();
        if state.socket.is_gone() { Err(disconnected()) } else { Ok(state.socket.is_drained()) }
    }

    /// A future that is done at the next change.
    fn park<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let future = self.turn.future(py)?;
        self.lock().waiters.add(py, future.clone().unbind());
        Ok(future)
    }

    /// The app has raised.
    fn fail(&self, py: Python<'_>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let error = PyErr::from_value(error.clone());
        let is_quiet = self.lock().socket.is_gone();
        if !(is_quiet && is_departure(py, &error)) {
            report::exception_of(py, &describe(self.scope(py).as_ref()), "in the app", &error);
        }
        self.lock().socket.end(true);
        self.turn.settle(py)
    }

    /// The app's task has ended.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.lock();
        if std::mem::replace(&mut state.ended, true) {
            return Ok(());
        }
        let (task, scope) = (state.task.take(), state.scope.take());
        let is_quiet = state.socket.is_gone();
        let loose = state.socket.end(false);
        if is_quiet {
            state.socket.abandon();
        }
        let waiters = state.waiters.take();
        let finished = state.free();
        drop(state);
        drop(task);
        waiters.wake(py);
        if !is_quiet && loose != Loose::No {
            let request = describe(scope.as_ref().map(|scope| scope.bind(py)));
            report::line(py, &request, "the app returned without an answer to the handshake");
        }
        drop(scope);
        self.settle(py, finished)
    }
}
