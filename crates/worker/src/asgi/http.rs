//! One HTTP request in an ASGI app: `scope`, `receive` and `send`.
//!
//! Owns what the app and the lane do to one exchange. The app's calls answer at once (`Ready`, `Done`) unless there is
//! something to wait for; then they are coroutines of `bandstand.asgi` that park here until the lane brings news.
//! Invariant: after the client has left, or the answer is complete, `receive` says `http.disconnect` for ever and never
//! waits; after the client has left `send` raises.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bandstand_wire::{Flags, WireError};
use pyo3::exceptions::{PyFileNotFoundError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};
use rustix::fs::{FileType, Mode, OFlags};

use super::answer::{Answer, Facts, Loose};
use super::awaitable::{Done, Ready};
use super::body::Body;
use super::message::{self, HttpMessage};
use super::turn::{Turn, Waiters};
use super::{describe, disconnected, is_departure};
use crate::descriptor::duplicate;
use crate::exchange::Exchange;
use crate::wsgi::file::Slice;
use crate::wsgi::report;
use crate::wsgi::response::Fault;

/// How long an app that was told of the end may take before its task is cancelled; less than the edge waits for that.
const HEARD_WITHIN_SECONDS: f64 = 0.5;

/// One request and its answer.
#[pyclass(module = "bandstand._worker", frozen, weakref)]
pub(crate) struct HttpCycle {
    turn: Arc<Turn>,
    place: u16,
    id: u64,
    state: Mutex<State>,
}

struct State {
    /// The app's; let go at the end, so that an app which keeps its request in it makes no circle.
    scope: Option<Py<PyDict>>,
    answer: Answer,
    body: Body,
    waiters: Waiters,
    /// The client has left.
    gone: bool,
    /// No more credit will come, though the client may still be there: the lane has ended.
    last_credit: bool,
    /// The app's task, held so that it is not collected while it waits.
    task: Option<Py<PyAny>>,
    /// The app's task has ended; what waits for credit still leaves.
    ended: bool,
    /// The place is free.
    finished: bool,
}

impl HttpCycle {
    pub(crate) fn new(
        turn: Arc<Turn>,
        exchange: Exchange,
        scope: Py<PyDict>,
        body: Body,
        facts: Facts,
    ) -> Self {
        let state = State {
            scope: Some(scope),
            body,
            waiters: Waiters::default(),
            gone: false,
            last_credit: false,
            task: None,
            ended: false,
            finished: false,
            answer: Answer::new(exchange, facts),
        };
        let (place, id) = (state.answer.exchange.place(), state.answer.exchange.id());
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
        state.answer.exchange.grant(more);
        if state.answer.is_drained() || !state.answer.pump(py) {
            drop(state);
            return self.turn.settle(py);
        }
        self.wake(py, state)
    }

    /// A piece of a streamed body.
    pub(crate) fn receive_body(&self, py: Python<'_>, flags: Flags, piece: &[u8]) -> Result<(), WireError> {
        let mut state = self.lock();
        state.body.receive(flags, piece)?;
        let waiters = state.waiters.take();
        drop(state);
        waiters.wake(py);
        Ok(())
    }

    /// The client has left.
    pub(crate) fn disconnect(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.lock();
        state.gone = true;
        state.answer.abandon();
        self.wake(py, state)
    }

    /// Its time is over, and nobody waits for the answer any more: the app's task is cancelled. It may still clean up.
    ///
    /// One that waits for a message, or for its client to take more, hears of it that way first: Django then cancels the
    /// view and waits for it, while a cancellation of its own task would leave the view behind.
    pub(crate) fn expire(&self, py: Python<'_>) -> PyResult<()> {
        let state = self.lock();
        let hears = !state.waiters.is_empty();
        // What goes on behind a complete answer is none of the client's time.
        let late = state.task.as_ref().filter(|_| !state.answer.is_complete());
        let task = late.map(|task| task.clone_ref(py));
        drop(state);
        self.disconnect(py)?;
        let Some(task) = task else { return Ok(()) };
        let cancel = task.getattr(py, intern!(py, "cancel"))?;
        if !hears {
            return cancel.call0(py).map(drop);
        }
        let event_loop = task.call_method0(py, intern!(py, "get_loop"))?;
        event_loop.call_method1(py, intern!(py, "call_later"), (HEARD_WITHIN_SECONDS, cancel)).map(drop)
    }

    /// Nothing more comes over the lane: no credit either.
    pub(crate) fn lane_ended(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.lock();
        state.last_credit = true;
        state.cut();
        self.wake(py, state)
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

impl State {
    fn is_gone(&mut self) -> bool {
        self.gone |= self.answer.exchange.is_cancelled();
        self.gone
    }

    /// Gives up what waits for credit that will not come.
    fn cut(&mut self) {
        if (self.gone || self.last_credit) && !self.answer.is_drained() {
            self.answer.abandon();
            self.gone = true;
        }
    }

    /// Frees the place, unless something still waits for credit. True the first time.
    fn free(&mut self) -> bool {
        if self.finished || !self.answer.is_drained() {
            return false;
        }
        self.finished = true;
        self.answer.exchange.finish();
        true
    }

    /// What `receive` says next; `None` while there is nothing.
    fn next<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Next<'py>>> {
        let over = self.ended || self.answer.is_complete() || self.is_gone();
        if !over && let Some((bytes, more)) = self.body.next(py, &mut self.answer.exchange)? {
            return Ok(Some(Next::Body(bytes, more)));
        }
        Ok((over || matches!(self.body, Body::Broken)).then_some(Next::Disconnect))
    }
}

enum Next<'py> {
    Body(Bound<'py, PyBytes>, bool),
    Disconnect,
}

impl<'py> Next<'py> {
    /// The message. Made while nothing is locked: the collector may run, and with it any code.
    fn message(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let message = PyDict::new(py);
        match self {
            Self::Body(bytes, more) => {
                message.set_item(intern!(py, "type"), intern!(py, "http.request"))?;
                message.set_item(intern!(py, "body"), bytes)?;
                message.set_item(intern!(py, "more_body"), more)?;
            }
            Self::Disconnect => message.set_item(intern!(py, "type"), intern!(py, "http.disconnect"))?,
        }
        Ok(message.into_any())
    }
}

#[pymethods]
impl HttpCycle {
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
        let py = slf.py();
        match slf.get().poll(py)? {
            Some(message) => Ready::with(message),
            None => later(slf, "receive_later"),
        }
    }

    /// The ASGI callable `send`.
    fn send<'py>(slf: &Bound<'py, Self>, message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let (dict, kind) = message::read(message)?;
        match HttpMessage::parse(kind.to_str()?, dict)? {
            HttpMessage::Path(path) => this.send_path(&path)?,
            HttpMessage::File { file, offset, count, more } => {
                if more || !this.send_file(&file, offset, count)? {
                    return later_with(slf, "send_file_later", message);
                }
            }
            message => this.apply(message)?,
        }
        this.after_send(py)?;
        let is_done = {
            let mut state = this.lock();
            state.answer.is_drained() && !(state.last_credit && state.is_gone())
        };
        if is_done { Done::get(py) } else { later(slf, "send_later") }
    }

    /// The next message for the app, or None.
    fn poll<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let next = self.lock().next(py)?;
        match next {
            Some(next @ (Next::Body(_, false) | Next::Disconnect)) => next.message(py).map(Some),
            // More of a streamed body may have been asked for.
            next => {
                self.turn.settle(py)?;
                next.map(|next| next.message(py)).transpose()
            }
        }
    }

    /// Whether all that was sent is on its way.
    fn drained(&self) -> PyResult<bool> {
        let mut state = self.lock();
        if state.is_gone() {
            return Err(disconnected());
        }
        Ok(state.answer.is_drained())
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
        let is_quiet = self.lock().is_gone();
        if is_quiet && is_departure(py, &error) {
            // Django's handler keeps the task that has raised it in a frame of the traceback: without this, iterators of
            // the answer would be closed when the collector runs next, which may be never.
            error.value(py).setattr(intern!(py, "__traceback__"), py.None())?;
        } else {
            report::exception_of(py, &describe(self.scope(py).as_ref()), "in the app", &error);
        }
        self.lock().answer.fail();
        self.turn.settle(py)
    }

    /// The app's task has ended.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.lock();
        if std::mem::replace(&mut state.ended, true) {
            return Ok(());
        }
        let (task, scope) = (state.task.take(), state.scope.take());
        let is_quiet = state.is_gone();
        let loose = if state.answer.is_complete() { Loose::No } else { state.answer.fail() };
        let fault = state.answer.take_fault();
        state.cut();
        let waiters = state.waiters.take();
        let finished = state.free();
        drop(state);
        drop(task);
        waiters.wake(py);
        if !is_quiet {
            report_end(py, scope.as_ref().map(|scope| scope.bind(py)), loose, fault);
        }
        drop(scope);
        self.settle(py, finished)
    }
}

impl HttpCycle {
    fn apply(&self, message: HttpMessage<'_>) -> PyResult<()> {
        let mut state = self.lock();
        if state.is_gone() && !state.answer.is_complete() {
            return Err(disconnected());
        }
        let answer = &mut state.answer;
        match message {
            HttpMessage::Start { head, trailers } => answer.start(head, trailers),
            HttpMessage::Body { bytes, more } => answer.body(&bytes, more),
            HttpMessage::Trailers { head, more } => answer.trailers(head, more),
            HttpMessage::EarlyHint { head } => answer.early_hint(&head),
            HttpMessage::Path(_) | HttpMessage::File { .. } => Ok(()),
        }
    }

    /// Lets it leave; wakes `receive` when the answer is complete.
    fn after_send(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.lock();
        state.cut();
        let waiters = if state.answer.is_complete() { state.waiters.take() } else { Waiters::default() };
        drop(state);
        waiters.wake(py);
        self.turn.settle(py)
    }

    fn send_path(&self, path: &std::path::Path) -> PyResult<()> {
        let mut state = self.lock();
        if state.is_gone() {
            return Err(disconnected());
        }
        state.answer.may_send_file()?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| PyErr::from(std::io::Error::from(error)))?;
        let Some(length) = regular_length(&file)? else {
            return Err(PyFileNotFoundError::new_err(format!("{} is not a plain file", path.display())));
        };
        if state.answer.has_trailers() {
            return Err(PyValueError::new_err("http.response.pathsend cannot be followed by trailers"));
        }
        state.answer.file(Slice { file, offset: 0, length })
    }

    /// Gives a file that is the whole body to the edge. False: it has to be read here.
    fn send_file(&self, file: &Bound<'_, PyAny>, offset: Option<u64>, count: Option<u64>) -> PyResult<bool> {
        // Calls into the app's object come before anything is locked.
        let number: i32 = match file.extract() {
            Ok(number) => number,
            Err(_) => file.call_method0(intern!(file.py(), "fileno"))?.extract()?,
        };
        let file = duplicate(number).map_err(|error| PyErr::from(std::io::Error::from(error)))?;
        let mut state = self.lock();
        if state.is_gone() {
            return Err(disconnected());
        }
        // With a position of its own the file has to stand behind what was sent; see `send_file_later`.
        let (Some(offset), Ok(()), false, Ok(Some(size))) =
            (offset, state.answer.may_send_file(), state.answer.has_trailers(), regular_length(&file))
        else {
            return Ok(false);
        };
        let rest = size.saturating_sub(offset);
        let length = count.map_or(rest, |count| count.min(rest));
        if !state.answer.accepts_length(length) {
            return Ok(false);
        }
        state.answer.file(Slice { file, offset, length })?;
        Ok(true)
    }
}

/// What the log says of an answer that the app did not end well.
fn report_end(py: Python<'_>, scope: Option<&Bound<'_, PyDict>>, loose: Loose, fault: Option<Fault>) {
    if loose == Loose::No && fault.is_none() {
        return;
    }
    let request = describe(scope);
    match loose {
        Loose::No => {}
        Loose::Unanswered => report::line(py, &request, "the app returned without an answer"),
        Loose::Unfinished => {
            report::line(py, &request, "the app returned before its answer was complete; it was broken off");
        }
    }
    if let Some(fault) = fault {
        report::fault_of(py, &request, fault);
    }
}

/// Length of a plain file; `None` for anything else.
fn regular_length(file: &rustix::fd::OwnedFd) -> PyResult<Option<u64>> {
    let status = rustix::fs::fstat(file).map_err(|error| PyErr::from(std::io::Error::from(error)))?;
    let is_plain = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile;
    Ok(u64::try_from(status.st_size).ok().filter(|_| is_plain))
}

/// The coroutine of `bandstand.asgi` that waits for what a cycle does not have yet.
pub(super) fn later<'py, T>(cycle: &Bound<'py, T>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    asgi(cycle.py())?.getattr(name)?.call1((cycle.as_any(),))
}

fn later_with<'py, T>(
    cycle: &Bound<'py, T>,
    name: &str,
    message: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    asgi(cycle.py())?.getattr(name)?.call1((cycle.as_any(), message))
}

fn asgi(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    Ok(MODULE.get_or_try_init(py, || py.import("bandstand.asgi").map(Bound::unbind))?.bind(py))
}
