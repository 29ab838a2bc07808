//! Versions of HTTP: each makes the same `Exchange` and writes the same `Answer`.
//!
//! Owns sockets of clients, their time limits, and the strict reading of what they send.

pub(crate) mod h1;
pub(crate) mod h2;
pub(crate) mod h3;
mod head;
mod incoming;
pub(crate) mod multiplexed;
pub(crate) mod registry;
mod stop;
mod stream;
pub(crate) mod timer;
mod websocket;
mod write;

pub(crate) use incoming::{BodyError, Incoming};
pub(crate) use stream::Stream;
