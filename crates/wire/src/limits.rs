//! The table of largest sizes on the channel, with the reason for each.
//!
//! Both sides hold to them; a frame past them is the sender's fault and ends the channel.

/// Bytes of a frame's head.
pub const HEADER_BYTES: usize = 16;

/// Largest payload of one frame: the largest inline body, a head of the largest size beside it, and room to spare.
pub const FRAME_MAX: usize = 1024 * 1024;

/// Largest head (request or response) in its wire form. nginx allows 32 KiB by default; a page with many cookies and
/// a long Content-Security-Policy stays well below this.
pub const HEAD_MAX: usize = 512 * 1024;

/// Largest request body that travels inside the request's frame. Past it a descriptor is passed: at this size a copy
/// through the socket costs about what the descriptor and the read from the page cache cost.
pub const INLINE_BODY_MAX: usize = 256 * 1024;

/// Largest piece of an answer in one frame: small enough that one large answer does not hold up others on the channel.
pub const CHUNK_MAX: usize = 64 * 1024;

/// Bytes of an answer, or cost of WebSocket messages either way, that may be sent before the other side has granted more. Keeps a worker busy over a round trip
/// of credit, and bounds what the edge holds in memory for one exchange.
pub const WINDOW: usize = 256 * 1024;

/// Places on a worker's board, and so the most exchanges that one worker holds: requests, begun or not, and open
/// WebSockets. A place costs a cache line of the board, touched when it is first used.
pub const PLACES: usize = 16 * 1024;

/// Largest piece of a WebSocket message in one frame: most messages are one piece, and large ones do not hold up others.
pub const PIECE_MAX: usize = 128 * 1024;

/// Largest reason of a WebSocket close: a control frame has 125 bytes, two are the code (RFC 6455 §5.5).
pub const CLOSE_REASON_MAX: usize = 123;

/// Largest number of fields in a head.
pub const FIELDS_MAX: usize = 1024;

/// Credit that a WebSocket message, or a piece of one, costs: its bytes, and what keeping it costs whoever it waits for.
/// Without the second part a flood of empty messages would cost memory and no credit.
pub const fn message_cost(bytes: usize) -> usize {
    bytes + 128
}
