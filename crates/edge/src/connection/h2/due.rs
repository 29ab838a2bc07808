//! What is due on one HTTP/2 connection, and when to look again.
//!
//! Owns its time limits: a client that takes nothing, one that is silent, a connection at rest, the server's stop (RFC 9113
//! §6.8: the client is told twice, first that it is to go elsewhere, then which of its requests are answered). Leaves the
//! limits of a stream to `multiplexed`. Invariant: whatever the connection waits for, it is looked at again.

use std::future::Future;
use std::sync::{Arc, Weak};
use std::task::Context;
use std::time::{Duration, Instant};

use h2::{Ping, Reason};

use super::wire::lock;
use super::{Accepted, CLOSING, Open, Over, Phase};
use crate::dispatch::reply::Reply;
use crate::shared::State;

/// A client with open streams that is silent for so long is asked for a sign of life, and given as long to answer.
const SILENCE: Duration = Duration::from_secs(20);
/// A connection at rest when the server stops is kept this long for a request that is on its way already.
const LAST_CALL: Duration = Duration::from_secs(2);

impl<F, S> Open<F, S>
where
    F: Future<Output = Option<Weak<Reply>>>,
    S: Fn(Accepted, Arc<State>) -> F,
{
    /// Sees to what is due, and to when to look again.
    pub(super) fn on_time(&mut self, context: &mut Context<'_>) -> Result<(), Over> {
        let is_told = self.place.handle.poll_closed(context);
        loop {
            let now = Instant::now();
            let deadline = self.look(now, is_told)?;
            if self.timer.poll(context, deadline).is_pending() {
                return Ok(());
            }
        }
    }

    /// Does what is due now; gives when something may be due next.
    fn look(&mut self, now: Instant, is_told: bool) -> Result<Instant, Over> {
        let mut wire = lock(&self.wire);
        wire.budget.look(now);
        let heard = std::mem::take(&mut wire.heard);
        let blocked = wire.blocked;
        let is_leaving = self.shared.is_draining() || self.place.is_leaving();
        let settings = &self.state.settings;
        let mut next = now + settings.idle_timeout;
        if let Some(since) = blocked {
            let until = since + settings.send_timeout;
            if now >= until {
                return Err(Over);
            }
            next = next.min(until);
        }
        if let Phase::Closing(until) = self.phase {
            return if now >= until { Err(Over) } else { Ok(next.min(until)) };
        }
        // What was answered is not over before it has left.
        if self.tasks.len() > 0 || !wire.is_empty() || self.h2.has_streams() {
            drop(wire);
            self.work_goes_on();
            if is_leaving {
                self.leave();
            }
            return self.look_for_life(now, heard).map(|until| next.min(until));
        }
        wire.rest();
        drop(wire);
        let since = self.come_to_rest(now);
        let idle = since + self.state.settings.idle_timeout;
        let until = if is_leaving { idle.min(since + LAST_CALL) } else { idle };
        if is_told || now >= until {
            self.close(Reason::NO_ERROR);
            return Ok(now + CLOSING);
        }
        Ok(next.min(until))
    }

    fn work_goes_on(&mut self) {
        if self.rests.take().is_some() || self.silent.is_none() {
            self.place.busy();
        }
    }

    fn come_to_rest(&mut self, now: Instant) -> Instant {
        self.silent = None;
        self.is_asked = false;
        *self.rests.get_or_insert_with(|| {
            self.place.rests(now);
            self.tasks.rest();
            now
        })
    }

    /// A client that is gone without a word is found out while something is open; one at rest has `idle_timeout`.
    fn look_for_life(&mut self, now: Instant, heard: bool) -> Result<Instant, Over> {
        if heard || self.silent.is_none() {
            self.silent = Some(now);
            self.is_asked = false;
        }
        let silent = self.silent.unwrap_or(now);
        if now >= silent + 2 * SILENCE {
            return Err(Over);
        }
        if now >= silent + SILENCE && !self.is_asked {
            self.is_asked = true;
            if let Some(ping) = &mut self.ping {
                // One that was answered has to be taken before the next may be sent.
                let _ = ping.poll_pong(&mut self.turn.context());
                let _ = ping.send_ping(Ping::opaque());
                self.turn.ask();
            }
        }
        Ok(silent + if self.is_asked { 2 * SILENCE } else { SILENCE })
    }

    /// The client is told to take new requests elsewhere (RFC 9113 §6.8); what it has asked for is answered.
    fn leave(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Leaving;
            self.h2.graceful_shutdown();
            self.turn.ask();
        }
    }

    pub(super) fn close(&mut self, reason: Reason) {
        self.phase = Phase::Closing(Instant::now() + CLOSING);
        self.h2.abrupt_shutdown(reason);
        self.turn.ask();
    }
}
