//! Is there a place before the deadline?
//!
//! Owns the making of the request frame: what the worker is told, and nothing else. The queue itself, its bounds and its
//! order are `dispatch::pool`'s; a refusal comes as the ticket's first event.

use std::time::Instant;

use bandstand_semantics::Version;
use bandstand_semantics::framing::Framing;
use bandstand_wire::{Flags, RequestHead, Version as WireVersion};

use crate::dispatch::{Request, Ticket};
use crate::exchange::{AddressText, Body, Exchange};
use crate::shared::Shared;

pub(crate) fn run(shared: &Shared, exchange: &mut Exchange) -> Ticket {
    let (body_length, flags) = match &exchange.body {
        // A body of no bytes is one: the app is told a length of 0, and none where there is no body.
        Body::None if exchange.framing == Framing::None => (None, Flags::WHOLE),
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
    let request = Request { payload, flags, descriptor, repeatable, name: exchange.request_id.clone() };
    shared.pool.submit(request)
}

fn encode(exchange: &Exchange, body_length: Option<u64>, payload: &mut Vec<u8>) {
    let other;
    let client = if exchange.client == exchange.ends.peer.map(|peer| peer.ip().to_canonical()) {
        exchange.ends.peer_text.as_bytes()
    } else {
        other = AddressText::new(exchange.client);
        other.as_bytes()
    };
    let local = AddressText::new(
        exchange.ends.local.map(|local| local.ip()).filter(|_| exchange.host.name().is_empty()),
    );
    let server_name = match (exchange.host.name().as_bytes(), local.as_bytes()) {
        ([], []) => b"localhost",
        ([], local) => local,
        (name, _) => name,
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
        raw_path: exchange.raw_path_told(),
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
    let own =
        [(&b"Host"[..], exchange.host.as_bytes()), (&b"X-Request-ID"[..], exchange.request_id.as_bytes())];
    let skip = usize::from(exchange.host.as_bytes().is_empty());
    let fields = Chained { own: &own[skip..], fields: exchange.fields.iter() };
    head.encode(fields, payload);
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
