//! One HTTP/3 connection (RFC 9114): its requests, side by side, until it has been silent for long enough or the server stops.
//!
//! Owns when the connection rests, leaves and closes, and the task of each request: one that panics ends alone. Streams are
//! `transport`, `frames` and `line`, a request's own is `carrier`, what it means is `multiplexed`, sockets are `endpoint`.
//! Requests are tasks of the runtime, unlike those of HTTP/2: the h3 crate decodes what clients send, and what it might not
//! bear must not take the others along.
//!
//! ```text
//!   Open ──stop, address gone, place wanted──► Leaving (GOAWAY: no new ones, those on their way are served)
//!     │ idle_timeout                              │ LAST_CALL
//!     └────────────────────────────────────────► Left (GOAWAY: what comes now is rejected, and may be sent elsewhere)
//!   Closed ◄─── nothing runs, LINGER is over ─────┘
//! ```
//! `Ends` are those of the handshake: a client may move to another address, which quinn checks, but who it is has been
//! decided by then, and a forged source in one packet changes nothing (`CHECKLIST` 43).

mod carrier;
mod endpoint;
mod field_lines;
mod frames;
mod line;
mod request;
#[cfg(test)]
mod tests;
mod transport;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h3::error::Code;
use h3::server::RequestResolver;
use tokio::task::JoinSet;

use self::request::Outcome;
use self::transport::{Quic, number};
use super::multiplexed::head::decoded_most;
use super::multiplexed::{self, Origin};
use super::registry::Place;
use super::timer::Timer;
use crate::dispatch::reply::Reply;
use crate::shared::Shared;

pub(crate) use self::endpoint::{Endpoint, Open as OpenEndpoint};

/// How long a connection that is to leave takes what was on its way before the client knew.
const LAST_CALL: Duration = Duration::from_millis(200);
/// That, or what comes after it, in round trips, where these are long.
const LAST_CALL_ROUND_TRIPS: u32 = 2;
/// How long one that has left stays, at least: with the connection goes what it has not sent, and that is the word which
/// tells a client what was not served.
const LINGER: Duration = Duration::from_millis(20);
/// Requests that a first GOAWAY still allows: more than can be on their way.
const ON_THEIR_WAY: usize = 1 << 16;
/// Requests of a client at once. Browsers are content with 100.
const REQUESTS: u32 = 128;
/// Work that goes on for requests which their client has cancelled may take so many places more.
const REQUESTS_AND_LEFT: usize = REQUESTS as usize + 64;
/// A connection with so many more requests that came to nothing than answers is a flood (`CHECKLIST` 34, 35).
const MOST_IN_VAIN: u64 = 200;

/// A client's connection.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    quic: quinn::Connection,
    origin: Origin,
    place: Place,
}

type Server = h3::server::Connection<Quic, Bytes>;

/// Where it is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Until then what comes is served.
    Leaving(Instant),
    /// Until then at least.
    Left(Instant),
}

/// What happened on the connection.
enum News {
    Request(Box<RequestResolver<Quic, Bytes>>),
    Done(Outcome),
    /// It is to leave.
    Told,
    /// The time has come that was waited for.
    Time,
    /// The client has left, or has broken the rules of the connection.
    Over,
}

impl Connection {
    /// A connection whose handshake is done.
    pub(crate) fn new(shared: Arc<Shared>, quic: quinn::Connection, origin: Origin, place: Place) -> Self {
        Self { shared, quic, origin, place }
    }

    /// Serves it until it closes.
    pub(crate) async fn run(self) {
        let state = self.shared.state();
        let mut builder = h3::server::builder();
        // By itself the crate has no bound, and a large section makes it panic.
        builder.max_field_section_size(u64::from(decoded_most(multiplexed::limits(&state))));
        builder.send_grease(false);
        let limit = state.settings.header_timeout;
        drop(state);
        // A client that allows no streams of ours could keep us waiting.
        let opening = builder.build(Quic::new(self.quic.clone()));
        let Ok(Ok(server)) = tokio::time::timeout(limit, opening).await else {
            return self.quic.close(number(Code::H3_GENERAL_PROTOCOL_ERROR), b"");
        };
        let since = Instant::now();
        self.place.rests(since);
        let open = Open {
            server,
            running: JoinSet::new(),
            left: Vec::new(),
            timer: Timer::default(),
            phase: Phase::Open,
            is_leaving: Arc::default(),
            since,
            has_asked: false,
            answered: 0,
            in_vain: 0,
            connection: self,
        };
        open.serve().await;
    }

    fn is_told(&self, context: &std::task::Context<'_>) -> bool {
        self.place.handle.poll_closed(context) || self.shared.is_draining() || self.place.is_leaving()
    }

    fn idle_timeout(&self) -> Duration {
        self.shared.current.load().settings.idle_timeout
    }
}

/// A connection at work.
struct Open {
    connection: Connection,
    server: Server,
    running: JoinSet<Outcome>,
    /// What workers still do for requests whose client has left.
    left: Vec<Weak<Reply>>,
    timer: Timer,
    phase: Phase,
    /// Requests wait for their last byte to arrive: the connection closes soon.
    is_leaving: Arc<AtomicBool>,
    /// When it came to rest.
    since: Instant,
    /// There has been a request.
    has_asked: bool,
    answered: u64,
    in_vain: u64,
}

impl Open {
    async fn serve(mut self) {
        loop {
            match self.next().await {
                News::Over => return,
                News::Request(resolver) => self.begin(*resolver),
                News::Done(outcome) => self.end(outcome),
                News::Told => self.leave().await,
                News::Time if matches!(self.phase, Phase::Left(_)) => return, // dropped, the crate's connection closes
                // The client is told, so that it does not send into the end.
                News::Time => self.refuse_more().await,
            }
            if self.in_vain > self.answered.saturating_add(MOST_IN_VAIN) {
                tracing::debug!("a connection was closed: what its client asks for comes to nothing");
                return self.connection.quic.close(number(Code::H3_EXCESSIVE_LOAD), b"");
            }
        }
    }

    async fn next(&mut self) -> News {
        let deadline = match self.phase {
            Phase::Leaving(until) => Some(until),
            Phase::Open if self.running.is_empty() => Some(self.since + self.connection.idle_timeout()),
            Phase::Left(until) if self.running.is_empty() => Some(until),
            Phase::Open | Phase::Left(_) => None,
        };
        let Self { connection, server, running, timer, phase, .. } = self;
        // Dropped between two polls it loses nothing: what it waits for is kept in `Quic`.
        let mut accepting = pin!(server.accept());
        std::future::poll_fn(|context| {
            if let Poll::Ready(accepted) = accepting.as_mut().poll(context) {
                return Poll::Ready(match accepted {
                    Ok(Some(resolver)) => News::Request(Box::new(resolver)),
                    Ok(None) | Err(_) => News::Over,
                });
            }
            if let Poll::Ready(Some(ended)) = running.poll_join_next(context) {
                return Poll::Ready(News::Done(ended.unwrap_or_else(|error| panicked(&error))));
            }
            if connection.is_told(context) && *phase == Phase::Open {
                return Poll::Ready(News::Told);
            }
            match deadline {
                Some(deadline) => timer.poll(context, deadline).map(|()| News::Time),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// A request comes.
    fn begin(&mut self, resolver: RequestResolver<Quic, Bytes>) {
        let Some(line) = self.server.inner.conn.accepted.take() else { return };
        self.left.retain(|work| work.strong_count() > 0);
        if self.running.len() + self.left.len() >= REQUESTS_AND_LEFT {
            // Nothing was done about it (RFC 9114 §4.1.1); it may be sent again.
            return line.lock().reset(Code::H3_REQUEST_REJECTED);
        }
        self.has_asked = true;
        self.connection.place.busy();
        let Connection { shared, origin, .. } = &self.connection;
        self.running.spawn(request::serve(
            shared.clone(),
            origin.clone(),
            resolver,
            line,
            self.is_leaving.clone(),
        ));
    }

    /// A request is over.
    fn end(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Answered => self.answered += 1,
            Outcome::InVain(work) => {
                self.in_vain += 1;
                self.left.extend(work);
            }
        }
        if self.running.is_empty() {
            self.since = Instant::now();
            self.connection.place.rests(self.since);
        }
    }

    /// No new requests, but for those that are on their way.
    async fn leave(&mut self) {
        self.is_leaving.store(true, Ordering::Relaxed);
        if !self.has_asked {
            // The crate has no number for "later" before there was a request.
            return self.refuse_more().await;
        }
        self.phase = Phase::Leaving(self.after(LAST_CALL));
        self.go_away(ON_THEIR_WAY).await;
    }

    /// No new requests.
    async fn refuse_more(&mut self) {
        self.is_leaving.store(true, Ordering::Relaxed);
        self.server.inner.conn.rejected = Some(0);
        self.phase = Phase::Left(self.after(LINGER));
        // The crate names the last stream that it takes: one past the last is the first that is not served.
        self.go_away(usize::from(self.has_asked)).await;
    }

    /// Says so. A client that takes nothing more of us does not hold us up; if the connection is gone, that is the next news.
    async fn go_away(&mut self, allowed: usize) {
        let _ = tokio::time::timeout(LAST_CALL, self.server.shutdown(allowed)).await;
    }

    fn after(&self, least: Duration) -> Instant {
        Instant::now() + least.max(self.connection.quic.rtt() * LAST_CALL_ROUND_TRIPS)
    }
}

fn panicked(error: &tokio::task::JoinError) -> Outcome {
    if error.is_panic() {
        tracing::error!(%error, "a request over HTTP/3 was ended by a mistake of ours; the others go on");
    }
    Outcome::InVain(None)
}
