//! The protocol between the edge and its workers: bytes in, bytes out.
//!
//! One socket pair per worker carries frames both ways; a small shared board of words beside it says which
//! requests have been begun. Nothing here reads, writes, waits or allocates without a bound; callers do the I/O.
//! `docs/decisions/0002-channel.md` tells why it has this shape.
#![forbid(unsafe_code)]

pub mod board;
pub mod codec;
pub mod frame;
pub mod head;
pub mod limits;
pub mod sequence;
pub mod tls;

pub use codec::Decoder;
pub use frame::{Flags, Frame, Header, Kind};
pub use head::{Hello, RequestHead, ResponseHead, Version};
pub use tls::{ClientCertificate, Tls};

/// Version of this protocol; the worker names it in its first frame and the edge refuses any other.
pub const PROTOCOL: u16 = 4;

/// Environment variable that tells a worker the descriptor of its channel.
pub const CHANNEL_ENV: &str = "BANDSTAND_CHANNEL_FD";
/// Environment variable that tells a worker the descriptor of its loop's lane: frames from the edge to the event loop.
pub const LOOP_ENV: &str = "BANDSTAND_LOOP_FD";
/// Environment variable with the number of the guard line's descriptor.
pub const GUARD_ENV: &str = "BANDSTAND_GUARD_FD";
/// Environment variable that tells a worker the descriptor of its board.
pub const BOARD_ENV: &str = "BANDSTAND_BOARD_FD";

/// What can be wrong with bytes that came over the channel. Whoever sent them is at fault; the reader ends the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireError {
    /// A frame kind that this version does not know.
    UnknownKind(u8),
    /// A payload longer than `limits::FRAME_MAX`.
    TooLong(u32),
    /// A payload whose inner lengths do not add up.
    Malformed(&'static str),
    /// A frame that may not come at this point.
    OutOfSequence(&'static str),
    /// The other side speaks another version of the protocol.
    Protocol {
        /// What it speaks.
        theirs: u16,
    },
}

impl std::fmt::Display for WireError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownKind(kind) => write!(f, "unknown frame kind 0x{kind:02x}"),
            Self::TooLong(len) => {
                write!(f, "frame of {len} bytes is over the limit of {}", limits::FRAME_MAX)
            }
            Self::Malformed(what) => write!(f, "malformed frame: {what}"),
            Self::OutOfSequence(what) => write!(f, "frame out of sequence: {what}"),
            Self::Protocol { theirs } => write!(
                f,
                "the worker speaks channel protocol {theirs}, this program {PROTOCOL}: \
                 the program and the Python package come from different versions of bandstand"
            ),
        }
    }
}

impl std::error::Error for WireError {}
