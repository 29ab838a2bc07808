//! What comes in on a stream, looked at before the h3 crate sees it.
//!
//! Owns the bounds that the crate has not: it keeps a frame until it is whole, whatever length was announced, takes an empty
//! DATA frame for the end of the body, and cannot see the order of pseudo fields. So: long HEADERS are refused by their length,
//! unknown frames and empty DATA are taken out (and counted), frames out of order and cut ones end the connection with the
//! code of RFC 9114 §7. What passes is well formed for the crate, and never more than `MOST_SECTION` of it waits there.
//! QPACK's own streams are read here to their end: without a dynamic table they have next to nothing to say (RFC 9204 §4.3).
//! Bytes in, bytes out; no socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{BufMut, BytesMut};
use h3::error::Code;

use super::field_lines;

/// The longest HEADERS frame, in bytes as they are encoded. What is decoded has a lower bound (`max_header_bytes`).
pub(super) const MOST_SECTION: usize = 64 * 1024;
/// The longest frame on the control stream: SETTINGS have a few pairs of numbers.
const MOST_CONTROL: u64 = 4 * 1024;
/// Frames without effect that a stream may have: more are a flood (`CHECKLIST` 38).
const MOST_IDLE_FRAMES: u32 = 1000;
/// And as many more on the control stream for each request: browsers send priorities there (RFC 9218 §7.2).
const IDLE_FRAMES_EACH: u32 = 8;

/// Why nothing more is read of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Of the whole connection: it closes with this code.
    Connection(Code),
    /// Of this request: it is malformed.
    Message,
    /// Of this request: its fields are too many.
    TooLarge,
    /// Of this request, whose answer may have begun: its trailers are too many.
    TrailersTooLarge,
}

/// Which frames a stream may have, and where it is in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A client's stream of its own: the type comes first (RFC 9114 §6.2).
    Type,
    /// A control stream: SETTINGS come first.
    Settings,
    Control,
    QpackEncoder,
    /// In a number that goes on, or not.
    QpackDecoder(bool),
    /// A type that is not known.
    Unknown,
    Head,
    Body,
    Trailed,
}

#[derive(Debug)]
enum State {
    /// In the two numbers before a frame's payload.
    Header,
    /// In a payload that is passed on as it comes.
    Pass(u64),
    /// In a payload that nobody wants.
    Skip(u64),
    /// In a field section.
    Section(usize),
}

/// The frames of one stream.
#[derive(Debug)]
pub(super) struct Frames {
    place: Place,
    state: State,
    /// What is there of a frame's two numbers, or of a field section.
    held: Vec<u8>,
    idle: u32,
    /// Requests of the connection so far, for its control stream.
    requests: Option<Arc<AtomicU32>>,
}

/// What a client's stream of its own is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Control,
    QpackEncoder,
    QpackDecoder,
    Unknown,
}

const DATA: u64 = 0x0;
const HEADERS: u64 = 0x1;
const SETTINGS: u64 = 0x4;
const CANCEL_PUSH: u64 = 0x3;
const GOAWAY: u64 = 0x7;
/// Frames of the control stream that mean something: the last is MAX_PUSH_ID.
const CONTROL: [u64; 4] = [CANCEL_PUSH, SETTINGS, GOAWAY, 0xd];
/// The one thing that QPACK's encoder may say where the table has no room: that it has none (RFC 9204 §4.3.1).
const CAPACITY_ZERO: u8 = 0x20;
/// Frames that no client may send on any stream: PUSH_PROMISE, and what HTTP/2 has (RFC 9114 §7.2.8).
const NEVER: [u64; 5] = [0x2, 0x5, 0x6, 0x8, 0x9];

impl Frames {
    /// Of a request.
    pub(super) fn of_request() -> Self {
        Self { place: Place::Head, state: State::Header, held: Vec::new(), idle: 0, requests: None }
    }

    /// Of a stream that has one direction, on a connection with so many requests so far.
    pub(super) fn of_one_way(requests: Arc<AtomicU32>) -> Self {
        Self { place: Place::Type, state: State::Header, held: Vec::new(), idle: 0, requests: Some(requests) }
    }

    /// Takes the next bytes of the stream and appends to `out` what passes.
    ///
    /// # Errors
    /// See `Fault`; nothing more may be given.
    pub(super) fn pass(&mut self, mut bytes: &[u8], out: &mut BytesMut) -> Result<(), Fault> {
        while !bytes.is_empty() {
            match self.place {
                Place::QpackEncoder => return check_encoder(bytes),
                Place::QpackDecoder(_) => return self.pass_cancellations(bytes),
                Place::Unknown => return Ok(()),
                _ => {}
            }
            match &mut self.state {
                State::Header => {
                    self.held.push(bytes[0]);
                    bytes = &bytes[1..];
                    self.take_header(out)?;
                }
                State::Pass(left) => {
                    out.extend_from_slice(take(&mut bytes, left));
                    self.end_payload(out)?;
                }
                State::Skip(left) => {
                    take(&mut bytes, left);
                    self.end_payload(out)?;
                }
                State::Section(length) => {
                    let mut left = (*length - self.held.len()) as u64;
                    self.held.extend_from_slice(take(&mut bytes, &mut left));
                    self.end_payload(out)?;
                }
            }
        }
        Ok(())
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// Within a frame (RFC 9114 §7.1).
    pub(super) fn end(&self) -> Result<(), Fault> {
        let is_between = matches!(self.state, State::Header) && self.held.is_empty();
        // The crate knows which streams may end at all.
        if is_between || self.place == Place::Type {
            Ok(())
        } else {
            Err(Fault::Connection(Code::H3_FRAME_ERROR))
        }
    }

    /// What a stream of one direction is. `None`: it has not said so yet.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self.place {
            Place::Settings | Place::Control => Some(Kind::Control),
            Place::QpackEncoder => Some(Kind::QpackEncoder),
            Place::QpackDecoder(_) => Some(Kind::QpackDecoder),
            Place::Unknown => Some(Kind::Unknown),
            _ => None,
        }
    }

    /// Instructions of QPACK's decoder: with no entry to be acknowledged, only that a stream is given up (RFC 9204 §4.4).
    fn pass_cancellations(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        for byte in bytes {
            self.place = match self.place {
                Place::QpackDecoder(true) => Place::QpackDecoder(byte & 0x80 != 0),
                _ if byte & 0xc0 == 0x40 => Place::QpackDecoder(byte & 0x3f == 0x3f),
                _ => return Err(Fault::Connection(Code::QPACK_DECODER_STREAM_ERROR)),
            };
        }
        Ok(())
    }

    fn take_header(&mut self, out: &mut BytesMut) -> Result<(), Fault> {
        let Some((first, rest)) = varint(&self.held) else { return Ok(()) };
        if self.place == Place::Type {
            self.place = match first {
                0 => Place::Settings,
                // Only a server pushes (RFC 9114 §6.2.2).
                1 => return Err(Fault::Connection(Code::H3_STREAM_CREATION_ERROR)),
                2 => Place::QpackEncoder,
                3 => Place::QpackDecoder(false),
                _ => Place::Unknown,
            };
            if self.place == Place::Settings {
                out.extend_from_slice(&self.held);
            }
            self.held.clear();
            return Ok(());
        }
        let Some((length, _)) = varint(rest) else { return Ok(()) };
        self.held.clear();
        self.begin(first, length, out)
    }

    /// A frame begins.
    fn begin(&mut self, kind: u64, length: u64, out: &mut BytesMut) -> Result<(), Fault> {
        let unexpected = Err(Fault::Connection(Code::H3_FRAME_UNEXPECTED));
        if NEVER.contains(&kind) {
            return unexpected;
        }
        self.state = match (self.place, kind) {
            (Place::Settings | Place::Control, _) if length > MOST_CONTROL && CONTROL.contains(&kind) => {
                return Err(Fault::Connection(Code::H3_EXCESSIVE_LOAD));
            }
            (Place::Settings, SETTINGS) => {
                self.place = Place::Control;
                put_header(kind, length, out);
                State::Pass(length)
            }
            (Place::Settings, _) => return Err(Fault::Connection(Code::H3_MISSING_SETTINGS)),
            (Place::Control, DATA | HEADERS | SETTINGS) => return unexpected,
            // Nothing was pushed that could be cancelled (RFC 9114 §7.2.3).
            (Place::Control, CANCEL_PUSH) => return Err(Fault::Connection(Code::H3_ID_ERROR)),
            // A client's is about pushes as well. The crate would take it for the end, and let go of answers on their way.
            (Place::Control, GOAWAY) => {
                self.count_idle()?;
                State::Skip(length)
            }
            (Place::Control, kind) if CONTROL.contains(&kind) => {
                self.count_idle()?;
                put_header(kind, length, out);
                State::Pass(length)
            }
            (_, kind) if CONTROL.contains(&kind) => return unexpected,
            (Place::Head | Place::Trailed, DATA) | (Place::Trailed, HEADERS) => return unexpected,
            (_, DATA) if length > 0 => {
                put_header(kind, length, out);
                State::Pass(length)
            }
            (Place::Head, HEADERS) if length > MOST_SECTION as u64 => return Err(Fault::TooLarge),
            (_, HEADERS) if length > MOST_SECTION as u64 => return Err(Fault::TrailersTooLarge),
            (_, HEADERS) => State::Section(length as usize),
            _ => {
                self.count_idle()?;
                State::Skip(length)
            }
        };
        self.end_payload(out)
    }

    /// If the payload is whole, the next frame may come.
    fn end_payload(&mut self, out: &mut BytesMut) -> Result<(), Fault> {
        match self.state {
            State::Pass(0) | State::Skip(0) => self.state = State::Header,
            State::Section(length) if length == self.held.len() => {
                let checked = match self.place {
                    Place::Head => field_lines::check(&self.held),
                    _ => field_lines::check_trailers(&self.held),
                };
                checked.map_err(|fault| match fault {
                    field_lines::Fault::Malformed => Fault::Message,
                    field_lines::Fault::Undecodable => Fault::Connection(Code::QPACK_DECOMPRESSION_FAILED),
                })?;
                put_header(HEADERS, length as u64, out);
                out.extend_from_slice(&self.held);
                // A body may be long in coming: its stream holds no buffer meanwhile.
                self.held = Vec::new();
                self.state = State::Header;
                self.place = if self.place == Place::Head { Place::Body } else { Place::Trailed };
            }
            _ => {}
        }
        Ok(())
    }

    fn count_idle(&mut self) -> Result<(), Fault> {
        self.idle += 1;
        let requests = self.requests.as_ref().map_or(0, |requests| requests.load(Ordering::Relaxed));
        let most = requests.saturating_mul(IDLE_FRAMES_EACH).saturating_add(MOST_IDLE_FRAMES);
        if self.idle > most { Err(Fault::Connection(Code::H3_EXCESSIVE_LOAD)) } else { Ok(()) }
    }
}

fn check_encoder(bytes: &[u8]) -> Result<(), Fault> {
    if bytes.iter().all(|byte| *byte == CAPACITY_ZERO) {
        Ok(())
    } else {
        Err(Fault::Connection(Code::QPACK_ENCODER_STREAM_ERROR))
    }
}

/// No more than `left` of `bytes`, which begin behind it then.
fn take<'b>(bytes: &mut &'b [u8], left: &mut u64) -> &'b [u8] {
    let n = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
    let (taken, rest) = bytes.split_at(n);
    (*bytes, *left) = (rest, *left - n as u64);
    taken
}

/// A number of 1, 2, 4 or 8 bytes (RFC 9000 §16), and what is behind it. `None`: there is not all of it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let first = *bytes.first()?;
    let (number, rest) = bytes.split_at_checked(1 << (first >> 6))?;
    let value = number[1..].iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
    Some((value, rest))
}

/// Writes a frame's type and length.
pub(super) fn put_header(kind: u64, length: u64, out: &mut BytesMut) {
    for number in [kind, length] {
        match number {
            0..0x40 => out.put_u8(number as u8),
            0x40..0x4000 => out.put_u16(number as u16 | 0x4000),
            0x4000..0x4000_0000 => out.put_u32(number as u32 | 0x8000_0000),
            _ => out.put_u64(number | 0xc000_0000_0000_0000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `:method GET`, `:scheme https`, `:authority a`, `:path /`
    const HEAD: &[u8] = b"\x01\x08\x00\x00\xd1\xd7\x50\x01a\xc1";

    fn one_way() -> Frames {
        Frames::of_one_way(Arc::default())
    }

    fn passed(mut frames: Frames, pieces: &[&[u8]]) -> Result<Vec<u8>, Fault> {
        let mut out = BytesMut::new();
        for piece in pieces {
            frames.pass(piece, &mut out)?;
        }
        frames.end()?;
        Ok(out.to_vec())
    }

    #[test]
    fn numbers() {
        for number in [0, 63, 64, 16383, 16384, (1 << 30) - 1, 1 << 30, (1 << 62) - 1] {
            let mut out = BytesMut::new();
            put_header(number, 0, &mut out);
            assert_eq!(varint(&out), Some((number, &[0][..])));
            let number_length = out.len() - 1;
            (0..number_length).for_each(|cut| assert_eq!(varint(&out[..cut]), None));
        }
    }

    #[test]
    fn what_passes_of_a_request() {
        let trailers: &[u8] = b"\x01\x06\x00\x00\x21x\x011";
        for (name, pieces, rest) in [
            ("no body", vec![HEAD], &b""[..]),
            ("body", vec![HEAD, b"\x00\x03abc"], b"\x00\x03abc"),
            ("trailers", vec![HEAD, b"\x00\x01a", trailers], b"\x00\x01a\x01\x06\x00\x00\x21x\x011"),
            ("empty DATA is no end", vec![HEAD, b"\x00\x00", b"\x00\x01a"], b"\x00\x01a"),
            ("unknown frames", vec![HEAD, b"\x21\x03xyz", b"\x00\x01a", b"\x21\x00"], b"\x00\x01a"),
            ("a frame of WebTransport", vec![HEAD, b"\x40\x41\x01x\x00\x01a"], b"\x00\x01a"),
        ] {
            let whole = pieces.concat();
            let expected = [HEAD, rest].concat();
            assert_eq!(passed(Frames::of_request(), &pieces).unwrap(), expected, "{name}");
            for cut in 0..whole.len() {
                let (one, two) = whole.split_at(cut);
                assert_eq!(passed(Frames::of_request(), &[one, two]).unwrap(), expected, "{name} {cut}");
            }
        }
    }

    #[test]
    fn what_ends_the_connection() {
        let unexpected = Code::H3_FRAME_UNEXPECTED;
        let idle = b"\x21\x00".repeat(MOST_IDLE_FRAMES as usize + 1);
        let empty = b"\x00\x00".repeat(MOST_IDLE_FRAMES as usize + 1);
        let pushes = b"\x0d\x01\x01".repeat(MOST_IDLE_FRAMES as usize + 1);
        let request = [
            ("DATA first", b"\x00\x01a".to_vec(), unexpected),
            ("DATA behind trailers", [HEAD, b"\x01\x02\x00\x00", b"\x00\x01a"].concat(), unexpected),
            ("fields behind trailers", [HEAD, b"\x01\x02\x00\x00", b"\x01\x02\x00\x00"].concat(), unexpected),
            ("SETTINGS", [HEAD, b"\x04\x00"].concat(), unexpected),
            ("PUSH_PROMISE", b"\x05\x00".to_vec(), unexpected),
            ("GOAWAY", b"\x07\x01\x00".to_vec(), unexpected),
            ("of HTTP/2", b"\x09\x00".to_vec(), unexpected),
            ("row 38: unknown frames", idle.clone(), Code::H3_EXCESSIVE_LOAD),
            ("row 38: empty DATA", [HEAD, &empty].concat(), Code::H3_EXCESSIVE_LOAD),
            ("cut in a head", HEAD[..5].to_vec(), Code::H3_FRAME_ERROR),
            ("cut in a body", [HEAD, b"\x00\x05abc"].concat(), Code::H3_FRAME_ERROR),
            ("cut in a length", [HEAD, b"\x00"].concat(), Code::H3_FRAME_ERROR),
        ];
        for (name, bytes, code) in request {
            let outcome = passed(Frames::of_request(), &[&bytes]);
            assert_eq!(outcome, Err(Fault::Connection(code)), "{name}");
        }
        let on_one_way = [
            ("push", b"\x01".to_vec(), Code::H3_STREAM_CREATION_ERROR),
            ("DATA", b"\x00\x04\x00\x00\x01a".to_vec(), unexpected),
            ("HEADERS", b"\x00\x04\x00\x01\x00".to_vec(), unexpected),
            ("long SETTINGS", b"\x00\x04\x80\x01\x00\x00".to_vec(), Code::H3_EXCESSIVE_LOAD),
            ("row 38: unknown frames", [b"\x00\x04\x00", &idle[..]].concat(), Code::H3_EXCESSIVE_LOAD),
            ("row 38: MAX_PUSH_ID", [b"\x00\x04\x00", &pushes[..]].concat(), Code::H3_EXCESSIVE_LOAD),
            ("no SETTINGS", b"\x00\x0d\x01\x00".to_vec(), Code::H3_MISSING_SETTINGS),
            ("an unknown frame before SETTINGS", b"\x00\x21\x00\x04\x00".to_vec(), Code::H3_MISSING_SETTINGS),
            ("SETTINGS twice", b"\x00\x04\x00\x04\x00".to_vec(), unexpected),
            ("a push is cancelled", b"\x00\x04\x00\x03\x01\x00".to_vec(), Code::H3_ID_ERROR),
            ("cut SETTINGS", b"\x00\x04\x05\x01".to_vec(), Code::H3_FRAME_ERROR),
            ("a table of QPACK", b"\x02\x3f\xe1\x1f".to_vec(), Code::QPACK_ENCODER_STREAM_ERROR),
            ("an entry of QPACK", b"\x02\x41x\x01y".to_vec(), Code::QPACK_ENCODER_STREAM_ERROR),
            ("a section is acknowledged", b"\x03\x80".to_vec(), Code::QPACK_DECODER_STREAM_ERROR),
            ("entries are acknowledged", b"\x03\x44\x01".to_vec(), Code::QPACK_DECODER_STREAM_ERROR),
        ];
        for (name, bytes, code) in on_one_way {
            assert_eq!(passed(one_way(), &[&bytes]), Err(Fault::Connection(code)), "{name}");
        }
    }

    #[test]
    fn row_37_what_is_too_large_is_refused_by_its_length() {
        let announced = b"\x01\xff\xff\xff\xff\xff\xff\xff\xff";
        assert_eq!(passed(Frames::of_request(), &[announced]), Err(Fault::TooLarge));
        assert_eq!(passed(Frames::of_request(), &[HEAD, announced]), Err(Fault::TrailersTooLarge));
    }

    #[test]
    fn rows_39_and_40_a_malformed_head_is_the_streams_fault() {
        let twice = b"\x01\x09\x00\x00\xd1\xd1\xd7\x50\x01a\xc1";
        assert_eq!(passed(Frames::of_request(), &[twice]), Err(Fault::Message));
    }

    #[test]
    fn a_head_that_cannot_be_decoded_is_the_connections_fault() {
        let failed = Err(Fault::Connection(Code::QPACK_DECOMPRESSION_FAILED));
        let dynamic = [b"\x01\x08\x01", &HEAD[3..]].concat();
        assert_eq!(passed(Frames::of_request(), &[&dynamic]), failed);
        assert_eq!(passed(Frames::of_request(), &[HEAD, b"\x01\x03\x00\x00\x80"]), failed, "trailers");
    }

    #[test]
    fn streams_of_one_direction() {
        for (bytes, passes, kind) in [
            (&b"\x00\x04\x02\x06\x20"[..], &b"\x00\x04\x02\x06\x20"[..], Kind::Control),
            (b"\x00\x04\x00\x07\x01\x04\x0d\x01\x01", b"\x00\x04\x00\x0d\x01\x01", Kind::Control),
            (b"\x02\x20", b"", Kind::QpackEncoder),
            (b"\x03\x44\x7f\x80\x80\x01\x48", b"", Kind::QpackDecoder),
            (b"\x40\x54abc", b"", Kind::Unknown),
        ] {
            for cut in 0..bytes.len() {
                let (mut frames, mut out) = (one_way(), BytesMut::new());
                assert_eq!(frames.kind(), None);
                for piece in [&bytes[..cut], &bytes[cut..]] {
                    frames.pass(piece, &mut out).unwrap();
                }
                assert_eq!((&out[..], frames.kind()), (passes, Some(kind)), "{bytes:x?} {cut}");
            }
        }
    }
}
