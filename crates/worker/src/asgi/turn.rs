//! What all cycles of a lane share: the way out, the count of those at work, and who gets a frame.
//!
//! Owns when answers leave: those of one turn of the loop leave in one write. A lone answer leaves at once, so that
//! work after it cannot hold it back; with several at work the write is due at the end of the turn, and the watch over
//! waiting answers (`linger`) does it should the turn be slow. The loop is never blocked by a full socket.
//! Invariant: what was appended is written at the end of the turn at the latest, or the loop watches for room.

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::{HttpCycle, WebSocketCycle};
use crate::board::Board;
use crate::channel::{Channel, Posted};

/// Who gets the frames of an exchange.
pub(crate) enum Cycle {
    Http(Py<HttpCycle>),
    WebSocket(Py<WebSocketCycle>),
    /// A thread answers it; this is called when the client leaves (false) or its time is over (true).
    Watch(Py<PyAny>),
}

impl Cycle {
    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Http(cycle) => Self::Http(cycle.clone_ref(py)),
            Self::WebSocket(cycle) => Self::WebSocket(cycle.clone_ref(py)),
            Self::Watch(callback) => Self::Watch(callback.clone_ref(py)),
        }
    }
}

/// Shared by a lane and its cycles.
pub(crate) struct Turn {
    pub(crate) channel: Arc<Channel>,
    pub(crate) board: Board,
    event_loop: Py<PyAny>,
    call_soon: Py<PyAny>,
    /// `Lane.flush`, and what is called when there is nothing more to do.
    flush: PyOnceLock<Py<PyAny>>,
    cycles: Mutex<HashMap<u64, Cycle>>,
    /// Cycles whose task has not ended.
    active: AtomicUsize,
    /// A flush is scheduled.
    scheduled: AtomicBool,
    /// More requests lie at hand, so a flush follows soon.
    held: AtomicBool,
    /// The loop watches the socket for room.
    watched: AtomicBool,
    /// Nothing more comes over the lane.
    ended: AtomicBool,
    on_end: Mutex<Option<Py<PyAny>>>,
    /// The watchdog sleeps; it is woken by the next cycle.
    resting: AtomicBool,
    rest: (Mutex<()>, Condvar),
}

impl Turn {
    /// # Errors
    /// `AttributeError` when `event_loop` is none.
    pub(crate) fn new(channel: Arc<Channel>, board: Board, event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self {
            channel,
            board,
            event_loop: event_loop.clone().unbind(),
            call_soon: event_loop.getattr("call_soon")?.unbind(),
            flush: PyOnceLock::new(),
            cycles: Mutex::default(),
            active: AtomicUsize::new(0),
            scheduled: AtomicBool::new(false),
            held: AtomicBool::new(false),
            watched: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            on_end: Mutex::default(),
            resting: AtomicBool::new(false),
            rest: <(Mutex<()>, Condvar)>::default(),
        })
    }

    /// `callback` writes what waits; the loop calls it.
    pub(crate) fn set_flush(&self, py: Python<'_>, callback: Py<PyAny>) {
        // Set once, right after the lane was made.
        let _ = self.flush.set(py, callback);
    }

    pub(crate) fn set_on_end(&self, callback: Option<Py<PyAny>>) {
        *self.on_end.lock().unwrap_or_else(PoisonError::into_inner) = callback;
    }

    /// A future of the loop.
    pub(crate) fn future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.event_loop.bind(py).call_method0(intern!(py, "create_future"))
    }

    pub(crate) fn insert(&self, id: u64, cycle: Cycle) {
        if !matches!(cycle, Cycle::Watch(_)) {
            self.active.fetch_add(1, Ordering::SeqCst);
            self.rouse();
        }
        self.cycles().insert(id, cycle);
    }

    pub(crate) fn find(&self, py: Python<'_>, id: u64) -> Option<Cycle> {
        self.cycles().get(&id).map(|cycle| cycle.clone_ref(py))
    }

    /// All cycles, for what concerns each of them.
    pub(crate) fn all(&self, py: Python<'_>) -> Vec<Cycle> {
        self.cycles().values().map(|cycle| cycle.clone_ref(py)).collect()
    }

    /// A callback of `watch` is no longer wanted.
    pub(crate) fn forget(&self, id: u64) {
        let forgotten = self.cycles().remove(&id);
        drop(forgotten);
    }

    /// A cycle's task has ended and its place is free.
    ///
    /// # Errors
    /// What the callback raised.
    pub(crate) fn remove(&self, py: Python<'_>, id: u64) -> PyResult<()> {
        self.forget(id);
        let left = self.active.fetch_sub(1, Ordering::Relaxed) - 1;
        if left == 0 && self.ended.load(Ordering::Relaxed) { self.tell_end(py) } else { Ok(()) }
    }

    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Nothing more comes over the lane.
    ///
    /// # Errors
    /// What the callback raised.
    pub(crate) fn end(&self, py: Python<'_>) -> PyResult<()> {
        let was = self.ended.swap(true, Ordering::SeqCst);
        self.rouse();
        if was { Ok(()) } else { self.tell_end(py) }
    }

    /// A thread waits for the loop: it is at work, for `rest`.
    pub(crate) fn enter(&self) {
        self.active.fetch_add(1, Ordering::SeqCst);
        self.rouse();
    }

    /// The thread goes on. Whoever waits for the end of all is told by the threads themselves.
    pub(crate) fn leave(&self) {
        self.active.fetch_sub(1, Ordering::SeqCst);
    }

    /// Waits until a cycle is at work; false when nothing more comes. The caller is detached.
    pub(crate) fn rest(&self) -> bool {
        let (mutex, condition) = &self.rest;
        let mut guard = mutex.lock().unwrap_or_else(PoisonError::into_inner);
        self.resting.store(true, Ordering::SeqCst);
        while self.active.load(Ordering::SeqCst) == 0 && !self.ended.load(Ordering::SeqCst) {
            guard = condition.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.resting.store(false, Ordering::SeqCst);
        drop(guard);
        self.active.load(Ordering::SeqCst) > 0
    }

    fn rouse(&self) {
        if self.resting.load(Ordering::SeqCst) {
            let (mutex, condition) = &self.rest;
            drop(mutex.lock().unwrap_or_else(PoisonError::into_inner));
            condition.notify_all();
        }
    }

    fn tell_end(&self, py: Python<'_>) -> PyResult<()> {
        let callback =
            self.on_end.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|it| it.clone_ref(py));
        callback.map_or(Ok(()), |callback| callback.call0(py).map(drop))
    }

    /// Says whether more requests lie at hand. What already waits is watched over while the next one works.
    pub(crate) fn hold(&self, py: Python<'_>, held: bool) -> PyResult<()> {
        self.held.store(held, Ordering::Relaxed);
        if held && self.channel.pending().is_some() && !self.channel.linger().watch() {
            return self.flush(py);
        }
        Ok(())
    }

    /// Something was appended: it leaves now, or with what else this turn brings.
    pub(crate) fn settle(&self, py: Python<'_>) -> PyResult<()> {
        match self.channel.pending() {
            None => Ok(()),
            Some(Posted::Due) => self.flush(py),
            Some(Posted::Waiting) if self.held.load(Ordering::Relaxed) => Ok(()),
            Some(Posted::Waiting) if self.active() <= 1 || !self.channel.linger().watch() => self.flush(py),
            Some(Posted::Waiting) => self.schedule(py),
        }
    }

    fn schedule(&self, py: Python<'_>) -> PyResult<()> {
        if self.scheduled.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        match self.flush.get(py) {
            Some(flush) => self.call_soon.call1(py, (flush,)).map(drop),
            None => self.flush(py),
        }
    }

    /// Called by the loop: the end of the turn, or room in the socket.
    pub(crate) fn flush_scheduled(&self, py: Python<'_>) -> PyResult<()> {
        self.scheduled.store(false, Ordering::Relaxed);
        self.flush(py)
    }

    /// Writes as much as there is room for.
    pub(crate) fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let is_full = !self.channel.flush(false);
        if self.watched.load(Ordering::Relaxed) == is_full {
            return Ok(());
        }
        self.watched.store(is_full, Ordering::Relaxed);
        let event_loop = self.event_loop.bind(py);
        let socket = self.channel.socket().as_raw_fd();
        match self.flush.get(py) {
            Some(flush) if is_full => {
                event_loop.call_method1(intern!(py, "add_writer"), (socket, flush))?;
                // uvloop makes non-blocking what it watches, and threads of this worker wait in their reads of it.
                Ok(rustix::io::ioctl_fionbio(self.channel.socket(), false).map_err(std::io::Error::from)?)
            }
            _ => event_loop.call_method1(intern!(py, "remove_writer"), (socket,)).map(drop),
        }
    }

    fn cycles(&self) -> MutexGuard<'_, HashMap<u64, Cycle>> {
        self.cycles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Futures that wait for a change of one cycle.
#[derive(Default)]
pub(crate) struct Waiters(Vec<Py<PyAny>>);

impl Waiters {
    /// Those that were cancelled meanwhile are forgotten, so that an app which waits with a timeout does not pile them up.
    pub(crate) fn add(&mut self, py: Python<'_>, future: Py<PyAny>) {
        if self.0.len() >= 4 {
            self.0.retain(|waiting| !is_done(waiting.bind(py)));
        }
        self.0.push(future);
    }

    /// Nobody waits; some of those that do may have been cancelled.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Wakes them all; each looks for itself what has changed. Nothing of a cycle is locked meanwhile.
    pub(crate) fn wake(self, py: Python<'_>) {
        for future in self.0 {
            let future = future.bind(py);
            if !is_done(future) {
                // Fails only for a future that was done between the two calls.
                let _ = future.call_method1(intern!(py, "set_result"), (py.None(),));
            }
        }
    }
}

fn is_done(future: &Bound<'_, PyAny>) -> bool {
    future.call_method0(intern!(future.py(), "done")).and_then(|done| done.is_truthy()).unwrap_or(true)
}
