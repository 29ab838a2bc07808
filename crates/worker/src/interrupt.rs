//! Which thread works for which exchange, and the exception that ends it when its time is over.
//!
//! Each thread that calls an app has a bench; `python/bandstand/guard.py` looks at the benches of all. A thread is
//! exposed only while code of the app runs in it. The exception is set, and taken back if it was not raised, under the
//! lock of its bench and the interpreter's: a thread that has left its bench, or was shielded, can no longer be hit.
//! Invariants: an exception that was set for one exchange is never raised after `rest`, so never in another exchange and
//! never in code of ours; nothing is called, and nothing let go of, under the lock of a bench.
//! Source: `PyThreadState_SetAsyncExc` (C API, stable since 3.2).

use std::cell::OnceCell;
use std::ffi::{c_long, c_ulong};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

/// What one thread works for.
pub(crate) struct Bench {
    /// As in `threading.get_ident`.
    ident: c_ulong,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    /// What waits for a coroutine on the loop: a `bridge.Crossing`. It is told instead of the thread, or beside it.
    crossing: Option<Py<PyAny>>,
    /// Code of the app runs, and may be interrupted.
    exposed: bool,
    /// An exception was set; perhaps it has been raised since.
    pending: bool,
    /// An interrupt came while the thread was at `crossing`.
    wanted: bool,
    /// An interrupt came at all.
    interrupted: bool,
    /// An exception was set at any time.
    torn: bool,
}

struct Held {
    place: u16,
    id: u64,
    /// The environ of a request, or the `crew.Seat` of a call: no two exchanges have the same.
    key: Py<PyAny>,
}

/// What a thread did before it crossed over to the loop.
pub(crate) struct Outer {
    crossing: Option<Py<PyAny>>,
    wanted: bool,
    exposed: bool,
}

thread_local! {
    static MINE: OnceCell<Arc<Bench>> = const { OnceCell::new() };
}

static ALL: Mutex<Vec<Weak<Bench>>> = Mutex::new(Vec::new());

/// The bench of this thread.
///
/// # Errors
/// What `threading` raised.
pub(crate) fn mine(py: Python<'_>) -> PyResult<Arc<Bench>> {
    if let Some(bench) = MINE.with(|mine| mine.get().cloned()) {
        return Ok(bench);
    }
    let ident = py.import("threading")?.getattr("get_ident")?.call0()?.extract()?;
    Ok(MINE.with(|mine| {
        let bench = mine.get_or_init(|| {
            let bench = Arc::new(Bench { ident, state: Mutex::default() });
            let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|bench| bench.strong_count() > 0);
            all.push(Arc::downgrade(&bench));
            bench
        });
        Arc::clone(bench)
    }))
}

impl Bench {
    /// Code of the app begins to work for an exchange.
    pub(crate) fn begin<T>(&self, place: u16, id: u64, key: &Bound<'_, T>) {
        let held = Held { place, id, key: key.clone().into_any().unbind() };
        let mut state = self.lock();
        // `end` has left nothing behind.
        state.held = Some(held);
        state.exposed = true;
    }

    /// From now on no exception comes: one that was set and not raised is taken back. True if there was one set.
    pub(crate) fn rest(&self, py: Python<'_>) -> bool {
        let mut state = self.lock();
        state.exposed = false;
        let pending = std::mem::take(&mut state.pending);
        if pending {
            self.set_exception(py, None);
        }
        pending
    }

    /// The exchange is another's, or over. True if it was interrupted.
    pub(crate) fn end(&self, py: Python<'_>) -> bool {
        self.leave(py).interrupted
    }

    fn leave(&self, py: Python<'_>) -> State {
        self.rest(py);
        std::mem::take(&mut *self.lock())
    }

    /// Calls for a key, as one exchange or a part of it.
    ///
    /// # Errors
    /// What the call raised.
    fn call(
        &self,
        place: u16,
        id: u64,
        key: &Bound<'_, PyAny>,
        call: impl FnOnce() -> PyResult<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.begin(place, id, key);
        let result = call();
        if self.leave(key.py()).torn {
            key.setattr(intern!(key.py(), "torn"), true)?;
        }
        result
    }

    /// Waits for the loop from now on: no exception comes, `crossing` is told instead.
    ///
    /// # Errors
    /// `RequestTimeout` when one was about to be raised.
    pub(crate) fn cross(&self, py: Python<'_>, crossing: Py<PyAny>) -> PyResult<Outer> {
        let exposed = self.lock().exposed;
        if self.rest(py) {
            return Err(timeout(py));
        }
        let mut state = self.lock();
        Ok(Outer {
            crossing: state.crossing.replace(crossing),
            wanted: std::mem::take(&mut state.wanted),
            exposed,
        })
    }

    /// A call that the coroutine wants done on this thread, which waits for it.
    ///
    /// # Errors
    /// What the call raised.
    pub(crate) fn call_within<'py>(
        &self,
        outer_exposed: bool,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.lock().exposed = outer_exposed;
        let result = function.call(args, Some(kwargs));
        self.rest(function.py());
        result
    }

    /// The thread goes on where it crossed. True when an interrupt came meanwhile.
    pub(crate) fn uncross(&self, outer: Outer) -> bool {
        let mut state = self.lock();
        let crossing = std::mem::replace(&mut state.crossing, outer.crossing);
        let wanted = std::mem::replace(&mut state.wanted, outer.wanted);
        state.exposed = outer.exposed;
        drop(state);
        drop(crossing);
        wanted
    }

    /// What it works for: place, id, ident, key, crossing.
    fn holding(&self, py: Python<'_>) -> Option<Holding> {
        let state = self.lock();
        let held = state.held.as_ref()?;
        let crossing = state.crossing.as_ref().map(|crossing| crossing.clone_ref(py));
        Some((held.place, held.id, self.ident, held.key.clone_ref(py), crossing))
    }

    /// Interrupts, if `key` is what it works for; the thread itself only if it is still at `spot`.
    fn interrupt(&self, key: &Bound<'_, PyAny>, spot: Option<&Spot<'_>>) -> PyResult<Option<Interrupted>> {
        let py = key.py();
        let exception = timeout_type(py)?;
        // From here to the end no code of Python runs in this thread, so all others stand still.
        let is_there = spot.map_or(Ok(false), |spot| self.is_at(spot))?;
        let mut state = self.lock();
        if !state.held.as_ref().is_some_and(|held| held.key.is(key)) {
            return Ok(None);
        }
        state.interrupted = true;
        let is_set = state.exposed && is_there;
        if is_set {
            state.pending = true;
            state.torn = true;
            self.set_exception(py, Some(exception));
        }
        state.wanted = state.crossing.is_some();
        let crossing = state.crossing.as_ref().map(|crossing| crossing.clone_ref(py));
        Ok(Some((state.exposed, is_set, crossing)))
    }

    /// Whether the thread is at this very instruction.
    fn is_at(&self, (frame, instruction): &Spot<'_>) -> PyResult<bool> {
        let py = frame.py();
        let frames = current_frames(py)?;
        let now = frames.cast::<PyDict>()?.get_item(self.ident)?;
        let Some(now) = now.filter(|now| now.is(frame)) else { return Ok(false) };
        Ok(now.getattr(intern!(py, "f_lasti"))?.extract::<i64>()? == *instruction)
    }

    fn set_exception(&self, _: Python<'_>, exception: Option<&Bound<'_, PyType>>) {
        let object = exception.map_or(std::ptr::null_mut(), |exception| exception.as_ptr());
        // SAFETY: the interpreter is attached (`Python`); the function takes a reference of its own to the object, or
        // null to take back; an ident of no thread does nothing. The parameter is signed in these bindings alone.
        unsafe { ffi::PyThreadState_SetAsyncExc(self.ident as c_long, object) };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outer {
    /// Whether the code that crossed may be interrupted.
    pub(crate) fn exposed(&self) -> bool {
        self.exposed
    }
}

/// `(place, id, thread, key, crossing)`
type Holding = (u16, u64, c_ulong, Py<PyAny>, Option<Py<PyAny>>);

/// `(code of the app runs in the thread, the exception was set, crossing)`
type Interrupted = (bool, bool, Option<Py<PyAny>>);

/// A frame, and the instruction in it (`f_lasti`).
type Spot<'py> = (Bound<'py, PyAny>, i64);

/// What every thread works for that works: `(place, id, thread, key, crossing)`. `key` is the environ, or what `work_for`
/// was given; `crossing` what the thread waits at for the loop.
#[pyfunction]
pub(crate) fn holders(py: Python<'_>) -> Vec<Holding> {
    benches().iter().filter_map(|bench| bench.holding(py)).collect()
}

/// Raises `RequestTimeout` in the thread, if it still works for this very key, and its innermost frame and instruction are
/// those of `spot`: `(code of the app runs there, the exception is set, crossing)`, where the crossing, if there is one, is
/// to be told by the caller. `None` if the thread does something else.
///
/// # Errors
/// When `bandstand.RequestTimeout` is missing.
#[pyfunction]
#[pyo3(signature = (ident, key, spot))]
pub(crate) fn interrupt(
    ident: c_ulong,
    key: &Bound<'_, PyAny>,
    spot: Option<Spot<'_>>,
) -> PyResult<Option<Interrupted>> {
    match benches().iter().find(|bench| bench.ident == ident) {
        Some(bench) => bench.interrupt(key, spot.as_ref()),
        None => Ok(None),
    }
}

/// `sys._current_frames()`. Before Python 3.12 it may collect garbage while it holds a lock that the end of a thread needs,
/// and code of the app that then runs may wait for that end: <https://github.com/python/cpython/issues/106883>. So there
/// is no collection meanwhile.
///
/// # Errors
/// What it raised, without memory.
#[pyfunction]
pub(crate) fn current_frames(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let function = FUNCTION.import(py, "sys", "_current_frames")?;
    if py.version_info() >= (3, 12) {
        return function.call0();
    }
    // SAFETY: the interpreter is attached (`Python`). The function is written in C and calls nothing of Python's, so no
    // other thread runs before collection is as it was.
    let was_enabled = unsafe { ffi::PyGC_Disable() } == 1;
    let frames = function.call0();
    if was_enabled {
        // SAFETY: as above.
        unsafe { ffi::PyGC_Enable() };
    }
    frames
}

/// `function(*args, **kwargs)`, which may be interrupted meanwhile and not after. `place` and `id` are 0 if not known.
/// Where `RequestTimeout` was raised in it, `key.torn` is set, whatever the call made of that.
///
/// # Errors
/// What the call raised.
#[pyfunction]
pub(crate) fn work_for(
    key: &Bound<'_, PyAny>,
    place: u16,
    id: u64,
    function: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
    kwargs: &Bound<'_, PyDict>,
) -> PyResult<Py<PyAny>> {
    mine(key.py())?.call(place, id, key, || function.call(args, Some(kwargs)).map(Bound::unbind))
}

fn benches() -> Vec<Arc<Bench>> {
    let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    all.iter().filter_map(Weak::upgrade).collect()
}

/// `bandstand.RequestTimeout`, to be raised.
pub(crate) fn timeout(py: Python<'_>) -> PyErr {
    timeout_type(py).map_or_else(|error| error, |kind| PyErr::from_type(kind.clone(), ()))
}

/// Whether an exception is `bandstand.RequestTimeout`.
pub(crate) fn is_timeout(py: Python<'_>, error: &PyErr) -> bool {
    timeout_type(py).is_ok_and(|kind| error.is_instance(py, kind))
}

fn timeout_type(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    TYPE.import(py, "bandstand", "RequestTimeout")
}
