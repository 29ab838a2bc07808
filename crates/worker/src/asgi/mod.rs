//! Requests and WebSockets through an ASGI app (ASGI 3, HTTP and WebSocket 2.5), all on the event loop's thread.
//!
//! `lane` reads frames and makes a cycle of each request; the parts of a cycle are in the files beside this one. Cycles
//! are locked for as long as no code of the app can run, so that each call finds a whole state even if the app calls
//! from elsewhere.
//! Invariant: exactly one answer for an exchange; its place is freed when the app's task has ended.

mod answer;
mod awaitable;
mod body;
mod http;
mod message;
mod scope;
mod socket;
mod turn;
mod websocket;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

pub(crate) use answer::Facts;
pub(crate) use awaitable::{Done, Ready};
pub(crate) use body::Body;
pub(crate) use http::HttpCycle;
pub(crate) use scope::Template;
pub(crate) use turn::{Cycle, Turn};
pub(crate) use websocket::WebSocketCycle;

use crate::wsgi::report;

pyo3::create_exception!(
    bandstand._worker,
    Disconnected,
    pyo3::exceptions::PyConnectionResetError,
    "The client has left: nothing that is sent will arrive."
);

/// What `send` raises once the client has left (ASGI 2.4: a subclass of `OSError`).
fn disconnected() -> PyErr {
    Disconnected::new_err("the client has left")
}

/// How the log names the request of a scope, whatever the app made of it.
fn describe(scope: Option<&Bound<'_, PyDict>>) -> String {
    let Some(scope) = scope else { return "worker".to_owned() };
    let item = |key| scope.get_item(key).ok().flatten();
    let text = |key| {
        item(key).map_or_else(String::new, |value| match value.cast::<PyBytes>() {
            Ok(bytes) => String::from_utf8_lossy(bytes.as_bytes()).into_owned(),
            Err(_) => value.to_string(),
        })
    };
    let query = text("query_string");
    let target = if query.is_empty() { text("raw_path") } else { format!("{}?{query}", text("raw_path")) };
    let method = item("method").map_or_else(|| "WebSocket".to_owned(), |method| method.to_string());
    let id = item("headers").and_then(|headers| request_id(&headers).ok().flatten()).unwrap_or_default();
    report::describe(&id, &method, &target)
}

fn request_id(headers: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    for pair in headers.try_iter()? {
        let pair = pair?;
        if pair.get_item(0)?.cast::<PyBytes>()?.as_bytes() == b"x-request-id" {
            return Ok(Some(
                String::from_utf8_lossy(pair.get_item(1)?.cast::<PyBytes>()?.as_bytes()).into_owned(),
            ));
        }
    }
    Ok(None)
}

/// Whether an exception says no more than that the client has left: nobody needs to read that.
pub(crate) fn is_departure(py: Python<'_>, error: &PyErr) -> bool {
    let mut next = Some(error.value(py).clone().into_any());
    // Frameworks raise their own from it; a chain this long is a loop.
    for _ in 0..32 {
        let Some(value) = next else { return false };
        let is_cancelled =
            value.get_type().name().is_ok_and(|name: Bound<'_, PyString>| name == "CancelledError");
        if is_cancelled || value.is_instance_of::<Disconnected>() {
            return true;
        }
        next = ["__cause__", "__context__"]
            .into_iter()
            .filter_map(|name| value.getattr(name).ok())
            .find(|value| !value.is_none());
    }
    false
}
