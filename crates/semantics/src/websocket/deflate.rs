//! Compression of messages (RFC 7692 §7.2), each on its own.
//!
//! Owns the pools of compressors and decompressors: as no window is kept between messages, one of each does for a thread,
//! however many WebSockets it serves. Each is on loan while its message is under way. Leaves what was
//! negotiated to `extension`, and sizes to `message`, which asks for output in bounded steps.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Least window that can be agreed on, base-2 logarithm.
pub const WINDOW_BITS_MIN: u8 = 9;
/// Largest window, base-2 logarithm.
pub const WINDOW_BITS_MAX: u8 = 15;

/// What a sender takes off the end of every message, and a receiver puts back (§7.2.1).
pub(super) const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// How many of each kind a thread keeps: a compressor has some 300 KiB, a decompressor some 50.
const KEPT: usize = 4;
/// In favour of speed: a message is compressed while others wait, and is read once.
const LEVEL: u32 = 3;
/// Bytes written at once.
const STEP: usize = 4 * 1024;

thread_local! {
    static COMPRESSORS: RefCell<Vec<(u8, Compress)>> = const { RefCell::new(Vec::new()) };
    static DECOMPRESSORS: RefCell<Vec<Decompress>> = const { RefCell::new(Vec::new()) };
}

/// A compressor on loan for one message; dropped, it goes back.
pub struct Deflater {
    window_bits: u8,
    inner: Option<Compress>,
}

impl Deflater {
    /// One that has seen nothing. `window_bits` is within 9–15, as negotiated.
    pub fn borrow(window_bits: u8) -> Self {
        let window_bits = window_bits.clamp(WINDOW_BITS_MIN, WINDOW_BITS_MAX);
        let kept = COMPRESSORS.with_borrow_mut(|kept| {
            let at = kept.iter().position(|(bits, _)| *bits == window_bits)?;
            Some(kept.swap_remove(at).1)
        });
        let new = || Compress::new_with_window_bits(Compression::new(LEVEL), false, window_bits);
        Self { window_bits, inner: Some(kept.unwrap_or_else(new)) }
    }

    /// Appends the next piece of the message, compressed, to `out`: all of it with `last`, else what has come out so far.
    pub fn deflate(&mut self, piece: &[u8], last: bool, out: &mut Vec<u8>) {
        let Some(inner) = &mut self.inner else { return };
        let flush = if last { FlushCompress::Sync } else { FlushCompress::None };
        let begun = inner.total_in();
        loop {
            out.reserve(STEP);
            let used = (inner.total_in() - begun) as usize;
            // Only a compressor that was misused fails; its client would see a message that is not deflate.
            let done = inner.compress_vec(&piece[used..], out, flush).is_err();
            // Room was left, so everything has been taken, and with `last` written.
            if done || out.len() < out.capacity() {
                break;
            }
        }
        if last && out.ends_with(&TAIL) {
            out.truncate(out.len() - TAIL.len());
        }
    }
}

impl Drop for Deflater {
    fn drop(&mut self) {
        let Some(mut inner) = self.inner.take() else { return };
        // A thread that ends has no pool any more.
        let _ = COMPRESSORS.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            // The one that was not wanted for longest makes room.
            if kept.len() == KEPT {
                kept.remove(0);
            }
            inner.reset();
            kept.push((self.window_bits, inner));
        });
    }
}

/// The bytes of a message are not deflate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Corrupt;

/// A decompressor on loan for one message; dropped, it goes back.
pub(super) struct Inflater(Option<Decompress>);

impl Inflater {
    /// One that has seen nothing.
    pub(super) fn borrow() -> Self {
        let kept = DECOMPRESSORS.with_borrow_mut(Vec::pop);
        Self(Some(kept.unwrap_or_else(|| Decompress::new_with_window_bits(false, WINDOW_BITS_MAX))))
    }

    /// Appends at most `room` bytes to `out`. Gives how many of `input` were used, which are all of them unless `out`
    /// got its `room` bytes. Called again with nothing, it gives what it still holds back. What came out before an error is
    /// in `out` as well.
    pub(super) fn inflate(&mut self, input: &[u8], room: usize, out: &mut Vec<u8>) -> Result<usize, Corrupt> {
        let Some(inner) = &mut self.0 else { return Err(Corrupt) };
        let mut step = [0; STEP];
        let (mut used, mut room) = (0, room);
        while room > 0 {
            let (read, written) = (inner.total_in(), inner.total_out());
            let space = &mut step[..room.min(STEP)];
            let status = inner.decompress(&input[used..], space, FlushDecompress::None);
            let written = (inner.total_out() - written) as usize;
            used += (inner.total_in() - read) as usize;
            room -= written;
            out.extend_from_slice(&step[..written]);
            match status.map_err(|_| Corrupt)? {
                // A sender may end the stream within a message (RFC 7692 §7.2.3.4); what follows is a new one.
                Status::StreamEnd => {
                    inner.reset(false);
                    if used == input.len() {
                        return Ok(used);
                    }
                }
                // Room was left, so there is nothing to come from this input.
                Status::Ok | Status::BufError if written < STEP.min(room + written) => return Ok(used),
                Status::Ok | Status::BufError => {}
            }
        }
        Ok(used)
    }
}

impl Drop for Inflater {
    fn drop(&mut self) {
        let Some(mut inner) = self.0.take() else { return };
        // A thread that ends has no pool any more.
        let _ = DECOMPRESSORS.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < KEPT {
                inner.reset(false);
                kept.push(inner);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflated(bytes: &[u8], step: usize, room: usize) -> Result<Vec<u8>, Corrupt> {
        let mut inflater = Inflater::borrow();
        let mut out = Vec::new();
        for piece in [bytes, &TAIL].concat().chunks(step) {
            let mut at = 0;
            loop {
                let before = out.len();
                at += inflater.inflate(&piece[at..], room, &mut out)?;
                assert!(out.len() - before <= room);
                if out.len() - before < room {
                    assert_eq!(at, piece.len());
                    break;
                }
            }
        }
        Ok(out)
    }

    /// Bytes without a pattern (Marsaglia's xorshift).
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 2_463_534_242_u32;
        let next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    fn deflated(message: &[u8], window_bits: u8, step: usize) -> Vec<u8> {
        let mut deflater = Deflater::borrow(window_bits);
        let mut out = b"before".to_vec();
        let pieces = message.len().div_ceil(step).max(1);
        for n in 1..=pieces {
            let piece = &message[(n - 1) * step..message.len().min(n * step)];
            deflater.deflate(piece, n == pieces, &mut out);
        }
        assert!(out.starts_with(b"before"));
        out.split_off(6)
    }

    #[test]
    fn what_was_compressed_comes_back_whatever_the_steps() {
        let text = "a line of a log that says what lines of logs say\n".repeat(300);
        let noise = noise(70_000);
        let mixed = [text.as_bytes(), &noise, text.as_bytes()].concat();
        for bits in [WINDOW_BITS_MIN, 12, WINDOW_BITS_MAX] {
            for message in [&b""[..], b"x", b"Hello", text.as_bytes(), &noise[..300], &mixed] {
                for step in [1000, 4096, 1 << 20] {
                    let out = deflated(message, bits, step);
                    // RFC 1951 §3.2.4: what cannot be compressed is stored, with five bytes for each block.
                    assert!(out.len() <= message.len() + message.len() / 1000 + 16, "{bits} {step}");
                    for (step, room) in [(1, 7), (5, 4096), (4096, 1), (1 << 20, 5000), (1 << 20, 1 << 20)] {
                        let back = inflated(&out, step, room);
                        assert!(back.as_deref() == Ok(message), "{bits} {step} {room}");
                    }
                }
            }
        }
        assert!(deflated(text.as_bytes(), 15, 1 << 20).len() < text.len() / 20);
    }

    #[test]
    fn a_compressor_that_was_given_back_half_way_remembers_nothing() {
        let mut deflater = Deflater::borrow(15);
        deflater.deflate(b"Hello, Hello, Hello", false, &mut Vec::new());
        drop(deflater);
        assert_eq!(inflated(&deflated(b"Hello", 15, 10), 5, 100).as_deref(), Ok(&b"Hello"[..]));
    }

    /// RFC 7692 §7.2.3: one block, two blocks, no compression, a stream that ends, an empty message.
    #[test]
    fn examples_of_the_rfc() {
        for (bytes, message) in [
            (&b"\xf2\x48\xcd\xc9\xc9\x07\x00"[..], &b"Hello"[..]),
            (b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", b"Hello"),
            (b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", b"Hello"),
            (b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", b"Hello"),
            (b"\x00", b""),
            (b"", b""),
        ] {
            for step in 1..=bytes.len().max(1) {
                assert_eq!(inflated(bytes, step, 100).as_deref(), Ok(message), "{bytes:x?} in {step}");
            }
        }
        assert_eq!(inflated(b"\xff\xff\xff", 3, 100), Err(Corrupt));
        assert_eq!(inflated(b"Hello", 5, 100), Err(Corrupt));
    }

    #[test]
    fn a_borrowed_decompressor_remembers_nothing() {
        let mut inflater = Inflater::borrow();
        let mut out = Vec::new();
        inflater.inflate(b"\xf2\x48\xcd", 100, &mut out).unwrap();
        drop(inflater);
        // The RFC's second message of a shared window (§7.2.3.2) refers to the first; here there is none.
        assert_eq!(inflated(b"\xf2\x00\x11\x00\x00", 5, 100), Err(Corrupt));
        assert_eq!(inflated(b"\xf2\x48\xcd\xc9\xc9\x07\x00", 9, 100).as_deref(), Ok(&b"Hello"[..]));
    }
}
