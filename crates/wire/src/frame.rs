//! The table of frame kinds and the layout of a frame's head.
//!
//! Owns the sixteen bytes before every payload and the list of kinds; what a payload means is in `head`, which frame
//! may follow which is in `sequence`. All numbers are little-endian: both sides run on one machine.
//!
//! ```text
//!  0        4    5     6       8               16
//!  +--------+----+-----+-------+----------------+---------
//!  | length |kind|flags| place |       id       | payload
//!  +--------+----+-----+-------+----------------+---------
//! ```

use crate::WireError;
use crate::limits::{CLOSE_REASON_MAX, FRAME_MAX, HEADER_BYTES};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $sender:ident;)*) => {
        /// What a frame is for. The number is its byte on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])* $name = $value,)* }

        impl Kind {
            /// Every kind, for tests and documents.
            pub const ALL: &'static [Kind] = &[$(Kind::$name,)*];

            /// Who sends it.
            pub fn sender(self) -> Sender {
                match self { $(Kind::$name => Sender::$sender,)* }
            }

            fn from_byte(byte: u8) -> Option<Self> {
                match byte { $($value => Some(Kind::$name),)* _ => None }
            }
        }
    };
}

/// The side that may send a kind of frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The edge.
    Edge,
    /// A worker.
    Worker,
}

kinds! {
    /// A request: its head, then (flag `WHOLE`) its body. With `DESCRIPTOR` the body is a file that travels along.
    Request = 0x01, Edge;
    /// A piece of a request body that is streamed; `WHOLE` on the last, `BROKEN` when the client broke it off.
    Body = 0x02, Edge;
    /// More credit for an answer: payload u32, bytes.
    Grant = 0x03, Edge;
    /// Finish what you hold, then leave. (The end of the stream means the same.)
    Drain = 0x04, Edge;
    /// A WebSocket message from the client, or a piece of it: flag `TEXT`, `WHOLE` on the last piece.
    Message = 0x05, Edge;
    /// The WebSocket is over: code u16, then the reason in UTF-8. Nothing more comes for it.
    Closed = 0x06, Edge;
    /// The client of this request has left; with `BROKEN` its time is over, and its task is to be cancelled. Only on the
    /// loop's lane; threads see it on the board.
    Cancel = 0x07, Edge;
    /// On the guard line: the time of this exchange is over; tell its stack, and interrupt it.
    Interrupt = 0x08, Edge;
    /// On the guard line: tell all stacks. `id` names the question, `place` is 0.
    Stacks = 0x09, Edge;
    /// First frame of a worker: protocol version, threads, then JSON about the project.
    Hello = 0x41, Worker;
    /// Instead of the hello: the app could not be imported; payload is the traceback, UTF-8.
    Failed = 0x42, Worker;
    /// An answer's head, then the first bytes of its body; `WHOLE` when nothing follows. With `DESCRIPTOR` the body is
    /// a file that travels along.
    Response = 0x43, Worker;
    /// The next bytes of an answer's body.
    Chunk = 0x44, Worker;
    /// The end of a streamed answer: payload u32, microseconds of service; `BROKEN` when the app failed midway.
    End = 0x45, Worker;
    /// The place is free again; sent only when the edge asked for it on the board.
    Idle = 0x46, Worker;
    /// An interim answer (103 Early Hints): a response head without a body.
    Interim = 0x47, Worker;
    /// The app wants (more of) a streamed request body: payload u32, bytes of credit.
    Want = 0x48, Worker;
    /// This exchange is on the loop from now on: what concerns it comes over the loop's lane, and its thread is free.
    Moved = 0x49, Worker;
    /// The app accepts the WebSocket: a response head with status 101 and the app's fields.
    Accept = 0x4a, Worker;
    /// A WebSocket message to the client, or a piece of it: flag `TEXT`, `WHOLE` on the last piece. Costs credit.
    Send = 0x4b, Worker;
    /// The app closes the WebSocket: code u16, then the reason in UTF-8. The end of the exchange.
    Close = 0x4c, Worker;
    /// Fields after the body of a streamed answer; `End` follows.
    Trailers = 0x4d, Worker;
    /// On the guard line: the answer to `Interrupt` or `Stacks`, with its place and id; payload is JSON.
    Stack = 0x4e, Worker;
}

/// Flags of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// No flag.
    pub const NONE: Flags = Flags(0);
    /// The body ends with this frame.
    pub const WHOLE: Flags = Flags(0x01);
    /// One descriptor travels with the first byte of this frame.
    pub const DESCRIPTOR: Flags = Flags(0x02);
    /// The body follows in frames of its own.
    pub const STREAM: Flags = Flags(0x04);
    /// The body ended before it was complete.
    pub const BROKEN: Flags = Flags(0x08);
    /// The request is a WebSocket handshake.
    pub const WEBSOCKET: Flags = Flags(0x10);
    /// The message is text; without it, binary.
    pub const TEXT: Flags = Flags(0x20);
    /// The request stays with the threads: a setting says so.
    pub const PINNED: Flags = Flags(0x40);

    /// Whether all of `other` are set.
    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    #[must_use]
    pub fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// A frame's head. `place` and `id` are 0 for frames about the channel as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What it is for.
    pub kind: Kind,
    /// Its flags.
    pub flags: Flags,
    /// Place on the board, `0 ≤ place < limits::PLACES`.
    pub place: u16,
    /// Request id, unique on this channel.
    pub id: u64,
}

impl Header {
    /// Reads a head: `(header, payload length)`.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<(Self, usize), WireError> {
        let [l0, l1, l2, l3, kind, flags, p0, p1, id @ ..] = *bytes;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if length as usize > FRAME_MAX {
            return Err(WireError::TooLong(length));
        }
        let kind = Kind::from_byte(kind).ok_or(WireError::UnknownKind(kind))?;
        let place = u16::from_le_bytes([p0, p1]);
        if usize::from(place) >= crate::limits::PLACES {
            return Err(WireError::Malformed("place past the board"));
        }
        Ok((Self { kind, flags: Flags(flags), place, id: u64::from_le_bytes(id) }, length as usize))
    }

    /// Appends this head with room for a payload that the caller appends next; `finish` then writes its length.
    #[must_use = "the length is written by Open::finish"]
    pub fn open(self, out: &mut Vec<u8>) -> Open {
        let at = out.len();
        out.extend_from_slice(&[0, 0, 0, 0, self.kind as u8, self.flags.0]);
        out.extend_from_slice(&self.place.to_le_bytes());
        out.extend_from_slice(&self.id.to_le_bytes());
        Open { at }
    }

    /// Appends a whole `Close` or `Closed` frame. A reason past `limits::CLOSE_REASON_MAX` is cut between characters.
    pub fn write_close(self, code: u16, reason: &str, out: &mut Vec<u8>) {
        let open = self.open(out);
        out.extend_from_slice(&code.to_le_bytes());
        out.extend_from_slice(&reason.as_bytes()[..reason.floor_char_boundary(CLOSE_REASON_MAX)]);
        open.finish(out);
    }

    /// Appends a whole frame. The payload is at most `limits::FRAME_MAX` bytes; more is a mistake of the caller.
    pub fn write(self, payload: &[u8], out: &mut Vec<u8>) {
        let open = self.open(out);
        out.extend_from_slice(payload);
        open.finish(out);
    }
}

/// A frame whose payload is still being appended.
#[derive(Debug)]
pub struct Open {
    at: usize,
}

impl Open {
    /// Writes the length of all that was appended since `open`.
    pub fn finish(self, out: &mut [u8]) {
        let length = out.len() - self.at - HEADER_BYTES;
        debug_assert!(length <= FRAME_MAX, "callers keep payloads within FRAME_MAX");
        out[self.at..self.at + 4].copy_from_slice(&(length as u32).to_le_bytes());
    }
}

/// A frame as it was read; the payload is a slice of the reader's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its head.
    pub header: Header,
    /// Its payload, at most `limits::FRAME_MAX` bytes.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// The payload of `Grant`, `Want` and `End`: one u32.
    ///
    /// # Errors
    /// `Malformed` when the payload is not four bytes.
    pub fn number(&self) -> Result<u32, WireError> {
        let bytes: [u8; 4] = self.payload.try_into().map_err(|_| WireError::Malformed("not a u32"))?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// The payload of `Close` and `Closed`: code and reason (RFC 6455 §7.4).
    ///
    /// # Errors
    /// `Malformed` without a code, or with a reason that is too long for a close frame or not UTF-8.
    pub fn close(&self) -> Result<(u16, &str), WireError> {
        let Some((code, reason)) = self.payload.split_first_chunk::<2>() else {
            return Err(WireError::Malformed("no close code"));
        };
        if reason.len() > CLOSE_REASON_MAX {
            return Err(WireError::Malformed("close reason too long"));
        }
        let reason =
            std::str::from_utf8(reason).map_err(|_| WireError::Malformed("close reason not UTF-8"))?;
        Ok((u16::from_le_bytes(*code), reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Frame<'_> {
        Frame { header: Header { kind: Kind::Close, flags: Flags::NONE, place: 0, id: 1 }, payload }
    }

    #[test]
    fn closes_come_back_as_they_went_with_their_reason_cut_between_characters() {
        let long = "é".repeat(70);
        for (code, reason, told) in
            [(1000, "", ""), (4999, "bye", "bye"), (1011, long.as_str(), &long[..122])]
        {
            let mut bytes = Vec::new();
            frame(b"").header.write_close(code, reason, &mut bytes);
            assert_eq!(frame(&bytes[HEADER_BYTES..]).close(), Ok((code, told)));
        }
    }

    #[test]
    fn closes_that_are_refused() {
        let long = [b'x'; CLOSE_REASON_MAX + 3];
        for payload in [&b""[..], b"\xe8", b"\xe8\x03\xff", &long] {
            assert!(frame(payload).close().is_err(), "{payload:?}");
        }
    }
}
