//! Frames: heads in, heads out, masks off (RFC 6455 §5).
//!
//! Owns the bits of a head and what one frame alone can do wrong. Leaves fragments, sizes and payloads to `message`.
//! Invariant: a head is refused at the first byte that makes it wrong; what is written here is never masked, as a
//! server's frames must not be (§5.1).
//!
//! ```text
//!  byte 0: FIN RSV1 RSV2 RSV3 opcode(4)   byte 1: MASK length(7)   then 0, 2 or 8 bytes of length, 4 of mask, payload
//! ```

use super::close::REASON_MAX;

/// Bytes of the longest head that a client sends.
pub const HEAD_MAX: usize = 14;
/// Bytes of the longest payload of a control frame (§5.5).
pub const CONTROL_MAX: usize = 125;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// The next part of a message.
    Continuation = 0x0,
    /// A message of text begins.
    Text = 0x1,
    /// A message of bytes begins.
    Binary = 0x2,
    /// The end.
    Close = 0x8,
    /// Are you there?
    Ping = 0x9,
    /// I am.
    Pong = 0xa,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xa => Some(Self::Pong),
            _ => None,
        }
    }

    /// Close, ping and pong: short, whole, and allowed between the frames of a message.
    #[must_use]
    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// The head of a client's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The last frame of its message.
    pub fin: bool,
    /// RSV1: the message that begins here is compressed (RFC 7692 §6).
    pub compressed: bool,
    /// What for.
    pub opcode: Opcode,
    /// Bytes of payload, below 2⁶³.
    pub length: u64,
    /// The mask of the payload.
    pub mask: [u8; 4],
}

/// What is wrong with a head. All are the client's fault and mean 1002.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// A reserved bit that no extension gave a meaning to, or not for this frame.
    Reserved,
    /// An opcode that does not exist.
    Opcode,
    /// A control frame in fragments.
    FragmentedControl,
    /// A control frame of more than 125 bytes.
    LongControl,
    /// A length in more bytes than it needs, or past 2⁶³.
    Length,
    /// A client's frame without a mask.
    Unmasked,
}

impl FrameError {
    /// For the close frame and the log.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Reserved => "reserved bit set",
            Self::Opcode => "unknown opcode",
            Self::FragmentedControl => "fragmented control frame",
            Self::LongControl => "control frame too long",
            Self::Length => "length not minimal",
            Self::Unmasked => "frame not masked",
        }
    }
}

/// Reads the head at the start of `bytes`: the head and how many bytes it took, `None` when more must come.
/// `deflate`: permessage-deflate was negotiated, so RSV1 means something.
///
/// # Errors
/// See [`FrameError`].
pub fn decode_head(bytes: &[u8], deflate: bool) -> Result<Option<(Head, usize)>, FrameError> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let opcode = Opcode::from_bits(first & 0x0f).ok_or(FrameError::Opcode)?;
    let (fin, compressed) = (first & 0x80 != 0, first & 0x40 != 0);
    let begins_message = matches!(opcode, Opcode::Text | Opcode::Binary);
    if first & 0x30 != 0 || (compressed && !(deflate && begins_message)) {
        return Err(FrameError::Reserved);
    }
    if opcode.is_control() && !fin {
        return Err(FrameError::FragmentedControl);
    }
    let Some(&second) = bytes.get(1) else { return Ok(None) };
    if second & 0x80 == 0 {
        return Err(FrameError::Unmasked);
    }
    let short = second & 0x7f;
    if opcode.is_control() && usize::from(short) > CONTROL_MAX {
        return Err(FrameError::LongControl);
    }
    let Some((length, at)) = decode_length(short, &bytes[2..])? else { return Ok(None) };
    let Some(mask) = bytes[2 + at..].first_chunk::<4>() else { return Ok(None) };
    Ok(Some((Head { fin, compressed, opcode, length, mask: *mask }, 2 + at + 4)))
}

/// The length, and the bytes it took after the second of the head.
fn decode_length(short: u8, bytes: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
    match short {
        126 => match bytes.first_chunk::<2>().map(|long| u16::from_be_bytes(*long)) {
            Some(..126) => Err(FrameError::Length),
            length => Ok(length.map(|length| (length.into(), 2))),
        },
        127 => match bytes.first_chunk::<8>().map(|long| u64::from_be_bytes(*long)) {
            Some(..=0xffff | 0x8000_0000_0000_0000..) => Err(FrameError::Length),
            length => Ok(length.map(|length| (length, 8))),
        },
        short => Ok(Some((short.into(), 0))),
    }
}

/// Appends the head of a server's frame.
pub fn encode_head(opcode: Opcode, fin: bool, compressed: bool, length: usize, out: &mut Vec<u8>) {
    out.push(u8::from(fin) << 7 | u8::from(compressed) << 6 | opcode as u8);
    match length {
        0..=125 => out.push(length as u8),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Appends a whole control frame; a payload past [`CONTROL_MAX`] is cut.
pub fn encode_control(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    debug_assert!(opcode.is_control());
    let payload = &payload[..payload.len().min(CONTROL_MAX)];
    encode_head(opcode, true, false, payload.len(), out);
    out.extend_from_slice(payload);
}

/// Appends a close frame; without a code it is empty. A reason past [`REASON_MAX`] is cut between characters.
pub fn encode_close(code: Option<u16>, reason: &str, out: &mut Vec<u8>) {
    let Some(code) = code else { return encode_control(Opcode::Close, b"", out) };
    let reason = &reason.as_bytes()[..reason.floor_char_boundary(REASON_MAX)];
    encode_head(Opcode::Close, true, false, 2 + reason.len(), out);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason);
}

/// Takes the mask off, or puts it on (§5.3). `mask` is the one for the first of `bytes`: after `n` bytes of a payload,
/// the frame's own turned left by `n`. Eight bytes at a time; the compiler makes it more.
pub fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut words = bytes.chunks_exact_mut(8);
    for word in &mut words {
        let mut eight = [0; 8];
        eight.copy_from_slice(word);
        word.copy_from_slice(&(u64::from_ne_bytes(eight) ^ wide).to_ne_bytes());
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_that_are_refused_and_at_which_byte() {
        use FrameError::*;
        for (bytes, deflate, error) in [
            (&b"\xc1"[..], false, Reserved),
            (b"\xa1", true, Reserved),
            (b"\x91", true, Reserved),
            (b"\xc0", true, Reserved), // RSV1 belongs to the first frame
            (b"\xc9", true, Reserved),
            (b"\x83", false, Opcode),
            (b"\x87", false, Opcode),
            (b"\x8b", false, Opcode),
            (b"\x8f", false, Opcode),
            (b"\x08", false, FragmentedControl),
            (b"\x09", false, FragmentedControl),
            (b"\x0a", false, FragmentedControl),
            (b"\x81\x05", false, Unmasked),
            (b"\x89\xfe", false, LongControl),
            (b"\x88\xff", false, LongControl),
            (b"\x82\xfe\x00\x7d", false, Length),
            (b"\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff", false, Length),
            (b"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00", false, Length),
        ] {
            assert_eq!(decode_head(bytes, deflate), Err(error), "{bytes:x?}");
            for cut in 0..bytes.len() {
                assert_eq!(decode_head(&bytes[..cut], deflate), Ok(None), "{bytes:x?} cut at {cut}");
            }
        }
    }

    #[test]
    fn heads_that_are_taken_cut_at_every_byte() {
        for (bytes, fin, compressed, opcode, length) in [
            (&b"\x81\x80mask"[..], true, false, Opcode::Text, 0),
            (b"\x01\xfdmask", false, false, Opcode::Text, 125),
            (b"\xc2\x81mask", true, true, Opcode::Binary, 1),
            (b"\x00\xfe\x00\x7emask", false, false, Opcode::Continuation, 126),
            (b"\x80\xfe\xff\xffmask", true, false, Opcode::Continuation, 65_535),
            (b"\x82\xff\x00\x00\x00\x00\x00\x01\x00\x00mask", true, false, Opcode::Binary, 65_536),
            (b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xffmask", true, false, Opcode::Binary, i64::MAX as u64),
            (b"\x88\x82mask", true, false, Opcode::Close, 2),
            (b"\x89\xfdmask", true, false, Opcode::Ping, 125),
            (b"\x8a\x80mask", true, false, Opcode::Pong, 0),
        ] {
            let head = Head { fin, compressed, opcode, length, mask: *b"mask" };
            let longer = [bytes, b"payload"].concat();
            assert_eq!(decode_head(&longer, true), Ok(Some((head, bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(decode_head(&bytes[..cut], true), Ok(None), "{bytes:x?} cut at {cut}");
            }
        }
    }

    #[test]
    fn heads_that_are_written() {
        for (length, head) in [
            (0, &b"\x82\x00"[..]),
            (125, b"\x82\x7d"),
            (126, b"\x82\x7e\x00\x7e"),
            (65_535, b"\x82\x7e\xff\xff"),
            (65_536, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
        ] {
            let mut out = Vec::new();
            encode_head(Opcode::Binary, true, false, length, &mut out);
            assert_eq!(out, head);
        }
        let mut out = Vec::new();
        encode_head(Opcode::Text, false, true, 1, &mut out);
        assert_eq!(out, b"\x41\x01");
    }

    #[test]
    fn closes_fit_into_a_control_frame() {
        let long = "é".repeat(100);
        for (code, reason, payload) in [
            (None, "", &b""[..]),
            (Some(1000), "", b"\x03\xe8"),
            (Some(1012), "restart", b"\x03\xf4restart"),
            (Some(4000), long.as_str(), &[b"\x0f\xa0", &long.as_bytes()[..122]].concat()),
        ] {
            let mut out = Vec::new();
            encode_close(code, reason, &mut out);
            assert_eq!(out[..2], [0x88, payload.len() as u8]);
            assert_eq!(&out[2..], payload);
        }
    }

    #[test]
    fn masks_of_every_length_from_every_place() {
        let plain: Vec<u8> = (0..50).collect();
        let mask = [1, 2, 4, 8];
        let slow: Vec<u8> = plain.iter().enumerate().map(|(n, byte)| byte ^ mask[n % 4]).collect();
        for from in 0..plain.len() {
            for to in from..plain.len() {
                let mut turned = mask;
                turned.rotate_left(from % 4);
                let mut bytes = plain[from..to].to_vec();
                apply_mask(&mut bytes, turned);
                assert_eq!(bytes, slow[from..to]);
            }
        }
    }
}
