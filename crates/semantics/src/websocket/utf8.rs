//! UTF-8 that comes in pieces.
//!
//! Owns the few bytes of a character that was cut. Invariant: what can no longer become UTF-8 is noticed with the first
//! byte that makes it so (RFC 6455 §8.1; the standard library's check stops at that byte).

/// A check under way.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    partial: [u8; 3],
    length: u8,
}

/// The bytes are not UTF-8, whatever follows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotUtf8;

impl Utf8 {
    /// Takes in the next bytes of the text.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), NotUtf8> {
        let held = usize::from(self.length);
        if held > 0 {
            let mut character = [0; 4];
            character[..held].copy_from_slice(&self.partial[..held]);
            let taken = (width(character[0]) - held).min(bytes.len());
            character[held..held + taken].copy_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            self.length = 0;
            self.check(&character[..held + taken])?;
        }
        if bytes.is_empty() { Ok(()) } else { self.check(bytes) }
    }

    /// Whether the text may end here.
    pub(super) fn is_complete(&self) -> bool {
        self.length == 0
    }

    fn check(&mut self, bytes: &[u8]) -> Result<(), NotUtf8> {
        let Err(error) = std::str::from_utf8(bytes) else { return Ok(()) };
        if error.error_len().is_some() {
            return Err(NotUtf8);
        }
        let rest = &bytes[error.valid_up_to()..]; // a cut character: one to three bytes
        self.partial[..rest.len()].copy_from_slice(rest);
        self.length = rest.len() as u8;
        Ok(())
    }
}

/// Bytes of the character that begins with this byte, which is known to begin one.
fn width(lead: u8) -> usize {
    match lead {
        0xf0.. => 4,
        0xe0.. => 3,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the check fails (bytes taken in, the failing one counted), and whether the text is complete.
    fn outcome(text: &[u8], step: usize) -> Result<bool, usize> {
        let mut utf8 = Utf8::default();
        for (n, piece) in text.chunks(step).enumerate() {
            utf8.feed(piece).map_err(|_| n * step + piece.len())?;
        }
        Ok(utf8.is_complete())
    }

    #[test]
    fn pieces_say_what_the_whole_says_and_as_early_as_can_be() {
        for (text, expected) in [
            (&b""[..], Ok(true)),
            ("plain, é, €, 🦀, \u{10ffff}".as_bytes(), Ok(true)),
            (b"a\xc3", Ok(false)),
            (b"\xf0\x9f\xa6", Ok(false)),
            (b"\x80", Err(1)),
            (b"a\xff", Err(2)),
            (b"\xc0\xaf", Err(1)),
            (b"\xc3(", Err(2)),
            (b"\xe0\x80\x80", Err(2)),
            (b"\xed\xa0\x80", Err(2)),     // a surrogate
            (b"\xf4\x90\x80\x80", Err(2)), // past U+10FFFF
            (b"\xf5", Err(1)),
            (b"\xf0\x9f\xa6a", Err(4)),
        ] {
            assert_eq!(outcome(text, 1), expected, "{text:?}");
            for step in 2..=text.len() {
                let found = outcome(text, step);
                assert_eq!(found.is_ok(), expected.is_ok(), "{text:?} in pieces of {step}");
                if expected.is_ok() {
                    assert_eq!(found, expected);
                }
            }
        }
    }
}
