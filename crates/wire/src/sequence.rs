//! Which frame may follow which: one enum per side of an exchange.
//!
//! Owns the order of frames only. The edge runs an `Answer` for each request it gave away; the worker runs a `Body`
//! for each request whose body is streamed, and for the messages of a WebSocket. A frame out of order is the sender's
//! fault and ends the channel.
//!
//! ```text
//! Answer:  Waiting ─Response─► Streaming ─Trailers─► Trailed     Body:  Open ─Body(WHOLE|BROKEN)─► Closed
//!             │                    └──────End──────────┴──► Done            └─────────Closed───────────┘
//!             ├───────────Response(WHOLE | DESCRIPTOR)────► Done
//!             └─Accept─► Connected ────────────────Close──► Done
//! ```

use crate::WireError;
use crate::frame::{Flags, Kind};

/// The answer to one request, as the edge sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Given to the worker; no head yet. Interim heads leave it here.
    Waiting,
    /// The head has come, more of the body follows.
    Streaming,
    /// The trailers have come, only the end follows.
    Trailed,
    /// A WebSocket that the app has accepted.
    Connected,
    /// Nothing follows but, when asked for, `Idle`.
    Done,
}

impl Answer {
    /// The state after a frame of the worker.
    ///
    /// # Errors
    /// `OutOfSequence` when this frame may not come now.
    pub fn on(self, kind: Kind, flags: Flags) -> Result<Self, WireError> {
        let ends = flags.has(Flags::WHOLE) || flags.has(Flags::DESCRIPTOR);
        match (self, kind) {
            (Self::Waiting, Kind::Interim) => Ok(Self::Waiting),
            (Self::Waiting, Kind::Response) if ends => Ok(Self::Done),
            (Self::Waiting, Kind::Response) => Ok(Self::Streaming),
            (Self::Streaming, Kind::Chunk) => Ok(Self::Streaming),
            (Self::Streaming, Kind::Trailers) => Ok(Self::Trailed),
            (Self::Streaming | Self::Trailed, Kind::End) => Ok(Self::Done),
            (Self::Waiting, Kind::Accept) => Ok(Self::Connected),
            (Self::Connected, Kind::Send) => Ok(Self::Connected),
            (Self::Connected, Kind::Close) => Ok(Self::Done),
            (Self::Waiting | Self::Streaming | Self::Connected, Kind::Want) => Ok(self),
            (Self::Waiting | Self::Streaming | Self::Trailed, Kind::Moved) => Ok(self),
            (Self::Waiting, _) => Err(WireError::OutOfSequence("before the answer's head")),
            (Self::Streaming | Self::Trailed, _) => Err(WireError::OutOfSequence("within the answer's body")),
            (Self::Connected, _) => Err(WireError::OutOfSequence("within a WebSocket")),
            (Self::Done, _) => Err(WireError::OutOfSequence("after the end of the answer")),
        }
    }
}

/// A streamed request body, as the worker sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// More may come.
    Open,
    /// Complete, or broken off.
    Closed,
}

impl Body {
    /// The state after a frame of the edge.
    ///
    /// # Errors
    /// `OutOfSequence` when the body had ended already.
    pub fn on(self, flags: Flags) -> Result<Self, WireError> {
        match self {
            Self::Open if flags.has(Flags::WHOLE) || flags.has(Flags::BROKEN) => Ok(Self::Closed),
            Self::Open => Ok(Self::Open),
            Self::Closed => Err(WireError::OutOfSequence("after the end of the body")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_an_answer() {
        use Answer::{Connected, Done, Streaming, Trailed, Waiting};
        let none = Flags::NONE;
        for (state, kind, flags, next) in [
            (Waiting, Kind::Interim, none, Some(Waiting)),
            (Waiting, Kind::Response, none, Some(Streaming)),
            (Waiting, Kind::Response, Flags::WHOLE, Some(Done)),
            (Waiting, Kind::Response, Flags::DESCRIPTOR, Some(Done)),
            (Waiting, Kind::Chunk, none, None),
            (Waiting, Kind::End, none, None),
            (Streaming, Kind::Chunk, none, Some(Streaming)),
            (Streaming, Kind::End, Flags::BROKEN, Some(Done)),
            (Streaming, Kind::Response, none, None),
            (Streaming, Kind::Interim, none, None),
            (Done, Kind::Response, Flags::WHOLE, None),
            (Done, Kind::Chunk, none, None),
            (Done, Kind::End, none, None),
            (Waiting, Kind::Want, none, Some(Waiting)),
            (Streaming, Kind::Trailers, none, Some(Trailed)),
            (Trailed, Kind::Chunk, none, None),
            (Trailed, Kind::Trailers, none, None),
            (Trailed, Kind::End, none, Some(Done)),
            (Waiting, Kind::Moved, none, Some(Waiting)),
            (Streaming, Kind::Moved, none, Some(Streaming)),
            (Connected, Kind::Moved, none, None),
            (Waiting, Kind::Accept, none, Some(Connected)),
            (Waiting, Kind::Send, none, None),
            (Waiting, Kind::Close, none, None),
            (Connected, Kind::Accept, none, None),
            (Connected, Kind::Send, Flags::WHOLE, Some(Connected)),
            (Connected, Kind::Want, none, Some(Connected)),
            (Connected, Kind::Response, none, None),
            (Connected, Kind::Close, none, Some(Done)),
            (Streaming, Kind::Send, none, None),
        ] {
            assert_eq!(state.on(kind, flags).ok(), next, "{state:?} {kind:?} {flags:?}");
        }
    }

    #[test]
    fn the_order_of_a_body() {
        assert_eq!(Body::Open.on(Flags::NONE), Ok(Body::Open));
        assert_eq!(Body::Open.on(Flags::WHOLE), Ok(Body::Closed));
        assert_eq!(Body::Open.on(Flags::BROKEN), Ok(Body::Closed));
        assert!(Body::Closed.on(Flags::NONE).is_err());
    }
}
