//! What a worker's frames mean to the exchanges that it holds.
//!
//! Owns the step from a frame to an event: is it in order, is it within the credit, is the exchange over with it? Their
//! order is `wire::sequence`'s, their bytes are `channel`'s. What an exchange may say without credit is bounded
//! by its number, so that no worker makes the edge's memory grow.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::task::Waker;
use std::time::Instant;

use bandstand_wire::sequence::Answer;
use bandstand_wire::{Flags, Frame, Kind, ResponseHead, WireError, head, limits};

use super::link::Link;
use super::places::Held;
use super::queue::Work;
use super::reply::{Event, HeadFrame, Location};
use super::title;

/// Interim answers (103) that one request may have.
const INTERIMS_MOST: u8 = 16;
/// Bytes of an answer that may lie with the edge, and the last piece, which may be past it. A grant on its way when the
/// client left adds one window.
const UNCONSUMED_MOST: usize = 2 * limits::WINDOW;

/// Takes in one frame of a worker.
///
/// # Errors
/// It names no held request, comes out of order, or says more than it may.
pub(crate) fn on_frame(
    link: &mut Link,
    frame: Frame<'_>,
    descriptors: &mut VecDeque<OwnedFd>,
    wakers: &mut Vec<Waker>,
    now: Instant,
) -> Result<(), WireError> {
    let header = frame.header;
    if header.kind == Kind::Idle {
        return Ok(()); // `refill` looks at the board
    }
    let leaving = link.is_leaving();
    let Some(held) = link.places.named(header.place, header.id) else {
        return Err(WireError::OutOfSequence("about a request that the worker does not hold"));
    };
    let answer = held.after(header.kind, header.flags)?;
    let (event, service_us) = read_event(&frame, held, descriptors)?;
    held.enter(answer);
    held.touched = now;
    if !held.abandoned {
        if answer == Answer::Done {
            held.job.reply.set_location(Location::Nowhere);
            held.job.reply.set_service(service_us);
        }
        if let Some(event) = event {
            wakers.extend(held.job.reply.push(event));
        }
    }
    if leaving && matches!(header.kind, Kind::Accept | Kind::Response) && held.stays() {
        link.say_farewell(header.place, header.id, wakers);
    }
    if header.kind == Kind::Moved && !link.moved(header.place, header.id) {
        return Err(WireError::OutOfSequence("moved, and no thread had it"));
    }
    if answer == Answer::Done {
        link.answered(header.place, service_us);
    }
    Ok(())
}

impl Held {
    /// The state after this frame.
    fn after(&self, kind: Kind, flags: Flags) -> Result<Answer, WireError> {
        if self.work != Work::Socket && matches!(kind, Kind::Accept | Kind::Want) {
            return Err(WireError::OutOfSequence("about a WebSocket, and it is none"));
        }
        // An app that was told that the client has left before it accepted has nothing to accept or to refuse.
        if self.closed && kind == Kind::Close && self.answer == Answer::Waiting {
            return Ok(Answer::Done);
        }
        self.answer.on(kind, flags)
    }

    fn enter(&mut self, answer: Answer) {
        if self.answer == Answer::Waiting && answer != Answer::Waiting {
            // Nobody else will be given it any more: an open WebSocket or stream keeps no more than its name.
            let open = answer != Answer::Done;
            self.job.payload = if open { title::shorten(&self.job.payload) } else { Vec::new() };
            self.job.descriptor = None;
        }
        self.answer = answer;
    }

    /// A worker that sends more than its credit is at fault: the edge's memory is bounded by it.
    fn take_in(&mut self, bytes: usize) -> Result<(), WireError> {
        self.unconsumed += bytes;
        let last = if self.work == Work::Socket {
            limits::message_cost(limits::PIECE_MAX)
        } else {
            limits::CHUNK_MAX
        };
        if self.unconsumed > UNCONSUMED_MOST + last && !self.abandoned {
            return Err(WireError::OutOfSequence("more of an answer than the credit allows"));
        }
        Ok(())
    }
}

/// What a frame says to the connection, and the service time if it is the last.
fn read_event(
    frame: &Frame<'_>,
    held: &mut Held,
    descriptors: &mut VecDeque<OwnedFd>,
) -> Result<(Option<Event>, u32), WireError> {
    let flags = frame.header.flags;
    let event = match frame.header.kind {
        Kind::Response => return read_head(frame, held, descriptors),
        Kind::End => {
            let service_us = frame.number()?;
            return Ok((Some(Event::End { broken: flags.has(Flags::BROKEN), service_us }), service_us));
        }
        Kind::Interim => {
            ResponseHead::decode(frame.payload)?;
            held.interims += 1;
            if held.interims > INTERIMS_MOST {
                return Err(WireError::OutOfSequence("more interim answers than anybody has a use for"));
            }
            Event::Interim(frame.payload.to_vec())
        }
        // Costs no credit, so it must not cost memory.
        Kind::Chunk if frame.payload.is_empty() => return Ok((None, 0)),
        Kind::Chunk => {
            held.take_in(frame.payload.len())?;
            Event::Chunk(frame.payload.to_vec())
        }
        Kind::Trailers => {
            head::decode_trailers(frame.payload)?;
            Event::Trailers(frame.payload.to_vec())
        }
        Kind::Moved => return Ok((None, 0)),
        Kind::Accept | Kind::Want | Kind::Send | Kind::Close => return Ok((read_socket(frame, held)?, 0)),
        _ => return Err(WireError::OutOfSequence("not a frame about an answer")),
    };
    Ok((Some(event), 0))
}

fn read_head(
    frame: &Frame<'_>,
    held: &mut Held,
    descriptors: &mut VecDeque<OwnedFd>,
) -> Result<(Option<Event>, u32), WireError> {
    let flags = frame.header.flags;
    let (head, fields, body) = ResponseHead::decode(frame.payload)?;
    let descriptor = if flags.has(Flags::DESCRIPTOR) {
        let came = descriptors.pop_front();
        Some(came.ok_or(WireError::Malformed("the descriptor did not come with its frame"))?)
    } else {
        None
    };
    let whole = flags.has(Flags::WHOLE) || descriptor.is_some();
    held.is_events = !whole && fields.iter().any(|(name, value)| is_event_stream(name, value));
    held.take_in(if whole { 0 } else { body.len() })?;
    let frame = HeadFrame { payload: frame.payload.to_vec(), whole, descriptor };
    Ok((Some(Event::Head(frame)), head.service_us))
}

/// Whether this field says that the body is a stream of events (HTML, 9.2.5).
fn is_event_stream(name: &[u8], value: &[u8]) -> bool {
    const EVENTS: &[u8] = b"text/event-stream";
    name.eq_ignore_ascii_case(b"content-type")
        && value.get(..EVENTS.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(EVENTS))
}

/// What a frame about a WebSocket says.
fn read_socket(frame: &Frame<'_>, held: &mut Held) -> Result<Option<Event>, WireError> {
    let flags = frame.header.flags;
    Ok(Some(match frame.header.kind {
        Kind::Accept => {
            let (head, _, _) = ResponseHead::decode(frame.payload)?;
            if head.status != 101 {
                return Err(WireError::Malformed("a WebSocket is accepted with 101"));
            }
            Event::Accept(frame.payload.to_vec())
        }
        Kind::Want => match frame.number()? {
            0 => return Ok(None),
            bytes => Event::Credit(bytes),
        },
        Kind::Send => {
            held.take_in(limits::message_cost(frame.payload.len()))?;
            let (text, whole) = (flags.has(Flags::TEXT), flags.has(Flags::WHOLE));
            Event::Message { text, whole, bytes: frame.payload.to_vec() }
        }
        _ => {
            let (code, reason) = frame.close()?;
            Event::Close { code, reason: reason.to_owned() }
        }
    }))
}
