//! What a process that the app has forked from a worker may do here: nothing.
//!
//! Such a child has copies of all that its worker had in hand, and shares the board with it. Owns the one fact that it is
//! such a child; `python/bandstand/children.py` tells it, and ends the sockets. Invariant: a child neither frees a place
//! nor takes a request of its parent's, also when it comes back from a view that forked it instead of ending there.
//! Source: fork(2), `os.register_at_fork`.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;

static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// Called in the child, right after the fork: requests and places are its parent's.
#[pyfunction]
pub(crate) fn disown() {
    IS_CHILD.store(true, Ordering::Relaxed);
}

/// Whether this process was forked from a worker.
pub(crate) fn is_child() -> bool {
    IS_CHILD.load(Ordering::Relaxed)
}

/// Ends this process if it is a child that has come back from the view that forked it. Its parent goes on.
pub(crate) fn end_stray(py: Python<'_>) -> PyResult<()> {
    if !is_child() {
        return Ok(());
    }
    let text = "bandstand: a process that a view had forked came back from the view instead of ending, and was ended\n";
    // Buffers and exit handlers are copies of its parent's.
    let os = py.import("os")?;
    os.call_method1("write", (2, text.as_bytes())).ok();
    os.call_method1("_exit", (1,)).map(drop)
}
