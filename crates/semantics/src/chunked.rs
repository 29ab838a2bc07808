//! Taking the chunks off a chunked body, without copying it.
//!
//! Owns the state between reads, a few words. Leaves input and output buffers to the caller: data are ranges of the input.
//! Accepts exactly RFC 9112 §7.1, and bounds all that is not data (checklist part 2 rows 6–9): 16 size digits,
//! 4 KiB of extensions and 8 KiB of trailers a message. Extensions and trailers are checked and dropped.
//! Invariant: the result is the same wherever the input is cut; after an error or the end the decoder stays there.

use crate::text::{is_field_value_byte, is_token};
use std::fmt;
use std::ops::Range;

/// Extension bytes a message may have in all its chunks together; nobody uses them, some attacks do.
pub const EXTENSION_BYTES: usize = 4 * 1024;
/// Trailer bytes a message may have, names, values and line ends together.
pub const TRAILER_BYTES: usize = 8 * 1024;
/// Hex digits of a chunk size; 16 are all a `u64` can hold.
const SIZE_DIGITS: u8 = 16;

/// What [`ChunkedDecoder::decode`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// All of the input was used and holds no (more) data; go on with the bytes that come next.
    More,
    /// `input[range]` is body; never empty. The input is used up to `range.end`; call again with the rest.
    Data(Range<usize>),
    /// The body is over. This many bytes of the input belong to it; what follows is the next request's.
    End(usize),
}

/// Why a chunked body is refused: 400, then close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkError {
    /// No hex digit where a size must start, or a byte that cannot follow a size.
    BadSize,
    /// More than 16 digits.
    SizeTooLong,
    /// A line that does not end in CR LF.
    BadLineEnd,
    /// A control byte in an extension.
    BadExtension,
    /// More than 4 KiB of extensions.
    ExtensionsTooLong,
    /// Data not followed by CR LF: they are longer or shorter than announced.
    BadDataEnd,
    /// A trailer that is not a field line.
    BadTrailer,
    /// More than 8 KiB of trailers.
    TrailersTooLong,
}

impl fmt::Display for ChunkError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            ChunkError::BadSize => "a chunk size is not a hexadecimal number",
            ChunkError::SizeTooLong => "a chunk size has more than 16 digits",
            ChunkError::BadLineEnd => "a chunk line does not end in CR LF",
            ChunkError::BadExtension => "a chunk extension holds a control byte",
            ChunkError::ExtensionsTooLong => "chunk extensions above 4 KiB",
            ChunkError::BadDataEnd => "chunk data are not followed by CR LF",
            ChunkError::BadTrailer => "a trailer is not a field line",
            ChunkError::TrailersTooLong => "trailers above 8 KiB",
        })
    }
}

impl std::error::Error for ChunkError {}

/// Decoder of one chunked body; make a new one for each message.
#[derive(Debug, Clone)]
pub struct ChunkedDecoder {
    state: State,
    extension_bytes: usize,
    trailer_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Reading the size; so many digits were seen.
    Size { size: u64, digits: u8 },
    /// White space after the size: only an extension may follow (BWS, RFC 9112 §7.1.1).
    SizeSpace { size: u64 },
    /// Inside extensions.
    Extension { size: u64 },
    /// CR of a size line seen.
    SizeLf { size: u64 },
    /// So many bytes of data left, at least one.
    Data { left: u64 },
    /// Data over, CR due.
    DataCr,
    /// Data over, LF due.
    DataLf,
    /// At the start of a trailer line, or of the empty line that ends the message.
    TrailerStart,
    /// Inside a trailer's name.
    TrailerName,
    /// Inside a trailer's value.
    TrailerValue,
    /// CR of a trailer line seen.
    TrailerLf,
    /// CR of the last line seen.
    LastLf,
    /// The body is over.
    Done,
    /// The body is wrong.
    Failed(ChunkError),
}

impl Default for ChunkedDecoder {
    fn default() -> ChunkedDecoder {
        ChunkedDecoder::new()
    }
}

impl ChunkedDecoder {
    /// At the start of a body.
    #[must_use]
    pub fn new() -> ChunkedDecoder {
        ChunkedDecoder { state: State::Size { size: 0, digits: 0 }, extension_bytes: 0, trailer_bytes: 0 }
    }

    /// True once the whole body was seen.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads on in `input`, up to the next piece of data, the end of the body, or the end of the input.
    ///
    /// # Errors
    /// See [`ChunkError`]; the same error again on every later call.
    pub fn decode(&mut self, input: &[u8]) -> Result<Step, ChunkError> {
        let mut at = 0;
        loop {
            match self.state {
                State::Done => return Ok(Step::End(at)),
                State::Failed(error) => return Err(error),
                State::Data { left } if at < input.len() => return Ok(self.take_data(at, input.len(), left)),
                _ => {}
            }
            let Some(&byte) = input.get(at) else { return Ok(Step::More) };
            at += 1;
            self.state = self.next(byte).unwrap_or_else(State::Failed);
        }
    }

    fn take_data(&mut self, at: usize, end: usize, left: u64) -> Step {
        let here = (end - at) as u64;
        let taken = here.min(left);
        self.state = if taken == left { State::DataCr } else { State::Data { left: left - taken } };
        // `taken` is at most `end - at`, a `usize`.
        Step::Data(at..at + taken as usize)
    }

    /// The state after one byte that is not data.
    fn next(&mut self, byte: u8) -> Result<State, ChunkError> {
        match self.state {
            State::Size { size, digits } => self.size(size, digits, byte),
            State::SizeSpace { size } => match byte {
                b';' => self.extension(State::Extension { size }),
                b' ' | b'\t' => self.extension(State::SizeSpace { size }),
                _ => Err(ChunkError::BadSize),
            },
            State::Extension { size } => match byte {
                b'\r' => Ok(State::SizeLf { size }),
                b'\n' => Err(ChunkError::BadLineEnd),
                byte if is_field_value_byte(byte) => self.extension(State::Extension { size }),
                _ => Err(ChunkError::BadExtension),
            },
            State::SizeLf { size } => match (byte, size) {
                (b'\n', 0) => Ok(State::TrailerStart),
                (b'\n', left) => Ok(State::Data { left }),
                _ => Err(ChunkError::BadLineEnd),
            },
            State::DataCr if byte == b'\r' => Ok(State::DataLf),
            State::DataLf if byte == b'\n' => Ok(State::Size { size: 0, digits: 0 }),
            State::DataCr | State::DataLf => Err(ChunkError::BadDataEnd),
            State::TrailerStart | State::TrailerName | State::TrailerValue => self.trailer(byte),
            State::TrailerLf if byte == b'\n' => Ok(State::TrailerStart),
            State::LastLf if byte == b'\n' => Ok(State::Done),
            State::TrailerLf | State::LastLf => Err(ChunkError::BadLineEnd),
            State::Data { .. } | State::Done | State::Failed(_) => Ok(self.state),
        }
    }

    fn size(&mut self, size: u64, digits: u8, byte: u8) -> Result<State, ChunkError> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            return match digits < SIZE_DIGITS {
                true => Ok(State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }),
                false => Err(ChunkError::SizeTooLong),
            };
        }
        match byte {
            _ if digits == 0 => Err(ChunkError::BadSize),
            b'\r' => Ok(State::SizeLf { size }),
            b';' => self.extension(State::Extension { size }),
            b' ' | b'\t' => self.extension(State::SizeSpace { size }),
            b'\n' => Err(ChunkError::BadLineEnd),
            _ => Err(ChunkError::BadSize),
        }
    }

    fn extension(&mut self, next: State) -> Result<State, ChunkError> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES { Err(ChunkError::ExtensionsTooLong) } else { Ok(next) }
    }

    fn trailer(&mut self, byte: u8) -> Result<State, ChunkError> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES {
            return Err(ChunkError::TrailersTooLong);
        }
        match (self.state, byte) {
            (State::TrailerStart, b'\r') => Ok(State::LastLf),
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerStart | State::TrailerName, byte) if is_token(byte) => Ok(State::TrailerName),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, byte) if is_field_value_byte(byte) => Ok(State::TrailerValue),
            (_, b'\n') => Err(ChunkError::BadLineEnd),
            _ => Err(ChunkError::BadTrailer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds pieces as they would come from a socket; gives the body and how many bytes it took in all.
    fn run<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(Vec<u8>, Option<usize>), ChunkError> {
        let (mut decoder, mut body, mut used) = (ChunkedDecoder::new(), Vec::new(), 0);
        for piece in pieces {
            let mut rest = piece;
            loop {
                match decoder.decode(rest)? {
                    Step::More => {
                        used += rest.len();
                        break;
                    }
                    Step::Data(range) => {
                        assert!(!range.is_empty());
                        used += range.end;
                        body.extend_from_slice(&rest[range.clone()]);
                        rest = &rest[range.end..];
                    }
                    Step::End(end) => return Ok((body, Some(used + end))),
                }
            }
        }
        Ok((body, None))
    }

    fn whole(message: &[u8]) -> Result<(Vec<u8>, Option<usize>), ChunkError> {
        run([message])
    }

    /// Whole, byte by byte, and cut once at every place: always the same answer.
    fn every_cut(message: &[u8]) -> Result<(Vec<u8>, Option<usize>), ChunkError> {
        let expected = whole(message);
        assert_eq!(run(message.chunks(1)), expected, "{}", message.escape_ascii());
        for cut in 0..=message.len() {
            let (left, right) = message.split_at(cut);
            assert_eq!(run([left, right]), expected, "{} cut at {cut}", message.escape_ascii());
        }
        expected
    }

    #[test]
    fn bodies() {
        for (message, body, used) in [
            (&b"0\r\n\r\n"[..], &b""[..], Some(5)),
            (b"5\r\nhello\r\n0\r\n\r\n", b"hello", Some(15)),
            (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET / HTTP/1.1", b"hello world", Some(26)),
            (b"A\r\n0123456789\r\n00\r\n\r\n", b"0123456789", Some(21)),
            (b"000000000000000a\r\n0123456789\r\n0\r\n\r\n", b"0123456789", Some(35)),
            (b"1;a=b;c=\"d e\"\r\nx\r\n0;z\r\n\r\n", b"x", Some(25)),
            (b"1 ;a\r\nx\r\n0\t;z\r\n\r\n", b"x", Some(17)),
            (b"1\r\n\n\r\n0\r\nX-Sum: 1 2\r\nContent-Length:\r\n\r\nrest", b"\n", Some(40)),
            (b"5\r\nhel", b"hel", None),
            (b"5\r\nhello\r\n0\r\n\r", b"hello", None),
            (b"", b"", None),
        ] {
            assert_eq!(every_cut(message), Ok((body.to_vec(), used)), "{}", message.escape_ascii());
        }
    }

    #[test]
    fn refusals() {
        use ChunkError::*;
        for (message, error) in [
            (&b"0x5\r\nhello\r\n"[..], BadSize),
            (b"5_0\r\n", BadSize),
            (b" 5\r\nhello\r\n", BadSize),
            (b"+5\r\nhello\r\n", BadSize),
            (b"-5\r\nhello\r\n", BadSize),
            (b"\r\nhello\r\n", BadSize),
            (b";a\r\n", BadSize),
            (b"g\r\n", BadSize),
            (b"5 \r\nhello\r\n", BadSize),
            (b"5 a\r\nhello\r\n", BadSize),
            (b"5\0\r\n", BadSize),
            (b"10000000000000000\r\n", SizeTooLong),
            (b"00000000000000005\r\n", SizeTooLong),
            (b"5\nhello\r\n", BadLineEnd),
            (b"5\r\rhello\r\n", BadLineEnd),
            (b"5\rXhello\r\n", BadLineEnd),
            (b"5;a\nhello\r\n", BadLineEnd),
            (b"5;a\rb\r\nhello\r\n", BadLineEnd),
            (b"5;a=\"\r\n\"\r\nhello", BadDataEnd),
            (b"5;a\0\r\n", BadExtension),
            (b"5;a\x7f\r\n", BadExtension),
            (b"5\r\nhello\n0\r\n\r\n", BadDataEnd),
            (b"5\r\nhello\rX", BadDataEnd),
            (b"5\r\nhelloXX", BadDataEnd),
            (b"5\r\nhello0\r\n\r\n", BadDataEnd),
            (b"6\r\nhello\r\n0\r\n\r\n", BadDataEnd),
            (b"0\r\n\n", BadLineEnd),
            (b"0\r\n\rX", BadLineEnd),
            (b"0\r\nX: 1\n\r\n", BadLineEnd),
            (b"0\r\nX: 1\rY", BadLineEnd),
            (b"0\r\nX\r\n\r\n", BadTrailer),
            (b"0\r\nX : 1\r\n\r\n", BadTrailer),
            (b"0\r\n: 1\r\n\r\n", BadTrailer),
            (b"0\r\n folded\r\n\r\n", BadTrailer),
            (b"0\r\nX: 1\r\n 2\r\n\r\n", BadTrailer),
            (b"0\r\nX: \0\r\n\r\n", BadTrailer),
        ] {
            assert_eq!(every_cut(message).map(|_| ()), Err(error), "{}", message.escape_ascii());
        }
    }

    #[test]
    fn the_largest_size_is_read_and_not_overflown() {
        let mut decoder = ChunkedDecoder::new();
        assert_eq!(decoder.decode(b"ffffffffffffffff\r\nab"), Ok(Step::Data(18..20)));
        assert_eq!(decoder.state, State::Data { left: u64::MAX - 2 });
    }

    #[test]
    fn extensions_are_bounded_over_all_chunks() {
        let chunk = [&b"1;"[..], &[b'e'; 1023], b"\r\nx\r\n"].concat();
        let mut message = chunk.repeat(4);
        message.extend_from_slice(b"0\r\n\r\n");
        assert_eq!(whole(&message), Ok((b"xxxx".to_vec(), Some(message.len()))));
        let mut message = chunk.repeat(4);
        message.extend_from_slice(b"0;\r\n\r\n");
        assert_eq!(whole(&message), Err(ChunkError::ExtensionsTooLong));
        assert_eq!(
            whole(&[&b"1 "[..], &[b' '; EXTENSION_BYTES]].concat()),
            Err(ChunkError::ExtensionsTooLong)
        );
    }

    #[test]
    fn trailers_are_bounded_before_their_end_arrives() {
        let endless = [&b"0\r\nX: "[..], &[b'e'; TRAILER_BYTES]].concat();
        assert_eq!(whole(&endless), Err(ChunkError::TrailersTooLong));
        let many = [&b"0\r\n"[..], &b"a:b\r\n".repeat(TRAILER_BYTES / 4 + 1)].concat();
        assert_eq!(whole(&many), Err(ChunkError::TrailersTooLong));
    }

    #[test]
    fn the_end_and_an_error_stay() {
        let mut decoder = ChunkedDecoder::new();
        assert_eq!(decoder.decode(b"0\r\n\r\nnext"), Ok(Step::End(5)));
        assert!(decoder.is_done());
        assert_eq!(decoder.decode(b"next"), Ok(Step::End(0)));
        let mut decoder = ChunkedDecoder::new();
        assert_eq!(decoder.decode(b"x"), Err(ChunkError::BadSize));
        assert_eq!(decoder.decode(b"0\r\n\r\n"), Err(ChunkError::BadSize));
    }

    proptest! {
        #[test]
        fn any_body_in_any_chunks_cut_anywhere_comes_back(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            cuts in prop::collection::vec(0usize..400, 0..12),
        ) {
            let mut message = Vec::new();
            for chunk in &chunks {
                message.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                message.extend_from_slice(chunk);
                message.extend_from_slice(b"\r\n");
            }
            message.extend_from_slice(b"0\r\n\r\n");
            let end = message.len();
            message.extend_from_slice(b"pipelined");
            prop_assert_eq!(run(pieces(&message, cuts)), Ok((chunks.concat(), Some(end))));
        }

        #[test]
        fn noise_gives_the_same_answer_however_it_is_cut(
            noise in "[0-9a-f]{0,2}[ ;a0]{0,2}(\r\n|\n|\r)[0a\r\n:]{0,12}",
            cuts in prop::collection::vec(0usize..20, 0..6),
        ) {
            prop_assert_eq!(run(pieces(noise.as_bytes(), cuts)), whole(noise.as_bytes()));
        }
    }

    fn pieces(message: &[u8], mut cuts: Vec<usize>) -> Vec<&[u8]> {
        cuts.iter_mut().for_each(|cut| *cut = (*cut).min(message.len()));
        cuts.sort_unstable();
        cuts.push(message.len());
        let mut start = 0;
        cuts.into_iter()
            .map(|cut| {
                let piece = &message[start..cut];
                start = cut;
                piece
            })
            .collect()
    }
}
