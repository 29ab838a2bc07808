//! The loop's lane: frames from the edge, read by the event loop itself.
//!
//! Owns what Python sees of it, reading (one read a turn) and the end; which frame is for whom is `sort`'s. What leaves
//! goes over the channel (`asgi::turn`). The end of the lane means that nothing new comes; what is in hand is finished.
//! Invariant: frames are sorted in the order they came, and never while another is being sorted.
//! `docs/decisions/0005-asgi.md` tells why there is a lane beside the channel.

mod sort;

use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bandstand_wire::limits::{FRAME_MAX, PLACES};
use bandstand_wire::{Flags, Header, Hello, Kind};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::fd::{AsFd, OwnedFd};

use crate::_worker::{not_usable, open_channel};
use crate::asgi::{Cycle, Template, Turn};
use crate::board::Board;
use crate::channel::{Channel, Request};
use crate::descriptor::adopt;
use crate::linger::Linger;
use crate::source::{Received, Source};
use crate::wsgi::report;

/// The loop's end of the channel.
#[pyclass(module = "bandstand._worker", frozen)]
pub(crate) struct Lane {
    turn: Arc<Turn>,
    socket: OwnedFd,
    event_loop: Py<PyAny>,
    spawn: Py<PyAny>,
    source: Mutex<Source>,
    template: Mutex<Template>,
    state: Mutex<Option<Py<PyDict>>>,
    /// Requests that threads have handed over.
    handed: Mutex<VecDeque<Request>>,
    /// Why nothing more is read, when the edge sent what it may not.
    broken: Mutex<Option<String>>,
}

#[pymethods]
impl Lane {
    /// Takes over the three descriptors. `spawn(cycle)` makes the app's task of a request.
    #[new]
    fn new(
        py: Python<'_>,
        channel_fd: i32,
        loop_fd: i32,
        board_fd: i32,
        event_loop: Bound<'_, PyAny>,
        spawn: Py<PyAny>,
    ) -> PyResult<Self> {
        let channel = Arc::new(Channel::new(open_channel(channel_fd)?));
        let socket = adopt(loop_fd).map_err(|error| not_usable("loop's lane", error))?;
        rustix::io::ioctl_fionbio(&socket, true).map_err(|error| not_usable("loop's lane", error))?;
        let memory = adopt(board_fd).map_err(|error| not_usable("board", error))?;
        let board = Board::map(&memory).map_err(|error| not_usable("board", error))?;
        Linger::start(&channel);
        Ok(Self {
            turn: Arc::new(Turn::new(channel, board, &event_loop)?),
            socket,
            event_loop: event_loop.unbind(),
            spawn,
            source: Mutex::default(),
            template: Mutex::new(Template::new(py)?),
            state: Mutex::default(),
            handed: Mutex::default(),
            broken: Mutex::default(),
        })
    }

    /// The descriptor that the loop watches.
    fn fileno(&self) -> i32 {
        self.socket.as_raw_fd()
    }

    /// Starts: the loop reads from now on, and the edge is told how much this worker takes.
    ///
    /// `threads` and `tasks` as in the hello; `project` is JSON for the edge.
    fn greet(slf: &Bound<'_, Self>, threads: u16, tasks: u16, project: &str) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if threads == 0 && tasks == 0 || usize::from(threads.max(tasks)) > PLACES {
            return Err(PyValueError::new_err(format!(
                "threads and tasks must be up to {PLACES}, one above 0"
            )));
        }
        if project.len() > FRAME_MAX - 64 {
            return Err(PyValueError::new_err("what is known about the project is too long for one frame"));
        }
        this.turn.set_flush(py, slf.getattr("flush")?.unbind());
        let reader = (this.socket.as_raw_fd(), slf.getattr("read")?);
        this.event_loop.bind(py).call_method1("add_reader", reader)?;
        let header = Header { kind: Kind::Hello, flags: Flags::NONE, place: 0, id: 0 };
        this.turn.channel.append(|out| {
            let open = header.open(out);
            Hello { threads, tasks, project: project.as_bytes() }.encode(out);
            open.finish(out);
        });
        this.turn.flush(py)
    }

    /// One read and all that it brought; called by the loop.
    fn read(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        // Held over calls into the app: a loop within the loop must not read the rest out of order.
        let Ok(mut source) = this.source.try_lock() else { return Ok(()) };
        match source.receive(this.socket.as_fd(), None) {
            Ok(Received::Bytes) => {}
            Ok(Received::Nothing | Received::Interrupted) => return Ok(()),
            Ok(Received::End) => return this.end(py),
            Err(reason) => return this.break_off(py, reason),
        }
        let sorted = loop {
            match this.next(py, &mut source) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        this.turn.hold(py, false)?;
        if let Err(error) = sorted {
            return this.break_off(py, error.to_string());
        }
        if this.turn.channel.pending().is_some() { this.turn.flush(py) } else { Ok(()) }
    }

    /// Begins what threads have handed over; called by the loop.
    fn take_over(&self, py: Python<'_>) -> PyResult<()> {
        loop {
            let mut handed = lock(&self.handed);
            let Some(request) = handed.pop_front() else { break };
            let more = !handed.is_empty();
            drop(handed);
            if let Err(error) = self.begin_moved(py, request, more) {
                self.turn.hold(py, false)?;
                return self.break_off(py, error.to_string());
            }
        }
        self.turn.hold(py, false)?;
        self.turn.settle(py)
    }

    /// Writes what waits; called by the loop.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.turn.flush_scheduled(py)
    }

    /// The lifespan's state: each scope gets a shallow copy. None: no scope has one.
    #[setter]
    fn set_state(&self, state: Option<Bound<'_, PyDict>>) {
        *lock(&self.state) = state.map(Bound::unbind);
    }

    #[getter]
    fn get_state<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyDict>> {
        lock(&self.state).as_ref().map(|state| state.bind(py).clone())
    }

    /// Called when the lane has ended, and again when the last cycle after that has.
    #[setter]
    fn set_on_end(&self, callback: Option<Py<PyAny>>) {
        self.turn.set_on_end(callback);
    }

    /// Cycles whose task has not ended.
    #[getter]
    fn active(&self) -> usize {
        self.turn.active()
    }

    /// Nothing new comes any more.
    #[getter]
    fn ended(&self) -> bool {
        self.turn.has_ended()
    }

    /// Waits until a cycle is at work; for the watchdog's thread. False when the lane has ended.
    fn rest(&self, py: Python<'_>) -> bool {
        py.detach(|| self.turn.rest())
    }

    /// `callback(expired)` is called when the client of an exchange leaves that a thread answers, or its time is over.
    fn watch(&self, id: u64, callback: Py<PyAny>) {
        self.turn.insert(id, Cycle::Watch(callback));
    }

    /// For the guard: `(cycle, task)` of an exchange whose app works on the loop. `task` is None while it takes its first
    /// step, and where the bridge streams.
    fn find(&self, py: Python<'_>, place: u16, id: u64) -> Option<(Py<PyAny>, Option<Py<PyAny>>)> {
        match self.turn.find(py, id)? {
            Cycle::Http(cycle) if cycle.get().place() == place => {
                Some((cycle.clone_ref(py).into_any(), cycle.get().work(py)?))
            }
            Cycle::WebSocket(cycle) if cycle.get().place() == place => {
                Some((cycle.clone_ref(py).into_any(), cycle.get().work(py)?))
            }
            _ => None,
        }
    }

    /// The opposite of `watch`.
    fn unwatch(&self, id: u64) {
        self.turn.forget(id);
    }

    /// After the end: the edge may be gone altogether. Then whoever waits is told.
    fn glance(&self, py: Python<'_>) -> PyResult<()> {
        if self.turn.channel.is_abandoned() { self.disconnect_all(py) } else { Ok(()) }
    }

    /// Writes the rest.
    ///
    /// # Errors
    /// `RuntimeError` with the reason when the edge broke the protocol.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        let verdict = py.detach(|| self.turn.channel.verdict());
        match lock(&self.broken).take().or(verdict) {
            None => Ok(()),
            Some(reason) => Err(PyRuntimeError::new_err(format!("the channel to the edge broke: {reason}"))),
        }
    }
}

impl Lane {
    /// The channel: threads of the same worker read it.
    pub(crate) fn channel(&self) -> &Arc<Channel> {
        &self.turn.channel
    }

    /// The board.
    pub(crate) fn board(&self) -> Board {
        self.turn.board
    }

    /// What the cycles share.
    pub(crate) fn turn(&self) -> &Arc<Turn> {
        &self.turn
    }

    /// From a thread: the loop answers this request, which nobody has begun.
    pub(crate) fn hand_over(lane: &Bound<'_, Self>, request: Request) {
        let py = lane.py();
        let this = lane.get();
        let mut handed = lock(&this.handed);
        handed.push_back(request);
        let is_first = handed.len() == 1;
        drop(handed);
        if !is_first {
            return;
        }
        let woken = lane.getattr(intern!(py, "take_over")).and_then(|callback| {
            this.event_loop.bind(py).call_method1(intern!(py, "call_soon_threadsafe"), (callback,)).map(drop)
        });
        // Fails only when the loop is closed: nobody is left to answer, and the edge sees the worker leave.
        this.noted(py, woken);
    }

    /// The edge has closed its end of the lane.
    fn end(&self, py: Python<'_>) -> PyResult<()> {
        self.event_loop.bind(py).call_method1("remove_reader", (self.socket.as_raw_fd(),))?;
        for cycle in self.turn.all(py) {
            let told = match cycle {
                Cycle::Http(cycle) => cycle.get().lane_ended(py),
                Cycle::WebSocket(cycle) => cycle.get().lane_ended(py),
                Cycle::Watch(_) => Ok(()),
            };
            self.noted(py, told);
        }
        self.turn.end(py)
    }

    /// Nothing that was read last can be trusted: nothing more is read, nobody is answered.
    fn break_off(&self, py: Python<'_>, reason: String) -> PyResult<()> {
        *lock(&self.broken) = Some(reason);
        self.event_loop.bind(py).call_method1("remove_reader", (self.socket.as_raw_fd(),))?;
        self.disconnect_all(py)?;
        self.turn.end(py)
    }

    fn disconnect_all(&self, py: Python<'_>) -> PyResult<()> {
        for cycle in self.turn.all(py) {
            let told = match cycle {
                Cycle::Http(cycle) => cycle.get().disconnect(py),
                Cycle::WebSocket(cycle) => cycle.get().disconnect(py),
                Cycle::Watch(callback) => callback.call1(py, (false,)).map(drop),
            };
            self.noted(py, told);
        }
        Ok(())
    }

    /// What a callback or the loop raised; the frames behind it are still sorted.
    fn noted(&self, py: Python<'_>, outcome: PyResult<()>) {
        if let Err(error) = outcome {
            report::exception(py, None, "in the event loop's lane", &error);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
