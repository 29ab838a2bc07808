//! The threads that call the app.
//!
//! Owns how many there are and how each finds its next request. With one, it is Python's main thread; more are made by
//! Python's own `threading`, so that names, thread-locals and debuggers see them, and the main thread waits for them and
//! handles signals. A thread is attached to the interpreter while it works and detached while it waits.
//! Invariant: every thread leaves when the channel has ended and its own request is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::board::Board;
use crate::channel::{Channel, Next};
use crate::wsgi::{self, Facts, Template, report};

/// What the threads share; called by Python as the body of a thread.
#[pyclass(module = "bandstand._worker", frozen)]
pub(crate) struct Pool {
    channel: Arc<Channel>,
    board: Board,
    app: Py<PyAny>,
    facts: Facts,
    /// Threads that have not left yet, and the `threading.Event` that the last one sets.
    left: AtomicUsize,
    empty: Py<PyAny>,
}

impl Pool {
    /// # Errors
    /// What Python raised.
    pub(crate) fn new(
        py: Python<'_>,
        channel: Arc<Channel>,
        board: Board,
        app: Py<PyAny>,
        facts: Facts,
    ) -> PyResult<Self> {
        let empty = py.import("threading")?.getattr("Event")?.call0()?.unbind();
        Ok(Self { channel, board, app, facts, left: AtomicUsize::new(0), empty })
    }
}

/// Serves with `threads` threads until the channel ends. `greet` is called when they all are there: a signal handler
/// that raises while they start fails the start, later it does not.
///
/// # Errors
/// What Python raised while the threads were made.
pub(crate) fn run(pool: &Bound<'_, Pool>, threads: u16, greet: impl FnOnce()) -> PyResult<()> {
    let shared = pool.get();
    let py = pool.py();
    shared.left.store(usize::from(threads), Ordering::Relaxed);
    if threads == 1 {
        greet();
        return shared.__call__(py);
    }
    let class = py.import("threading")?.getattr("Thread")?;
    for number in 1..=threads {
        let options = PyDict::new(py);
        options.set_item("target", pool)?;
        options.set_item("name", format!("bandstand-{number}"))?;
        class.call((), Some(&options))?.call_method0("start")?;
    }
    greet();
    // Not `join`: before Python 3.13 a signal handler that raises makes it take a running thread for a finished one.
    while let Err(error) = shared.empty.bind(py).call_method0("wait") {
        report::exception(py, None, "in a signal handler", &error);
    }
    Ok(())
}

#[pymethods]
impl Pool {
    /// One thread's work.
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let served = self.serve(py);
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.empty.bind(py).call_method0("set")?;
        }
        served
    }
}

impl Pool {
    fn serve(&self, py: Python<'_>) -> PyResult<()> {
        let mut template = Template::new(py, self.facts)?;
        let app = self.app.bind(py);
        loop {
            let next = match self.channel.ready() {
                Some(request) => Next::Request(request),
                None => py.detach(|| self.channel.next()),
            };
            match next {
                Next::Request(request) => {
                    let answered = wsgi::answer(py, app, &mut template, &self.channel, self.board, request);
                    if let Err(error) = answered {
                        self.channel.break_off(error);
                    }
                }
                Next::Interrupted => {
                    if let Err(error) = py.check_signals() {
                        report::exception(py, None, "in a signal handler", &error);
                    }
                }
                Next::End => return Ok(()),
            }
        }
    }
}
