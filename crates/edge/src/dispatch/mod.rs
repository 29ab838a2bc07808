//! From a complete request to a worker and back: one queue, one channel per worker.
//!
//! `pool` is the door, `queue` decides which worker is next, `roster` what becomes of requests when workers come and go;
//! `link` and `places` are what the edge knows of one worker, `outlet` what is said to it, `frames` what it says,
//! `channel` moves its bytes; `clock` sees to what takes too long, `guard` to what does not end then, `farewell` to what
//! would stay in a worker that leaves. `ticket` is what the waiting connection holds, `reply` where it picks its answer
//! up; `snapshot` is for those who look. Nothing here knows HTTP beyond the frames.
//! `docs/decisions/0003-dispatch.md` has the measurements behind it, `0005-asgi.md` the two lanes, `0006-generations.md`
//! generations and the guard.

mod channel;
mod clock;
mod farewell;
mod frames;
mod guard;
mod link;
mod outlet;
mod pace;
mod places;
pub(crate) mod pool;
mod queue;
pub(crate) mod reply;
mod roster;
mod snapshot;
#[cfg(test)]
mod tests;
mod ticket;
mod title;

pub(crate) use channel::{Notice, Sockets, run_channel};
pub(crate) use guard::Verdict;
pub(crate) use outlet::Writers;
pub(crate) use pace::Pace;
pub(crate) use pool::{Limits, Pool};
pub(crate) use queue::{Lane, Work};
pub(crate) use reply::{Event, Failure, HeadFrame};
pub(crate) use snapshot::{LinkSnapshot, PoolSnapshot, Running};
pub(crate) use ticket::{Request, Ticket};
