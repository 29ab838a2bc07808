//! Is the client still there, while nothing is read from it?
//!
//! Owns what a client's FIN means. One that has only shut its sending side still gets its answer (RFC 9112 §9.6), and one
//! that has closed sends the same FIN: while the app works nobody can tell them apart. So after `GRACE` the client is
//! asked with an interim answer (`Incoming::unless_broken`), which a closed socket answers with RST; and an event stream
//! that has nothing to send (`Vigil`) is ended. A reset is noticed at once, or, behind bytes that nobody reads yet, within
//! `LOOK`. Also when a stream that knows no end is ended because the server stops.
//! `docs/decisions/0004-http1.md` and `0005-asgi.md` have the reasons.

#[cfg(test)]
mod tests;

use std::task::Context;
use std::time::{Duration, Instant};

use super::super::registry::Place;
use super::super::stop::Stop;
use super::super::stream::{Other, Stream};
use super::super::timer::Timer;
use super::super::write::Framing;
use crate::dispatch::{Event, Ticket};
use crate::exchange::Answer;
use crate::shared::{Shared, State};

/// How long a client that has sent FIN is taken for one that waits for its answer.
const GRACE: Duration = Duration::from_millis(if cfg!(test) { 60 } else { 1500 });
/// Time between two looks at a client that the reactor has no more news of: a readable socket stays readable.
const LOOK: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 250 });

/// What is known of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// As far as anybody can tell it waits.
    There,
    /// It has sent FIN, and `GRACE` has passed.
    Doubtful,
    /// It has closed or reset the connection.
    Gone,
}

/// Looks after one client.
#[derive(Default)]
pub(super) struct Watch {
    /// When its FIN was seen.
    ended: Option<Instant>,
    next_look: Option<Instant>,
}

impl Watch {
    /// Looks. Registers for whatever may change what was seen. `spoken` is when the client was last sent something.
    pub(super) fn poll(
        &mut self,
        stream: &Stream,
        timer: &mut Timer,
        spoken: Option<Instant>,
        context: &mut Context<'_>,
    ) -> Sight {
        match stream.poll_other(context) {
            Other::Silent => return Sight::There,
            Other::Gone => return Sight::Gone,
            Other::Speaks => self.look_again(timer, context),
            Other::Ended => {
                let now = Instant::now();
                let since = *self.ended.get_or_insert(now);
                self.look_again(timer, context);
                if now >= since.max(spoken.unwrap_or(since)) + GRACE {
                    return Sight::Doubtful;
                }
            }
        }
        Sight::There
    }

    fn look_again(&mut self, timer: &mut Timer, context: &mut Context<'_>) {
        let next = self.next_look.get_or_insert_with(|| Instant::now() + LOOK);
        while timer.poll(context, *next).is_ready() {
            *next = Instant::now() + LOOK;
        }
    }
}

/// Watches over a streamed answer whose app says nothing: does anybody still wait for more?
pub(super) struct Vigil {
    watch: Watch,
    pub(super) stop: Stop,
}

impl Vigil {
    pub(super) fn new(answer: &Answer, framing: Framing) -> Self {
        Self { watch: Watch::default(), stop: Stop::new(&answer.fields, framing) }
    }

    /// Bytes have left.
    pub(super) fn spoke(&mut self) {
        self.stop.spoken = Instant::now();
    }

    /// Whether the client is gone. Nothing is on its way to it.
    pub(super) fn is_alone(
        &mut self,
        stream: &Stream,
        timer: &mut Timer,
        ticket: Option<&Ticket>,
        context: &mut Context<'_>,
    ) -> bool {
        match self.watch.poll(stream, timer, Some(self.stop.spoken), context) {
            Sight::There => false,
            // A thread that streams finds out when it writes; what the loop streams may be silent for hours.
            Sight::Doubtful => ticket.is_some_and(Ticket::is_on_loop),
            Sight::Gone => true,
        }
    }

    /// The end of the stream, when the server stops and the app does not come to an end by itself.
    pub(super) fn poll_stop(
        &mut self,
        (shared, state): (&Shared, &State),
        place: &Place,
        timer: &mut Timer,
        ticket: &Ticket,
        context: &mut Context<'_>,
    ) -> Option<Event> {
        if !self.stop.is_open {
            return None;
        }
        place.handle.poll_closed(context); // to be told
        if !shared.is_draining() {
            return None;
        }
        self.stop.poll(state, timer, ticket, context)
    }
}
