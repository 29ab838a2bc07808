//! The body of a request and the client behind it, as stages see them, whatever the version of HTTP.
//!
//! Owns the choice between the two ways a body comes: bytes on a connection of its own (`h1::Incoming`), or one stream of
//! many (`multiplexed::Incoming`). A plain enum: HTTP/1 pays nothing for it.

use std::sync::Weak;
use std::time::{Duration, Instant};

use bandstand_config::Settings;

use super::h1::{self, Leftover};
use super::multiplexed;
use crate::dispatch::reply::Reply;
use crate::dispatch::{Event, Ticket};
use crate::refusal::Refusal;

/// A body that is still with the client, in whole or in part.
pub(crate) enum Incoming<'c> {
    /// Of HTTP/1.
    H1(h1::Incoming<'c>),
    /// Of HTTP/2 or HTTP/3.
    Multiplexed(multiplexed::Incoming<'c>),
}

/// Why there is no (more) body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// Chunks that are not well formed, or another number of bytes than was announced.
    Malformed,
    /// The client ended or broke the connection before the body was whole.
    CutShort,
    /// Nothing came for too long, or too little.
    TooSlow,
}

/// A client that is slower than `body_min_rate` is given this long before it is measured.
const GRACE: Duration = Duration::from_secs(5);

/// Until when more of a body must come, of which `received` bytes have since it was first wanted at `begun`.
pub(super) fn body_deadline(settings: &Settings, begun: Instant, received: u64, now: Instant) -> Instant {
    let silence = now + settings.header_timeout.max(GRACE);
    match settings.body_min_rate {
        // At the least rate, what has come so far reaches to this moment.
        Some(rate) if rate > 0 => {
            let paid_for = Duration::from_secs_f64(received as f64 / rate as f64);
            silence.min(begun + GRACE + paid_for)
        }
        _ => silence,
    }
}

impl Incoming<'_> {
    /// The next piece of the body is appended to `out`. False at its end.
    ///
    /// # Errors
    /// See `BodyError`; the connection (or the stream) is of no further use then.
    pub(crate) async fn read(&mut self, out: &mut Vec<u8>) -> Result<bool, BodyError> {
        match self {
            Self::H1(incoming) => incoming.read(out).await,
            Self::Multiplexed(incoming) => incoming.read(out).await,
        }
    }

    /// Bytes of the body as they were counted on the wire, framing not included.
    pub(crate) fn received(&self) -> u64 {
        match self {
            Self::H1(incoming) => incoming.received(),
            Self::Multiplexed(incoming) => incoming.received(),
        }
    }

    /// Whether bytes have come that are not this request's. A stream holds one request.
    pub(crate) fn is_followed(&self) -> bool {
        match self {
            Self::H1(incoming) => incoming.is_followed(),
            Self::Multiplexed(_) => false,
        }
    }

    /// Reads and throws away a small rest where the next request comes behind it.
    pub(crate) async fn drain(&mut self) {
        match self {
            Self::H1(incoming) => incoming.drain().await,
            Self::Multiplexed(_) => {} // the stream ends with the answer
        }
    }

    /// The next event, unless the client is gone first.
    ///
    /// # Errors
    /// `Refusal::ClientGone`.
    pub(crate) async fn unless_broken(&mut self, ticket: &Ticket, websocket: bool) -> Result<Event, Refusal> {
        match self {
            Self::H1(incoming) => incoming.unless_broken(ticket, websocket).await,
            Self::Multiplexed(incoming) => incoming.unless_broken(ticket).await,
        }
    }

    /// Sends `103 Early Hints`, if the client knows interim answers.
    pub(crate) async fn send_hints<'f>(&mut self, fields: impl Iterator<Item = (&'f [u8], &'f [u8])>) {
        match self {
            Self::H1(incoming) => incoming.send_hints(fields).await,
            Self::Multiplexed(incoming) => incoming.send_hints(fields).await,
        }
    }

    /// What of the request is still on the connection when the answer is ready.
    pub(super) fn leftover(&self) -> Leftover {
        match self {
            Self::H1(incoming) => incoming.leftover(),
            Self::Multiplexed(_) => Leftover::Nothing,
        }
    }

    /// Of a stream, once the answer is ready: whether its request was malformed after all, and what a worker still does
    /// for a client that has left.
    pub(super) fn left_behind(self) -> (bool, Option<Weak<Reply>>) {
        match self {
            Self::H1(_) => (false, None),
            Self::Multiplexed(incoming) => (incoming.is_malformed, incoming.trail),
        }
    }
}
