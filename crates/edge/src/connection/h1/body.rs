//! The body of a request, read when somebody wants it.
//!
//! Owns the limits in time (`header_timeout` for the first byte after a pause, `body_min_rate` over the whole), the
//! `100 Continue`, and the knowledge of where the next request begins. Sizes are the stage's (`stages::receive`).

use std::task::Poll;
use std::time::{Duration, Instant};

use bandstand_semantics::chunked::{ChunkedDecoder, Step};
use bandstand_semantics::framing::Framing;
use bandstand_semantics::{Version, hop};

use super::super::incoming::{BodyError, body_deadline};
use super::watch::{Sight, Watch};
use super::{BODY_READ_BYTES, Connection, ReadError};
use crate::dispatch::{Event, Ticket};
use crate::exchange::Exchange;
use crate::refusal::Refusal;

/// An unread body up to this size is read and thrown away to keep the connection; past it, closing is cheaper.
const DRAIN_BYTES: u64 = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_millis(100);

/// A body that is still with the client, in whole or in part.
pub(crate) struct Incoming<'c> {
    connection: &'c mut Connection,
    state: State,
    version: Version,
    /// The client waits for our word.
    expects_continue: bool,
    /// When the first byte was wanted, and bytes since.
    begun: Option<Instant>,
    received: u64,
    watch: Watch,
    /// The client has had an interim answer, or was not to be asked for a sign of life with one.
    asked: bool,
}

enum State {
    Length(u64),
    Chunked(Box<ChunkedDecoder>),
    Done,
}

/// What of the request is still on the connection when the answer is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leftover {
    /// Nothing: the next byte is the next request's.
    Nothing,
    /// A body that nobody wants: the next request cannot be found.
    Unknown,
}

impl<'c> Incoming<'c> {
    pub(super) fn new(connection: &'c mut Connection, exchange: &Exchange) -> Self {
        let state = match exchange.framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Box::new(ChunkedDecoder::new())),
        };
        let (version, expects_continue) = (exchange.version, exchange.expects_continue);
        Self {
            connection,
            state,
            version,
            expects_continue,
            begun: None,
            received: 0,
            watch: Watch::default(),
            asked: false,
        }
    }

    /// The next piece of the body is appended to `out`. False at its end.
    ///
    /// # Errors
    /// See `BodyError`; the connection is of no further use then.
    pub(crate) async fn read(&mut self, out: &mut Vec<u8>) -> Result<bool, BodyError> {
        loop {
            if matches!(self.state, State::Done) {
                return Ok(false);
            }
            let before = out.len();
            if self.take_buffered(out)? {
                self.received += (out.len() - before) as u64;
                return Ok(true);
            }
            if matches!(self.state, State::Done) {
                return Ok(false);
            }
            self.fetch().await?;
        }
    }

    /// Bytes of the body as they were counted on the wire, framing of chunks not included.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Whether bytes have come that are not this request's.
    pub(crate) fn is_followed(&self) -> bool {
        matches!(self.state, State::Done) && self.connection.at < self.connection.buffer.len()
    }

    /// Moves what is buffered. True when there was something.
    fn take_buffered(&mut self, out: &mut Vec<u8>) -> Result<bool, BodyError> {
        let Connection { buffer, at, .. } = &mut *self.connection;
        match &mut self.state {
            State::Done => Ok(false),
            State::Length(left) => {
                let n = buffer[*at..].len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                out.extend_from_slice(&buffer[*at..*at + n]);
                *at += n;
                *left -= n as u64;
                if *left == 0 {
                    self.state = State::Done;
                }
                Ok(n > 0)
            }
            State::Chunked(decoder) => {
                let mut moved = false;
                while *at < buffer.len() {
                    match decoder.decode(&buffer[*at..]).map_err(|_| BodyError::Malformed)? {
                        Step::More => *at = buffer.len(),
                        Step::Data(range) => {
                            out.extend_from_slice(&buffer[*at..][range.clone()]);
                            *at += range.end;
                            moved = true;
                        }
                        Step::End(used) => {
                            *at += used;
                            self.state = State::Done;
                            break;
                        }
                    }
                }
                Ok(moved)
            }
        }
    }

    async fn fetch(&mut self) -> Result<(), BodyError> {
        let now = Instant::now();
        let begun = *self.begun.get_or_insert(now);
        if std::mem::take(&mut self.expects_continue) {
            let word = self.connection.write_all(&[b"HTTP/1.1 100 Continue\r\n\r\n"]).await;
            word.map_err(|_| BodyError::CutShort)?;
        }
        let deadline = body_deadline(&self.connection.state.settings, begun, self.received, now);
        match self.connection.read_more(BODY_READ_BYTES, deadline).await {
            Ok(0) | Err(ReadError::Broken) => Err(BodyError::CutShort),
            Ok(_) => Ok(()),
            Err(ReadError::Timeout) => Err(BodyError::TooSlow),
        }
    }

    /// Reads and throws away a small rest that is there already, or comes at once.
    pub(crate) async fn drain(&mut self) {
        if self.expects_continue {
            return; // whether the client will send it is not known
        }
        // What does not come at once is not waited for: the answer is ready.
        let _ = tokio::time::timeout(DRAIN_TIME, self.throw_away()).await;
    }

    /// Safe to drop: what was read is thrown away, what was not is still there.
    async fn throw_away(&mut self) {
        let mut thrown = Vec::new();
        while let State::Length(..=DRAIN_BYTES) | State::Chunked(_) = self.state {
            thrown.clear();
            if self.received > DRAIN_BYTES || !matches!(self.read(&mut thrown).await, Ok(true)) {
                return;
            }
        }
    }

    /// The next event, unless the client is gone first. One that has only shut its sending side still waits, unless it
    /// wants a WebSocket: then nothing it waits for is of any use to it.
    pub(crate) async fn unless_broken(&mut self, ticket: &Ticket, websocket: bool) -> Result<Event, Refusal> {
        loop {
            let Self { connection, watch, asked, .. } = self;
            let Connection { stream, timer, .. } = &mut **connection;
            let news = std::future::poll_fn(|context| {
                if let Poll::Ready(event) = ticket.reply().poll_next(context) {
                    return Poll::Ready(Ok(event));
                }
                match watch.poll(stream, timer, None, context) {
                    Sight::Doubtful if !*asked => Poll::Ready(Err(Sight::Doubtful)),
                    Sight::There | Sight::Doubtful => Poll::Pending,
                    Sight::Gone => Poll::Ready(Err(Sight::Gone)),
                }
            });
            match news.await {
                Ok(event) => return Ok(event),
                Err(Sight::Doubtful) if !websocket => self.ask_for_sign(ticket).await?,
                Err(_) => return Err(Refusal::ClientGone),
            }
        }
    }

    /// A client that has sent FIN, and for whom the app still works, is sent an interim answer (RFC 9110 §15.2): who
    /// waits can take it, who has closed answers with RST. HTTP/1.0 knows none, so there FIN is the end for what the loop
    /// works on; threads cannot be stopped anyway.
    async fn ask_for_sign(&mut self, ticket: &Ticket) -> Result<(), Refusal> {
        self.asked = true;
        match self.version {
            Version::Http10 if ticket.is_on_loop() => Err(Refusal::ClientGone),
            Version::Http10 => Ok(()),
            _ => {
                let sent = self.connection.write_all(&[b"HTTP/1.1 102 Processing\r\n\r\n"]).await;
                sent.map_err(|_| Refusal::ClientGone)
            }
        }
    }

    /// Sends `103 Early Hints`, if the client knows interim answers (RFC 9110 §15.2: HTTP/1.0 does not).
    pub(crate) async fn send_hints<'f>(&mut self, fields: impl Iterator<Item = (&'f [u8], &'f [u8])>) {
        if self.version == Version::Http10 {
            return;
        }
        let mut hints = b"HTTP/1.1 103 Early Hints\r\n".to_vec();
        for (name, value) in fields.filter(|(name, _)| !hop::is_hop_by_hop(name)) {
            hints.extend_from_slice(name);
            hints.extend_from_slice(b": ");
            hints.extend_from_slice(value);
            hints.extend_from_slice(b"\r\n");
        }
        hints.extend_from_slice(b"\r\n");
        self.asked = true;
        // Whether the client is there shows when the answer is written.
        let _ = self.connection.write_all(&[&hints]).await;
    }

    pub(in crate::connection) fn leftover(&self) -> Leftover {
        match self.state {
            State::Done => Leftover::Nothing,
            _ => Leftover::Unknown,
        }
    }
}
