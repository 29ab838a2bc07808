//! Versions of HTTP: each makes the same `Exchange` and writes the same `Answer`.
//!
//! Owns sockets of clients, their time limits, and the strict reading of what they send.

pub(crate) mod h1;
mod head;
pub(crate) mod registry;
mod stream;
mod timer;
mod websocket;
mod write;

pub(crate) use h1::{BodyError, Incoming};
pub(crate) use stream::Stream;
