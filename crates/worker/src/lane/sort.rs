//! What each frame of the lane is for: a new cycle and its task, or news for one that there is.
//!
//! Owns the sorting; reading and ending are `lane`'s. Frames for an exchange that a thread still answers (`Moved`) go to
//! that thread. Invariant: every request that was taken has a cycle until its task has ended.

use std::sync::Arc;

use bandstand_wire::frame::Sender;
use bandstand_wire::{Flags, Frame, Header, Kind, RequestHead, Version, WireError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix::fd::OwnedFd;

use super::{Lane, lock};
use crate::asgi::{Body, Cycle, Facts, HttpCycle, WebSocketCycle};
use crate::channel::Request;
use crate::exchange::Exchange;
use crate::source::Source;
use crate::wsgi::report;

impl Lane {
    /// A request that came to a thread: the edge is told that it is the loop's now.
    pub(super) fn begin_moved(&self, py: Python<'_>, request: Request, more: bool) -> Result<(), WireError> {
        let Request { header, payload, body } = request;
        let Some(cycle) = self.request(py, header, &payload, body)? else { return Ok(()) };
        let moved = Header { kind: Kind::Moved, flags: Flags::NONE, ..header };
        self.turn.channel.append(|out| moved.write(&[], out));
        self.start(py, header.id, cycle, more);
        Ok(())
    }

    /// Sorts one frame into place. False when no whole one is there.
    pub(super) fn next(&self, py: Python<'_>, source: &mut Source) -> Result<bool, WireError> {
        let Source { decoder, descriptors } = source;
        let Some(frame) = decoder.next()? else { return Ok(false) };
        let Frame { header, payload } = frame;
        if header.kind == Kind::Request {
            let body = if header.flags.has(Flags::DESCRIPTOR) {
                let missing = WireError::OutOfSequence("a descriptor was announced but did not come");
                Some(descriptors.pop_front().ok_or(missing)?)
            } else {
                None
            };
            let cycle = self.request(py, header, payload, body)?;
            if let Some(cycle) = cycle {
                let more = source.decoder.is_partial();
                self.start(py, header.id, cycle, more);
            }
            return Ok(true);
        }
        if header.kind == Kind::Drain {
            self.noted(py, self.turn.end(py));
            return Ok(true);
        }
        if header.kind.sender() != Sender::Edge {
            return Err(WireError::OutOfSequence("a frame that only workers send"));
        }
        match self.turn.find(py, header.id) {
            Some(Cycle::Http(cycle)) => self.to_http(py, cycle.get(), frame)?,
            Some(Cycle::WebSocket(cycle)) => self.to_websocket(py, cycle.get(), frame)?,
            Some(Cycle::Watch(callback)) => {
                self.turn.channel.forward(header, payload)?;
                if header.kind == Kind::Cancel {
                    self.turn.forget(header.id);
                    let expired = header.flags.has(Flags::BROKEN);
                    self.noted(py, callback.call1(py, (expired,)).map(drop));
                }
            }
            // A thread's that nobody watches, or one that is over: what came late is dropped.
            None => self.turn.channel.forward(header, payload)?,
        }
        Ok(true)
    }

    fn to_http(&self, py: Python<'_>, cycle: &HttpCycle, frame: Frame<'_>) -> Result<(), WireError> {
        match frame.header.kind {
            Kind::Grant => self.noted(py, cycle.grant(py, frame.number()?)),
            Kind::Body => cycle.receive_body(py, frame.header.flags, frame.payload)?,
            Kind::Cancel if frame.header.flags.has(Flags::BROKEN) => self.noted(py, cycle.expire(py)),
            Kind::Cancel => self.noted(py, cycle.disconnect(py)),
            _ => return Err(WireError::OutOfSequence("a frame that does not belong to a request")),
        }
        Ok(())
    }

    fn to_websocket(
        &self,
        py: Python<'_>,
        cycle: &WebSocketCycle,
        frame: Frame<'_>,
    ) -> Result<(), WireError> {
        match frame.header.kind {
            Kind::Grant => self.noted(py, cycle.grant(py, frame.number()?)),
            Kind::Message => cycle.message(py, frame.header.flags, frame.payload)?,
            Kind::Closed => {
                let (code, reason) = frame.close()?;
                self.noted(py, cycle.closed(py, code, reason));
            }
            Kind::Cancel if frame.header.flags.has(Flags::BROKEN) => self.noted(py, cycle.expire(py)),
            Kind::Cancel => self.noted(py, cycle.disconnect(py)),
            _ => return Err(WireError::OutOfSequence("a frame that does not belong to a WebSocket")),
        }
        Ok(())
    }

    /// The cycle of a request; `None` if the edge has taken it back.
    fn request(
        &self,
        py: Python<'_>,
        header: Header,
        payload: &[u8],
        file: Option<OwnedFd>,
    ) -> Result<Option<Cycle>, WireError> {
        let (head, fields, inline) = RequestHead::decode(payload)?;
        let Some(mut exchange) = Exchange::begin(&self.turn.channel, self.turn.board, header) else {
            return Ok(None);
        };
        let state = lock(&self.state).as_ref().map(|state| state.bind(py).clone());
        let mut template = lock(&self.template);
        let is_websocket = header.flags.has(Flags::WEBSOCKET);
        let scope = if is_websocket {
            template.websocket(py, &head, fields, state.as_ref())
        } else {
            template.http(py, &head, fields, state.as_ref())
        };
        drop(template);
        // Only without memory: everything that can be wrong with a request has been checked.
        let failed = |error: PyErr| report::exception(py, None, "while a request was prepared", &error);
        let scope = match scope {
            Ok(scope) => scope,
            Err(error) => {
                failed(error);
                exchange.failure();
                return Ok(None);
            }
        };
        let (turn, dict) = (Arc::clone(&self.turn), scope.dict.unbind());
        let cycle = if is_websocket {
            Py::new(py, WebSocketCycle::new(turn, exchange, dict)).map(Cycle::WebSocket)
        } else {
            let facts = Facts {
                is_head: head.method == b"HEAD",
                takes_interim: head.version != Version::Http10,
                takes_trailers: scope.takes_trailers,
            };
            let body = match file {
                Some(file) => Body::file(file, head.body_length.unwrap_or(0)),
                None if header.flags.has(Flags::STREAM) => Body::stream(),
                None => Body::inline(PyBytes::new(py, inline)),
            };
            Py::new(py, HttpCycle::new(turn, exchange, dict, body, facts)).map(Cycle::Http)
        };
        Ok(cycle.map_err(failed).ok())
    }

    /// Makes the app's task. With eager tasks the app may have answered already when this returns.
    fn start(&self, py: Python<'_>, id: u64, cycle: Cycle, more: bool) {
        self.turn.insert(id, cycle.clone_ref(py));
        self.noted(py, self.turn.hold(py, more));
        let object = match &cycle {
            Cycle::Http(cycle) => cycle.bind(py).as_any(),
            Cycle::WebSocket(cycle) => cycle.bind(py).as_any(),
            Cycle::Watch(_) => return,
        };
        match self.spawn.bind(py).call1((object,)) {
            Ok(task) => match &cycle {
                Cycle::Http(cycle) => cycle.get().keep(task),
                Cycle::WebSocket(cycle) => cycle.get().keep(task),
                Cycle::Watch(_) => {}
            },
            Err(error) => {
                let error = error.into_value(py);
                let failed = object.call_method1(intern!(py, "fail"), (error,));
                self.noted(py, failed.and_then(|_| object.call_method0(intern!(py, "finish"))).map(drop));
            }
        }
    }
}
