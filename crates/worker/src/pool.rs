//! The threads that call the app.
//!
//! Owns how many there are and how each finds its next request. With one, it is Python's main thread; more are made by
//! Python's own `threading`, so that names, thread-locals and debuggers see them, and the main thread waits for them and
//! handles signals. Beside an event loop, which has the main thread, all are made so, and more of them while some wait
//! for the loop (`shift`). A thread is attached to the interpreter while it works and detached while it waits.
//! Invariant: every thread leaves when the channel has ended and its own request is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::board::Board;
use crate::channel::{Channel, Next};
use crate::child::end_stray;
use crate::interrupt;
use crate::lane::Lane;
use crate::shift::Shift;
use crate::wsgi::{self, Facts, Template, report};

/// What the threads share; called by Python as the body of a thread.
#[pyclass(module = "bandstand._worker", frozen)]
pub(crate) struct Pool {
    channel: Arc<Channel>,
    board: Board,
    app: Py<PyAny>,
    facts: Facts,
    /// What they share with an event loop, in a worker that has one.
    shift: Option<Shift>,
    /// Threads that were made, for their names, and those that have not left yet.
    made: AtomicUsize,
    left: AtomicUsize,
    /// Called by the last one that leaves.
    on_empty: Py<PyAny>,
}

impl Pool {
    pub(crate) fn new(
        channel: Arc<Channel>,
        board: Board,
        app: Py<PyAny>,
        facts: Facts,
        on_empty: Py<PyAny>,
    ) -> Self {
        let (made, left) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { channel, board, app, facts, shift: None, made, left, on_empty }
    }
}

/// Serves with `threads` threads until the channel ends. `greet` is called when they all are there: a signal handler
/// that raises while they start fails the start, later it does not. `empty` is the `threading.Event` that the last one
/// sets.
///
/// # Errors
/// What Python raised while the threads were made.
pub(crate) fn run(
    pool: &Bound<'_, Pool>,
    threads: u16,
    empty: &Bound<'_, PyAny>,
    greet: impl FnOnce(),
) -> PyResult<()> {
    if threads == 1 {
        pool.get().left.store(1, Ordering::Relaxed);
        greet();
        return pool.get().__call__(pool.py());
    }
    start(pool, threads)?;
    greet();
    // Not `join`: before Python 3.13 a signal handler that raises makes it take a running thread for a finished one.
    while let Err(error) = empty.call_method0("wait") {
        report::exception(pool.py(), None, "in a signal handler", &error);
    }
    Ok(())
}

fn start(pool: &Bound<'_, Pool>, threads: u16) -> PyResult<()> {
    pool.get().left.store(usize::from(threads), Ordering::Relaxed);
    (0..threads).try_for_each(|_| make(pool))
}

/// One more thread. It is counted in `left` already.
fn make(pool: &Bound<'_, Pool>) -> PyResult<()> {
    let py = pool.py();
    let number = pool.get().made.fetch_add(1, Ordering::Relaxed) + 1;
    let options = PyDict::new(py);
    options.set_item("target", pool)?;
    options.set_item("name", format!("bandstand-{number}"))?;
    py.import("threading")?.getattr("Thread")?.call((), Some(&options))?.call_method0("start").map(drop)
}

#[pymethods]
impl Pool {
    /// The threads beside an event loop. `app` is the WSGI app, `threads` how many requests they take at once and
    /// `threads_max` how many there may be while some wait. `choose(path)` is asked whether a request is better off on
    /// the loop: when no thread is left to wait, or for each request with `always`. `on_empty` is called by the last
    /// thread that leaves.
    #[new]
    #[pyo3(signature = (lane, app, threads, threads_max, multiprocess, choose, always, on_empty))]
    #[expect(clippy::too_many_arguments, reason = "called once, by bandstand.asgi, with keywords")]
    fn beside(
        lane: Bound<'_, Lane>,
        app: Py<PyAny>,
        threads: u16,
        threads_max: u16,
        multiprocess: bool,
        choose: Option<Py<PyAny>>,
        always: bool,
        on_empty: Py<PyAny>,
    ) -> PyResult<Self> {
        if threads == 0 || threads > threads_max {
            return Err(PyValueError::new_err("threads must be from 1 to threads_max"));
        }
        let channel = Arc::clone(lane.get().channel());
        let board = lane.get().board();
        let shift = Shift::new(lane.unbind(), threads, threads_max, choose, always);
        let pool = Self::new(channel, board, app, Facts { multithread: true, multiprocess }, on_empty);
        Ok(Self { shift: Some(shift), ..pool })
    }

    /// Makes the threads, and returns.
    fn start(slf: &Bound<'_, Self>) -> PyResult<()> {
        let Some(shift) = &slf.get().shift else { return Ok(()) };
        let me = slf.clone().unbind();
        shift.set_reinforce(move |py| {
            let pool = me.bind(py);
            pool.get().left.fetch_add(1, Ordering::Relaxed);
            make(pool).inspect_err(|_| {
                pool.get().left.fetch_sub(1, Ordering::Relaxed);
            })
        });
        start(slf, shift.threads())
    }

    /// One thread's work.
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let served = self.serve(py);
        if let Some(shift) = &self.shift {
            shift.seats().end();
        }
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.on_empty.call0(py)?;
        }
        served
    }
}

impl Pool {
    fn serve(&self, py: Python<'_>) -> PyResult<()> {
        let mut template = Template::new(py, self.facts)?;
        let bench = interrupt::mine(py)?;
        let app = self.app.bind(py);
        loop {
            let next = match self.channel.ready() {
                Some(request) => Next::Request(request),
                None => py.detach(|| self.channel.next()),
            };
            match next {
                Next::Request(request) => {
                    let request = match &self.shift {
                        Some(shift) if shift.prefers_loop(py, &request) => {
                            shift.hand_over(py, request);
                            continue;
                        }
                        _ => request,
                    };
                    let shift = self.shift.as_ref();
                    let hand = wsgi::Hand { channel: &self.channel, board: self.board, bench: &bench, shift };
                    let answered = wsgi::answer(py, app, &mut template, &hand, request);
                    end_stray(py)?;
                    match answered {
                        Ok(Seated::Yes) => {}
                        Ok(Seated::No) => {
                            if shift.is_some_and(|shift| !py.detach(|| self.stand(shift))) {
                                return Ok(());
                            }
                        }
                        Err(error) => self.channel.break_off(error),
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

    /// Waits for a seat; nothing of this thread's may wait with it.
    fn stand(&self, shift: &Shift) -> bool {
        self.channel.flush(true);
        shift.seats().take_again()
    }
}

/// Whether a thread may take the next request at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seated {
    /// It may.
    Yes,
    /// It left its seat to another while it waited.
    No,
}
