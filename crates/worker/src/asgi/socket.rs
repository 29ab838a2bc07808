//! What became of one WebSocket: messages in both directions, credit for them, and how it ends.
//!
//! Owns the order of the app's messages and the bounds of what is held. Who waits and who calls is `websocket`'s.
//!
//! ```text
//!   Connecting ──accept──► Open ──close──► Closed
//!        ├──close────────────────(403)──────┘
//!        └──websocket.http.response.start──► Denying ──last body──► Closed
//! ```
//! Credit: a piece of a message that is not whole is given back at once, unless messages already wait for the app; what
//! waits is given back when the app takes it. So what is held is bounded by the window and one message.
//! Invariant: connect comes first, then messages in order, then disconnect for ever; one end for an exchange.

use std::collections::VecDeque;

use bandstand_wire::limits::{WINDOW, message_cost};
use bandstand_wire::{Flags, WireError};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::answer::{Answer, Facts, Loose, misplaced};
use super::disconnected;
use super::message::{HttpMessage, WebSocketMessage};
use crate::exchange::Exchange;
use crate::wsgi::head::Head;

/// Credit is given back in portions of this many bytes: few frames, and most of the window is always open.
const PORTION: usize = WINDOW / 4;
/// The edge or the client is gone without a word (RFC 6455 §7.4.1).
pub(super) const ABNORMAL: u16 = 1006;
/// The server restarts.
pub(super) const RESTART: u16 = 1012;
/// The app has failed.
const FAILED: u16 = 1011;
/// The app has returned.
const NORMAL: u16 = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Denying,
    Open,
    Closed,
}

/// One WebSocket on its exchange.
pub(super) struct Socket {
    /// The exchange, and the answer if the handshake is denied.
    pub(super) answer: Answer,
    stage: Stage,
    connect_given: bool,
    /// Messages for the app, each with the credit that is given back when it takes it.
    inbox: VecDeque<(Message, usize)>,
    /// A message whose last piece has not come, and the credit for it that was kept back.
    partial: Vec<u8>,
    held: usize,
    /// Credit to give back, less than a portion.
    owed: usize,
    /// Code and reason: nothing more comes.
    over: Option<(u16, String)>,
    /// Messages that wait for credit: bytes, how much has left, whether it is text.
    outbox: VecDeque<(Py<PyBytes>, usize, bool)>,
    /// How the app closes once `outbox` is empty.
    closing: Option<(u16, String)>,
    /// The client has left, or the edge.
    gone: bool,
}

enum Message {
    Text(String),
    Binary(Vec<u8>),
}

/// What `receive` says.
pub(super) enum Next {
    Connect,
    Text(String),
    Binary(Vec<u8>),
    Disconnect(u16, String),
}

impl Next {
    /// The message. Made while nothing is locked: the collector may run, and with it any code.
    pub(super) fn message(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let message = PyDict::new(py);
        let kind = intern!(py, "type");
        match self {
            Self::Connect => message.set_item(kind, intern!(py, "websocket.connect"))?,
            Self::Text(text) => {
                message.set_item(kind, intern!(py, "websocket.receive"))?;
                message.set_item(intern!(py, "text"), text)?;
            }
            Self::Binary(bytes) => {
                message.set_item(kind, intern!(py, "websocket.receive"))?;
                message.set_item(intern!(py, "bytes"), PyBytes::new(py, &bytes))?;
            }
            Self::Disconnect(code, reason) => {
                message.set_item(kind, intern!(py, "websocket.disconnect"))?;
                message.set_item(intern!(py, "code"), code)?;
                message.set_item(intern!(py, "reason"), reason)?;
            }
        }
        Ok(message.into_any())
    }
}

impl Socket {
    pub(super) fn new(exchange: Exchange) -> Self {
        let facts = Facts { is_head: false, takes_interim: false, takes_trailers: false };
        Self {
            answer: Answer::new(exchange, facts),
            stage: Stage::Connecting,
            connect_given: false,
            inbox: VecDeque::new(),
            partial: Vec::new(),
            held: 0,
            owed: 0,
            over: None,
            outbox: VecDeque::new(),
            closing: None,
            gone: false,
        }
    }

    pub(super) fn is_gone(&mut self) -> bool {
        self.gone |= self.answer.exchange.is_cancelled();
        self.gone
    }

    /// Nothing waits for credit.
    pub(super) fn is_drained(&self) -> bool {
        self.outbox.is_empty() && self.answer.is_drained()
    }

    /// Nothing more comes from the client.
    pub(super) fn is_over(&self) -> bool {
        self.over.is_some()
    }

    // From the client

    /// A message, or a piece of it.
    ///
    /// # Errors
    /// Text that is no UTF-8, which the edge has to refuse.
    pub(super) fn receive(&mut self, flags: Flags, piece: &[u8]) -> Result<(), WireError> {
        if self.over.is_some() || self.stage == Stage::Closed {
            return Ok(());
        }
        self.partial.extend_from_slice(piece);
        let cost = message_cost(piece.len());
        if !flags.has(Flags::WHOLE) {
            if self.inbox.is_empty() {
                self.give_back(cost);
            } else {
                self.held += cost;
            }
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.partial);
        let message = if flags.has(Flags::TEXT) {
            let text = String::from_utf8(bytes);
            Message::Text(text.map_err(|_| WireError::Malformed("text that is no UTF-8"))?)
        } else {
            Message::Binary(bytes)
        };
        let charge = std::mem::take(&mut self.held) + cost;
        self.inbox.push_back((message, charge));
        Ok(())
    }

    /// It is over; messages that came before are still given out.
    pub(super) fn close_by_client(&mut self, code: u16, reason: &str) {
        self.over.get_or_insert_with(|| (code, reason.to_owned()));
        self.abandon();
    }

    /// What `receive` says next; `None` while there is nothing.
    pub(super) fn next(&mut self) -> Option<Next> {
        if !std::mem::replace(&mut self.connect_given, true) {
            return Some(Next::Connect);
        }
        if let Some((message, charge)) = self.inbox.pop_front() {
            let held = if self.inbox.is_empty() { std::mem::take(&mut self.held) } else { 0 };
            self.give_back(charge + held);
            return Some(match message {
                Message::Text(text) => Next::Text(text),
                Message::Binary(bytes) => Next::Binary(bytes),
            });
        }
        if self.is_gone() {
            self.over.get_or_insert((ABNORMAL, String::new()));
        }
        self.over.clone().map(|(code, reason)| Next::Disconnect(code, reason))
    }

    fn give_back(&mut self, cost: usize) {
        self.owed += cost;
        if self.owed >= PORTION && self.over.is_none() && self.stage == Stage::Open {
            self.answer.exchange.want(u32::try_from(self.owed).unwrap_or(u32::MAX));
            self.owed = 0;
        }
    }

    // From the app

    /// # Errors
    /// `RuntimeError` when this is not the time, `Disconnected` when the client has left.
    pub(super) fn apply(&mut self, message: WebSocketMessage<'_>) -> PyResult<()> {
        if self.stage != Stage::Closed && self.is_gone() {
            let is_close = matches!(message, WebSocketMessage::Close { .. });
            // Many apps close in a `finally`; that says nothing to anybody.
            return if is_close { Ok(()) } else { Err(disconnected()) };
        }
        match (self.stage, message) {
            (Stage::Open, WebSocketMessage::Send { bytes, text }) => self.send(&bytes, text),
            (Stage::Open, WebSocketMessage::Close { code, reason }) => {
                self.over.get_or_insert((code, reason.clone()));
                self.close(code, reason);
            }
            (Stage::Connecting, WebSocketMessage::Accept(head)) => {
                self.answer.exchange.accept(&head.to_wire(None, 0), head.fields());
                self.stage = Stage::Open;
            }
            (Stage::Connecting, WebSocketMessage::Close { .. }) => {
                self.answer.start(Head::asgi(403, None)?, false)?;
                self.answer.refuse();
                self.denied();
            }
            (Stage::Connecting, WebSocketMessage::Denial(HttpMessage::Start { head, trailers })) => {
                self.answer.start(head, trailers)?;
                self.stage = Stage::Denying;
            }
            (Stage::Denying, WebSocketMessage::Denial(HttpMessage::Body { bytes, more })) => {
                self.answer.body(&bytes, more)?;
                if !more {
                    self.denied();
                }
            }
            (stage, _) => return Err(out_of_order(stage)),
        }
        Ok(())
    }

    fn denied(&mut self) {
        self.stage = Stage::Closed;
        self.over.get_or_insert((ABNORMAL, String::new()));
    }

    fn send(&mut self, bytes: &Bound<'_, PyBytes>, text: bool) {
        let message = bytes.as_bytes();
        let mut sent = 0;
        if self.outbox.is_empty() {
            match self.answer.exchange.message_within_credit(message, text) {
                Ok(()) => return,
                Err(before) => sent = before,
            }
        }
        self.outbox.push_back((bytes.clone().unbind(), sent, text));
    }

    fn close(&mut self, code: u16, reason: String) {
        self.stage = Stage::Closed;
        if self.outbox.is_empty() {
            self.answer.exchange.close(code, &reason);
        } else {
            self.closing = Some((code, reason));
        }
    }

    /// More credit has come: sends what waits. True when that was all of it.
    pub(super) fn grant(&mut self, py: Python<'_>, more: u32) -> bool {
        self.answer.exchange.grant(more);
        !self.is_drained() && self.pump(py)
    }

    fn pump(&mut self, py: Python<'_>) -> bool {
        while let Some((bytes, at, text)) = self.outbox.front_mut() {
            let rest = &bytes.as_bytes(py)[*at..];
            if let Err(sent) = self.answer.exchange.message_within_credit(rest, *text) {
                *at += sent;
                return false;
            }
            self.outbox.pop_front();
        }
        if let Some((code, reason)) = self.closing.take() {
            self.answer.exchange.close(code, &reason);
        }
        self.answer.is_drained() || self.answer.pump(py)
    }

    /// The client is gone: what still waits will not arrive. An end that waited behind it is said to the edge, which
    /// holds the place until then.
    pub(super) fn abandon(&mut self) {
        self.gone = true;
        self.outbox.clear();
        if let Some((code, reason)) = self.closing.take() {
            self.answer.exchange.close(code, &reason);
        }
        self.answer.abandon();
    }

    /// The app's task has ended, well or not.
    pub(super) fn end(&mut self, failed: bool) -> Loose {
        let stage = std::mem::replace(&mut self.stage, Stage::Closed);
        let loose = match stage {
            Stage::Closed => Loose::No,
            Stage::Connecting => {
                self.answer.exchange.failure();
                Loose::Unanswered
            }
            Stage::Denying => self.answer.fail(),
            Stage::Open => {
                if failed || self.is_gone() {
                    self.outbox.clear();
                }
                // Said to the edge even if the client has left: it ends the exchange.
                self.close(if failed { FAILED } else { NORMAL }, String::new());
                Loose::No
            }
        };
        self.over.get_or_insert((ABNORMAL, String::new()));
        self.inbox.clear();
        self.partial = Vec::new();
        loose
    }
}

fn out_of_order(stage: Stage) -> PyErr {
    match stage {
        Stage::Connecting => misplaced("this message", "the WebSocket has not been accepted"),
        Stage::Denying => misplaced("this message", "the handshake is being denied"),
        Stage::Open => misplaced("this message", "the WebSocket has been accepted"),
        Stage::Closed => {
            PyRuntimeError::new_err("nothing can be sent any more: the app has closed the WebSocket")
        }
    }
}
