//! A request given away, as the connection that waits for its answer holds it.
//!
//! Owns what a connection says about its exchange: more room for the answer, messages and the end of a WebSocket, and by
//! dropping the ticket that nobody waits any more. What comes back is in `reply`.
//! Invariant: nothing is said about an exchange that the worker does not hold any more.

use std::fs::File;
use std::sync::{Arc, Weak};
use std::time::Instant;

use bandstand_wire::{Flags, limits};

use super::link::Link;
use super::pool::Pool;
use super::queue::{Lane, Work};
use super::reply::{Location, Reply};
use crate::observe::request_id::RequestId;

/// A request as a stage gives it away.
pub(crate) struct Request {
    /// Request head, fields, inline body.
    pub(crate) payload: Vec<u8>,
    pub(crate) flags: Flags,
    /// The body, when it was spooled to a file.
    pub(crate) descriptor: Option<Arc<File>>,
    /// Safe to give to a second worker even if the first had begun it (RFC 9110 §9.2.1).
    pub(crate) repeatable: bool,
    /// Its id, for the log.
    pub(crate) name: RequestId,
    /// Who is to work on it. A handshake (`Flags::WEBSOCKET`) is the loop's.
    pub(crate) lane: Lane,
}

/// A place in the pool's books, given back on drop.
pub(crate) struct Ticket {
    pool: Arc<Pool>,
    reply: Arc<Reply>,
}

impl Ticket {
    pub(super) fn new(pool: Arc<Pool>, reply: Arc<Reply>) -> Self {
        Self { pool, reply }
    }

    /// Where the events come.
    pub(crate) fn reply(&self) -> &Reply {
        &self.reply
    }

    /// Alive as long as the pool holds it, though the ticket be gone: what was begun for a client that has left.
    pub(crate) fn trail(&self) -> Weak<Reply> {
        Arc::downgrade(&self.reply)
    }

    /// For stories in which the test is the worker.
    #[cfg(test)]
    pub(crate) fn share_reply(&self) -> Arc<Reply> {
        self.reply.clone()
    }

    /// Bytes of a streamed answer, or of the app's messages, have left: the worker may send as many again.
    pub(crate) fn consumed(&self, bytes: usize) {
        if bytes > 0 {
            self.about_it(|link, place, id| {
                let Some(held) = link.places.named(place, id) else { return };
                held.unconsumed = held.unconsumed.saturating_sub(bytes);
                held.touched = Instant::now();
                link.grant(place, id, u32::try_from(bytes).unwrap_or(u32::MAX));
            });
        }
    }

    /// A message from the client, or a piece of one of at most `limits::PIECE_MAX` bytes; `whole` on the last. The
    /// caller keeps within the app's credit: `limits::WINDOW` at first, then what `Event::Credit` brings.
    pub(crate) fn send_message(&self, text: bool, whole: bool, bytes: &[u8]) {
        debug_assert!(bytes.len() <= limits::PIECE_MAX, "callers cut messages into pieces");
        let text = if text { Flags::TEXT } else { Flags::NONE };
        let whole = if whole { Flags::WHOLE } else { Flags::NONE };
        self.about_it(|link, place, id| link.message(place, id, text.with(whole), bytes));
    }

    /// The WebSocket is over, with code and reason as the app is to see them: nothing more is sent to the app. What it
    /// still sends comes as events until the ticket is dropped.
    pub(crate) fn send_closed(&self, code: u16, reason: &str) {
        self.about_it(|link, place, id| link.close(place, id, code, reason));
    }

    /// Whether the loop works on it, so that it holds no thread.
    pub(crate) fn is_on_loop(&self) -> bool {
        let mut on_loop = false;
        self.about_it(|link, place, id| {
            on_loop = link.places.named(place, id).is_some_and(|held| held.work != Work::Thread);
        });
        on_loop
    }

    /// Its time is over: nobody waits for the rest, and the app's task is cancelled.
    pub(crate) fn expire(&self) {
        self.pool.abandon(&self.reply, Flags::BROKEN);
    }

    /// Does something about the exchange, if a worker has it.
    fn about_it(&self, act: impl FnOnce(&mut Link, u16, u64)) {
        let Location::Held { worker, place, id } = self.reply.location() else { return };
        if let Some(link) = self.pool.lock().link(worker) {
            act(link, place, id);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.pool.abandon(&self.reply, Flags::NONE);
    }
}

impl Pool {
    /// What the loops still work on and nobody waits for is cancelled.
    pub(crate) fn expire_abandoned(&self) {
        for link in &mut self.lock().links {
            let abandoned =
                link.places.iter().filter(|(_, held)| held.abandoned && held.work != Work::Thread);
            let abandoned: Vec<(u16, u64)> = abandoned.map(|(place, held)| (place, held.id)).collect();
            for (place, id) in abandoned {
                link.expire(place, id);
            }
        }
    }

    /// The connection no longer wants the answer. One that the worker has begun is held until the worker ends it; `flags`
    /// are those of `Cancel`.
    fn abandon(&self, reply: &Arc<Reply>, flags: Flags) {
        if reply.location() == Location::Nowhere {
            return;
        }
        let mut inner = self.lock();
        match reply.location() {
            Location::Queued => {
                for queue in &mut inner.queues {
                    queue.retain(|job| !Arc::ptr_eq(&job.reply, reply));
                }
            }
            Location::Held { worker, place, id } => {
                if let Some(link) = inner.link(worker)
                    && link.places.named(place, id).is_some()
                {
                    if link.recall(place).is_some() {
                        inner.refill(worker, Instant::now());
                    } else if let Some(held) = link.places.named(place, id) {
                        held.abandoned = true;
                        held.touched = Instant::now(); // what goes on for nobody has a time limit of its own
                        link.cancel(place, id, flags);
                    }
                }
            }
            Location::Nowhere => {}
        }
        reply.set_location(Location::Nowhere);
    }
}
