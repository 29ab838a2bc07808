//! What HTTP/2 and HTTP/3 share: one request's stream from its head to the end of its answer.
//!
//! Owns the way between a `Carrier` and the pipeline: `head` makes the `Exchange`, `incoming` is its body, `send` writes the
//! answer. Connections, their limits and their floods are `h2` and `h3`.

pub(crate) mod carrier;
mod fields;
mod file;
pub(crate) mod head;
mod incoming;
mod send;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Weak};
use std::time::Instant;

use bandstand_semantics::Version;
use http::request::Parts;

use super::head::HeadLimits;
use super::timer::Timer;
use super::websocket::{self, Upgraded};
use crate::body::backlog::Together;
use crate::dispatch::reply::Reply;
use crate::exchange::{Answer, AnswerBody, Ends, Exchange};
use crate::observe::record::Record;
use crate::observe::request_id::RequestId;
use crate::pipeline;
use crate::refusal::Refusal;
use crate::shared::{Shared, State};
use crate::tls::TlsFacts;
use send::{Asked, Sender};

pub(crate) use carrier::{Carrier, Code, Gone};
pub(crate) use incoming::Incoming;

/// Where the requests of a connection come from.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) ends: Ends,
    pub(crate) version: Version,
    pub(crate) tls: Option<Arc<TlsFacts>>,
    /// What the connection's answers hold.
    together: Together,
}

impl Origin {
    pub(crate) fn new(ends: Ends, version: Version, tls: Option<Arc<TlsFacts>>) -> Self {
        Self { ends, version, tls, together: Together::default() }
    }
}

/// An extended CONNECT (RFC 8441 §4): what a connection leaves in the extensions of a request's head, in place of what its
/// crate has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    WebSocket,
    /// Nothing that is served.
    Other,
}

/// Bounds of a head under these settings.
pub(crate) fn limits(state: &State) -> HeadLimits {
    HeadLimits { bytes: state.settings.max_header_bytes, fields: state.settings.max_headers }
}

/// One request, from its decoded head to the end of its answer; a malformed one is reset. `is_over`: the stream ended with
/// its head.
///
/// Dropped, the worker is told that nobody waits. What is given back is alive while a worker is still at work for a client
/// that has left: it counts as an open stream (`CHECKLIST.md` part 2 row 34).
pub(crate) async fn serve(
    shared: &Shared,
    state: &State,
    origin: &Origin,
    carrier: &mut dyn Carrier,
    parts: Parts,
    is_over: bool,
) -> Option<Weak<Reply>> {
    let started = Instant::now();
    let mut timer = Timer::default();
    let mut exchange = match head::take(&parts, origin, limits(state), is_over, started) {
        Ok(exchange) => exchange,
        Err(fault) => {
            let is_head = parts.method == http::Method::HEAD;
            refuse((shared, state), origin, (carrier, &mut timer), fault, (started, is_head)).await;
            return None;
        }
    };
    drop(parts);
    let incoming = Incoming::new(carrier, &mut timer, state, &exchange, is_over);
    let mut incoming = super::Incoming::Multiplexed(incoming);
    let answer = pipeline::run(shared, state, &mut exchange, &mut incoming).await;
    let mut answer = unopened(state, &exchange, answer);
    let (is_malformed, trail) = incoming.left_behind();
    let mut record = Record::of(&exchange, state.access_log.as_deref()).counted(&shared.counters);
    if is_malformed {
        carrier.reset(Code::Malformed);
        record.status = Refusal::MalformedRequest.row().status;
        record.refusal = Some(Refusal::MalformedRequest.row().name);
        return trail;
    }
    if answer.refusal == Some(Refusal::ClientGone.row().name) {
        record.status = answer.status;
        record.refusal = answer.refusal;
        return trail;
    }
    let asked = asked(&exchange, &origin.together);
    if matches!(answer.body, AnswerBody::Upgrade(_))
        && let AnswerBody::Upgrade(ticket) = std::mem::replace(&mut answer.body, AnswerBody::Empty)
    {
        let mut sender = Sender::new(shared, state, carrier, &mut timer);
        if sender.open(answer, asked, &mut record).await.is_ok() {
            let upgraded = Upgraded::new(ticket, &exchange, record);
            Box::pin(websocket::run_in_stream(shared, state, carrier, &mut timer, upgraded)).await;
        }
        return trail;
    }
    let mut sender = Sender::new(shared, state, carrier, &mut timer);
    // Who could not be answered is seen in the record.
    let _ = sender.send(answer, asked, &mut record).await;
    sender.trail.or(trail)
}

/// To an extended CONNECT any success opens what was asked for (RFC 8441 §4), and only one of them has somebody at its other end.
fn unopened(state: &State, exchange: &Exchange, answer: Answer) -> Answer {
    let is_open = matches!(answer.body, AnswerBody::Upgrade(_));
    if !exchange.is_connect || is_open || !matches!(answer.status, 200..=299) {
        return answer;
    }
    let mut answer = Refusal::UnsupportedMethod.answer(exchange);
    state.security.apply(exchange.https, false, &mut answer);
    answer
}

fn asked<'a>(exchange: &'a Exchange, together: &'a Together) -> Asked<'a> {
    Asked {
        version: exchange.version,
        head: exchange.is_head(),
        request_id: exchange.request_id.as_bytes(),
        trailers: exchange.takes_trailers,
        together,
    }
}

/// Answers, or resets, what never became a request.
async fn refuse(
    (shared, state): (&Shared, &State),
    origin: &Origin,
    (carrier, timer): (&mut dyn Carrier, &mut Timer),
    fault: head::Fault,
    (started, is_head): (Instant, bool),
) {
    let peer = origin.ends.peer.map(|peer| peer.ip().to_canonical());
    let log = state.access_log.as_deref();
    let record = Record::of_refused(peer, log, started).over(origin.version).secured(origin.tls.as_deref());
    let mut record = record.counted(&shared.counters);
    match fault {
        head::Fault::Malformed => {
            carrier.reset(Code::Malformed);
            record.status = Refusal::MalformedRequest.row().status;
            record.refusal = Some(Refusal::MalformedRequest.row().name);
        }
        head::Fault::Refused(refusal) => {
            let request_id = RequestId::new();
            let mut answer: Answer = refusal.bare_answer(request_id.as_str());
            state.security.apply(origin.tls.is_some(), false, &mut answer);
            let asked = Asked {
                version: origin.version,
                head: is_head,
                request_id: request_id.as_bytes(),
                trailers: false,
                together: &origin.together,
            };
            // Who could not be answered is seen in the record.
            let _ = Sender::new(shared, state, carrier, timer).send(answer, asked, &mut record).await;
        }
    }
}
