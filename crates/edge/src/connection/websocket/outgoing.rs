//! What is on its way to a WebSocket's client.
//!
//! Owns the bytes of frames that the line has not taken yet, and the count of the app's bytes among them. Invariant: at
//! most `ROOM` bytes and one piece of the app's messages wait here, and `PONGS` bytes and one of our answers to pings.

use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use bandstand_semantics::websocket::deflate::Deflater;
use bandstand_semantics::websocket::frame::{Opcode, encode_close, encode_control, encode_head};
use bandstand_wire::limits::message_cost;

use super::line::Line;

/// Bytes that may wait before the app is no longer listened to. What it says then waits within its credit.
const ROOM: usize = 64 * 1024;
/// Bytes of pongs that may wait before the client is no longer read: whoever does not take answers may not ask.
const PONGS: usize = 4 * 1024;

pub(super) struct Outgoing {
    bytes: Vec<u8>,
    /// How many of them the socket has taken.
    at: usize,
    /// What the app's messages among them have cost it, compressed or not.
    messages: usize,
    pongs: usize,
    /// The last piece was not the last of its message.
    continues: bool,
    /// Window of the compressor, if it was negotiated.
    deflate: Option<u8>,
    /// The compressor of a message that comes in pieces, until the last of them.
    deflater: Option<Deflater>,
    /// Until when the client must take something.
    deadline: Option<Instant>,
}

impl Outgoing {
    pub(super) fn new(deflate: Option<u8>) -> Self {
        Self {
            bytes: Vec::new(),
            at: 0,
            messages: 0,
            pongs: 0,
            continues: false,
            deflate,
            deflater: None,
            deadline: None,
        }
    }

    /// A message of the app, or the next piece of one; `whole` on the last.
    pub(super) fn message(&mut self, text: bool, whole: bool, bytes: &[u8]) {
        self.make_room();
        self.messages += message_cost(bytes.len());
        let opcode = match (self.continues, text) {
            (true, _) => Opcode::Continuation,
            (false, true) => Opcode::Text,
            (false, false) => Opcode::Binary,
        };
        let begins = !std::mem::replace(&mut self.continues, !whole);
        // All messages are compressed, the short ones too: some clients take one that is not for an error.
        let mut deflater = if begins { self.deflate.map(Deflater::borrow) } else { self.deflater.take() };
        match &mut deflater {
            Some(compressor) => {
                let mut squeezed = Vec::with_capacity(bytes.len() / 2);
                compressor.deflate(bytes, whole, &mut squeezed);
                encode_head(opcode, whole, begins, squeezed.len(), &mut self.bytes);
                self.bytes.extend_from_slice(&squeezed);
            }
            None => {
                encode_head(opcode, whole, false, bytes.len(), &mut self.bytes);
                self.bytes.extend_from_slice(bytes);
            }
        }
        self.deflater = deflater.filter(|_| !whole);
    }

    pub(super) fn ping(&mut self, payload: &[u8]) {
        self.make_room();
        encode_control(Opcode::Ping, payload, &mut self.bytes);
    }

    pub(super) fn pong(&mut self, payload: &[u8]) {
        self.make_room();
        self.pongs += payload.len() + 2;
        encode_control(Opcode::Pong, payload, &mut self.bytes);
    }

    pub(super) fn close(&mut self, code: Option<u16>, reason: &str) {
        encode_close(code, reason, &mut self.bytes);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Whether the app may say more.
    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() - self.at < ROOM
    }

    /// Whether the client must take its pongs before it is read again.
    pub(super) fn is_deaf(&self) -> bool {
        self.pongs >= PONGS
    }

    /// Until when the client must take something, if it holds us up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Writes what the line takes.
    pub(super) fn poll_write(
        &mut self,
        line: &mut Line<'_>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(line.poll_write(context, &self.bytes[self.at..]))?;
        self.at += written;
        self.deadline = None;
        Poll::Ready(Ok(written))
    }

    /// The socket takes nothing at the moment. What was said before about the deadline holds.
    pub(super) fn blocked(&mut self, deadline: Instant) {
        self.deadline.get_or_insert(deadline);
    }

    /// All was written: how many bytes of the app's messages have left.
    pub(super) fn emptied(&mut self) -> usize {
        self.bytes.clear();
        self.at = 0;
        self.pongs = 0;
        std::mem::take(&mut self.messages)
    }

    /// Nothing happens for a while: gives the memory back.
    pub(super) fn rest(&mut self) {
        if self.is_empty() {
            self.bytes = Vec::new();
            self.at = 0;
        }
    }

    /// What has left makes room for what comes, before the buffer has to grow.
    fn make_room(&mut self) {
        if self.at > self.bytes.len() / 2 {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
    }
}
