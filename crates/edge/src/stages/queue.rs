//! Is there a place before the deadline?
//!
//! Owns the making of the request frame: what the worker is told, and nothing else. The queue itself, its bounds and its
//! order are `dispatch::pool`'s; a refusal comes as the ticket's first event.

use std::time::Instant;

use bandstand_semantics::Version;
use bandstand_wire::{Flags, RequestHead, Version as WireVersion};

use crate::dispatch::Ticket;
use crate::exchange::{Body, Exchange};
use crate::shared::Shared;

pub(crate) fn run(shared: &Shared, exchange: &mut Exchange) -> Ticket {
    let (body_length, flags) = match &exchange.body {
        Body::None => (Some(0), Flags::WHOLE),
        Body::Memory(bytes) => (Some(bytes.len() as u64), Flags::WHOLE),
        Body::Spooled { length, .. } => (Some(*length), Flags::DESCRIPTOR),
    };
    let inline = if let Body::Memory(bytes) = &exchange.body { bytes.len() } else { 0 };
    let mut payload = Vec::with_capacity(
        256 + 2 * exchange.path.len() + exchange.fields.byte_len() + 8 * exchange.fields.len() + inline,
    );
    encode(exchange, body_length, &mut payload);
    let descriptor = match std::mem::take(&mut exchange.body) {
        Body::Memory(bytes) => {
            payload.extend_from_slice(&bytes);
            None
        }
        Body::Spooled { file, .. } => Some(file),
        Body::None => None,
    };
    let repeatable = matches!(exchange.method(), b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE");
    exchange.submitted = Some(Instant::now());
    shared.pool.submit(payload, flags, descriptor, repeatable)
}

fn encode(exchange: &Exchange, body_length: Option<u64>, payload: &mut Vec<u8>) {
    let mut client = [0; 48];
    let client = match exchange.client {
        Some(address) => text_of(address, &mut client),
        None => b"",
    };
    let mut local = [0; 48];
    let server_name = match (host_name(&exchange.host), exchange.ends.local) {
        (name @ [_, ..], _) => name,
        (_, Some(ends)) => text_of(ends.ip().to_canonical(), &mut local),
        (_, None) => b"localhost",
    };
    let head = RequestHead {
        version: match exchange.version {
            Version::Http10 => WireVersion::Http10,
            Version::Http11 => WireVersion::Http11,
            Version::Http2 => WireVersion::Http2,
            Version::Http3 => WireVersion::Http3,
        },
        https: exchange.https,
        method: exchange.method(),
        raw_path: exchange.raw_path(),
        query: exchange.query(),
        path: &exchange.path,
        root_path: b"",
        client_address: client,
        client_port: exchange.client_port,
        server_name,
        server_port: exchange.server_port,
        body_length,
    };
    // `identify` has taken these two out: the app gets them as they were understood, not as they were sent.
    let own = [(&b"Host"[..], &exchange.host[..]), (&b"X-Request-ID"[..], exchange.request_id.as_bytes())];
    let skip = usize::from(exchange.host.is_empty());
    let fields = Chained { own: &own[skip..], fields: exchange.fields.iter() };
    head.encode(fields, payload);
}

/// The host without its port.
fn host_name(host: &[u8]) -> &[u8] {
    match host.iter().rposition(|&byte| byte == b':') {
        Some(colon) if host[colon..].iter().skip(1).all(u8::is_ascii_digit) && !host.ends_with(b"]") => {
            &host[..colon]
        }
        _ => host,
    }
}

fn text_of(address: std::net::IpAddr, room: &mut [u8; 48]) -> &[u8] {
    use std::io::Write;
    let mut rest = &mut room[..];
    // The longest address has 45 characters.
    let _ = write!(rest, "{address}");
    let left = rest.len();
    &room[..48 - left]
}

/// Our fields, then the client's, with their number known.
struct Chained<'a, I> {
    own: &'a [(&'a [u8], &'a [u8])],
    fields: I,
}

impl<'a, I: ExactSizeIterator<Item = (&'a [u8], &'a [u8])>> Iterator for Chained<'a, I> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        match self.own.split_first() {
            Some((first, rest)) => {
                self.own = rest;
                Some(*first)
            }
            None => self.fields.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let length = self.own.len() + self.fields.len();
        (length, Some(length))
    }
}

impl<'a, I: ExactSizeIterator<Item = (&'a [u8], &'a [u8])>> ExactSizeIterator for Chained<'a, I> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_ports() {
        for (host, name) in
            [("a", "a"), ("a:80", "a"), ("[::1]", "[::1]"), ("[::1]:80", "[::1]"), ("a:", "a"), ("", "")]
        {
            assert_eq!(host_name(host.as_bytes()), name.as_bytes(), "{host}");
        }
    }
}
