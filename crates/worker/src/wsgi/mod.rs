//! One request through a WSGI app (PEP 3333).
//!
//! Owns the order of things: environ, call, body, `close()`, place free. The parts are in the files beside this one.
//! Invariant: `close()` is called exactly once on whatever the app returned, and the place is freed after it, whatever
//! went wrong before.

mod body;
pub(crate) mod environ;
pub(crate) mod file;
pub(crate) mod head;
mod input;
pub(crate) mod report;
pub(crate) mod response;

use std::sync::Arc;

use bandstand_wire::{Flags, RequestHead, Version, WireError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

pub(crate) use environ::{Facts, Template};
pub(crate) use file::FileWrapper;
pub(crate) use input::Input;

use crate::board::Board;
use crate::channel::{Channel, Request};
use crate::exchange::Exchange;
use crate::interrupt::{self, Bench};
use crate::pool::Seated;
use crate::shift::{Shift, Way};
use response::{Answer, StartResponse};

/// What a thread works with, request after request.
pub(crate) struct Hand<'h> {
    pub(crate) channel: &'h Arc<Channel>,
    pub(crate) board: Board,
    pub(crate) bench: &'h Bench,
    /// What it shares with an event loop, in a worker that has one.
    pub(crate) shift: Option<&'h Shift>,
}

/// Takes a request and answers it.
///
/// # Errors
/// The request's frame is malformed, which is the edge's fault and ends the channel.
pub(crate) fn answer(
    py: Python<'_>,
    app: &Bound<'_, PyAny>,
    template: &mut Template,
    hand: &Hand<'_>,
    request: Request,
) -> Result<Seated, WireError> {
    // Checked before it is taken: with a malformed head nothing can be answered.
    let (head, fields, inline) = RequestHead::decode(&request.payload)?;
    let Some(exchange) = Exchange::begin(hand.channel, hand.board, request.header) else {
        return Ok(Seated::Yes);
    };
    let environ = template.environ(py, &head, fields);
    let brief = Brief {
        is_head: head.method == b"HEAD",
        takes_interim: head.version != Version::Http10,
        body_length: head.body_length.unwrap_or(0),
        body_start: request.payload.len() - inline.len(),
    };
    let way = hand.shift.map(Shift::way);
    let (place, id) = (request.header.place, request.header.id);
    match environ.and_then(|environ| prepare(environ, exchange, request, brief, way)) {
        Ok((environ, start)) => {
            hand.bench.begin(place, id, &environ);
            let outcome = call(app, &environ, &start, hand.bench);
            let mut is_late = hand.bench.end(py);
            let begun = outcome.is_ok();
            is_late |= outcome.as_ref().is_err_and(|error| interrupt::is_timeout(py, error));
            return Ok(conclude(py, &environ, &start, outcome, is_late.then_some(begun)));
        }
        // Only without memory: everything that can be wrong with a request has been checked.
        Err(error) => report::exception(py, None, "while a request was prepared", &error),
    }
    Ok(Seated::Yes)
}

/// What is needed of a head when its bytes have become the input.
struct Brief {
    is_head: bool,
    takes_interim: bool,
    body_length: u64,
    body_start: usize,
}

type Prepared<'py> = (Bound<'py, PyDict>, Bound<'py, StartResponse>);

/// Completes the environ with what belongs to this exchange alone.
fn prepare(
    environ: Bound<'_, PyDict>,
    exchange: Exchange,
    request: Request,
    brief: Brief,
    way: Option<Way>,
) -> PyResult<Prepared<'_>> {
    let py = environ.py();
    let input = match request.body {
        Some(file) => Some(Input::file(file, brief.body_length)),
        None if request.header.flags.has(Flags::STREAM) => Some(Input::stream(&exchange)),
        None if brief.body_start == request.payload.len() => None,
        None => Some(Input::memory(request.payload, brief.body_start)),
    };
    if let Some(input) = input {
        environ.set_item(intern!(py, "wsgi.input"), Bound::new(py, input)?)?;
    }
    let answer = Answer::new(exchange, brief.is_head, brief.takes_interim);
    let start = Bound::new(py, StartResponse::new(answer, way))?;
    environ.set_item(intern!(py, "wsgi.early_hints"), start.getattr(intern!(py, "early_hints"))?)?;
    Ok((environ, start))
}

/// Calls the app and sends what it returns; `close()` is called here and only here. Until then the time of the request
/// may come to its end; nothing that cleans up is interrupted.
fn call(
    app: &Bound<'_, PyAny>,
    environ: &Bound<'_, PyDict>,
    start: &Bound<'_, StartResponse>,
    bench: &Bench,
) -> PyResult<()> {
    let py = app.py();
    let iterable = app.call1((environ, start)).inspect_err(|_| {
        bench.rest(py);
    })?;
    let sent = body::send(start, &iterable);
    bench.rest(py);
    if iterable.is_exact_instance_of::<PyList>() || iterable.is_exact_instance_of::<PyTuple>() {
        return sent;
    }
    let close = iterable.getattr_opt(intern!(py, "close"));
    let Ok(Some(close)) = close else { return sent };
    if let Err(error) = &sent {
        report::exception(py, Some(environ), "in the app", error);
    }
    if let Ok(mut start) = start.try_borrow_mut() {
        if sent.is_err() {
            start.answer.fail(py);
        }
        start.answer.hurry(py);
    }
    if let Err(error) = close.call0() {
        report::exception(py, Some(environ), "in close() of the app's answer", &error);
    }
    Ok(())
}

/// Says what went wrong, and frees the place. `late`: the app was interrupted, after it had returned something or before.
fn conclude(
    py: Python<'_>,
    environ: &Bound<'_, PyDict>,
    start: &Bound<'_, StartResponse>,
    outcome: PyResult<()>,
    late: Option<bool>,
) -> Seated {
    if let Err(error) = &outcome
        && !start.try_borrow().is_ok_and(|start| start.is_departure(py, error))
    {
        report::exception(py, Some(environ), "in the app", error);
    }
    // Borrowed only by a thread of the app that writes past the end of its own request; it keeps the place.
    if let Ok(mut start) = start.try_borrow_mut() {
        if outcome.is_err() {
            start.answer.fail(py);
        }
        if let Some(fault) = start.answer.take_fault() {
            report::fault(py, environ, fault);
        }
        if late.is_some() {
            start.answer.hurry(py);
        }
    }
    if let Some(begun) = late {
        tidy(py, environ, begun);
    }
    start.try_borrow_mut().map_or(Seated::Yes, |mut start| start.finish(py))
}

/// After an interrupt, while the request still has its place, so that nothing of it is left when that is free: connections
/// that the app was torn from are not used again. `begun`: the app had returned something, whose `close()` was called.
fn tidy(py: Python<'_>, environ: &Bound<'_, PyDict>, begun: bool) {
    let tidied = py
        .import("bandstand.connections")
        .and_then(|connections| connections.call_method1(intern!(py, "tidy"), (begun,)));
    if let Err(error) = tidied {
        report::exception(py, Some(environ), "while connections were closed after its time was over", &error);
    }
}
