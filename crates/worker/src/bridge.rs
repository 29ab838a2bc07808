//! Where threads and the event loop meet for an async view of a sync chain (`python/bandstand/bridge.py`).
//!
//! Owns two kinds of waiting: a thread that has handed a coroutine to the loop, and the loop that is told of it. A
//! thread gives up the interpreter before it rings, so the loop finds it free when it wakes: measured on one core, ten
//! microseconds a view less than `call_soon_threadsafe` and a lock.
//! Invariant: who waits is woken by `end`, and has done all work that was posted before it.

use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use rustix::event::EventfdFlags;
use rustix::fd::OwnedFd;

use crate::asgi::Turn;
use crate::interrupt::{self, Outer};
use crate::lane::Lane;
use crate::wsgi::report;

/// What threads have left for the loop to begin; the loop watches `fileno` and calls `begin`.
#[pyclass(module = "bandstand._worker", frozen)]
pub(crate) struct Landing {
    turn: Arc<Turn>,
    bell: OwnedFd,
    waiting: Mutex<VecDeque<Py<PyAny>>>,
}

#[pymethods]
impl Landing {
    #[new]
    fn new(lane: &Bound<'_, Lane>) -> PyResult<Self> {
        let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| PyOSError::new_err((error.raw_os_error(), "no event descriptor")))?;
        Ok(Self { turn: Arc::clone(lane.get().turn()), bell, waiting: Mutex::default() })
    }

    fn fileno(&self) -> i32 {
        self.bell.as_raw_fd()
    }

    /// Leaves something with a method `begin`, and goes on.
    fn put(&self, item: Py<PyAny>) {
        self.lock().push_back(item);
        self.ring();
    }

    /// Called by the loop: begins all that was left.
    fn begin(&self, py: Python<'_>) {
        // Only tells how often it was rung.
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        loop {
            let Some(item) = self.lock().pop_front() else { return };
            if let Err(error) = item.call_method0(py, intern!(py, "begin")) {
                report::exception(py, None, "when a thread handed something to the loop", &error);
            }
        }
    }
}

impl Landing {
    fn ring(&self) {
        // Full only after 2^64 unread rings.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Py<PyAny>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thread that waits for a coroutine on the loop; the class that knows which is made from this one in Python.
#[pyclass(module = "bandstand._worker", frozen, subclass)]
pub(crate) struct Crossing {
    post: Mutex<Post>,
    woken: Condvar,
    /// What the thread was at, between `enter` and `leave`.
    outer: Mutex<Option<Outer>>,
}

#[derive(Default)]
struct Post {
    work: VecDeque<Py<PyAny>>,
    is_over: bool,
}

#[pymethods]
impl Crossing {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self { post: Mutex::default(), woken: Condvar::new(), outer: Mutex::default() }
    }

    /// The thread is about to cross: from now on the guard tells this crossing, and leaves the thread in peace.
    ///
    /// # Errors
    /// `RequestTimeout` when the guard came first.
    fn enter(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let outer = interrupt::mine(py)?.cross(py, slf.clone().into_any().unbind())?;
        *slf.get().outer() = Some(outer);
        Ok(())
    }

    /// `function(*args, **kwargs)` on the thread that waits; the guard may interrupt it.
    fn call<'py>(
        &self,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let exposed = self.outer().as_ref().is_some_and(Outer::exposed);
        interrupt::mine(function.py())?.call_within(exposed, function, args, kwargs)
    }

    /// The thread goes on where it was.
    ///
    /// # Errors
    /// `RequestTimeout` when the guard came meanwhile.
    fn leave(&self, py: Python<'_>) -> PyResult<()> {
        let Some(outer) = self.outer().take() else { return Ok(()) };
        if interrupt::mine(py)?.uncross(outer) { Err(interrupt::timeout(py)) } else { Ok(()) }
    }

    /// Leaves this for the loop, then waits.
    fn cross(slf: &Bound<'_, Self>, landing: &Bound<'_, Landing>) -> Option<Py<PyAny>> {
        let (this, landing) = (slf.get(), landing.get());
        landing.lock().push_back(slf.clone().into_any().unbind());
        landing.turn.enter();
        slf.py().detach(|| {
            landing.ring();
            this.work(landing)
        })
    }

    /// The next call that this thread is to make; `None` when the coroutine has ended, after which it is not asked again.
    fn wait(&self, landing: &Bound<'_, Landing>) -> Option<Py<PyAny>> {
        let py = landing.py();
        let landing = landing.get();
        py.detach(|| self.work(landing))
    }

    /// From the loop: a call to be made by the thread.
    fn post(&self, work: Py<PyAny>) {
        self.lock().work.push_back(work);
        self.woken.notify_one();
    }

    /// From the loop: the coroutine has ended.
    fn end(&self) {
        self.lock().is_over = true;
        self.woken.notify_one();
    }
}

impl Crossing {
    fn work(&self, landing: &Landing) -> Option<Py<PyAny>> {
        let mut post = self.lock();
        loop {
            if let Some(work) = post.work.pop_front() {
                return Some(work);
            }
            if post.is_over {
                landing.turn.leave();
                return None;
            }
            post = self.woken.wait(post).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn outer(&self) -> MutexGuard<'_, Option<Outer>> {
        self.outer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Post> {
        self.post.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
