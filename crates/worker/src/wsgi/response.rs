//! What became of the app's answer: `start_response`, `write`, and the stages an answer goes through.
//!
//! Owns the order PEP 3333 demands: the head leaves with the first bytes of the body or at the end, never more bytes
//! than Content-Length, never a second head. How the iterable is read is `wsgi::body`'s.
//!
//! ```text
//!   Unset ──start_response──► Set ──whole──────────────────► Done
//!                              └──first bytes──► Streaming ──► Done
//! ```
//! Invariant: exactly one answer for an exchange; from `Done` on nothing is sent.

use std::sync::Arc;

use bandstand_wire::ResponseHead;
use bandstand_wire::head::FAILURE_FIELD;
use bandstand_wire::limits::CHUNK_MAX;
use pyo3::exceptions::{PyAssertionError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use super::file::Slice;
use super::head::Head;
use crate::asgi::{Body, Cycle, HttpCycle, is_departure};
use crate::exchange::Exchange;
use crate::interrupt;
use crate::pool::Seated;
use crate::shift::Way;

/// The callable given to the app; also owns the answer while the app works on it.
#[pyclass(module = "bandstand._worker")]
pub(super) struct StartResponse {
    pub(super) answer: Answer,
    /// To the event loop, in a worker that has one.
    way: Option<Way>,
    /// `Moved` was sent, and the thread's seat is taken.
    moved: bool,
}

#[pymethods]
impl StartResponse {
    #[pyo3(signature = (status, response_headers, exc_info=None, /))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        status: &Bound<'py, PyAny>,
        response_headers: &Bound<'py, PyAny>,
        exc_info: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.try_borrow_mut()?.answer.start(status, response_headers, exc_info)?;
        slf.getattr(intern!(slf.py(), "write"))
    }

    /// Sends bytes at once, ahead of what the app returns.
    fn write(&mut self, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        if !data.as_bytes().is_empty() {
            self.answer.chunk(data.py(), data.as_bytes())?;
        }
        Ok(())
    }

    /// Sends a 103 (Early Hints) with these headers, if the client can take one and it is not too late.
    fn early_hints(&mut self, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        self.answer.early_hints(headers)
    }

    /// From the loop: the thread waits for it. Another thread takes its turn, if one is left to do so, and
    /// `on_cancel(expired)` is called when the client leaves or its time is over. False: nothing has changed, and nothing is called.
    fn moved(&mut self, py: Python<'_>, on_cancel: Py<PyAny>) -> PyResult<bool> {
        let Some(way) = &self.way else { return Ok(false) };
        let exchange = &mut self.answer.exchange;
        // The rest of a streamed body goes on over the channel, which whoever reads it can read.
        if exchange.is_finished() || (!self.moved && (exchange.has_slot() || !way.relieve(py))) {
            return Ok(false);
        }
        let id = exchange.id();
        if exchange.is_cancelled() {
            on_cancel.call1(py, (false,))?;
        } else {
            way.watch(id, on_cancel);
        }
        if !std::mem::replace(&mut self.moved, true) {
            exchange.moved();
            way.turn.settle(py)?;
        }
        Ok(true)
    }

    /// The loop goes on with the answer: what it sends is a cycle's now. `scope` is what the log calls the request by.
    fn detach<'py>(&mut self, scope: Bound<'py, PyDict>) -> PyResult<Bound<'py, HttpCycle>> {
        let py = scope.py();
        let way = self.way.as_ref().filter(|_| self.answer.is_unsent());
        let way = way.ok_or_else(|| PyRuntimeError::new_err("this answer cannot go on elsewhere"))?;
        let bench = interrupt::mine(py)?;
        if bench.rest(py) {
            return Err(interrupt::timeout(py));
        }
        bench.end(py);
        let facts = crate::asgi::Facts {
            is_head: self.answer.is_head,
            takes_interim: self.answer.takes_interim,
            takes_trailers: false,
        };
        let (id, turn) = (self.answer.exchange.id(), Arc::clone(&way.turn));
        let exchange = self.answer.detach(!self.moved);
        let cycle =
            Bound::new(py, HttpCycle::new(Arc::clone(&turn), exchange, scope.unbind(), Body::Given, facts))?;
        turn.insert(id, Cycle::Http(cycle.clone().unbind()));
        Ok(cycle)
    }
}

impl StartResponse {
    pub(super) fn new(answer: Answer, way: Option<Way>) -> Self {
        Self { answer, way, moved: false }
    }

    /// Whether this exception says no more than that the client has left.
    pub(super) fn is_departure(&self, py: Python<'_>, error: &PyErr) -> bool {
        self.moved && self.answer.exchange.is_cancelled() && is_departure(py, error)
    }

    /// `close()` has been called; the place is free.
    pub(super) fn finish(&mut self, py: Python<'_>) -> Seated {
        let goes_on = self.answer.exchange.is_finished();
        if let Some(way) = self.way.as_ref().filter(|_| self.moved && !goes_on) {
            way.turn.forget(self.answer.exchange.id());
        }
        self.answer.finish(py);
        if self.moved { Seated::No } else { Seated::Yes }
    }
}

/// An answer in the making.
pub(super) struct Answer {
    exchange: Exchange,
    stage: Stage,
    /// The request is HEAD.
    is_head: bool,
    /// The client can take interim answers (HTTP/1.1 and later).
    takes_interim: bool,
    /// Bytes of the body that were sent.
    sent: u64,
    /// What the log is to say about its length.
    fault: Option<Fault>,
}

enum Stage {
    Unset,
    Set(Head),
    Streaming { declared: Option<u64> },
    Done,
}

/// How a body differs from its Content-Length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The rest was cut.
    Surplus { declared: u64 },
    /// The client sees a broken answer.
    Short { declared: u64, sent: u64 },
}

/// Whether more of the body can be of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    More,
    Stop,
}

impl Answer {
    pub(super) fn new(exchange: Exchange, is_head: bool, takes_interim: bool) -> Self {
        Self { exchange, stage: Stage::Unset, is_head, takes_interim, sent: 0, fault: None }
    }

    /// What was wrong with the length of the body, once.
    pub(super) fn take_fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    /// Whether nothing has been sent yet.
    pub(super) fn is_unsent(&self) -> bool {
        matches!(self.stage, Stage::Unset | Stage::Set(_))
    }

    fn start(
        &mut self,
        status: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        exc_info: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let exc_info = exc_info.filter(|info| !info.is_none());
        match (&self.stage, exc_info) {
            (Stage::Unset, _) | (Stage::Set(_), Some(_)) => {}
            (Stage::Set(_), None) => {
                return Err(PyAssertionError::new_err("start_response() was called twice without exc_info"));
            }
            (Stage::Streaming { .. } | Stage::Done, Some(info)) => return Err(raised(info)?),
            (Stage::Streaming { .. } | Stage::Done, None) => {
                return Err(PyAssertionError::new_err(
                    "start_response() was called after the headers were sent",
                ));
            }
        }
        self.stage = Stage::Set(Head::new(status, headers)?);
        Ok(())
    }

    fn early_hints(&mut self, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let head = Head::interim(103, headers)?;
        if self.takes_interim && self.is_unsent() {
            self.exchange.interim(&head.to_wire(None, 0), head.fields());
            flush(headers.py(), &mut self.exchange);
        }
        Ok(())
    }

    /// The whole body, in pieces that are at most `CHUNK_MAX` together.
    pub(super) fn whole(&mut self, py: Python<'_>, body: &[&[u8]]) -> PyResult<()> {
        let total: u64 = body.iter().map(|piece| piece.len() as u64).sum();
        if let Stage::Set(head) = &self.stage
            && (self.is_head || head.is_bodiless() || head.declared.is_none_or(|declared| declared == total))
        {
            let is_empty = self.is_head || head.is_bodiless();
            let length = if is_empty { None } else { Some(total) };
            self.exchange.whole(head.to_wire(length, 0), head.fields(), if is_empty { &[] } else { body });
            self.stage = Stage::Done;
            return Ok(());
        }
        for piece in body.iter().filter(|piece| !piece.is_empty()) {
            self.chunk(py, piece)?;
        }
        self.end(py)
    }

    /// The next bytes of the body, not empty; they are on their way when this returns.
    pub(super) fn chunk(&mut self, py: Python<'_>, body: &[u8]) -> PyResult<Flow> {
        self.chunk_of(py, body, None)
    }

    /// As `chunk`; if these are the first bytes, the edge is told the length of the whole body.
    pub(super) fn chunk_of(&mut self, py: Python<'_>, body: &[u8], total: Option<u64>) -> PyResult<Flow> {
        let declared = match &self.stage {
            Stage::Unset => return Err(unset()),
            Stage::Set(head) if self.is_head || head.is_bodiless() => {
                self.whole(py, &[])?;
                return Ok(Flow::Stop);
            }
            Stage::Set(head) => head.declared,
            Stage::Streaming { declared } => *declared,
            Stage::Done => return Ok(self.after_end()),
        };
        if self.exchange.is_cancelled() {
            return Ok(Flow::Stop);
        }
        let room = declared.map_or(u64::MAX, |declared| declared.saturating_sub(self.sent));
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(body.len());
        let arrived = self.send(py, &body[..fits], total);
        if fits < body.len() {
            self.fault = declared.map(|declared| Fault::Surplus { declared });
        }
        if declared == Some(self.sent) {
            self.complete(py);
        }
        Ok(if arrived && fits == body.len() { Flow::More } else { Flow::Stop })
    }

    /// The body is a part of a file that the edge reads itself. False if that cannot be: read it as any iterable.
    pub(super) fn file(&mut self, slice: Slice) -> bool {
        let Stage::Set(head) = &self.stage else { return false };
        let length = head.declared.unwrap_or(slice.length);
        if length > slice.length || head.is_bodiless() {
            return false;
        }
        let wire = head.to_wire(Some(length), slice.offset);
        if self.is_head || length == 0 {
            self.exchange.whole(wire, head.fields(), &[]);
        } else {
            self.exchange.file(wire, head.fields(), slice.file);
        }
        self.stage = Stage::Done;
        true
    }

    /// The app has no more to say.
    pub(super) fn end(&mut self, py: Python<'_>) -> PyResult<()> {
        match &self.stage {
            Stage::Unset => return Err(unset()),
            Stage::Done => {}
            Stage::Set(head) => match head.declared {
                Some(declared) if declared > 0 && !self.is_head && !head.is_bodiless() => {
                    self.exchange.head(&head.to_wire(None, 0), head.fields(), &[]);
                    self.stage = Stage::Streaming { declared: Some(declared) };
                    self.end_short(py, declared);
                }
                _ => self.whole(py, &[])?,
            },
            // Short of its Content-Length; one that is complete is `Done` already.
            Stage::Streaming { declared: Some(declared) } => self.end_short(py, *declared),
            Stage::Streaming { declared: None } if self.exchange.is_cancelled() => self.break_off(py),
            Stage::Streaming { declared: None } => self.complete(py),
        }
        Ok(())
    }

    /// The app has failed: a 500 if nothing was sent, else the client sees a broken answer.
    pub(super) fn fail(&mut self, py: Python<'_>) {
        match self.stage {
            Stage::Unset | Stage::Set(_) => {
                let head = ResponseHead {
                    status: 500,
                    reason: b"",
                    service_us: 0,
                    body_length: Some(0),
                    file_offset: 0,
                };
                self.exchange.whole(head, [(FAILURE_FIELD, &b"app"[..])].into_iter(), &[]);
                self.stage = Stage::Done;
            }
            Stage::Streaming { .. } => self.break_off(py),
            Stage::Done => {}
        }
    }

    /// Gives the exchange away; from now on nothing is sent here. With `announce`, the edge is told first.
    fn detach(&mut self, announce: bool) -> Exchange {
        self.stage = Stage::Done;
        if announce {
            self.exchange.moved();
        }
        self.exchange.detach()
    }

    /// Everything leaves now: `close()` comes next and may take its time.
    pub(super) fn hurry(&mut self, py: Python<'_>) {
        self.exchange.hurry();
        flush(py, &mut self.exchange);
    }

    fn finish(&mut self, py: Python<'_>) {
        self.stage = Stage::Done;
        self.exchange.finish();
        flush(py, &mut self.exchange);
    }

    /// Sends the head if it has not been, and bytes. False when the client is gone.
    fn send(&mut self, py: Python<'_>, mut body: &[u8], total: Option<u64>) -> bool {
        if let Stage::Set(head) = &self.stage {
            let declared = head.declared;
            if body.len() <= CHUNK_MAX && declared == Some(body.len() as u64) {
                self.exchange.whole(head.to_wire(declared, 0), head.fields(), &[body]);
                self.exchange.hurry();
                self.sent = body.len() as u64;
                self.stage = Stage::Done;
                flush(py, &mut self.exchange);
                return true;
            }
            let (first, rest) = body.split_at(body.len().min(CHUNK_MAX));
            self.exchange.head(&head.to_wire(total, 0), head.fields(), first);
            self.stage = Stage::Streaming { declared };
            self.sent += first.len() as u64;
            body = rest;
        }
        let exchange = &mut self.exchange;
        let sent =
            if exchange.has_room(body) { exchange.chunk(body) } else { py.detach(|| exchange.chunk(body)) };
        if sent.is_ok() {
            self.sent += body.len() as u64;
            flush(py, exchange);
        }
        sent.is_ok()
    }

    fn after_end(&mut self) -> Flow {
        // Bytes past a Content-Length that was reached, or past an answer without a body.
        if self.sent > 0 && !self.is_head {
            self.fault = Some(Fault::Surplus { declared: self.sent });
        }
        Flow::Stop
    }

    fn complete(&mut self, py: Python<'_>) {
        if matches!(self.stage, Stage::Streaming { .. }) {
            self.exchange.end(false);
            self.stage = Stage::Done;
            flush(py, &mut self.exchange);
        }
    }

    fn end_short(&mut self, py: Python<'_>, declared: u64) {
        if !self.exchange.is_cancelled() {
            self.fault = Some(Fault::Short { declared, sent: self.sent });
        }
        self.break_off(py);
    }

    fn break_off(&mut self, py: Python<'_>) {
        self.exchange.end(true);
        self.stage = Stage::Done;
        flush(py, &mut self.exchange);
    }
}

/// Writes at once; lets other Python threads run only if the socket is full.
fn flush(py: Python<'_>, exchange: &mut Exchange) {
    if !exchange.flush(false) {
        py.detach(|| exchange.flush(true));
    }
}

fn unset() -> PyErr {
    PyRuntimeError::new_err("the app gave a body without calling start_response()")
}

/// The exception of an `exc_info`, to be raised again.
fn raised(exc_info: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let exc_info = exc_info.cast::<PyTuple>().map_err(PyErr::from)?;
    let value = exc_info.get_item(1)?;
    let traceback = exc_info.get_item(2)?;
    value.call_method1(intern!(value.py(), "with_traceback"), (traceback,)).map(PyErr::from_value)
}
