//! From a complete request to a worker and back: one queue, one channel per worker.
//!
//! `pool` is the door, `queue` decides which worker is next; `link` and `places` are what the edge knows of one worker,
//! `frames` what it says, `channel` moves its bytes; `clock` sees to what takes too long. `ticket` is what the waiting
//! connection holds, `reply` where it picks its answer up. Nothing here knows HTTP beyond the frames.
//! `docs/decisions/0003-dispatch.md` has the measurements behind it, `0005-asgi.md` the two lanes.

mod channel;
mod clock;
mod frames;
mod link;
mod pace;
mod places;
pub(crate) mod pool;
mod queue;
pub(crate) mod reply;
#[cfg(test)]
mod tests;
mod ticket;

pub(crate) use channel::{Notice, Sockets, run_channel};
pub(crate) use link::Writers;
pub(crate) use pace::Pace;
pub(crate) use pool::{Limits, Pool};
pub(crate) use queue::Lane;
pub(crate) use reply::{Event, Failure, HeadFrame};
pub(crate) use ticket::{Request, Ticket};
