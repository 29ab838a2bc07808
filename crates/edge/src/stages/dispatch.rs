//! Which worker, and what did it say?
//!
//! Owns the reading of a worker's answer: is it one that can be sent? The app's fields are checked again here, although
//! the worker has: a worker that was taken over must not be able to write another client's answer.

use std::fs::File;
use std::sync::Arc;

use bandstand_semantics::Fields;
use bandstand_semantics::text::{valid_field_name, valid_field_value, valid_reason};
use bandstand_wire::ResponseHead;
use bandstand_wire::head::FAILURE_FIELD;

use crate::connection::Incoming;
use crate::dispatch::{Event, Failure, HeadFrame, Ticket};
use crate::exchange::{Answer, AnswerBody, Exchange};
use crate::refusal::Refusal;
use crate::shared::{Shared, State};
use crate::stages::upgrade;

pub(crate) async fn run(
    shared: &Shared,
    state: &State,
    ticket: Ticket,
    exchange: &mut Exchange,
    incoming: &mut Incoming<'_>,
) -> Result<Answer, Refusal> {
    if exchange.websocket.is_none() {
        let answer = answer(ticket, exchange, incoming).await;
        return answer.map_err(|refusal| explain(shared, refusal));
    }
    // An app may take long to answer, but a browser that opens a WebSocket does not wait as long as for a page.
    let within = state.settings.websocket_timeout;
    match tokio::time::timeout(within, answer(ticket, exchange, incoming)).await {
        Ok(answer) => answer.map_err(|refusal| explain(shared, refusal)),
        Err(_) => Err(Refusal::AppTimeout),
    }
}

/// The wait was not for others: the app does not start.
fn explain(shared: &Shared, refusal: Refusal) -> Refusal {
    let in_vain =
        refusal == Refusal::QueueTimeout && shared.outage.is_on() && shared.pool.ready_workers() == 0;
    if in_vain { Refusal::AppDown } else { refusal }
}

async fn answer(
    ticket: Ticket,
    exchange: &mut Exchange,
    incoming: &mut Incoming<'_>,
) -> Result<Answer, Refusal> {
    let websocket = exchange.websocket.is_some();
    loop {
        // A client that broke the connection is not worked for; its place in the queue is free at once.
        match incoming.unless_broken(&ticket, websocket).await? {
            Event::Interim(payload) => send_interim(&payload, incoming).await?,
            Event::Head(frame) => {
                exchange.trace = ticket.reply().trace();
                return read_head(frame, ticket);
            }
            Event::Accept(payload) => {
                exchange.trace = ticket.reply().trace();
                return upgrade::accept(&payload, ticket, exchange);
            }
            Event::Failed(failure) => {
                exchange.trace = ticket.reply().trace();
                return Err(refusal(failure));
            }
            // Nothing has been sent to it yet that it could have taken in.
            Event::Credit(_) => {}
            _ => return Err(Refusal::BadAnswer),
        }
    }
}

/// Hints for the browser while the app still works (RFC 8297). A client that left is noticed with the answer itself.
async fn send_interim(payload: &[u8], incoming: &mut Incoming<'_>) -> Result<(), Refusal> {
    let (head, view, _) = ResponseHead::decode(payload).map_err(|_| Refusal::BadAnswer)?;
    if head.status != 103
        || view.iter().any(|(name, value)| !valid_field_name(name) || !valid_field_value(value))
    {
        return Err(Refusal::BadAnswer);
    }
    incoming.send_hints(view.iter()).await;
    Ok(())
}

fn refusal(failure: Failure) -> Refusal {
    match failure {
        Failure::QueueFull => Refusal::Overloaded,
        Failure::QueueTimeout => Refusal::QueueTimeout,
        Failure::Stopping => Refusal::Stopping,
        Failure::WorkerDied => Refusal::WorkerDied,
        Failure::TimedOut => Refusal::AppTimeout,
    }
}

fn read_head(frame: HeadFrame, ticket: Ticket) -> Result<Answer, Refusal> {
    let HeadFrame { payload, whole, descriptor } = frame;
    let (head, view, body) = ResponseHead::decode(&payload).map_err(|_| Refusal::BadAnswer)?;
    if head.status < 200 || !valid_reason(head.reason) {
        return Err(Refusal::BadAnswer);
    }
    let mut answer = Answer::new(head.status);
    answer.reason = head.reason.to_vec();
    let mut said = None;
    answer.fields = Fields::with_capacity(view.len() + 1, payload.len() - body.len());
    for (name, value) in view.iter() {
        if name == FAILURE_FIELD {
            return Err(Refusal::AppFailed);
        }
        if !valid_field_name(name) || !valid_field_value(value) {
            return Err(Refusal::BadAnswer);
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            said = Some(bandstand_semantics::text::parse_digits(value).ok_or(Refusal::BadAnswer)?);
        } else {
            answer.fields.push(name, value);
        }
    }
    let body_at = payload.len() - body.len();
    let (length, offset) = (head.body_length, head.file_offset);
    answer.length = said.or(length);
    answer.body = match descriptor {
        Some(descriptor) => {
            let length = length.ok_or(Refusal::BadAnswer)?;
            let file = File::from(descriptor);
            // A pipe or a device would block, or never end.
            if !file.metadata().is_ok_and(|found| found.is_file()) {
                return Err(Refusal::BadAnswer);
            }
            answer.length = Some(length);
            AnswerBody::File { file: Arc::new(file), offset, length }
        }
        None if whole => {
            let length = (payload.len() - body_at) as u64;
            if length > 0 || said.is_none() {
                // An empty body with a length is an answer to HEAD; anything else is as long as it is.
                answer.length = Some(length.max(answer.length.filter(|_| length == 0).unwrap_or(0)));
            }
            AnswerBody::Frame(payload, body_at)
        }
        None => AnswerBody::Stream { ticket, first: payload, offset: body_at, encoder: None },
    };
    Ok(answer)
}
