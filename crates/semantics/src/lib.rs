//! HTTP rules as pure functions: bytes and fields in, decisions out.
//!
//! Owns what the RFCs say about a head, a body's framing and a representation. Leaves sockets, files, clocks and
//! status codes to the callers; an error names the rule that was broken, `edge/refusal.rs` turns it into an answer.
//! Invariant: no function here panics, blocks, or allocates without a bound, whatever bytes it is given.
//! Sources: RFC 9110 (semantics), RFC 9112 (HTTP/1.1), RFC 3986 (targets), RFC 7239 (Forwarded), RFC 6455 (WebSockets).
#![forbid(unsafe_code)]

pub mod chunked;
pub mod conditional;
pub mod cookie;
pub mod fields;
pub mod forwarded;
pub mod framing;
pub mod hop;
pub mod host;
mod lists;
pub mod media_type;
pub mod negotiate;
pub mod path;
pub mod proxy_protocol;
pub mod range;
pub mod sendfile;
pub mod text;
pub mod trailer;
pub mod version;
pub mod websocket;

pub use fields::Fields;
pub use version::{Scheme, Version};
