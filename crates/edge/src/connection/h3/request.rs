//! One request over HTTP/3, from its first byte to the end of its answer.
//!
//! Owns the time for its head, what a client is told whose head is no request, and how long the request counts for its
//! connection. What lies between is `multiplexed::serve`.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use h3::error::{Code, StreamError};
use h3::server::{RequestResolver, RequestStream};

use super::carrier::Carrier;
use super::frames::Fault;
use super::line::SharedLine;
use super::transport::{self, Quic};
use crate::connection::multiplexed::{self, Origin};
use crate::connection::timer::Timer;
use crate::dispatch::reply::Reply;
use crate::observe::record::Record;
use crate::refusal::Refusal;
use crate::shared::{Shared, State};

/// Answers up to this are on their way when quinn has them; past it, the connection must not close before they have arrived.
const SOON_ARRIVED: u64 = 64 * 1024;

/// How a request ended, as far as its connection is concerned.
pub(super) enum Outcome {
    Answered,
    /// Without an answer. What is here is alive while a worker is still at it for nobody.
    InVain(Option<Weak<Reply>>),
}

type Resolved = (http::Request<()>, RequestStream<transport::Request, Bytes>);

/// Serves it.
pub(super) async fn serve(
    shared: Arc<Shared>,
    origin: Origin,
    resolver: RequestResolver<Quic, Bytes>,
    line: SharedLine,
    is_leaving: Arc<AtomicBool>,
) -> Outcome {
    let started = Instant::now();
    let state = shared.state();
    let (head, stream) = match read_head(&state, resolver, &line, started).await {
        Ok(resolved) => resolved,
        Err(refusal) => {
            refuse((&shared, &state), &origin, &line, refusal, started).await;
            return Outcome::InVain(None);
        }
    };
    let (mut carrier, is_over) = Carrier::new(stream, line.clone());
    let (parts, ()) = head.into_parts();
    // Boxed: the state of a request is kilobytes, and the task moves.
    let serving = multiplexed::serve(&shared, &state, &origin, &mut carrier, parts, is_over);
    let work = Box::pin(serving).await;
    drop(carrier);
    if !line.lock().is_finished() {
        return Outcome::InVain(work);
    }
    if line.lock().given() > SOON_ARRIVED || is_leaving.load(Ordering::Relaxed) {
        let arrived = line.lock().stream.stopped();
        // Or the connection is over; or its client acknowledges all but this.
        let _ = tokio::time::timeout(state.settings.send_timeout, arrived).await;
    }
    Outcome::Answered
}

/// Reads the head in time.
async fn read_head(
    state: &State,
    resolver: RequestResolver<Quic, Bytes>,
    line: &SharedLine,
    started: Instant,
) -> Result<Resolved, Refusal> {
    let mut timer = Timer::default();
    let deadline = started + state.settings.header_timeout;
    let mut resolving = pin!(resolver.resolve_request());
    std::future::poll_fn(|context| {
        if let Poll::Ready(resolved) = resolving.as_mut().poll(context) {
            return Poll::Ready(resolved.map_err(|error| refusal_of(&error, line)));
        }
        timer.poll(context, deadline).map(|()| Err(Refusal::HeadTimeout))
    })
    .await
}

fn refusal_of(error: &StreamError, line: &SharedLine) -> Refusal {
    match (error, line.lock().fault()) {
        (_, Some(Fault::TooLarge)) | (StreamError::HeaderTooBig { .. }, _) => Refusal::HeadTooLarge,
        (_, Some(Fault::Message)) | (StreamError::StreamError { .. }, _) => Refusal::MalformedRequest,
        _ => Refusal::ClientGone,
    }
}

/// Ends the stream, and notes why. Fields that are too many have had their answer from where that was seen.
async fn refuse(
    (shared, state): (&Shared, &State),
    origin: &Origin,
    line: &SharedLine,
    refusal: Refusal,
    started: Instant,
) {
    let code = match refusal {
        Refusal::ClientGone => return,
        Refusal::HeadTooLarge => None,
        Refusal::HeadTimeout => Some(Code::H3_REQUEST_INCOMPLETE),
        _ => Some(Code::H3_MESSAGE_ERROR),
    };
    match code {
        // A second reset changes nothing: the first may have had a better code.
        Some(code) => line.lock().reset(code),
        None => {
            line.lock().end();
            let sent = std::future::poll_fn(|context| line.lock().poll_flush(context));
            let _ = tokio::time::timeout(state.settings.send_timeout, sent).await;
        }
    }
    let peer = origin.ends.peer.map(|peer| peer.ip().to_canonical());
    let log = state.access_log.as_deref();
    let mut record = Record::of_refused(peer, log, started).counted(&shared.counters);
    record.status = refusal.row().status;
    record.refusal = Some(refusal.row().name);
}
