//! Where a request's body ends.
//!
//! Owns the rules that keep two parsers from disagreeing (RFC 9112 §6, checklist part 2 rows 1–5). Leaves the chunks
//! themselves to `chunked.rs` and limits on size to the caller.
//! Invariant: a head with two possible readings is an error, never a guess. RFC 9112 §6.3 lets a server repair equal
//! repeated lengths (`5, 5`); we refuse those too: no honest client sends them.

use crate::fields::Fields;
use crate::lists::elements;
use crate::text::{parse_digits, trim_ows, valid_field_name};
use crate::version::Version;
use std::fmt;

/// How a request's body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body announced. Over HTTP/2 and 3 a body of unknown length may still come in frames.
    None,
    /// Exactly this many bytes.
    Length(u64),
    /// Chunks, see `chunked.rs`.
    Chunked,
}

/// Why a body's framing is refused. After any of them the connection cannot be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FramingError {
    /// Content-Length and Transfer-Encoding together: the root of request smuggling.
    LengthAndChunked,
    /// More than one Content-Length field, equal or not.
    RepeatedLength,
    /// A Content-Length that is not 1 to 19 digits.
    BadLength,
    /// More than one Transfer-Encoding field.
    RepeatedTransferEncoding,
    /// A Transfer-Encoding that is malformed, or where chunked is not last or not alone of its kind.
    BadTransferEncoding,
    /// Well-formed, but with a coding other than chunked: 501 (RFC 9112 §6.1).
    UnsupportedCoding,
    /// Transfer-Encoding in HTTP/1.0, which knows none, or in HTTP/2 and 3, which forbid it.
    TransferEncodingInVersion,
}

impl fmt::Display for FramingError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            FramingError::LengthAndChunked => "Content-Length and Transfer-Encoding together",
            FramingError::RepeatedLength => "more than one Content-Length",
            FramingError::BadLength => "Content-Length is not a plain number",
            FramingError::RepeatedTransferEncoding => "more than one Transfer-Encoding",
            FramingError::BadTransferEncoding => "Transfer-Encoding is malformed",
            FramingError::UnsupportedCoding => "Transfer-Encoding other than chunked",
            FramingError::TransferEncodingInVersion => "Transfer-Encoding in a version that has none",
        })
    }
}

impl std::error::Error for FramingError {}

/// Decides how the body of a request is delimited.
///
/// # Errors
/// See [`FramingError`]: 501 for `UnsupportedCoding`, 400 for the rest, then close.
pub fn request_framing(version: Version, fields: &Fields) -> Result<Framing, FramingError> {
    let mut length: Option<&[u8]> = None;
    let mut coding: Option<&[u8]> = None;
    for (name, value) in fields.iter() {
        // The lengths of the two names decide for nearly every other field.
        if name.len() == 14 && name.eq_ignore_ascii_case(b"content-length") {
            if length.replace(value).is_some() {
                return Err(FramingError::RepeatedLength);
            }
        } else if name.len() == 17
            && name.eq_ignore_ascii_case(b"transfer-encoding")
            && coding.replace(value).is_some()
        {
            return Err(FramingError::RepeatedTransferEncoding);
        }
    }
    match (length, coding) {
        (None, None) => Ok(Framing::None),
        (Some(_), Some(_)) => Err(FramingError::LengthAndChunked),
        (Some(length), None) => {
            parse_digits(trim_ows(length)).map(Framing::Length).ok_or(FramingError::BadLength)
        }
        (None, Some(_)) if version != Version::Http11 => Err(FramingError::TransferEncodingInVersion),
        (None, Some(coding)) => transfer_coding(trim_ows(coding)),
    }
}

fn transfer_coding(value: &[u8]) -> Result<Framing, FramingError> {
    let is_chunked = |name: &[u8]| name.eq_ignore_ascii_case(b"chunked");
    if is_chunked(value) {
        return Ok(Framing::Chunked);
    }
    // `,chunked` and `chunked,` are lists by the letter of RFC 9110 §5.6.1, and smuggling in practice.
    let has_gaps = value.split(|&byte| byte == b',').any(|element| trim_ows(element).is_empty());
    if has_gaps || !elements(value).all(valid_field_name) {
        return Err(FramingError::BadTransferEncoding);
    }
    let chunked_at = elements(value).position(is_chunked);
    match chunked_at {
        Some(place) if place + 1 != elements(value).count() => Err(FramingError::BadTransferEncoding),
        _ => Err(FramingError::UnsupportedCoding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FramingError::*;

    fn framing(version: Version, fields: &[(&str, &[u8])]) -> Result<Framing, FramingError> {
        request_framing(version, &fields.iter().copied().collect())
    }

    #[test]
    fn content_length() {
        for (value, expected) in [
            (&b"0"[..], Ok(Framing::Length(0))),
            (b"5", Ok(Framing::Length(5))),
            (b"\t5 ", Ok(Framing::Length(5))),
            (b"9999999999999999999", Ok(Framing::Length(9_999_999_999_999_999_999))),
            (b"10000000000000000000", Err(BadLength)),
            (b"5, 6", Err(BadLength)),
            (b"5, 5", Err(BadLength)),
            (b"+5", Err(BadLength)),
            (b"-1", Err(BadLength)),
            (b"0x5", Err(BadLength)),
            (b"1_0", Err(BadLength)),
            (b"5 5", Err(BadLength)),
            (b"5;", Err(BadLength)),
            (b"", Err(BadLength)),
            (b" ", Err(BadLength)),
            (b"\xa05", Err(BadLength)),
        ] {
            assert_eq!(
                framing(Version::Http11, &[("content-LENGTH", value)]),
                expected,
                "{}",
                value.escape_ascii()
            );
        }
    }

    #[test]
    fn transfer_encoding() {
        for (value, expected) in [
            (&b"chunked"[..], Ok(Framing::Chunked)),
            (b" Chunked\t", Ok(Framing::Chunked)),
            (b"xchunked", Err(UnsupportedCoding)),
            (b"gzip, chunked", Err(UnsupportedCoding)),
            (b"gzip", Err(UnsupportedCoding)),
            (b"identity", Err(UnsupportedCoding)),
            (b"chunked, identity", Err(BadTransferEncoding)),
            (b"chunked, chunked", Err(BadTransferEncoding)),
            (b",chunked", Err(BadTransferEncoding)),
            (b"chunked,", Err(BadTransferEncoding)),
            (b"gzip,,chunked", Err(BadTransferEncoding)),
            (b"\xa0chunked", Err(BadTransferEncoding)),
            (b"\x0bchunked", Err(BadTransferEncoding)),
            (b"chunked;q=1", Err(BadTransferEncoding)),
            (b"\"chunked\"", Err(BadTransferEncoding)),
            (b"chunked chunked", Err(BadTransferEncoding)),
            (b"", Err(BadTransferEncoding)),
        ] {
            let found = framing(Version::Http11, &[("Transfer-Encoding", value)]);
            assert_eq!(found, expected, "{}", value.escape_ascii());
        }
    }

    #[test]
    fn combinations_and_versions() {
        let (length, chunked) = (("Content-Length", &b"5"[..]), ("Transfer-Encoding", &b"chunked"[..]));
        for (version, fields, expected) in [
            (Version::Http11, vec![], Ok(Framing::None)),
            (Version::Http10, vec![length], Ok(Framing::Length(5))),
            (Version::Http2, vec![length], Ok(Framing::Length(5))),
            (Version::Http11, vec![length, chunked], Err(LengthAndChunked)),
            (Version::Http11, vec![chunked, length], Err(LengthAndChunked)),
            (Version::Http11, vec![length, length], Err(RepeatedLength)),
            (Version::Http11, vec![length, ("CONTENT-LENGTH", b"6")], Err(RepeatedLength)),
            (Version::Http11, vec![chunked, chunked], Err(RepeatedTransferEncoding)),
            (Version::Http11, vec![chunked, ("TRANSFER-encoding", b"gzip")], Err(RepeatedTransferEncoding)),
            (Version::Http10, vec![chunked], Err(TransferEncodingInVersion)),
            (Version::Http2, vec![chunked], Err(TransferEncodingInVersion)),
            (Version::Http3, vec![chunked], Err(TransferEncodingInVersion)),
        ] {
            assert_eq!(framing(version, &fields), expected, "{version:?} {fields:?}");
        }
    }
}
