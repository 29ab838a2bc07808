//! WebSockets without a socket: the handshake, frames, messages and their compression.
//!
//! Owns what RFC 6455 and RFC 7692 say about bytes. Leaves sockets, timers, credit and the app to the caller.
//! Invariants: no byte from a client panics; what is held for one message never exceeds the piece size that the caller
//! gave; a WebSocket between messages holds no buffer and no compressor.

pub mod close;
pub mod deflate;
pub mod extension;
pub mod frame;
pub mod handshake;
pub mod message;
mod utf8;
