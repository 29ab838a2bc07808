//! Bytes to frames, able to stop and resume at any byte.
//!
//! Owns one buffer per channel and direction: callers read into `space`, say how much came with `advance`, and take
//! frames until there is none. The buffer grows only to hold one frame that its head announced, never past
//! `FRAME_MAX`, and shrinks back once that frame is gone, so that an idle channel costs its first size.

use crate::frame::{Frame, Header};
use crate::limits::HEADER_BYTES;
use crate::{WireError, limits};

/// Bytes an idle decoder holds: about twenty small requests, one system call's worth.
const READ_BYTES: usize = 64 * 1024;

/// Incremental reader of frames.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { buffer: vec![0; READ_BYTES], start: 0, end: 0 }
    }
}

impl Decoder {
    /// Room to read into; never empty. Bytes read are announced with `advance`.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.buffer.len() > READ_BYTES {
                self.buffer.truncate(READ_BYTES);
                self.buffer.shrink_to_fit();
            }
        } else if self.buffer.len() - self.end < READ_BYTES / 4
            || self.wanted() > self.buffer.len() - self.start
        {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            let wanted = self.wanted().max(READ_BYTES);
            if self.buffer.len() < wanted {
                self.buffer.resize(wanted, 0);
            }
        }
        &mut self.buffer[self.end..]
    }

    /// `n` bytes were read into `space`.
    pub fn advance(&mut self, n: usize) {
        self.end = (self.end + n).min(self.buffer.len());
    }

    /// The next whole frame, or `None` until more bytes come.
    ///
    /// # Errors
    /// The head is not one of this protocol; the channel cannot be read any further.
    #[allow(clippy::should_implement_trait, reason = "the frame borrows the buffer, so this is no Iterator")]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, WireError> {
        let Some((header, length)) = self.peek()? else { return Ok(None) };
        let whole = HEADER_BYTES + length;
        if self.end - self.start < whole {
            return Ok(None);
        }
        let from = self.start + HEADER_BYTES;
        self.start += whole;
        Ok(Some(Frame { header, payload: &self.buffer[from..from + length] }))
    }

    /// Whether bytes of an unfinished frame are held: the end of the stream now is a broken channel.
    pub fn is_partial(&self) -> bool {
        self.start != self.end
    }

    fn peek(&self) -> Result<Option<(Header, usize)>, WireError> {
        match self.buffer[self.start..self.end].first_chunk::<HEADER_BYTES>() {
            Some(head) => Header::decode(head).map(Some),
            None => Ok(None),
        }
    }

    /// Bytes of the frame being read, head included; its head alone while that is incomplete.
    fn wanted(&self) -> usize {
        match self.peek() {
            Ok(Some((_, length))) => HEADER_BYTES + length.min(limits::FRAME_MAX),
            _ => HEADER_BYTES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Flags, Kind};

    fn sample() -> (Vec<u8>, Vec<(Header, Vec<u8>)>) {
        let mut bytes = Vec::new();
        let mut frames = Vec::new();
        for (n, &kind) in Kind::ALL.iter().enumerate() {
            for payload in [vec![], vec![7; n + 1], vec![n as u8; 300]] {
                let header = Header { kind, flags: Flags(n as u8), place: n as u16, id: u64::MAX - n as u64 };
                header.write(&payload, &mut bytes);
                frames.push((header, payload));
            }
        }
        (bytes, frames)
    }

    fn feed(decoder: &mut Decoder, mut bytes: &[u8]) -> Vec<(Header, Vec<u8>)> {
        let mut seen = Vec::new();
        while !bytes.is_empty() {
            let space = decoder.space();
            let n = space.len().min(bytes.len());
            space[..n].copy_from_slice(&bytes[..n]);
            decoder.advance(n);
            bytes = &bytes[n..];
            while let Some(frame) = decoder.next().unwrap() {
                seen.push((frame.header, frame.payload.to_vec()));
            }
        }
        seen
    }

    #[test]
    fn every_kind_cut_at_every_byte() {
        let (bytes, frames) = sample();
        for cut in 0..=bytes.len() {
            let mut decoder = Decoder::default();
            let mut seen = feed(&mut decoder, &bytes[..cut]);
            seen.extend(feed(&mut decoder, &bytes[cut..]));
            assert_eq!(seen, frames, "cut at {cut}");
            assert!(!decoder.is_partial());
        }
    }

    #[test]
    fn one_byte_at_a_time() {
        let (bytes, frames) = sample();
        let mut decoder = Decoder::default();
        let seen: Vec<_> = bytes.iter().flat_map(|byte| feed(&mut decoder, &[*byte])).collect();
        assert_eq!(seen, frames);
    }

    #[test]
    fn a_large_frame_grows_the_buffer_and_gives_it_back() {
        let header = Header { kind: Kind::Request, flags: Flags::WHOLE, place: 1, id: 9 };
        let mut bytes = Vec::new();
        header.write(&vec![5; limits::FRAME_MAX], &mut bytes);
        header.write(b"x", &mut bytes);
        let mut decoder = Decoder::default();
        let seen = feed(&mut decoder, &bytes);
        assert_eq!(seen.iter().map(|(_, p)| p.len()).collect::<Vec<_>>(), [limits::FRAME_MAX, 1]);
        decoder.space();
        assert_eq!(decoder.buffer.capacity(), READ_BYTES);
    }

    #[test]
    fn heads_that_are_refused() {
        for (name, head, error) in [
            ("kind", [0, 0, 0, 0, 0x7f, 0, 0, 0], WireError::UnknownKind(0x7f)),
            ("length", [1, 0, 16, 0, 1, 0, 0, 0], WireError::TooLong(limits::FRAME_MAX as u32 + 1)),
            ("place", [0, 0, 0, 0, 1, 0, 0, 0x40], WireError::Malformed("place past the board")),
        ] {
            let mut decoder = Decoder::default();
            decoder.space()[..8].copy_from_slice(&head);
            decoder.advance(16);
            assert_eq!(decoder.next(), Err(error), "{name}");
        }
    }
}
