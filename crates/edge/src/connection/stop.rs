//! The end of a streamed answer that knows none, when the server stops.
//!
//! Owns how long such an answer goes on, and how it ends: one of events with a plain end, since its client comes again by
//! itself; any other is cut, so that nobody takes it for whole. An answer with a length is waited for.

use std::task::Context;
use std::time::Instant;

use bandstand_semantics::Fields;

use super::timer::Timer;
use super::write::Framing;
use crate::dispatch::{Event, Ticket};
use crate::shared::State;

/// Looks after one streamed answer.
pub(super) struct Stop {
    /// The app sends events, to clients that come again by themselves when the stream ends.
    is_events: bool,
    /// Nobody has said how long the answer is.
    pub(super) is_open: bool,
    /// When bytes left last.
    pub(super) spoken: Instant,
    /// When the server began to stop.
    stopping: Option<Instant>,
    /// It was ended, as the app would have ended it.
    pub(super) is_over: bool,
}

impl Stop {
    pub(super) fn new(fields: &Fields, framing: Framing) -> Self {
        const EVENTS: &[u8] = b"text/event-stream";
        let kind = fields.all("content-type").next();
        let is_events = kind
            .and_then(|kind| kind.get(..EVENTS.len()))
            .is_some_and(|kind| kind.eq_ignore_ascii_case(EVENTS));
        Self {
            is_events,
            is_open: matches!(framing, Framing::Chunked | Framing::Close),
            spoken: Instant::now(),
            stopping: None,
            is_over: false,
        }
    }

    /// The end of the stream, when the server stops and the app does not come to an end by itself. Asked only then.
    pub(super) fn poll(
        &mut self,
        state: &State,
        timer: &mut Timer,
        ticket: &Ticket,
        context: &mut Context<'_>,
    ) -> Option<Event> {
        let stopping = *self.stopping.get_or_insert_with(Instant::now);
        let since = if self.is_events { stopping } else { stopping.max(self.spoken) };
        if timer.poll(context, since + state.patience_at_stop()).is_pending() || !ticket.is_on_loop() {
            return None;
        }
        ticket.expire();
        // What is cut must not look whole; where the client comes again by itself the end may be a plain one.
        self.is_over = self.is_events;
        Some(Event::End { broken: !self.is_events, service_us: 0 })
    }
}
