//! What the log says when an app fails: one line with the request's id, then Python's traceback.
//!
//! An exception that the guard raised is one line: where it was has been told already. Owns the wording. Everything goes to `sys.stderr` in one write, so that threads do not mix their lines; the edge
//! carries it on.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::response::Fault;
use crate::interrupt;

/// An exception that nobody in the app handled. `when` names the part: "in the app", "in close()".
pub(crate) fn exception(py: Python<'_>, environ: Option<&Bound<'_, PyDict>>, when: &str, error: &PyErr) {
    exception_of(py, &request(environ), when, error);
}

/// As `exception`, for a request that is described already.
pub(crate) fn exception_of(py: Python<'_>, request: &str, when: &str, error: &PyErr) {
    if interrupt::is_timeout(py, error) {
        // The edge has logged the stack.
        return line(py, request, &format!("its time was over: RequestTimeout was raised {when}"));
    }
    let mut text = format!("bandstand: {request}: exception {when}\n");
    match traceback(py, error) {
        Ok(lines) => text.push_str(&lines),
        Err(_) => text.push_str(&format!("{error}\n")),
    }
    write(py, &text);
}

/// A body that was not as long as the app had announced.
pub(super) fn fault(py: Python<'_>, environ: &Bound<'_, PyDict>, fault: Fault) {
    fault_of(py, &request(Some(environ)), fault);
}

/// As `fault`, for a request that is described already.
pub(crate) fn fault_of(py: Python<'_>, request: &str, fault: Fault) {
    let what = match fault {
        Fault::Surplus { declared } => {
            format!("the app sent more than the {declared} bytes of its Content-Length; the rest was cut")
        }
        Fault::Short { declared, sent } => {
            format!(
                "the app sent {sent} of the {declared} bytes of its Content-Length; the answer was broken off"
            )
        }
    };
    line(py, request, &what);
}

/// Any other one line about a request.
pub(crate) fn line(py: Python<'_>, request: &str, what: &str) {
    write(py, &format!("bandstand: {request}: {what}\n"));
}

fn request(environ: Option<&Bound<'_, PyDict>>) -> String {
    let Some(environ) = environ else { return "worker".to_owned() };
    let text = |key| environ.get_item(key).ok().flatten().map(|value| value.to_string()).unwrap_or_default();
    describe(&text("HTTP_X_REQUEST_ID"), &text("REQUEST_METHOD"), &text("RAW_URI"))
}

/// How the log names a request: its id, method and target.
pub(crate) fn describe(id: &str, method: &str, target: &str) -> String {
    let line = format!("request {id} ({method} {target})");
    // The target is the client's text: it must not write lines or terminal codes of its own into the log.
    line.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .take(400)
        .collect()
}

fn traceback(py: Python<'_>, error: &PyErr) -> PyResult<String> {
    // The three parts one by one: before Python 3.12 the value does not carry its traceback while PyO3 holds it.
    let parts = (error.get_type(py), error.value(py), error.traceback(py));
    let lines = py.import("traceback")?.call_method1("format_exception", parts)?;
    PyString::new(py, "").call_method1("join", (lines,))?.extract()
}

fn write(py: Python<'_>, text: &str) {
    let stderr = || -> PyResult<()> {
        let stderr = py.import("sys")?.getattr(intern!(py, "stderr"))?;
        stderr.call_method1(intern!(py, "write"), (text,))?;
        stderr.call_method0(intern!(py, "flush"))?;
        Ok(())
    };
    // Nobody is left to tell when stderr itself fails.
    let _ = stderr();
}
