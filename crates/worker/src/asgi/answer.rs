//! What became of the app's answer: which message may come when, and what of it is sent.
//!
//! Owns the order of an HTTP answer and its length. The head is held until the first message of the body, so that an
//! exception in between is a clean 500; an answer in one message is one frame; a long one waits here for credit
//! (`outbox`), which the loop brings with `pump`.
//!
//! ```text
//!   Unset ──start──► Set ──body──► Streaming ──last body──► Ended
//!                     │               └──trailers announced──► Trailing ──► Ended
//!                     └──whole, HEAD, 204, length reached──► Sent ──last body──► Ended
//! ```
//! Invariant: exactly one answer for an exchange, whatever the app does; nothing follows its end.

use std::collections::VecDeque;

use bandstand_wire::ResponseHead;
use bandstand_wire::head::FAILURE_FIELD;
use bandstand_wire::limits::CHUNK_MAX;
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::exchange::Exchange;
use crate::wsgi::file::Slice;
use crate::wsgi::head::Head;
use crate::wsgi::response::Fault;

/// An answer in the making.
pub(super) struct Answer {
    pub(super) exchange: Exchange,
    stage: Stage,
    facts: Facts,
    /// Bytes of the body that were sent or wait in `outbox`.
    sent: u64,
    /// What waits for credit: each with how much of it has left.
    outbox: VecDeque<(Py<PyBytes>, usize)>,
    /// What follows once `outbox` is empty.
    ending: Option<Ending>,
    fault: Option<Fault>,
}

/// What an answer has to know of its request.
#[derive(Clone, Copy)]
pub(crate) struct Facts {
    /// The request is HEAD.
    pub(crate) is_head: bool,
    /// The client can take interim answers (HTTP/1.1 and later).
    pub(crate) takes_interim: bool,
    /// The client can take trailers.
    pub(crate) takes_trailers: bool,
}

enum Stage {
    Unset,
    Set {
        head: Head,
        trailers: bool,
    },
    Streaming {
        declared: Option<u64>,
        trailers: bool,
    },
    Trailing(Option<Head>),
    /// The answer has left whole; the app has not said its last message yet, and nothing of it is sent.
    Sent {
        declared: Option<u64>,
    },
    Ended,
}

enum Ending {
    Whole { trailers: Option<Head> },
    Broken,
}

/// How an answer ended that the app did not bring to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loose {
    /// It was complete, or is but for credit.
    No,
    /// Nothing had been sent: the client gets a 500.
    Unanswered,
    /// The client sees a broken answer.
    Unfinished,
}

impl Answer {
    pub(super) fn new(exchange: Exchange, facts: Facts) -> Self {
        Self {
            exchange,
            stage: Stage::Unset,
            facts,
            sent: 0,
            outbox: VecDeque::new(),
            ending: None,
            fault: None,
        }
    }

    /// What was wrong with the length of the body, once.
    pub(super) fn take_fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    /// The app has said all.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    /// Nothing waits for credit.
    pub(super) fn is_drained(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Nothing of an answer has been sent.
    pub(super) fn is_unsent(&self) -> bool {
        matches!(self.stage, Stage::Unset | Stage::Set { .. })
    }

    /// # Errors
    /// `RuntimeError` when this is not the time.
    pub(super) fn start(&mut self, head: Head, trailers: bool) -> PyResult<()> {
        if !matches!(self.stage, Stage::Unset) {
            return Err(misplaced("response.start", "the answer has been started"));
        }
        self.stage = Stage::Set { head, trailers };
        Ok(())
    }

    /// # Errors
    /// As `start`.
    pub(super) fn body(&mut self, body: &Bound<'_, PyBytes>, more: bool) -> PyResult<()> {
        let bytes = body.as_bytes();
        match &self.stage {
            Stage::Unset => return Err(misplaced("response.body", "http.response.start has to come first")),
            Stage::Trailing(_) => return Err(misplaced("response.body", "the body has ended")),
            Stage::Ended => return Err(misplaced("response.body", "the answer is complete")),
            Stage::Sent { declared } => {
                if let Some(declared) = declared.filter(|_| !bytes.is_empty()) {
                    self.fault = Some(Fault::Surplus { declared });
                }
            }
            Stage::Set { head, trailers } => {
                let is_empty = self.facts.is_head || head.is_bodiless();
                let fits = !more && !trailers && bytes.len() <= CHUNK_MAX;
                if is_empty || fits && head.declared.is_none_or(|declared| declared == bytes.len() as u64) {
                    self.whole(if is_empty { None } else { Some(bytes) });
                } else {
                    self.open(body, more);
                }
            }
            Stage::Streaming { .. } => self.stream(body, 0),
        }
        if !more {
            self.last();
        }
        Ok(())
    }

    /// # Errors
    /// As `start`.
    pub(super) fn trailers(&mut self, more_fields: Head, more: bool) -> PyResult<()> {
        let Stage::Trailing(head) = &mut self.stage else {
            return Err(misplaced(
                "response.trailers",
                "it follows the body, if http.response.start has announced trailers",
            ));
        };
        match head {
            None => *head = Some(more_fields),
            Some(head) => more_fields.fields().try_for_each(|(name, value)| head.add_pair(name, value))?,
        }
        if !more {
            let trailers = head.take().filter(|_| self.facts.takes_trailers);
            self.stage = Stage::Ended;
            self.end(Ending::Whole { trailers });
        }
        Ok(())
    }

    /// # Errors
    /// As `start`.
    pub(super) fn early_hint(&mut self, head: &Head) -> PyResult<()> {
        if !self.is_unsent() {
            return Err(misplaced("response.early_hint", "the answer's head has left"));
        }
        if self.facts.takes_interim {
            self.exchange.interim(&head.to_wire(None, 0), head.fields());
        }
        Ok(())
    }

    /// An answer without a body, right after `start`.
    pub(super) fn refuse(&mut self) {
        self.whole(Some(&[]));
        self.last();
    }

    /// Whether a file may be the whole body now.
    ///
    /// # Errors
    /// As `start`.
    pub(super) fn may_send_file(&self) -> PyResult<()> {
        match self.stage {
            Stage::Set { .. } => Ok(()),
            _ => Err(misplaced("response.pathsend", "it follows http.response.start")),
        }
    }

    /// The body is a part of a file that the edge reads itself; only after `may_send_file`.
    ///
    /// # Errors
    /// `OSError` when the file is shorter than the app's Content-Length.
    pub(super) fn file(&mut self, slice: Slice) -> PyResult<()> {
        self.may_send_file()?;
        let Stage::Set { head, .. } = &self.stage else { return Ok(()) };
        let length = head.declared.unwrap_or(slice.length);
        if length > slice.length {
            return Err(PyOSError::new_err("the file is shorter than the answer's Content-Length"));
        }
        if head.is_bodiless() {
            self.exchange.whole(head.to_wire(None, 0), head.fields(), &[]);
        } else if self.facts.is_head || length == 0 {
            self.exchange.whole(head.to_wire(Some(length), slice.offset), head.fields(), &[]);
        } else {
            self.exchange.file(head.to_wire(Some(length), slice.offset), head.fields(), slice.file);
        }
        self.stage = Stage::Ended;
        Ok(())
    }

    /// Whether `file` must not be used: the trailers come after the body, which then has to be streamed.
    pub(super) fn has_trailers(&self) -> bool {
        matches!(self.stage, Stage::Set { trailers: true, .. })
    }

    /// Whether a file of this length can be the body as the app has announced it.
    pub(super) fn accepts_length(&self, length: u64) -> bool {
        matches!(&self.stage, Stage::Set { head, .. } if head.declared.is_none_or(|declared| declared == length))
    }

    /// Credit has come: sends what waits. True when nothing does any more.
    pub(super) fn pump(&mut self, py: Python<'_>) -> bool {
        while let Some((bytes, at)) = self.outbox.front_mut() {
            let rest = &bytes.as_bytes(py)[*at..];
            let sent = self.exchange.chunk_within_credit(rest);
            if sent < rest.len() {
                *at += sent;
                return false;
            }
            self.outbox.pop_front();
        }
        if let Some(ending) = self.ending.take() {
            self.end_now(ending);
        }
        true
    }

    /// The app has failed: a 500 if nothing was sent, else the client sees a broken answer.
    pub(super) fn fail(&mut self) -> Loose {
        let stage = std::mem::replace(&mut self.stage, Stage::Ended);
        match stage {
            Stage::Unset | Stage::Set { .. } => {
                self.exchange.failure();
                Loose::Unanswered
            }
            Stage::Streaming { .. } | Stage::Trailing(_) => {
                self.outbox.clear();
                self.end_now(Ending::Broken);
                Loose::Unfinished
            }
            Stage::Sent { .. } | Stage::Ended => Loose::No,
        }
    }

    /// The client is gone: what still waits will not arrive.
    pub(super) fn abandon(&mut self) {
        if !self.outbox.is_empty() {
            self.outbox.clear();
            self.ending = None;
            self.stage = Stage::Ended;
            self.end_now(Ending::Broken);
        }
    }

    fn whole(&mut self, body: Option<&[u8]>) {
        let stage = std::mem::replace(&mut self.stage, Stage::Ended);
        let Stage::Set { head, .. } = stage else { return };
        let length = body.map(|body| body.len() as u64);
        self.exchange.whole(head.to_wire(length, 0), head.fields(), &[body.unwrap_or_default()]);
        self.stage = Stage::Sent { declared: length };
    }

    /// Sends the head with the first bytes of a body that takes more than this one frame.
    fn open(&mut self, body: &Bound<'_, PyBytes>, more: bool) {
        let stage = std::mem::replace(&mut self.stage, Stage::Ended);
        let Stage::Set { head, trailers } = stage else { return };
        let bytes = body.as_bytes();
        let declared = head.declared;
        let is_exact = declared.is_none_or(|declared| declared == bytes.len() as u64);
        let total = (!more && !trailers && is_exact).then_some(bytes.len() as u64);
        let room = usize::try_from(declared.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let first = &bytes[..bytes.len().min(CHUNK_MAX).min(room)];
        self.exchange.head_on_loop(&head.to_wire(total, 0), head.fields(), first);
        self.sent = first.len() as u64;
        self.stage = Stage::Streaming { declared, trailers };
        self.stream(body, first.len());
    }

    /// The bytes of a message from `start` on, as far as the app's Content-Length allows.
    fn stream(&mut self, body: &Bound<'_, PyBytes>, start: usize) {
        let Stage::Streaming { declared, .. } = self.stage else { return };
        let bytes = &body.as_bytes()[start..];
        let room = declared.map_or(u64::MAX, |declared| declared.saturating_sub(self.sent));
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        self.push(body, start, start + fits);
        self.sent += fits as u64;
        if let Some(declared) = declared {
            if fits < bytes.len() {
                self.fault = Some(Fault::Surplus { declared });
            }
            if declared == self.sent {
                self.stage = Stage::Sent { declared: Some(declared) };
                self.end(Ending::Whole { trailers: None });
            }
        }
    }

    fn push(&mut self, body: &Bound<'_, PyBytes>, start: usize, end: usize) {
        if start == end {
            return;
        }
        let mut sent = 0;
        if self.outbox.is_empty() {
            sent = self.exchange.chunk_within_credit(&body.as_bytes()[start..end]);
        }
        if start + sent == end {
            return;
        }
        if end == body.as_bytes().len() {
            self.outbox.push_back((body.clone().unbind(), start + sent));
        } else {
            let rest = PyBytes::new(body.py(), &body.as_bytes()[start + sent..end]);
            self.outbox.push_back((rest.unbind(), 0));
        }
    }

    /// The app's last message of the body has come.
    fn last(&mut self) {
        match self.stage {
            Stage::Streaming { declared: Some(declared), .. } => {
                self.fault = Some(Fault::Short { declared, sent: self.sent });
                self.stage = Stage::Ended;
                self.end(Ending::Broken);
            }
            Stage::Streaming { declared: None, trailers: true } => self.stage = Stage::Trailing(None),
            Stage::Streaming { declared: None, trailers: false } => {
                self.stage = Stage::Ended;
                self.end(Ending::Whole { trailers: None });
            }
            _ => self.stage = Stage::Ended,
        }
    }

    fn end(&mut self, ending: Ending) {
        if self.outbox.is_empty() {
            self.end_now(ending);
        } else {
            self.ending = Some(ending);
        }
    }

    fn end_now(&mut self, ending: Ending) {
        if let Ending::Whole { trailers: Some(trailers) } = &ending {
            self.exchange.trailers(trailers.fields());
        }
        self.exchange.end(matches!(ending, Ending::Broken));
    }
}

impl Exchange {
    /// The app has failed before it answered.
    pub(crate) fn failure(&mut self) {
        let head =
            ResponseHead { status: 500, reason: b"", service_us: 0, body_length: Some(0), file_offset: 0 };
        self.whole(head, [(FAILURE_FIELD, &b"app"[..])].into_iter(), &[]);
    }
}

/// A message that may not come now.
pub(super) fn misplaced(message: &str, why: &str) -> PyErr {
    PyRuntimeError::new_err(format!("{message} may not come now: {why}"))
}
