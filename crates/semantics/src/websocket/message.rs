//! Messages: what a client's frames say together (RFC 6455 §5.4–§8).
//!
//! Owns the state of one client's side: a frame cut anywhere, fragments, control frames between them, sizes, UTF-8,
//! decompression. Leaves answering (pong, close) and the wait for credit to the caller.
//! Invariants: at most `piece` bytes of a message are held, a larger one is handed on in pieces; what can no longer become
//! a message is refused at once; between messages no buffer is held.

use super::close::{self, CloseError, read_close};
use super::deflate::{Inflater, TAIL};
use super::frame::{FrameError, HEAD_MAX, Head, Opcode, apply_mask, decode_head};
use super::utf8::Utf8;

/// Compressed bytes taken at once: what does not fit into a piece any more is masked again.
const COMPRESSED_STEP: usize = 4 * 1024;
/// Empty frames that one message may have; they have no size that would end a flood of them.
const EMPTY_FRAMES_MOST: u16 = 1024;

/// Bounds of a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest message, in bytes after decompression.
    pub message: u64,
    /// Bytes of a message after which a piece is handed on; at least 1.
    pub piece: usize,
}

/// What a client has said.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A message, or the next piece of one.
    Message {
        /// UTF-8, checked as far as it has come; a piece may end within a character.
        text: bool,
        /// The last piece.
        whole: bool,
        /// At most `Limits::piece` bytes.
        bytes: Vec<u8>,
    },
    /// To be answered with a pong of the same payload, ≤ 125 bytes.
    Ping(Vec<u8>),
    /// An answer to a ping, or of the client's own accord.
    Pong(Vec<u8>),
    /// The client closes; nothing that follows is read.
    Close {
        /// `None`: the close frame had none (told as 1005).
        code: Option<u16>,
        /// UTF-8, may be empty.
        reason: String,
    },
}

/// Why a WebSocket cannot go on. All are the client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A frame that is wrong by itself.
    Frame(FrameError),
    /// A continuation of nothing.
    NothingToContinue,
    /// A new message within another.
    Unfinished,
    /// A close frame of one byte, or with a code that must not be sent.
    CloseCode,
    /// A close reason that is not UTF-8.
    CloseReason,
    /// A text that is not UTF-8.
    Utf8,
    /// A compressed message that is none.
    Deflate,
    /// A message past `Limits::message`, or of more empty frames than anybody has a use for.
    TooBig,
}

impl Fault {
    /// The close code that says so (RFC 6455 §7.4.1).
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Frame(_) | Self::NothingToContinue | Self::Unfinished | Self::CloseCode => {
                close::PROTOCOL_ERROR
            }
            Self::CloseReason | Self::Utf8 | Self::Deflate => close::INVALID_DATA,
            Self::TooBig => close::TOO_BIG,
        }
    }

    /// For the close frame, the app and the log.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Frame(error) => error.reason(),
            Self::NothingToContinue => "continuation of nothing",
            Self::Unfinished => "message within a message",
            Self::CloseCode => "invalid close code",
            Self::CloseReason => "close reason is not UTF-8",
            Self::Utf8 => "text is not UTF-8",
            Self::Deflate => "not a compressed message",
            Self::TooBig => "message too big",
        }
    }
}

/// The reading side of one WebSocket.
pub struct Reader {
    limits: Limits,
    deflate: bool,
    /// The start of a head that was cut.
    head: [u8; HEAD_MAX],
    head_len: u8,
    frame: Option<Frame>,
    message: Option<Message>,
    /// Bytes of the message, unmasked and decompressed, not handed on yet.
    held: Vec<u8>,
    /// Bytes of a control frame.
    control: Vec<u8>,
}

/// A frame whose payload is being read.
struct Frame {
    opcode: Opcode,
    fin: bool,
    /// Turned to the next byte.
    mask: [u8; 4],
    left: u64,
}

/// A message whose frames are being read.
struct Message {
    text: bool,
    utf8: Utf8,
    /// Boxed: most messages have none, and most WebSockets have no message.
    inflater: Option<Box<Inflater>>,
    /// Bytes of payload as announced by frames so far.
    announced: u64,
    /// Bytes after decompression so far.
    size: u64,
    empty_frames: u16,
    /// Bytes of `TAIL` that the decompressor has had.
    tail: u8,
}

impl Reader {
    /// A WebSocket that was just accepted. `deflate`: permessage-deflate was negotiated.
    #[must_use]
    pub fn new(limits: Limits, deflate: bool) -> Self {
        Self {
            limits,
            deflate,
            head: [0; HEAD_MAX],
            head_len: 0,
            frame: None,
            message: None,
            held: Vec::new(),
            control: Vec::new(),
        }
    }

    /// Takes in what the client sent, up to the next event: how many bytes were used, and the event. Without an event all
    /// of `input` was used. It is unmasked in place: the rest, if any, is given again, unchanged, with the next call.
    ///
    /// # Errors
    /// See [`Fault`]; the reader is of no further use then.
    pub fn read(&mut self, input: &mut [u8]) -> Result<(usize, Option<Event>), Fault> {
        let mut at = 0;
        loop {
            let Some(frame) = &self.frame else {
                at += self.read_head(&input[at..])?;
                if self.frame.is_none() {
                    return Ok((at, None));
                }
                continue;
            };
            let (used, event) = if frame.opcode.is_control() {
                self.read_control(&mut input[at..])?
            } else {
                self.read_data(&mut input[at..])?
            };
            at += used;
            if event.is_some() || (self.frame.is_some() && at == input.len()) {
                return Ok((at, event));
            }
        }
    }

    /// Adds to the head; makes a frame of it once it is whole.
    fn read_head(&mut self, input: &[u8]) -> Result<usize, Fault> {
        let held = usize::from(self.head_len);
        let more = input.len().min(HEAD_MAX - held);
        self.head[held..held + more].copy_from_slice(&input[..more]);
        match decode_head(&self.head[..held + more], self.deflate).map_err(Fault::Frame)? {
            Some((head, length)) => {
                self.head_len = 0;
                self.begin(head)?;
                Ok(length - held)
            }
            None => {
                self.head_len += more as u8;
                Ok(more)
            }
        }
    }

    /// A frame begins: does it fit in with those before it?
    fn begin(&mut self, head: Head) -> Result<(), Fault> {
        match (head.opcode, &self.message) {
            (Opcode::Text | Opcode::Binary, None) => {
                self.message = Some(Message {
                    text: head.opcode == Opcode::Text,
                    utf8: Utf8::default(),
                    inflater: head.compressed.then(|| Box::new(Inflater::borrow())),
                    announced: 0,
                    size: 0,
                    empty_frames: 0,
                    tail: 0,
                });
            }
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(Fault::Unfinished),
            (Opcode::Continuation, None) => return Err(Fault::NothingToContinue),
            _ => {}
        }
        if let Some(message) = &mut self.message
            && !head.opcode.is_control()
        {
            message.announce(head.length, self.limits.message)?;
        }
        self.frame = Some(Frame { opcode: head.opcode, fin: head.fin, mask: head.mask, left: head.length });
        Ok(())
    }

    fn read_control(&mut self, input: &mut [u8]) -> Result<(usize, Option<Event>), Fault> {
        let Some(frame) = &mut self.frame else { return Ok((0, None)) };
        let used = frame.unmask(input, CONTROL_STEP);
        self.control.extend_from_slice(&input[..used]);
        frame.advance(used);
        if frame.left > 0 {
            return Ok((used, None));
        }
        let opcode = frame.opcode;
        self.frame = None;
        let payload = std::mem::take(&mut self.control);
        let event = match opcode {
            Opcode::Ping => Event::Ping(payload),
            Opcode::Pong => Event::Pong(payload),
            _ => {
                let (code, reason) = read_close(&payload).map_err(|error| match error {
                    CloseError::Code => Fault::CloseCode,
                    CloseError::Reason => Fault::CloseReason,
                })?;
                Event::Close { code, reason: reason.to_owned() }
            }
        };
        Ok((used, Some(event)))
    }

    /// A step of a message: some input, or a piece that is ready.
    fn read_data(&mut self, input: &mut [u8]) -> Result<(usize, Option<Event>), Fault> {
        let (Some(frame), Some(message)) = (&mut self.frame, &mut self.message) else { return Ok((0, None)) };
        let held = &mut self.held;
        let room = self.limits.piece.max(1).saturating_sub(held.len());
        if room == 0 {
            return Ok((0, Some(message.piece(false, held))));
        }
        let used = match &mut message.inflater {
            None => {
                let used = frame.unmask(input, room);
                message.grow(&input[..used], self.limits.message)?;
                held.extend_from_slice(&input[..used]);
                used
            }
            Some(inflater) => {
                let offered = frame.unmask(input, COMPRESSED_STEP);
                // One byte past the limit is enough to know.
                let most = usize::try_from(self.limits.message - message.size).unwrap_or(usize::MAX);
                let room = room.min(most.saturating_add(1));
                let before = held.len();
                let mut inflated = inflater.inflate(&input[..offered], room, held);
                let used = inflated.unwrap_or(offered);
                if used < offered {
                    frame.mask_again(&mut input[used..offered], used);
                } else if frame.left == used as u64 && frame.fin && inflated.is_ok() {
                    // All has been read; what is left of the room is for what the tail brings out.
                    let tail = &TAIL[usize::from(message.tail)..];
                    inflated = inflater.inflate(tail, room - (held.len() - before), held);
                    message.tail += inflated.unwrap_or(0) as u8;
                }
                let filled = held.len() - before == room;
                // What came out before it went wrong may have been wrong already.
                message.grow(&held[before..], self.limits.message)?;
                inflated.map_err(|_| Fault::Deflate)?;
                if filled {
                    // More may be held back: it comes with the next step, which begins with an empty piece.
                    frame.advance(used);
                    return Ok((used, Some(message.piece(false, held))));
                }
                used
            }
        };
        frame.advance(used);
        if frame.left > 0 {
            return Ok((used, None));
        }
        let fin = frame.fin;
        self.frame = None;
        if !fin {
            return Ok((used, None));
        }
        if message.text && !message.utf8.is_complete() {
            return Err(Fault::Utf8);
        }
        let event = message.piece(true, held);
        self.message = None;
        Ok((used, Some(event)))
    }
}

/// Bytes of a control frame taken at once: all.
const CONTROL_STEP: usize = super::frame::CONTROL_MAX;

impl Frame {
    /// Unmasks the next bytes of the payload, `most` at most; gives how many.
    fn unmask(&self, input: &mut [u8], most: usize) -> usize {
        let count = input.len().min(most).min(usize::try_from(self.left).unwrap_or(usize::MAX));
        apply_mask(&mut input[..count], self.mask);
        count
    }

    /// Undoes it for bytes that were not used, `skipped` bytes on.
    fn mask_again(&self, bytes: &mut [u8], skipped: usize) {
        let mut mask = self.mask;
        mask.rotate_left(skipped % 4);
        apply_mask(bytes, mask);
    }

    fn advance(&mut self, used: usize) {
        self.left -= used as u64;
        self.mask.rotate_left(used % 4);
    }
}

impl Message {
    /// A frame says how long it is: too long is known before it has come.
    fn announce(&mut self, length: u64, most: u64) -> Result<(), Fault> {
        self.announced = self.announced.saturating_add(length);
        // Compressed, a message may be a little longer than it is (RFC 1951 §3.2.4: five bytes a block).
        let most = if self.inflater.is_some() { most.saturating_add(most / 64 + 1024) } else { most };
        self.empty_frames += u16::from(length == 0);
        if self.announced > most || self.empty_frames > EMPTY_FRAMES_MOST {
            return Err(Fault::TooBig);
        }
        Ok(())
    }

    /// More of it has come.
    fn grow(&mut self, bytes: &[u8], most: u64) -> Result<(), Fault> {
        let fits = usize::try_from(most - self.size).unwrap_or(usize::MAX).min(bytes.len());
        if self.text && self.utf8.feed(&bytes[..fits]).is_err() {
            return Err(Fault::Utf8);
        }
        self.size += fits as u64;
        if fits < bytes.len() { Err(Fault::TooBig) } else { Ok(()) }
    }

    fn piece(&self, whole: bool, held: &mut Vec<u8>) -> Event {
        Event::Message { text: self.text, whole, bytes: std::mem::take(held) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::deflate::Deflater;
    use super::super::frame::CONTROL_MAX;
    use super::*;

    const LIMITS: Limits = Limits { message: 1000, piece: 400 };

    /// A client's frame: the first byte of its head, and its payload.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            short @ ..126 => bytes.push(0x80 | short as u8),
            long => {
                bytes.push(0x80 | 126);
                bytes.extend_from_slice(&(long as u16).to_be_bytes());
            }
        }
        let mask = [0x11, 0x22, 0x44, 0x88];
        bytes.extend_from_slice(&mask);
        let at = bytes.len();
        bytes.extend_from_slice(payload);
        apply_mask(&mut bytes[at..], mask);
        bytes
    }

    fn frames(list: &[(u8, &[u8])]) -> Vec<u8> {
        list.iter().flat_map(|(first, payload)| frame(*first, payload)).collect()
    }

    /// What a client said, pieces joined; then the fault, if there was one, and after how many bytes.
    fn said(bytes: &[u8], step: usize, deflate: bool) -> (Vec<Event>, Option<(Fault, usize)>) {
        let mut reader = Reader::new(LIMITS, deflate);
        let mut events = Vec::new();
        for (n, piece) in bytes.chunks(step).enumerate() {
            let mut piece = piece.to_vec();
            let mut at = 0;
            loop {
                match reader.read(&mut piece[at..]) {
                    Err(fault) => return (events, Some((fault, n * step + piece.len()))),
                    Ok((used, None)) => {
                        assert_eq!(at + used, piece.len(), "all is used");
                        break;
                    }
                    Ok((used, Some(event))) => {
                        at += used;
                        join(&mut events, event);
                    }
                }
            }
        }
        assert!(reader.held.capacity() <= LIMITS.message as usize);
        if reader.message.is_none() && reader.frame.is_none() {
            assert_eq!(reader.held.capacity() + reader.control.capacity(), 0, "nothing held at rest");
        }
        (events, None)
    }

    /// Control events may stand between the pieces of a message; an unfinished one is the last message of the list.
    fn join(events: &mut Vec<Event>, event: Event) {
        if let Event::Message { bytes: more, whole: end, text: again } = &event {
            assert!(more.len() <= LIMITS.piece);
            let unfinished =
                events.iter_mut().find(|event| matches!(event, Event::Message { whole: false, .. }));
            if let Some(Event::Message { text, whole, bytes }) = unfinished {
                assert_eq!(text, again);
                bytes.extend_from_slice(more);
                *whole = *end;
                return;
            }
        }
        events.push(event);
    }

    fn text(text: &str) -> Event {
        Event::Message { text: true, whole: true, bytes: text.as_bytes().to_vec() }
    }

    fn binary(bytes: &[u8]) -> Event {
        Event::Message { text: false, whole: true, bytes: bytes.to_vec() }
    }

    fn ping(payload: &[u8]) -> Event {
        Event::Ping(payload.to_vec())
    }

    fn deflated(message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Deflater::borrow(15).deflate(message, true, &mut out);
        out
    }

    #[test]
    fn what_frames_say_together_cut_at_every_byte() {
        let long = vec![7; 1000];
        let close = |code, reason: &str| Event::Close { code, reason: reason.to_owned() };
        for (sent, expected) in [
            (frames(&[(0x81, b"")]), vec![text("")]),
            (frames(&[(0x81, b"Hello"), (0x82, b"\xff")]), vec![text("Hello"), binary(b"\xff")]),
            (frames(&[(0x01, b"Hel"), (0x00, b""), (0x80, b"lo")]), vec![text("Hello")]),
            (frames(&[(0x01, b""), (0x80, b"")]), vec![text("")]),
            (frames(&[(0x01, "é".as_bytes().split_at(1).0), (0x80, b"\xa9")]), vec![text("é")]),
            (
                frames(&[(0x02, b"a"), (0x89, b"one"), (0x00, b"b"), (0x89, b""), (0x80, b"c")]),
                vec![ping(b"one"), ping(b""), binary(b"abc")],
            ),
            (
                frames(&[(0x8a, b"pong"), (0x89, &[1; CONTROL_MAX])]),
                vec![Event::Pong(b"pong".to_vec()), ping(&[1; CONTROL_MAX])],
            ),
            (frames(&[(0x82, &long)]), vec![binary(&long)]),
            (frames(&[(0x02, &long[..400]), (0x80, &long[..400])]), vec![binary(&long[..800])]),
            (frames(&[(0x02, &long[..400]), (0x80, b"")]), vec![binary(&long[..400])]),
            (frames(&[(0x82, &long[..400])]), vec![binary(&long[..400])]),
            (
                frames(&[(0x02, &long[..399]), (0x89, b"x"), (0x00, b"ab"), (0x80, &long[..500])]),
                vec![ping(b"x"), binary(&[&long[..399], b"ab", &long[..500]].concat())],
            ),
            (frames(&[(0x88, b"")]), vec![close(None, "")]),
            (frames(&[(0x88, b"\x03\xe8bye")]), vec![close(Some(1000), "bye")]),
        ] {
            for step in 1..=sent.len() {
                let (mut events, fault) = said(&sent, step, false);
                assert_eq!(fault, None);
                // A ping between the pieces of a message may come before or after its first piece.
                events.sort_by_key(|event| matches!(event, Event::Message { .. }));
                let mut expected_here: Vec<&Event> = expected.iter().collect();
                expected_here.sort_by_key(|event| matches!(event, Event::Message { .. }));
                assert!(events.iter().eq(expected_here), "in steps of {step}");
            }
        }
    }

    #[test]
    fn compressed_messages_cut_at_every_byte() {
        let lines = "a line as others are, ".repeat(45);
        let squeezed = deflated(lines.as_bytes());
        let (left, right) = squeezed.split_at(squeezed.len() / 2);
        let exact = deflated(&[b'x'; 400]);
        let hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
        for (sent, expected) in [
            (frames(&[(0xc1, hello)]), vec![text("Hello")]),
            (frames(&[(0x41, &hello[..3]), (0x00, b""), (0x80, &hello[3..])]), vec![text("Hello")]),
            (frames(&[(0x41, hello), (0x80, b"")]), vec![text("Hello")]),
            (frames(&[(0xc1, b"\x00"), (0x81, b"plain")]), vec![text(""), text("plain")]),
            (frames(&[(0xc1, b"")]), vec![text("")]),
            (frames(&[(0xc1, &squeezed), (0xc1, hello)]), vec![text(&lines), text("Hello")]),
            (frames(&[(0x41, left), (0x80, right)]), vec![text(&lines)]),
            (frames(&[(0xc2, &exact)]), vec![binary(&[b'x'; 400])]),
        ] {
            for step in 1..=sent.len() {
                let (events, fault) = said(&sent, step, true);
                assert!(events == expected && fault.is_none(), "{events:?} {fault:?} in steps of {step}");
            }
        }
    }

    #[test]
    fn what_is_refused_and_how() {
        let long = vec![b'x'; 1001];
        let bomb = deflated(&vec![0; 1 << 20]);
        let torn = deflated("é".repeat(100).as_bytes());
        for (name, sent, deflate, fault) in [
            ("unmasked", b"\x81\x05Hello".to_vec(), false, Fault::Frame(FrameError::Unmasked)),
            ("RSV1 without an extension", frame(0xc1, b""), false, Fault::Frame(FrameError::Reserved)),
            ("continuation of nothing", frame(0x80, b"x"), false, Fault::NothingToContinue),
            ("twice", frames(&[(0x81, b"x"), (0x80, b"x")]), false, Fault::NothingToContinue),
            ("message within", frames(&[(0x01, b"x"), (0x81, b"y")]), false, Fault::Unfinished),
            ("close of one byte", frame(0x88, b"\x03"), false, Fault::CloseCode),
            ("close 1005", frame(0x88, b"\x03\xed"), false, Fault::CloseCode),
            ("close reason", frame(0x88, b"\x03\xe8\xff"), false, Fault::CloseReason),
            ("not UTF-8", frame(0x81, b"a\xff"), false, Fault::Utf8),
            ("cut character", frame(0x81, b"a\xc3"), false, Fault::Utf8),
            ("character cut by the end", frames(&[(0x01, b"a\xc3"), (0x80, b"")]), false, Fault::Utf8),
            ("too big", frame(0x82, &long), false, Fault::TooBig),
            ("too big together", frames(&[(0x02, &long[..999]), (0x80, b"xx")]), false, Fault::TooBig),
            ("1 GiB", b"\x82\xff\x00\x00\x00\x00\x40\x00\x00\x00mask".to_vec(), false, Fault::TooBig),
            (
                "1 GiB, compressed",
                b"\xc2\xff\x00\x00\x00\x00\x40\x00\x00\x00mask".to_vec(),
                true,
                Fault::TooBig,
            ),
            ("bomb", frame(0xc2, &bomb), true, Fault::TooBig),
            ("bomb of text", frame(0xc1, &bomb), true, Fault::TooBig),
            ("compressed, not UTF-8", frame(0xc1, &deflated(&[0xff; 100])), true, Fault::Utf8),
            (
                "compressed, cut",
                frame(0xc1, &deflated(&[b"x".repeat(99), b"\xc3".to_vec()].concat())),
                true,
                Fault::Utf8,
            ),
            ("not deflate", frame(0xc2, b"\xff\xff\xff"), true, Fault::Deflate),
            (
                "empty frames",
                frame(0x02, b"").into_iter().chain(frame(0x00, b"").repeat(1024)).collect(),
                false,
                Fault::TooBig,
            ),
        ] {
            for step in [1, 2, 3, 7, 64, sent.len()] {
                let (_, found) = said(&sent, step, deflate);
                assert_eq!(found.map(|(fault, _)| fault), Some(fault), "{name} in steps of {step}");
            }
        }
        assert_eq!(said(&frame(0xc1, &torn), 1, true).1, None);
    }

    /// As early as can be: Autobahn 6.4 closes a text at its first wrong byte, not at its end.
    #[test]
    fn wrong_bytes_are_refused_when_they_come() {
        for (payload, at) in [(&b"\xce\xba\xf4\x90\x80\x80more"[..], 4), (b"ab\xffmore", 3)] {
            let sent = frame(0x01, payload);
            assert_eq!(said(&sent, 1, false).1, Some((Fault::Utf8, 6 + at)));
        }
    }

    #[test]
    fn codes_of_faults() {
        for (fault, code) in [
            (Fault::Frame(FrameError::Unmasked), 1002),
            (Fault::NothingToContinue, 1002),
            (Fault::Unfinished, 1002),
            (Fault::CloseCode, 1002),
            (Fault::CloseReason, 1007),
            (Fault::Utf8, 1007),
            (Fault::Deflate, 1007),
            (Fault::TooBig, 1009),
        ] {
            assert_eq!(fault.code(), code);
            assert!(close::may_be_sent(code) && fault.reason().len() <= close::REASON_MAX);
        }
    }

    #[test]
    fn a_reader_at_rest_is_small_and_may_change_threads() {
        fn may_change_threads<T: Send>() {}
        may_change_threads::<Reader>();
        assert!(size_of::<Reader>() <= 256, "{}", size_of::<Reader>());
    }
}
