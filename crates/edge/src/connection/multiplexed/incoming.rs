//! The body of a request that comes in a stream of its own, read when somebody wants it.
//!
//! Owns the limits in time, which are those of HTTP/1 (`header_timeout` for the first byte after a pause, `body_min_rate` over
//! the whole), the `100 Continue`, and the check of the length that was announced (RFC 9113 §8.1.1). The client's window opens
//! as bytes are taken and not before: what nobody reads stays with the client. Sizes are the stage's (`stages::receive`).

use std::sync::Weak;
use std::task::Poll;
use std::time::Instant;

use bandstand_semantics::framing::Framing;
use bandstand_semantics::hop;
use http::{Response, StatusCode};

use super::carrier::Carrier;
use super::fields;
use crate::connection::incoming::{BodyError, body_deadline};
use crate::connection::timer::Timer;
use crate::dispatch::reply::Reply;
use crate::dispatch::{Event, Ticket};
use crate::exchange::Exchange;
use crate::refusal::Refusal;
use crate::shared::State;

/// A body that is still with the client, in whole or in part.
pub(crate) struct Incoming<'c> {
    carrier: &'c mut dyn Carrier,
    timer: &'c mut Timer,
    state: &'c State,
    /// Bytes that were announced.
    announced: Option<u64>,
    is_over: bool,
    /// The client waits for our word.
    expects_continue: bool,
    /// When the first byte was wanted, and bytes since.
    begun: Option<Instant>,
    received: u64,
    /// Another number of bytes came than was announced: the stream is to be reset, not answered.
    pub(in crate::connection) is_malformed: bool,
    /// What a worker still does for a client that has left.
    pub(in crate::connection) trail: Option<Weak<Reply>>,
}

impl<'c> Incoming<'c> {
    /// `is_over`: the stream had ended with its head.
    pub(super) fn new(
        carrier: &'c mut dyn Carrier,
        timer: &'c mut Timer,
        state: &'c State,
        exchange: &Exchange,
        is_over: bool,
    ) -> Self {
        let announced = match exchange.framing {
            Framing::Length(length) => Some(length),
            Framing::None | Framing::Chunked => None,
        };
        Self {
            carrier,
            timer,
            state,
            announced,
            is_over,
            expects_continue: exchange.expects_continue && !is_over,
            begun: None,
            received: 0,
            is_malformed: is_over && announced.is_some_and(|length| length > 0),
            trail: None,
        }
    }

    /// See `connection::Incoming::read`.
    pub(crate) async fn read(&mut self, out: &mut Vec<u8>) -> Result<bool, BodyError> {
        if self.is_malformed {
            return Err(BodyError::Malformed);
        }
        if self.is_over {
            return Ok(false);
        }
        if std::mem::take(&mut self.expects_continue) {
            let word = fields::interim(StatusCode::CONTINUE);
            self.send_interim(word).await.map_err(|()| BodyError::CutShort)?;
        }
        let now = Instant::now();
        let begun = *self.begun.get_or_insert(now);
        let deadline = body_deadline(&self.state.settings, begun, self.received, now);
        let Self { carrier, timer, .. } = self;
        let piece = std::future::poll_fn(|context| {
            if let Poll::Ready(piece) = carrier.poll_data(context) {
                return Poll::Ready(Ok(piece));
            }
            timer.poll(context, deadline).map(|()| Err(BodyError::TooSlow))
        });
        match piece.await? {
            Some(Ok(bytes)) => {
                self.received += bytes.len() as u64;
                if self.announced.is_some_and(|length| self.received > length) {
                    self.is_malformed = true;
                    return Err(BodyError::Malformed);
                }
                out.extend_from_slice(&bytes);
                self.carrier.release(bytes.len());
                Ok(true)
            }
            Some(Err(_)) => Err(BodyError::CutShort),
            None if self.announced.is_some_and(|length| self.received != length) => {
                self.is_malformed = true;
                Err(BodyError::Malformed)
            }
            None => {
                self.is_over = true;
                Ok(false)
            }
        }
    }

    /// Bytes of the body so far.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// The next event, unless the client is gone first.
    pub(crate) async fn unless_broken(&mut self, ticket: &Ticket) -> Result<Event, Refusal> {
        let carrier = &mut self.carrier;
        let news = std::future::poll_fn(|context| {
            if let Poll::Ready(event) = ticket.reply().poll_next(context) {
                return Poll::Ready(Ok(event));
            }
            carrier.poll_gone(context).map(|()| Err(Refusal::ClientGone))
        });
        let news = news.await;
        if news.is_err() {
            self.trail = Some(ticket.trail());
        }
        news
    }

    /// Sends `103 Early Hints`.
    pub(crate) async fn send_hints<'f>(&mut self, fields: impl Iterator<Item = (&'f [u8], &'f [u8])>) {
        let mut hints = fields::interim(StatusCode::EARLY_HINTS);
        for (name, value) in fields.filter(|(name, _)| !hop::is_hop_by_hop(name)) {
            fields::push(hints.headers_mut(), name, value);
        }
        // Whether the client is there shows when the answer is written.
        let _ = self.send_interim(hints).await;
    }

    async fn send_interim(&mut self, head: Response<()>) -> Result<(), ()> {
        let within = Instant::now() + self.state.settings.send_timeout;
        let Self { carrier, timer, .. } = self;
        std::future::poll_fn(|context| {
            if let Poll::Ready(room) = carrier.poll_room(0, context) {
                return Poll::Ready(room.map_err(|_| ()).map(|_| ()));
            }
            timer.poll(context, within).map(|()| Err(()))
        })
        .await?;
        self.carrier.send_interim(head).map_err(|_| ())
    }
}
