//! Is there a place before the deadline?
//!
//! Owns the making of the request frame: what the worker is told, whether a thread or the loop works on it, and that it
//! lies below `root_path`. The queue itself, its bounds and its order are `dispatch::pool`'s; their refusals come as the
//! ticket's first event.

use std::time::Instant;

use bandstand_config::{Interface, PathInterface};
use bandstand_semantics::Version;
use bandstand_semantics::framing::Framing;
use bandstand_wire::{Flags, RequestHead, Version as WireVersion};

use crate::dispatch::{Lane, Request, Ticket};
use crate::exchange::{AddressText, Body, Exchange};
use crate::refusal::Refusal;
use crate::shared::{Shared, State};
use crate::tls::TlsFacts;

pub(crate) fn run(shared: &Shared, state: &State, exchange: &mut Exchange) -> Result<Ticket, Refusal> {
    // Nobody is about to be there: the client may as well know.
    if shared.outage.is_on()
        && shared.pool.ready_workers() == 0
        && shared.outage.outlasts(Instant::now(), state.settings.queue_timeout)
    {
        return Err(Refusal::AppDown);
    }
    let request = frame(state, exchange)?;
    exchange.submitted = Some(Instant::now());
    Ok(shared.pool.submit(request))
}

/// The request as a worker is told it.
///
/// # Errors
/// It is outside `root_path`.
pub(crate) fn frame(state: &State, exchange: &mut Exchange) -> Result<Request, Refusal> {
    let root_path = state.settings.root_path.as_bytes();
    // The app has no address outside its mount point (PEP 3333: `SCRIPT_NAME` and `PATH_INFO` make up the path).
    if !is_below(&exchange.path, root_path) {
        return Err(Refusal::NotFound);
    }
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
    encode(exchange, root_path, body_length, &mut payload);
    let descriptor = match std::mem::take(&mut exchange.body) {
        Body::Memory(bytes) => {
            payload.extend_from_slice(&bytes);
            None
        }
        Body::Spooled { file, .. } => Some(file),
        Body::None => None,
    };
    let repeatable = matches!(exchange.method(), b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE");
    let name = exchange.request_id.clone();
    let interface = state.project.as_ref().and_then(|project| project.said.interface);
    let pinned = || state.settings.interface_for(&exchange.path);
    // A handshake is the loop's, and once an app has begun it no other may.
    let (flags, lane, repeatable) = match exchange.websocket {
        Some(_) => (flags.with(Flags::WEBSOCKET), Lane::Loop, false),
        None => {
            let (lane, pin) = choose_lane(interface, pinned);
            (flags.with(pin), lane, repeatable)
        }
    };
    Ok(Request { payload, flags, descriptor, repeatable, name, lane })
}

/// Who works on a request that is no WebSocket, as the project is called and `[paths]` pins it
/// (`docs/decisions/0005-asgi.md`), and what the worker is told of the latter.
fn choose_lane(
    interface: Option<Interface>,
    pinned: impl FnOnce() -> Option<PathInterface>,
) -> (Lane, Flags) {
    match interface {
        Some(Interface::Asgi) => (Lane::Loop, Flags::NONE),
        Some(Interface::Both) => match pinned() {
            Some(PathInterface::Asgi) => (Lane::Loop, Flags::NONE),
            Some(PathInterface::Wsgi) => (Lane::Threads, Flags::PINNED),
            None => (Lane::Threads, Flags::NONE),
        },
        _ => (Lane::Threads, Flags::NONE),
    }
}

/// Whether `path` is `root` or lies below it: `/shop` and `/shop/x`, never `/shopping`.
fn is_below(path: &[u8], root: &[u8]) -> bool {
    path.strip_prefix(root).is_some_and(|rest| root.is_empty() || rest.is_empty() || rest[0] == b'/')
}

fn encode(exchange: &Exchange, root_path: &[u8], body_length: Option<u64>, payload: &mut Vec<u8>) {
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
        root_path,
        client_address: client,
        client_port: exchange.client_port,
        server_name,
        server_port: exchange.server_port,
        body_length,
        tls: exchange.tls.as_deref().map(TlsFacts::told),
    };
    // `identify` has taken these out: the app gets them as they were understood, not as they were sent.
    let own = [
        (&b"Host"[..], exchange.host.as_bytes()),
        (&b"X-Request-ID"[..], exchange.request_id.as_bytes()),
        (&b"TE"[..], b"trailers"),
    ];
    let from = usize::from(exchange.host.as_bytes().is_empty());
    let until = own.len() - usize::from(!exchange.takes_trailers);
    let fields = Chained { own: &own[from..until], fields: exchange.fields.iter() };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounted_on_a_segment_boundary() {
        for (path, root, below) in [
            ("/", "", true),
            ("*", "", true),
            ("/x", "", true),
            ("/shop", "/shop", true),
            ("/shop/", "/shop", true),
            ("/shop/x", "/shop", true),
            ("/shopping", "/shop", false),
            ("/", "/shop", false),
            ("/x/shop", "/shop", false),
            ("/Shop", "/shop", false),
        ] {
            assert_eq!(is_below(path.as_bytes(), root.as_bytes()), below, "{path} {root}");
        }
    }
    #[test]
    fn who_works_on_it() {
        use PathInterface::{Asgi, Wsgi};
        for (interface, pinned, expected) in [
            (None, None, Lane::Threads),
            (Some(Interface::Wsgi), None, Lane::Threads),
            (Some(Interface::Wsgi), Some(Asgi), Lane::Threads),
            (Some(Interface::Asgi), None, Lane::Loop),
            (Some(Interface::Asgi), Some(Wsgi), Lane::Loop),
            (Some(Interface::Both), None, Lane::Threads),
            (Some(Interface::Both), Some(Wsgi), Lane::Threads),
            (Some(Interface::Both), Some(Asgi), Lane::Loop),
        ] {
            let stays = interface == Some(Interface::Both) && pinned == Some(Wsgi);
            let flags = if stays { Flags::PINNED } else { Flags::NONE };
            assert_eq!(choose_lane(interface, || pinned), (expected, flags), "{interface:?} {pinned:?}");
        }
    }
}
