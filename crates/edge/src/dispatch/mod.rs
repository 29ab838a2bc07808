//! From a complete request to a worker and back: one queue, one channel per worker.
//!
//! `pool` owns the queue and decides which worker is next; `link` is what the edge knows of one worker; `channel` moves
//! its bytes; `reply` is where the waiting connection picks its answer up. Nothing here knows HTTP beyond the frames.
//! `docs/decisions/0003-dispatch.md` has the measurements behind it.

mod channel;
mod link;
mod pace;
pub(crate) mod pool;
pub(crate) mod reply;
#[cfg(test)]
mod tests;

pub(crate) use channel::{Notice, run_channel};
pub(crate) use pace::Pace;
pub(crate) use pool::{Limits, Pool, Request, Ticket};
pub(crate) use reply::{Event, Failure, HeadFrame, Reply};
