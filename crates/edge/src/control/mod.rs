//! The control socket: how `bandstand status`, `reload`, `stop`, `top` and the others speak to the server that runs.
//!
//! `place` says where the socket is, `socket` makes it, `serve` lets clients in, `protocol` is what is said, `obey` does it, `look`
//! gathers the state, `status` is its shape, `memory` what processes take, `client` the other end. Nothing here decides anything about
//! the fleet: what changes something is an order to the task that owns its course (`server/orders.rs`).
//! Invariant: nobody but root and the user that the server runs as is heard.

mod client;
mod look;
pub(crate) mod memory;
mod obey;
mod place;
mod protocol;
mod serve;
mod socket;
mod status;
#[cfg(test)]
mod tests;

pub use client::{Connection, Gone, connect};
pub use place::Place;
pub use protocol::{Command, Scale, VERSION, Whose};
pub use socket::{Control, open};
pub use status::{
    Failure, Generation, Memory, Queue, Reload, Running, Stack, Stacks, Status, Template, Violation, Worker,
};

pub use crate::observe::counters::{Counts, Times};
