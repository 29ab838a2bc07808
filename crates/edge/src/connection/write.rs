//! An answer in the words of HTTP/1.1.
//!
//! Owns the status line, the fields every answer gets, and the framing (RFC 9112 §6): `Content-Length` where the length is
//! known, chunks where it is not and the client knows chunks, else the end of the connection. What the app said about
//! framing has been taken out before (`filters::hop`).

use std::time::Instant;

use bandstand_semantics::Version;
use bandstand_semantics::text::{valid_field_name, valid_field_value};
use bandstand_semantics::trailer::may_be_trailer;
use bandstand_wire::head::decode_trailers;

use crate::exchange::{Answer, AnswerBody};
use crate::refusal::phrase;
use crate::shared::DateClock;

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// No body follows.
    None,
    /// This many bytes follow.
    Length(u64),
    /// Chunks follow.
    Chunked,
    /// The body ends with the connection.
    Close,
}

/// What the head has to know of the request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) version: Version,
    pub(crate) head: bool,
    /// The connection goes on after this answer, if the answer can be framed.
    pub(crate) keep: bool,
    pub(crate) request_id: &'a [u8],
    /// The client takes fields after the body.
    pub(crate) trailers: bool,
}

/// How this answer's body is framed.
pub(crate) fn framing(answer: &Answer, asked: &Asked<'_>) -> Framing {
    if asked.head || answer.is_bodiless() {
        return Framing::None;
    }
    match (answer.length, asked.version) {
        (Some(length), _) => Framing::Length(length),
        (None, _) if matches!(answer.body, AnswerBody::Empty) => Framing::Length(0),
        (None, Version::Http11) => Framing::Chunked,
        (None, _) => Framing::Close,
    }
}

/// Appends the head.
pub(crate) fn head(
    clock: &DateClock,
    server_header: bool,
    answer: &Answer,
    asked: &Asked<'_>,
    framing: Framing,
    keep: bool,
    out: &mut Vec<u8>,
) {
    out.reserve(512);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(answer.status).as_bytes());
    out.push(b' ');
    match answer.reason.as_slice() {
        [] => out.extend_from_slice(phrase(answer.status).as_bytes()),
        reason => out.extend_from_slice(reason),
    }
    out.extend_from_slice(b"\r\n");
    let (mut date, mut server) = (false, false);
    for (name, value) in answer.all_fields() {
        date |= name.len() == 4 && name.eq_ignore_ascii_case(b"date");
        server |= name.len() == 6 && name.eq_ignore_ascii_case(b"server");
        field(name, value, out);
    }
    if !date {
        out.extend_from_slice(b"Date: ");
        clock.append(Instant::now(), out);
        out.extend_from_slice(b"\r\n");
    }
    if !server && server_header {
        out.extend_from_slice(b"Server: bandstand\r\n");
    }
    if !asked.request_id.is_empty() {
        field(b"X-Request-ID", asked.request_id, out);
    }
    match framing {
        Framing::Length(length) => content_length(length, out),
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        // The length that GET would have (RFC 9110 §9.3.2); a 204 or 1xx must not have one, a 304 needs none.
        Framing::None if asked.head && !answer.is_bodiless() => {
            if let Some(length) = answer.length {
                content_length(length, out);
            }
        }
        Framing::None | Framing::Close => {}
    }
    // Told once the connection changes hands, and where it would, had the client asked for it properly (RFC 9110 §7.8,
    // §15.5.22). WebSockets are the only protocol that this connection changes to.
    let upgrades = answer.status == 101;
    if upgrades || (answer.status == 426 && answer.fields.contains("sec-websocket-version")) {
        out.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\n");
    }
    match (keep, asked.version) {
        _ if upgrades => {}
        (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
        (true, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (true, _) => {}
    }
    out.extend_from_slice(b"\r\n");
}

fn field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn content_length(length: u64, out: &mut Vec<u8>) {
    field(b"Content-Length", itoa::Buffer::new().format(length).as_bytes(), out);
}

/// Appends the line before a chunk of `length` bytes; an empty chunk would end the body, so none is ever written.
pub(crate) fn chunk_head(length: usize, out: &mut Vec<u8>) {
    debug_assert!(length > 0);
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1);
    for at in (0..digits).rev() {
        out.push(b"0123456789abcdef"[length >> (4 * at) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// The end of a chunked body, with its trailers (RFC 9112 §7.1.2); `trailers` are lines from `trailers`, or nothing.
pub(crate) fn last_chunk(trailers: &[u8]) -> Vec<u8> {
    [b"0\r\n", trailers, b"\r\n"].concat()
}

/// The app's trailers in wire form as lines, without those that may not come after a body. `None`: what came are no valid
/// fields, and a worker that sends them is not to be believed the rest.
pub(crate) fn trailers(payload: &[u8]) -> Option<Vec<u8>> {
    let mut lines = Vec::with_capacity(payload.len());
    for (name, value) in decode_trailers(payload).ok()?.iter() {
        if !valid_field_name(name) || !valid_field_value(value) {
            return None;
        }
        if may_be_trailer(name) {
            field(name, value, &mut lines);
        }
    }
    Some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_sizes_are_hex_without_leading_zeros() {
        for length in [1, 9, 10, 15, 16, 255, 256, 65_535, 65_536, 1 << 20] {
            let mut out = Vec::new();
            chunk_head(length, &mut out);
            assert_eq!(out, format!("{length:x}\r\n").as_bytes());
        }
    }
}
