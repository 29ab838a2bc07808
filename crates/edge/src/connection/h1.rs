//! One HTTP/1 connection: read a head, give it to the pipeline, write the answer, again.
//!
//! Owns the order of requests on the connection, its time limits, and when it is kept or closed (RFC 9112 §9). Reading of
//! heads is `head`, wording of answers `write`, bodies of answers `send`. A connection at rest holds no buffer.
//!
//! ```text
//!   Resting ──first byte──► Reading head ──► pipeline (body read on demand) ──► Writing ──► Resting
//!      │ idle_timeout, stop      │ header_timeout: 408       │ refused: answer, close        │ unread body: drain or close
//!      ▼                         ▼                           ▼                               ▼
//!    Closed ◄──────────────── Lingering (our side shut, theirs read and thrown away for a moment) ◄──┘
//! ```
//! A client that begins with HTTP/2's preface gets it where `h2c` says so (`connection::h2`). A connection that was upgraded is a WebSocket until it closes (`connection::websocket`).

mod body;
mod send;
#[cfg(test)]
pub(crate) mod tests;
mod watch;

use std::io::IoSlice;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::h2;
use super::head::{self, HeadLimits, Parsed};
use super::registry::Place;
use super::stream::Stream;
use super::timer::Timer;
use super::websocket::{self, Upgraded};
use super::write::{self, Asked};
use crate::exchange::{Answer, AnswerBody, Ends, Exchange};
use crate::observe::record::Record;
use crate::observe::request_id::RequestId;
use crate::pipeline;
use crate::refusal::Refusal;
use crate::shared::{Shared, State};
use crate::tls::TlsFacts;

pub(crate) use body::{Incoming, Leftover};

/// Bytes read at once while a head is expected.
pub(super) const HEAD_READ_BYTES: usize = 4 * 1024;
/// How HTTP/2 begins.
const H2_WORD: &[u8] = b"PRI * HTTP/2";
/// Bytes read at once while a body is expected.
pub(super) const BODY_READ_BYTES: usize = 64 * 1024;
/// What is read and thrown away after an answer that closes, so that the client can read it before its own data meet a
/// closed socket (RFC 9112 §9.6).
const LINGER_BYTES: usize = 512 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);
/// A connection at rest when the server stops is kept this long for a request that is on its way already.
const LAST_CALL: Duration = Duration::from_secs(2);

/// A client's connection.
pub(crate) struct Connection {
    pub(super) shared: Arc<Shared>,
    /// As it was when the last request began.
    pub(super) state: Arc<State>,
    pub(super) stream: Stream,
    ends: Ends,
    tls: Option<Arc<TlsFacts>>,
    pub(super) place: Place,
    pub(super) timer: Timer,
    /// Bytes read and not yet used.
    pub(super) buffer: Vec<u8>,
    /// Where in `buffer` the next one is.
    pub(super) at: usize,
    /// The client has shut its sending side.
    pub(super) ended: bool,
}

/// The connection can go no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The client is gone, or takes nothing.
    Client,
    /// The app or a file gave less than was announced: cut, so that nobody takes it for whole.
    Answer,
}

enum Rest {
    Request,
    Closed,
}

/// What becomes of the connection after a request.
enum Served<'s> {
    /// The next may come.
    Open,
    Closed,
    /// It is a WebSocket from here on. Boxed: it is returned through every request's future.
    Upgraded(Box<Upgraded<'s>>),
}

enum Headed {
    Request(Box<Exchange>),
    Refused(Refusal),
    Closed,
}

impl Connection {
    /// A connection that was just accepted.
    pub(crate) fn new(
        shared: Arc<Shared>,
        stream: Stream,
        ends: Ends,
        tls: Option<Arc<TlsFacts>>,
        place: Place,
    ) -> Self {
        let state = shared.state();
        let (timer, buffer) = (Timer::default(), Vec::new());
        Self { shared, state, stream, ends, tls, place, timer, buffer, at: 0, ended: false }
    }

    /// Serves it until it closes.
    pub(crate) async fn run(mut self) {
        let shared = self.shared.clone();
        let mut may_be_h2 = self.state.settings.h2c && self.tls.is_none();
        loop {
            match self.rest().await {
                Rest::Request => self.place.busy(),
                Rest::Closed => return,
            }
            if std::mem::take(&mut may_be_h2) && self.begins_h2().await {
                let Self { shared, stream, ends, tls, place, buffer, .. } = self;
                return Box::pin(h2::Connection::after(buffer, shared, stream, ends, tls, place).run()).await;
            }
            let state = self.take_state();
            // Boxed: the state of a request is kilobytes, and most connections rest.
            match Box::pin(self.serve(&shared, &state)).await {
                Served::Open => {}
                Served::Closed => return,
                Served::Upgraded(upgraded) => return Box::pin(websocket::run(&mut self, *upgraded)).await,
            }
        }
    }

    /// Whether the client begins with HTTP/2 (RFC 9113 §3.3). Its first word is enough: no request has that method.
    async fn begins_h2(&mut self) -> bool {
        let deadline = Instant::now() + self.state.settings.header_timeout;
        loop {
            let common = self.buffer.len().min(H2_WORD.len());
            if self.buffer[..common] != H2_WORD[..common] {
                return false;
            }
            if common == H2_WORD.len() {
                return true;
            }
            // Too late, or too little: the head says so.
            if self.ended || self.read_more(HEAD_READ_BYTES, deadline).await.is_err() {
                return false;
            }
        }
    }

    /// The state for the next request: that of the last one, but for a reload in between.
    fn take_state(&mut self) -> Arc<State> {
        let current = self.shared.current.load();
        if !Arc::ptr_eq(&current, &self.state) {
            self.state = Arc::clone(&current);
        }
        self.state.clone()
    }

    /// Waits for the first byte of a request.
    async fn rest(&mut self) -> Rest {
        if self.at < self.buffer.len() {
            return Rest::Request;
        }
        self.buffer = Vec::new();
        self.at = 0;
        if self.ended {
            return Rest::Closed;
        }
        let since = Instant::now();
        self.place.rests(since);
        let idle = since + self.state.settings.idle_timeout;
        let last_call = since + LAST_CALL;
        let Self { shared, stream, place, timer, buffer, .. } = self;
        let read = std::future::poll_fn(|context| {
            if let Poll::Ready(read) = stream.poll_read(context, buffer, HEAD_READ_BYTES) {
                return Poll::Ready(read.ok());
            }
            *buffer = Vec::new();
            if place.handle.poll_closed(context) {
                return Poll::Ready(None);
            }
            let leaving = shared.is_draining() || place.is_leaving();
            let deadline = if leaving { idle.min(last_call) } else { idle };
            timer.poll(context, deadline).map(|()| None)
        });
        match read.await {
            Some(1..) => Rest::Request,
            _ => Rest::Closed,
        }
    }

    /// One request and its answer.
    async fn serve<'s>(&mut self, shared: &'s Shared, state: &'s State) -> Served<'s> {
        let started = Instant::now();
        let mut exchange = match self.read_head(started).await {
            Headed::Request(exchange) => exchange,
            Headed::Refused(refusal) => {
                self.refuse(refusal, started).await;
                return Served::Closed;
            }
            Headed::Closed => return Served::Closed,
        };
        let mut incoming = super::Incoming::H1(Incoming::new(self, &exchange));
        let mut answer = pipeline::run(shared, state, &mut exchange, &mut incoming).await;
        let unread = incoming.leftover();
        let mut record = Record::of(&exchange, state.access_log.as_deref()).counted(&shared.counters);
        let body = std::mem::replace(&mut answer.body, AnswerBody::Empty);
        if let AnswerBody::Upgrade(ticket) = body {
            return match self.answer(&exchange, answer, unread, &mut record).await {
                Ok(_) => Served::Upgraded(Box::new(Upgraded::new(ticket, &exchange, record))),
                Err(_) => Served::Closed,
            };
        }
        answer.body = body;
        let kept = self.answer(&exchange, answer, unread, &mut record).await;
        drop(record);
        match kept {
            Ok(Kept::Open) => Served::Open,
            Ok(Kept::Close) => {
                self.linger().await;
                Served::Closed
            }
            Err(_) => Served::Closed,
        }
    }

    /// Reads until a head is whole.
    async fn read_head(&mut self, started: Instant) -> Headed {
        let limits = HeadLimits {
            bytes: self.state.settings.max_header_bytes,
            fields: self.state.settings.max_headers,
        };
        let deadline = started + self.state.settings.header_timeout;
        let mut looked_to: usize = 0;
        loop {
            let bytes = &self.buffer[self.at..];
            // A head that comes in drops is not parsed anew for each of them.
            if looked_to == 0
                || bytes[looked_to.saturating_sub(3)..].contains(&b'\n')
                || bytes.len() > limits.bytes
            {
                match head::parse(bytes, self.ends, limits, started) {
                    Ok(Parsed::Request(mut exchange, length)) => {
                        self.at += length;
                        exchange.tls.clone_from(&self.tls);
                        return Headed::Request(exchange);
                    }
                    Ok(Parsed::Partial) => {}
                    Err(refusal) => return Headed::Refused(refusal),
                }
            }
            looked_to = bytes.len();
            if self.ended {
                return if looked_to == 0 {
                    Headed::Closed
                } else {
                    Headed::Refused(Refusal::MalformedRequest)
                };
            }
            match self.read_more(HEAD_READ_BYTES, deadline).await {
                Ok(_) => {}
                Err(ReadError::Timeout) if self.at == self.buffer.len() => return Headed::Closed,
                Err(ReadError::Timeout) => return Headed::Refused(Refusal::HeadTimeout),
                Err(ReadError::Broken) => return Headed::Closed,
            }
        }
    }

    /// Adds to the buffer. `Ok(0)`: the client has ended its side.
    async fn read_more(&mut self, room: usize, deadline: Instant) -> Result<usize, ReadError> {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        let Self { stream, timer, buffer, .. } = self;
        let read = std::future::poll_fn(|context| {
            if let Poll::Ready(read) = stream.poll_read(context, buffer, room) {
                return Poll::Ready(read.map_err(|_| ReadError::Broken));
            }
            timer.poll(context, deadline).map(|()| Err(ReadError::Timeout))
        })
        .await?;
        self.ended |= read == 0;
        Ok(read)
    }

    /// Writes everything, as long as the client takes some within `send_timeout`.
    async fn write_all(&mut self, pieces: &[&[u8]]) -> Result<(), Broken> {
        let limit = self.state.settings.send_timeout;
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut written = 0;
        let mut deadline = None;
        while written < total {
            let Self { stream, timer, .. } = self;
            let n = std::future::poll_fn(|context| {
                let mut slices = [IoSlice::new(&[]); 3];
                let count = rest_of(pieces, written, &mut slices);
                if let Poll::Ready(result) = stream.poll_write(context, &slices[..count]) {
                    return Poll::Ready(result.map_err(|_| Broken::Client));
                }
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + limit);
                timer.poll(context, deadline).map(|()| Err(Broken::Client))
            })
            .await?;
            if n == 0 {
                return Err(Broken::Client);
            }
            written += n;
            deadline = None;
        }
        Ok(())
    }

    /// Answers bytes that never became a request, and closes.
    async fn refuse(&mut self, refusal: Refusal, started: Instant) {
        let (shared, state) = (self.shared.clone(), self.state.clone());
        let request_id = RequestId::new();
        let mut answer = refusal.bare_answer(request_id.as_str());
        state.security.apply(self.tls.is_some(), false, &mut answer);
        let peer = self.ends.peer.map(|peer| peer.ip().to_canonical());
        let log = state.access_log.as_deref();
        let record = Record::of_refused(peer, log, started).secured(self.tls.as_deref());
        let mut record = record.counted(&shared.counters);
        let asked = Asked {
            version: bandstand_semantics::Version::Http11,
            head: false,
            keep: false,
            request_id: request_id.as_bytes(),
            trailers: false,
        };
        if self.send_answer(answer, asked, &mut record).await.is_ok() {
            drop(record);
            self.linger().await;
        }
    }

    async fn answer(
        &mut self,
        exchange: &Exchange,
        answer: Answer,
        unread: body::Leftover,
        record: &mut Record<'_>,
    ) -> Result<Kept, Broken> {
        let keep = exchange.keep_alive
            && !answer.close
            && unread != body::Leftover::Unknown
            && !self.ended
            && !self.shared.is_draining()
            && !self.place.is_leaving();
        let asked = Asked {
            version: exchange.version,
            head: exchange.is_head(),
            keep,
            request_id: exchange.request_id.as_bytes(),
            trailers: exchange.takes_trailers,
        };
        self.send_answer(answer, asked, record).await
    }

    /// Shuts our side and reads what still comes, for a moment.
    pub(super) async fn linger(&mut self) {
        self.stream.shut_down_writing();
        let deadline = Instant::now() + LINGER_TIME;
        let mut thrown = 0;
        self.buffer.clear();
        self.at = 0;
        while !self.ended && thrown < LINGER_BYTES {
            match self.read_more(HEAD_READ_BYTES, deadline).await {
                Ok(read) => thrown += read,
                Err(_) => return,
            }
            self.buffer.clear();
        }
    }
}

/// What becomes of the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// The next request may come.
    Open,
    /// It closes.
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadError {
    Timeout,
    Broken,
}

/// The slices that are left after `written` bytes of `pieces`; gives how many.
fn rest_of<'a>(pieces: &[&'a [u8]], written: usize, slices: &mut [IoSlice<'a>; 3]) -> usize {
    let mut skip = written;
    let mut count = 0;
    for piece in pieces {
        if skip >= piece.len() {
            skip -= piece.len();
        } else if let Some(slot) = slices.get_mut(count) {
            *slot = IoSlice::new(&piece[skip..]);
            skip = 0;
            count += 1;
        }
    }
    count
}

impl Asked<'_> {
    /// Whether the connection can be kept with this framing.
    fn keeps(&self, framing: write::Framing) -> bool {
        self.keep && framing != write::Framing::Close
    }
}
