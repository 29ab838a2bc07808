//! One request's stream of HTTP/2 or HTTP/3, as the code that both share sees it.
//!
//! Owns the contract between `multiplexed` and the two connections; `h2::carrier` and `h3::carrier` keep it. All methods are
//! polls or plain calls, so that one future can look at the body, the client and the room for the answer at once.
//!
//! Order of sending: any number of `send_interim`, one `send_head`, any number of `send_data`, perhaps `send_trailers`; the
//! call with `end`, or the trailers, ends the answer. **Before each of them `poll_room` has been ready**: a carrier whose
//! writes are futures keeps the one it works on, and is not ready until it is done. At last `poll_sent` is waited for.
//!
//! Dropped before its answer has ended it resets the stream (cancelled); dropped after that with a body nobody has read
//! to its end, it tells the client that the rest is not wanted, which is no error (RFC 9113 §8.1, RFC 9114 §4.1.1).

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response};

/// The client has reset the stream, or its connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

/// Why a stream is reset: the codes that both versions have, under one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// The request breaks the rules of a message: `PROTOCOL_ERROR`, `H3_MESSAGE_ERROR`.
    Malformed,
    /// We, or the app, could not complete the answer: `INTERNAL_ERROR`, `H3_INTERNAL_ERROR`.
    Internal,
    /// The answer is of no more use, or the client takes nothing of it: `CANCEL`, `H3_REQUEST_CANCELLED`.
    Cancelled,
    /// Nothing was done about the request, it may be sent again: `REFUSED_STREAM`, `H3_REQUEST_REJECTED`.
    Refused,
}

/// One request's stream.
pub(crate) trait Carrier: Send {
    /// The next piece of the body; `None` at its end. Trailers of the request end it, and are dropped.
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Gone>>>;

    /// So many bytes of what `poll_data` gave have been taken in: the client may send as many more.
    fn release(&mut self, bytes: usize);

    /// Ready once the client has reset the stream, or stopped reading its answer, or the connection is gone.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// An interim answer (1xx).
    fn send_interim(&mut self, head: Response<()>) -> Result<(), Gone>;

    /// The head of the answer; `end`: nothing follows.
    fn send_head(&mut self, head: Response<()>, end: bool) -> Result<(), Gone>;

    /// Ready when the next call of a `send_` may be made, with how many of `wanted` bytes the client takes now: with at
    /// least 1, but for `wanted` 0.
    fn poll_room(&mut self, wanted: usize, context: &mut Context<'_>) -> Poll<Result<usize, Gone>>;

    /// Bytes of the body, no more than `poll_room` said; `end`: nothing follows. May be empty with `end`.
    fn send_data(&mut self, bytes: Bytes, end: bool) -> Result<(), Gone>;

    /// Fields after the body. They end the answer.
    fn send_trailers(&mut self, fields: HeaderMap) -> Result<(), Gone>;

    /// Ready once all that was given is the transport's: it will be sent though the carrier is dropped.
    fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Gone>>;

    /// Ends both directions at once. Nothing is called after it.
    fn reset(&mut self, code: Code);
}
